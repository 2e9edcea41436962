//! Words or characters of a text, weighted by how rare they are (TF-IDF): the features of the oldest baseline.

use std::collections::{BTreeMap, HashMap};

use regex::Regex;

use super::rows::Sparse;

/// What n-grams are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Words of two characters or more, scikit-learn's `(?u)\b\w\w+\b`.
    Words,
    /// Characters of one word, with a space before it and one behind, scikit-learn's `char_wb`: for languages that write no spaces.
    Characters,
}

/// A vocabulary with the weights of its n-grams: scikit-learn's `TfidfVectorizer(ngram_range=(1, ngrams), sublinear_tf=True)`.
#[derive(Clone, Debug)]
pub struct Tfidf {
    unit: Unit,
    ngrams: usize,
    word: Regex,
    /// The feature of each n-gram, in the order of their code points, and its inverse document frequency.
    vocabulary: HashMap<String, (u32, f64)>,
}

impl Tfidf {
    /// Learns the n-grams, of 1 to `ngrams` words or characters, of all texts, and how many texts each is in.
    pub fn fit(texts: &[&str], unit: Unit, ngrams: usize) -> Tfidf {
        // Python's \w: letters and numbers of all kinds, and no marks, which the crate's own \w has.
        let word = Regex::new(r"[\p{L}\p{N}_]{2,}").expect("it is a pattern");
        let mut fitted = Tfidf { unit, ngrams, word, vocabulary: HashMap::new() };
        let mut found_in: BTreeMap<String, usize> = BTreeMap::new();
        for text in texts {
            fitted.counts(text).into_keys().for_each(|gram| *found_in.entry(gram).or_default() += 1);
        }
        let weight = |texts_with: usize| ((1 + texts.len()) as f64 / (1 + texts_with) as f64).ln() + 1.0;
        let numbered = (0..).zip(found_in);
        fitted.vocabulary = numbered.map(|(feature, (gram, texts_with))| (gram, (feature, weight(texts_with)))).collect();
        fitted
    }

    /// Number of features.
    pub fn width(&self) -> usize {
        self.vocabulary.len()
    }

    /// The features of a text, of length 1: (1 + ln count) · idf of each n-gram that the vocabulary has. Empty if it has none of them.
    pub fn row(&self, text: &str) -> Sparse {
        let weighted = |(gram, count): (String, usize)| {
            let (feature, idf) = self.vocabulary.get(&gram)?;
            Some((*feature, (1.0 + (count as f64).ln()) * idf))
        };
        let mut features: Vec<(u32, f64)> = self.counts(text).into_iter().filter_map(weighted).collect();
        features.sort_unstable_by_key(|(feature, _)| *feature);
        let length = features.iter().map(|(_, x)| x * x).sum::<f64>().sqrt();
        let (index, value) = features.into_iter().map(|(feature, x)| (feature, x / length)).unzip();
        Sparse { index, value }
    }

    /// How often each n-gram is in a text.
    fn counts(&self, text: &str) -> HashMap<String, usize> {
        let text = text.to_lowercase();
        let mut counts = HashMap::new();
        let mut count = |gram: String| *counts.entry(gram).or_default() += 1;
        match self.unit {
            Unit::Words => {
                let words: Vec<&str> = self.word.find_iter(&text).map(|word| word.as_str()).collect();
                (1..=self.ngrams).for_each(|n| words.windows(n).for_each(|gram| count(gram.join(" "))));
            }
            Unit::Characters => text.split_whitespace().for_each(|word| self.within(word, &mut count)),
        }
        counts
    }

    /// The n-grams of a word's characters, with a space before it and one behind; none longer than these.
    fn within(&self, word: &str, count: &mut impl FnMut(String)) {
        let characters: Vec<char> = format!(" {word} ").chars().collect();
        (1..=self.ngrams).for_each(|n| characters.windows(n).for_each(|gram| count(gram.iter().collect())));
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{assert_near, indices, numbers, scikit};
    use super::*;
    use serde_json::Value;

    fn strings(value: &Value) -> Vec<&str> {
        value.as_array().unwrap().iter().map(|x| x.as_str().unwrap()).collect()
    }

    /// Values of `tests/reference/scikit.py`: scikit-learn's vocabulary and rows.
    #[test]
    fn vocabularies_and_rows_match_scikit_learn() {
        let golden = &scikit()["tfidf"];
        let (texts, unseen) = (strings(&golden["texts"]), strings(&golden["unseen"]));
        for case in golden["cases"].as_array().unwrap() {
            let unit = if case["unit"] == "words" { Unit::Words } else { Unit::Characters };
            let fitted = Tfidf::fit(&texts, unit, case["ngrams"].as_u64().unwrap() as usize);
            let mut terms: Vec<(&str, u32)> = fitted.vocabulary.iter().map(|(gram, (feature, _))| (gram.as_str(), *feature)).collect();
            terms.sort_unstable_by_key(|(_, feature)| *feature);
            assert_eq!(terms.iter().map(|(gram, _)| *gram).collect::<Vec<_>>(), strings(&case["terms"]));
            assert_eq!(fitted.width(), terms.len());
            for (text, expected) in texts.iter().chain(&unseen).zip(case["rows"].as_array().unwrap()) {
                let found = fitted.row(text);
                assert_eq!(found.index.iter().map(|&i| i as usize).collect::<Vec<_>>(), indices(&expected["index"]), "{text}");
                assert_near(&[found.value], &[numbers(&expected["value"])], 1e-12);
            }
        }
    }

    #[test]
    fn without_texts_there_are_no_features() {
        let fitted = Tfidf::fit(&[], Unit::Words, 2);
        assert_eq!((fitted.width(), fitted.row("a word")), (0, Sparse::default()));
    }
}
