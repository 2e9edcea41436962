//! Accept or reject what the generator wrote, with a reason.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::dataset::fingerprint;
use crate::generator::Finish;

/// Why a text is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    /// It ran into the token limit in the middle of a sentence.
    Unfinished,
    /// Fewer than three words.
    TooShort,
    /// The same words as an earlier row.
    Duplicate,
    /// Most of it stands in one gold row.
    CopyOfGold,
    /// Most of it stands in the prompt's rationales.
    CopyOfRationale,
    /// The same words as the text that it is the second of.
    CopyOfContext,
}

/// Words a text needs at least.
const MIN_WORDS: usize = 3;
/// The share of a text's trigrams that makes it a copy of a source.
const COPIED: f64 = 0.7;

/// Remembers what was accepted, and what must not be copied.
pub struct Verifier {
    accepted: HashSet<String>,
    gold: Vec<HashSet<u64>>,
}

impl Verifier {
    pub fn new<'a>(gold: impl IntoIterator<Item = &'a str>) -> Self {
        Verifier { accepted: HashSet::new(), gold: gold.into_iter().map(|text| trigrams(text).collect()).collect() }
    }

    /// Rows of earlier rounds, which must not be written again.
    pub fn remember<'a>(&mut self, texts: impl IntoIterator<Item = &'a str>) {
        self.accepted.extend(texts.into_iter().map(fingerprint));
    }

    /// Accepts `text` and remembers it, or says why not; `context` is the first text of a pair.
    pub fn accept(&mut self, text: &str, finish: Finish, rationales: &[&str], context: Option<&str>) -> Result<(), Rejection> {
        if finish == Finish::Length && !text.ends_with(['.', '!', '?', '…']) {
            return Err(Rejection::Unfinished);
        }
        if text.split_whitespace().filter(|word| word.chars().any(char::is_alphanumeric)).count() < MIN_WORDS {
            return Err(Rejection::TooShort);
        }
        if context.is_some_and(|context| fingerprint(context) == fingerprint(text)) {
            return Err(Rejection::CopyOfContext);
        }
        let own: Vec<u64> = trigrams(text).collect();
        let stands_in = |source: &HashSet<u64>| copied_share(&own, source) >= COPIED;
        if self.gold.iter().any(stands_in) {
            return Err(Rejection::CopyOfGold);
        }
        if rationales.iter().any(|rationale| stands_in(&trigrams(rationale).collect())) {
            return Err(Rejection::CopyOfRationale);
        }
        if !self.accepted.insert(fingerprint(text)) {
            return Err(Rejection::Duplicate);
        }
        Ok(())
    }
}

/// The share of `own` trigrams that occur in `source`.
fn copied_share(own: &[u64], source: &HashSet<u64>) -> f64 {
    own.iter().filter(|t| source.contains(t)).count() as f64 / own.len().max(1) as f64
}

/// Hashes of three successive words, in lower case, without punctuation; a shorter text is one.
fn trigrams(text: &str) -> impl Iterator<Item = u64> {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let words: Vec<String> =
        text.split(|c: char| !c.is_alphanumeric() && c != '\'').filter(|word| !word.is_empty()).map(str::to_lowercase).collect();
    let size = words.len().clamp(1, 3);
    let hash = |window: &[String]| {
        let mut hasher = DefaultHasher::new();
        window.hash(&mut hasher);
        hasher.finish()
    };
    words.windows(size).map(hash).collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_text() {
        let mut verifier = Verifier::new(["The plot wanders for two hours and never arrives."]);
        let mut accept =
            |text: &str, finish| verifier.accept(text, finish, &["the actors are bored and it shows"], Some("Rain fell all day."));
        assert_eq!(accept("A warm film with a good heart", Finish::Stop), Ok(()));
        assert_eq!(accept("a Warm film  with a good heart", Finish::Stop), Err(Rejection::Duplicate));
        assert_eq!(accept("It begins well and then it", Finish::Length), Err(Rejection::Unfinished));
        assert_eq!(accept("It begins well and then it ends.", Finish::Length), Ok(()));
        assert_eq!(accept("Good film - !", Finish::Stop), Err(Rejection::TooShort));
        assert_eq!(accept("", Finish::EndOfTurn), Err(Rejection::TooShort));
        assert_eq!(accept("the plot wanders for two hours, and never arrives", Finish::Stop), Err(Rejection::CopyOfGold));
        assert_eq!(accept("The actors are bored, and it shows!", Finish::Stop), Err(Rejection::CopyOfRationale));
        assert_eq!(accept("rain fell  all day.", Finish::Stop), Err(Rejection::CopyOfContext));
        assert_eq!(accept("The plot wanders pleasantly along a sunny coast with friends", Finish::Stop), Ok(()));
    }
}
