//! A generator that knows the words of the made-up texts.

use lacuna::generator::scripted::Scripted;
use lacuna::generator::{CompletionRequest, PosteriorRequest};

use crate::common::{BAD, GOOD, text};

/// Writes texts from the label in the prompt and the request's seed; judges by the words in the text.
pub fn of_words() -> Scripted<impl Fn(&CompletionRequest) -> String, impl Fn(&PosteriorRequest) -> Vec<f32>> {
    let complete = |request: &CompletionRequest| text(request.prompt.user.contains("positive"), request.seed % 1_000_000);
    let judge = |request: &PosteriorRequest| {
        let count = |words: &[&str]| words.iter().filter(|word| request.prompt.user.contains(*word)).count() as f32;
        vec![count(&BAD) - 4.0, count(&GOOD) - 4.0]
    };
    Scripted::new(complete, judge)
}
