//! A generator that knows the words of the made-up texts.

use lacuna::generator::scripted::Scripted;
use lacuna::generator::{CompletionRequest, PosteriorRequest};

use crate::common::{BAD, GOOD, text};

/// Writes texts from the label in the prompt, or from the list, and the request's seed; judges by the words in the text.
pub fn of_words() -> Scripted<impl Fn(&CompletionRequest) -> String, impl Fn(&PosteriorRequest) -> Vec<f32>> {
    let complete = |request: &CompletionRequest| {
        let said = &request.prompt.user;
        // A list is continued with what stands last in it.
        let last = said.trim_end().lines().last().unwrap_or_default();
        let good = if request.prompt.plain { GOOD.iter().any(|word| last.contains(word)) } else { said.contains("positive") };
        text(good, request.seed % 1_000_000)
    };
    let judge = |request: &PosteriorRequest| {
        let count = |words: &[&str]| words.iter().filter(|word| request.prompt.user.contains(*word)).count() as f32;
        vec![count(&BAD) - 4.0, count(&GOOD) - 4.0]
    };
    Scripted::new(complete, judge)
}
