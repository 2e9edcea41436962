//! Accepts or rejects generated texts, with a reason.

use std::collections::HashSet;

use crate::data::example::fingerprint;
use crate::data::near::trigrams;
use crate::data::squad::normalise;
use crate::generator::Finish;
use crate::run::round::Rejection;

/// What the prompt of a text contained.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prompted<'a> {
    pub rationales: &'a [&'a str],
    /// The first text of a pair, or a question's context.
    pub context: Option<&'a str>,
    /// The answer that a question was written for.
    pub answer: Option<&'a str>,
}

/// Fewest words in an accepted text.
const MIN_WORDS: usize = 3;
/// A text with at least this share of its trigrams in a source is a copy of it.
const COPIED: f64 = 0.7;

/// Knows the accepted texts, and the gold rows that must not be copied.
pub struct Verifier {
    accepted: HashSet<String>,
    gold: Vec<HashSet<u64>>,
}

impl Verifier {
    pub fn new<'a>(gold: impl IntoIterator<Item = &'a str>) -> Self {
        Verifier { accepted: HashSet::new(), gold: gold.into_iter().map(|text| trigrams(text).collect()).collect() }
    }

    /// Adds the rows of earlier rounds, so that they count as duplicates.
    pub fn remember<'a>(&mut self, texts: impl IntoIterator<Item = &'a str>) {
        self.accepted.extend(texts.into_iter().map(fingerprint));
    }

    /// Accepts `text` and remembers it, or gives the reason for its rejection.
    pub fn accept(&mut self, text: &str, finish: Finish, prompted: &Prompted) -> Result<(), Rejection> {
        let Prompted { rationales, context, answer } = *prompted;
        if finish == Finish::Length && !text.ends_with(['.', '!', '?', '…']) {
            return Err(Rejection::Unfinished);
        }
        if text.split_whitespace().filter(|word| word.chars().any(char::is_alphanumeric)).count() < MIN_WORDS {
            return Err(Rejection::TooShort);
        }
        if context.is_some_and(|context| fingerprint(context) == fingerprint(text)) {
            return Err(Rejection::CopyOfContext);
        }
        if answer.is_some() && !text.ends_with('?') {
            return Err(Rejection::NotAQuestion);
        }
        if answer.is_some_and(|answer| gives_away(text, answer)) {
            return Err(Rejection::GivesAnswer);
        }
        let own: Vec<u64> = trigrams(text).collect();
        let copied_from = |source: &HashSet<u64>| copied_share(&own, source) >= COPIED;
        if self.gold.iter().any(copied_from) {
            return Err(Rejection::CopyOfGold);
        }
        if rationales.iter().any(|rationale| copied_from(&trigrams(rationale).collect())) {
            return Err(Rejection::CopyOfRationale);
        }
        if !self.accepted.insert(fingerprint(text)) {
            return Err(Rejection::Duplicate);
        }
        Ok(())
    }
}

/// Whether `question` contains the words of `answer` in succession, after SQuAD's normalisation.
fn gives_away(question: &str, answer: &str) -> bool {
    let (question, answer) = (normalise(question), normalise(answer));
    !answer.is_empty() && format!(" {question} ").contains(&format!(" {answer} "))
}

/// The share of the trigrams `own` that occur in `source`.
fn copied_share(own: &[u64], source: &HashSet<u64>) -> f64 {
    own.iter().filter(|t| source.contains(t)).count() as f64 / own.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rejection_has_its_reason() {
        let mut verifier = Verifier::new(["The plot wanders for two hours and never arrives."]);
        let (rationales, context) = (&["the actors are bored and it shows"][..], Some("Rain fell all day."));
        let mut accept = |text: &str, finish| verifier.accept(text, finish, &Prompted { rationales, context, answer: None });
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

    #[test]
    fn a_question_must_ask_and_not_give_the_answer() {
        let mut verifier = Verifier::new([]);
        let context = Some("Who was the king? Harald the First.");
        let mut accept =
            |text: &str, answer| verifier.accept(text, Finish::Stop, &Prompted { context, answer: Some(answer), ..Prompted::default() });
        assert_eq!(accept("Who ruled the country then?", "Harald the First"), Ok(()));
        assert_eq!(accept("The king ruled the country", "Harald the First"), Err(Rejection::NotAQuestion));
        assert_eq!(accept("Was it harald first who ruled?", "Harald the First."), Err(Rejection::GivesAnswer));
        assert_eq!(accept("Was it Haralds firstborn who ruled?", "Harald"), Ok(()));
        assert_eq!(accept("Who wrote the book?", "the"), Ok(()));
        assert_eq!(accept("who was the king? Harald the first.", "Harald"), Err(Rejection::CopyOfContext));
    }
}
