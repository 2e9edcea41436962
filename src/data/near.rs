//! Near-copies and copies: texts that share most of their word trigrams.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use unicode_normalization::UnicodeNormalization;

use super::example::Input;
use super::language::words;

/// Two texts are near-copies if they share at least this share of the trigrams of the one that has more; two pairs, if both texts are.
const SHARED: f64 = 0.8;

/// Texts by their trigrams, so that a near-copy is found without looking at each.
#[derive(Default)]
pub struct NearCopies {
    /// The inputs whose first or second text has a trigram, by their place.
    with: [HashMap<u64, Vec<u32>>; 2],
    /// Number of trigrams of both texts of each input.
    sizes: Vec<[u32; 2]>,
}

impl NearCopies {
    /// An index of texts, or pairs of texts.
    pub fn of<'t>(inputs: impl IntoIterator<Item = Input<'t>>) -> NearCopies {
        let mut index = NearCopies::default();
        inputs.into_iter().for_each(|input| index.add(input));
        index
    }

    /// Adds one to the index.
    pub fn add(&mut self, input: Input) {
        let (place, own) = (self.sizes.len() as u32, trigrams_of(input));
        self.sizes.push([own[0].len() as u32, own[1].len() as u32]);
        for (with, own) in self.with.iter_mut().zip(own) {
            own.into_iter().for_each(|trigram| with.entry(trigram).or_default().push(place));
        }
    }

    /// Whether `input` is nearly a copy of one of them.
    pub fn has(&self, input: Input) -> bool {
        let own = trigrams_of(input);
        let mut shared: HashMap<u32, [u32; 2]> = HashMap::new();
        for (text, (with, own)) in self.with.iter().zip(&own).enumerate() {
            own.iter().filter_map(|trigram| with.get(trigram)).flatten().for_each(|&place| shared.entry(place).or_default()[text] += 1);
        }
        let near = |text: usize, place: u32, shared: u32| {
            let most = self.sizes[place as usize][text].max(own[text].len() as u32);
            f64::from(shared) >= SHARED * f64::from(most)
        };
        shared.into_iter().any(|(place, shared)| near(0, place, shared[0]) && near(1, place, shared[1]))
    }
}

/// Texts that others may be copied from.
#[derive(Default)]
pub struct Sources {
    with: HashMap<u64, Vec<u32>>,
}

impl Sources {
    pub fn of<'t>(texts: impl IntoIterator<Item = &'t str>) -> Sources {
        let mut with: HashMap<u64, Vec<u32>> = HashMap::new();
        for (place, text) in (0..).zip(texts) {
            let own: HashSet<u64> = trigrams(text).collect();
            own.into_iter().for_each(|trigram| with.entry(trigram).or_default().push(place));
        }
        Sources { with }
    }

    /// The largest share of a text's trigrams that a single source has.
    pub fn copied(&self, text: &str) -> f64 {
        let own: Vec<u64> = trigrams(text).collect();
        let mut found: HashMap<u32, u32> = HashMap::new();
        own.iter().filter_map(|trigram| self.with.get(trigram)).flatten().for_each(|&source| *found.entry(source).or_default() += 1);
        f64::from(found.into_values().max().unwrap_or(0)) / own.len().max(1) as f64
    }
}

/// The trigrams of a text, and of the second text of a pair.
fn trigrams_of(input: Input) -> [HashSet<u64>; 2] {
    [trigrams(input.text).collect(), input.text_pair.into_iter().flat_map(trigrams).collect()]
}

/// Hashes of the word trigrams, in lower case and without punctuation; a shorter text counts as one trigram.
fn trigrams(text: &str) -> impl Iterator<Item = u64> {
    let ascii = || text.split(|c: char| !c.is_alphanumeric() && c != '\'').filter(|word| !word.is_empty()).map(str::to_lowercase);
    let words: Vec<String> =
        if text.is_ascii() { ascii().collect() } else { words(text).map(|word| word.nfc().collect::<String>().to_lowercase()).collect() };
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
        let index = NearCopies::of([Input::from("A short one"), Input::from(long)]);
        let has = |text: &str| index.has(Input::from(text));
        assert!(has("the plot wanders, for two whole hours, along a sunny coast and never quite arrives anywhere") && has("a short, one!"));
        assert!(!has("The plot wanders for two whole hours, and that is all there is to say of it.") && !has(""));
    }

    #[test]
    fn a_pair_is_a_copy_if_both_texts_are() {
        let premise =
            "Rain fell all day in the north, and in the evening the wind came up from the sea and took what was left of the roofs.";
        let pair = |text_pair| Input { text: premise, text_pair: Some(text_pair) };
        let index = NearCopies::of([pair("It was wet in the north today.")]);
        assert!(index.has(pair("It was wet, in the north, today")));
        assert!(!index.has(pair("Nobody had an umbrella.")), "another second text, however short");
        assert!(!index.has(Input { text: "It was wet in the north today.", text_pair: Some(premise) }));
        assert!(!index.has(Input::from(premise)));
    }

    #[test]
    fn copies_are_measured_against_each_source_alone() {
        let sources = Sources::of(["the plot wanders for two hours", "这部电影非常感人，我很喜欢。"]);
        assert_eq!(sources.copied("The plot wanders for a while"), 0.5);
        assert_eq!(sources.copied("a plot wanders for two hours"), 0.75);
        assert!(sources.copied("这部电影非常感人") == 1.0 && sources.copied("那本书不好看") == 0.0 && sources.copied("") == 0.0);
    }

    proptest! {
        #[test]
        fn the_index_finds_what_comparing_with_each_finds(
            texts in proptest::collection::vec("[ab]( [abc]){2,9}", 1..9), asked in "[ab]( [abc]){2,9}"
        ) {
            let index = NearCopies::of(texts.iter().map(|text| Input::from(text.as_str())));
            let of = |text: &str| trigrams(text).collect::<HashSet<u64>>();
            let own = of(&asked);
            let near = |text: &String| own.intersection(&of(text)).count() as f64 >= SHARED * own.len().max(of(text).len()) as f64;
            prop_assert_eq!(index.has(Input::from(asked.as_str())), texts.iter().any(near));
        }
    }
}
