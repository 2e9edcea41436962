//! A generator that knows the words of the made-up texts.

use lacuna::generator::scripted::Scripted;
use lacuna::generator::{CompletionRequest, PosteriorRequest};

use crate::common::{BAD, GOOD, text};

/// Writes texts from the label in the prompt, or the labels, or from the list, and the request's seed; judges by the words in the text.
pub fn of_words() -> Scripted<impl Fn(&CompletionRequest) -> String, impl Fn(&PosteriorRequest) -> Vec<f32>> {
    let complete = |request: &CompletionRequest| {
        let said = &request.prompt.user;
        // A list is continued with what stands last in it.
        let last = said.trim_end().lines().last().unwrap_or_default();
        let good = if request.prompt.plain { GOOD.iter().any(|word| last.contains(word)) } else { said.contains("positive") };
        let several = said.contains("of several");
        match (good, said.contains("negative")) {
            (good, bad) if several => of_set(good, bad, request.seed % 1_000_000),
            _ => text(good, request.seed % 1_000_000),
        }
    };
    let judge = |request: &PosteriorRequest| {
        let count = |words: &[&str]| words.iter().filter(|word| request.prompt.user.contains(*word)).count() as f32;
        if request.words == [" No", " Yes"] {
            let has = if request.prompt.user.ends_with("positive?") { count(&GOOD) } else { count(&BAD) };
            return vec![-0.5 - has, -2.0 + has];
        }
        vec![count(&BAD) - 4.0, count(&GOOD) - 4.0]
    };
    Scripted::new(complete, judge)
}

/// A text with words of either kind, of both, or of none.
pub fn of_set(good: bool, bad: bool, number: u64) -> String {
    let parts = [(good, text(true, number)), (bad, text(false, number))];
    let said: Vec<String> = parts.into_iter().filter(|(has, _)| *has).map(|(_, text)| text).collect();
    if said.is_empty() { format!("film and plot or scene {number} script") } else { said.join(" or ") }
}
