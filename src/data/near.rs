//! Near-copies: texts that share most of their word trigrams.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::example::Input;

/// Two texts are near-copies if they share at least this share of the trigrams of the one that has more.
const SHARED: f64 = 0.8;

/// Texts by their trigrams, so that a near-copy is found without looking at each.
#[derive(Default)]
pub struct NearCopies {
    /// The texts that have a trigram, by their place.
    with: HashMap<u64, Vec<u32>>,
    /// Number of trigrams of each text.
    sizes: Vec<u32>,
}

impl NearCopies {
    /// An index of texts, or pairs of texts.
    pub fn of<'t>(inputs: impl IntoIterator<Item = Input<'t>>) -> NearCopies {
        let mut index = NearCopies::default();
        for input in inputs {
            let (place, own) = (index.sizes.len() as u32, trigrams_of(input));
            index.sizes.push(own.len() as u32);
            own.into_iter().for_each(|trigram| index.with.entry(trigram).or_default().push(place));
        }
        index
    }

    /// The place of the text that `input` is nearly a copy of, if there is one: of several, the most alike, of equals the first.
    pub fn find(&self, input: Input) -> Option<usize> {
        let own = trigrams_of(input);
        let mut shared: HashMap<u32, u32> = HashMap::new();
        own.iter().filter_map(|trigram| self.with.get(trigram)).flatten().for_each(|&place| *shared.entry(place).or_default() += 1);
        let alike = |(place, count): (u32, u32)| (f64::from(count) / f64::from(self.sizes[place as usize].max(own.len() as u32)), place);
        let near = shared.into_iter().map(alike).filter(|(alike, _)| *alike >= SHARED);
        near.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1))).map(|(_, place)| place as usize)
    }
}

/// The trigrams of a text, or of both texts of a pair.
fn trigrams_of(input: Input) -> HashSet<u64> {
    let second = input.text_pair.into_iter().flat_map(trigrams).map(|trigram| trigram.rotate_left(1));
    trigrams(input.text).chain(second).collect()
}

/// Hashes of the word trigrams, in lower case and without punctuation; a shorter text counts as one trigram.
pub fn trigrams(text: &str) -> impl Iterator<Item = u64> {
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
    use proptest::prelude::*;

    #[test]
    fn copies_with_small_changes_are_found_and_others_are_not() {
        let long = "The plot wanders for two whole hours along a sunny coast and never quite arrives anywhere that matters.";
        let index = NearCopies::of([Input::from("A short one"), Input::from(long), Input::from(long)]);
        assert_eq!(
            index.find(Input::from("the plot wanders, for two whole hours, along a sunny coast and never quite arrives anywhere")),
            Some(1)
        );
        assert_eq!(index.find(Input::from("a short, one!")), Some(0));
        assert_eq!(index.find(Input::from("The plot wanders for two whole hours, and that is all there is to say of it.")), None);
        assert_eq!(index.find(Input::from("")), None);
        let pair = |text_pair| Input { text: "Rain fell all day in the north.", text_pair: Some(text_pair) };
        let index = NearCopies::of([pair("It was wet in the north today.")]);
        assert_eq!(index.find(pair("It was wet, in the north, today")), Some(0));
        assert_eq!(index.find(pair("Nobody had any umbrella with them.")), None, "half of a pair is no pair");
        let exchanged = Input { text: "It was wet in the north today.", text_pair: Some("Rain fell all day in the north.") };
        assert_eq!(index.find(exchanged), None);
    }

    proptest! {
        #[test]
        fn the_index_finds_what_comparing_with_each_finds(texts in proptest::collection::vec("[ab]( [abc]){2,9}", 1..9), asked in "[ab]( [abc]){2,9}") {
            let index = NearCopies::of(texts.iter().map(|text| Input::from(text.as_str())));
            let own = trigrams_of(Input::from(asked.as_str()));
            let alike = |text: &String| {
                let other = trigrams_of(Input::from(text.as_str()));
                own.intersection(&other).count() as f64 / own.len().max(other.len()) as f64
            };
            let most = texts.iter().map(alike).fold(0.0, f64::max);
            let expected = (most >= SHARED).then(|| texts.iter().position(|text| alike(text) == most).unwrap());
            prop_assert_eq!(index.find(Input::from(asked.as_str())), expected);
        }
    }
}
