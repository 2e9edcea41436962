//! Candidate answers: spans of a text that are names, numbers, or words between stopwords.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::data::example::Answer;

/// No answer begins or ends with a stopword, and a stopword ends a run of plain words.
const STOPWORDS: &str = "a about above after again against all also although among an and another any are as at be because been before \
    being below between both but by can could did do does during each either few for from further had has have he her here hers him \
    his how however i if in into is it its itself just many may me might more most much must my neither no nor not now of off often on \
    once only onto or other our out over own same shall she should since so some such than that the their them then there these they \
    this those though through thus to too under until up upon us very was we were what when where whether which while who whom whose why \
    will with within without would yet you your";

/// Words that join the parts of a name.
const JOINING: [&str; 11] = ["of", "the", "de", "der", "van", "von", "la", "le", "del", "di", "da"];

/// Words that belong to an adjacent number, such as months and units.
const MEASURES: &str = "january february march april may june july august september october november december percent per cent hundred \
    thousand million billion trillion century centuries year years month months week weeks day days hour hours minute minutes second \
    seconds bc ad bce ce am pm km m cm mm miles mile feet metres meters kilometres kilometers acres tonnes tons kg pounds dollars euros \
    degrees times";

/// Most words in a candidate.
const LONGEST: usize = 8;
/// Number of consecutive plain words that make a candidate.
const PLAIN: std::ops::RangeInclusive<usize> = 2..=4;

/// A word without surrounding punctuation.
struct Word<'t> {
    text: &'t str,
    /// Its byte range in the text.
    bytes: Range<usize>,
    lower: String,
    /// Whether there is punctuation between it and the previous word.
    parted: bool,
    /// Whether it begins a sentence.
    begins: bool,
}

impl Word<'_> {
    fn is_among(&self, list: &str) -> bool {
        list.split_whitespace().any(|word| word == self.lower)
    }

    fn is_stopword(&self) -> bool {
        self.is_among(STOPWORDS)
    }

    fn is_capitalised(&self) -> bool {
        self.text.chars().next().is_some_and(char::is_uppercase)
    }

    fn is_number(&self) -> bool {
        self.text.chars().any(|c| c.is_ascii_digit())
    }
}

/// The candidate answers in `text`, without duplicates, in the order of the text:
///
/// - runs of capitalised words, also joined by words such as "of" and "de", unless it is a single word that begins a sentence;
/// - runs with a number, together with months, units and words such as "million" next to it;
/// - two to four words between stopwords.
///
/// No candidate crosses punctuation, is longer than eight words, or begins or ends with a stopword. This is a heuristic for English
/// from word lists and capital letters, not a parser.
pub fn candidates(text: &str) -> Vec<Answer> {
    let words = words(text);
    let name = |word: &Word| word.is_capitalised() || JOINING.contains(&word.lower.as_str());
    let number = |word: &Word| word.is_number() || word.is_among(MEASURES);
    let names = runs(&words, name).into_iter().filter(|run| run.iter().any(Word::is_capitalised) && !(run.len() == 1 && run[0].begins));
    let numbers = runs(&words, number).into_iter().filter(|run| run.iter().any(Word::is_number));
    let plain = runs(&words, |word| !word.is_stopword()).into_iter().filter(|run| PLAIN.contains(&run.len()));
    let all: BTreeSet<(usize, usize)> = names.chain(numbers).chain(plain).map(bytes_of).map(|bytes| (bytes.start, bytes.end)).collect();
    all.into_iter().filter_map(|(start, end)| Answer::at(text, start..end)).collect()
}

/// The maximal runs of words for which `belongs` holds, without stopwords at their ends.
fn runs<'w, 't>(words: &'w [Word<'t>], belongs: impl Fn(&Word) -> bool) -> Vec<&'w [Word<'t>]> {
    let chunks = words.chunk_by(|a, b| !b.parted && belongs(a) == belongs(b));
    let trimmed = chunks.filter(|run| belongs(&run[0])).filter_map(|run| {
        let kept = |word: &Word| !word.is_stopword();
        Some(&run[run.iter().position(kept)?..=run.iter().rposition(kept)?])
    });
    trimmed.filter(|run| run.len() <= LONGEST).collect()
}

/// From the first word to the last, without a possessive ending.
fn bytes_of(run: &[Word]) -> Range<usize> {
    let (first, last) = (&run[0], &run[run.len() - 1]);
    let owner = ["'s", "’s"].into_iter().find_map(|ending| last.text.strip_suffix(ending)).filter(|owner| !owner.is_empty());
    first.bytes.start..last.bytes.start + owner.map_or(last.text.len(), str::len)
}

fn words(text: &str) -> Vec<Word<'_>> {
    let mut words: Vec<Word> = Vec::new();
    let (mut parted, mut begins, mut at) = (false, true, 0);
    for piece in text.split_inclusive(char::is_whitespace) {
        let start = at;
        at += piece.len();
        let part = |c: char| c.is_alphanumeric() || "$£€%".contains(c);
        let (Some(first), Some((last, c))) = (piece.find(part), piece.char_indices().rfind(|(_, c)| part(*c))) else {
            parted |= !piece.trim().is_empty();
            continue;
        };
        let bytes = start + first..start + last + c.len_utf8();
        let word = &text[bytes.clone()];
        words.push(Word { text: word, lower: word.to_lowercase(), parted: parted || first > 0, begins, bytes });
        let after = piece[last + c.len_utf8()..].trim();
        (parted, begins) = (!after.is_empty(), after.contains(['.', '!', '?']));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(text: &str) -> Vec<String> {
        candidates(text).into_iter().map(|answer| answer.text).collect()
    }

    #[test]
    fn names_numbers_and_runs_between_stopwords() {
        let text = "Another green space is the Town Moor. It is larger than London's Hyde Park, and King Harald V of Norway paid \
            $3.5 million in June 1990 for the right to graze cattle.";
        let found = found(text);
        for expected in
            ["green space", "Town Moor", "London's Hyde Park", "King Harald V of Norway", "$3.5 million", "June 1990", "graze cattle"]
        {
            assert!(found.iter().any(|own| own == expected), "{expected:?} is not among {found:?}");
        }
        for other in ["Another", "It", "the Town Moor", "Town Moor. It", "Hyde Park, and King", "right", "paid"] {
            assert!(found.iter().all(|own| own != other), "{other:?} is among {found:?}");
        }
    }

    proptest! {
        #[test]
        fn every_candidate_is_in_the_text(text in "\\PC{0,60}|([A-Z]?[a-zéß]{1,5}('s)?[,. ]{1,2}|[0-9]{1,4}%? |of |the ){0,20}") {
            let candidates = candidates(&text);
            for candidate in &candidates {
                let bytes = candidate.bytes_in(&text);
                prop_assert_eq!(bytes.map(|bytes| &text[bytes]), Some(candidate.text.as_str()));
                prop_assert!(!candidate.text.is_empty() && candidate.text.trim() == candidate.text);
                prop_assert!(candidate.text.split_whitespace().count() <= LONGEST);
            }
            let distinct: BTreeSet<_> = candidates.iter().map(|c| (c.start, c.text.len())).collect();
            prop_assert_eq!(distinct.len(), candidates.len());
        }
    }
}
