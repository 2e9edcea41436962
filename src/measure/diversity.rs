//! Diversity of texts, and edit distances.

use std::collections::HashMap;
use std::io::Write;

use serde::{Deserialize, Serialize};

/// Diversity measures of a set of texts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Diversity {
    /// Number of words that distinct-n reads: the same for all sets in a comparison.
    pub words: usize,
    /// distinct-n, the share of distinct n-grams, for n = 1, 2, 3.
    pub distinct: [f64; 3],
    /// The mean BLEU of each text against all others: high if the texts are alike.
    pub self_bleu: f64,
    /// Compression ratio: bytes of the texts over bytes after compression.
    pub compression: f64,
}

/// Most words that distinct-n reads, so that its value does not fall with the size of the set.
const BUDGET: usize = 2000;
/// Most texts that self-BLEU reads.
const MOST_TEXTS: usize = 500;

impl Diversity {
    pub fn of(texts: &[&str]) -> Diversity {
        let tokens: Vec<Vec<String>> = texts.iter().map(|text| words(text)).collect();
        Diversity {
            words: tokens.iter().map(Vec::len).sum::<usize>().min(BUDGET),
            distinct: [1, 2, 3].map(|n| distinct(&tokens, n, BUDGET)),
            self_bleu: self_bleu(&tokens[..tokens.len().min(MOST_TEXTS)]),
            compression: compression(texts),
        }
    }
}

/// Words in lower case, without punctuation.
fn words(text: &str) -> Vec<String> {
    let separates = |c: char| !c.is_alphanumeric() && c != '\'' && c != '_';
    text.split(separates).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// The share of distinct n-grams among those of the first `budget` words; n-grams do not cross texts.
fn distinct(texts: &[Vec<String>], n: usize, budget: usize) -> f64 {
    let (mut left, mut counts) = (budget, HashMap::<&[String], usize>::new());
    for text in texts {
        let text = &text[..text.len().min(left)];
        left -= text.len();
        text.windows(n).for_each(|gram| *counts.entry(gram).or_default() += 1);
    }
    counts.len() as f64 / counts.values().sum::<usize>().max(1) as f64
}

/// The largest n-gram order of BLEU.
const ORDER: usize = 4;
/// Replaces a count of 0 (smoothing method 1 of Chen and Cherry, 2014).
const EPSILON: f64 = 0.1;

/// The mean over texts of BLEU-4 with all others as references, as nltk computes it with smoothing method 1.
fn self_bleu(texts: &[Vec<String>]) -> f64 {
    let counts: Vec<Vec<HashMap<&[String], usize>>> = (1..=ORDER).map(|n| texts.iter().map(|text| grams(text, n)).collect()).collect();
    let most: Vec<HashMap<&[String], Most>> = counts.iter().map(|counts| Most::of_all(counts)).collect();
    let bleu = |i: usize| {
        let matches = |n: usize| {
            let clipped = counts[n][i].iter().map(|(gram, &count)| count.min(most[n][gram].without(i)));
            let all = (texts[i].len().saturating_sub(n)).max(1);
            (clipped.sum::<usize>(), all)
        };
        if matches(0).0 == 0 {
            return 0.0;
        }
        let log = |(right, all): (usize, usize)| ((if right == 0 { EPSILON } else { right as f64 }) / all as f64).ln();
        let precision = (0..ORDER).map(|n| log(matches(n))).sum::<f64>() / ORDER as f64;
        brevity(texts, i) * precision.exp()
    };
    if texts.len() < 2 { 0.0 } else { (0..texts.len()).map(bleu).sum::<f64>() / texts.len() as f64 }
}

fn grams(text: &[String], n: usize) -> HashMap<&[String], usize> {
    let mut counts = HashMap::new();
    text.windows(n).for_each(|gram| *counts.entry(gram).or_default() += 1);
    counts
}

/// The largest count of an n-gram in any text, which text that is, and the largest count in any other text.
#[derive(Clone, Copy, Default)]
struct Most {
    count: usize,
    text: usize,
    other: usize,
}

impl Most {
    fn of_all<'t>(counts: &[HashMap<&'t [String], usize>]) -> HashMap<&'t [String], Most> {
        let mut most: HashMap<&[String], Most> = HashMap::new();
        for (text, counts) in counts.iter().enumerate() {
            for (gram, &count) in counts {
                let entry = most.entry(gram).or_default();
                if count > entry.count {
                    *entry = Most { count, text, other: entry.count };
                } else {
                    entry.other = entry.other.max(count);
                }
            }
        }
        most
    }

    fn without(&self, text: usize) -> usize {
        if self.text == text { self.other } else { self.count }
    }
}

/// The brevity penalty of a text against the reference closest in length, the shorter of two that are equally close.
fn brevity(texts: &[Vec<String>], i: usize) -> f64 {
    let own = texts[i].len();
    let others = texts.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, text)| text.len());
    let nearest = others.min_by_key(|&length| (length.abs_diff(own), length)).unwrap_or(own);
    if own > nearest { 1.0 } else { (1.0 - nearest as f64 / own.max(1) as f64).exp() }
}

/// Bytes of the texts, one per line, over their bytes after zlib compression at level 6.
fn compression(texts: &[&str]) -> f64 {
    let plain = texts.join("\n");
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(6));
    let packed = encoder.write_all(plain.as_bytes()).and_then(|()| encoder.finish()).map_or(0, |packed| packed.len());
    plain.len() as f64 / packed.max(1) as f64
}

/// The Levenshtein distance, in characters.
pub fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Values of `tests/reference/metrics.py`.
    fn golden() -> serde_json::Value {
        serde_json::from_str(include_str!("../../tests/reference/metrics.json")).unwrap()
    }

    fn texts(golden: &serde_json::Value) -> Vec<&str> {
        golden["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
    }

    #[test]
    fn self_bleu_matches_nltk() {
        let golden = golden();
        let tokens: Vec<Vec<String>> = texts(&golden).iter().map(|text| words(text)).collect();
        let found = self_bleu(&tokens);
        assert!((found - golden["self_bleu"].as_f64().unwrap()).abs() < 1e-9, "{found}");
    }

    #[test]
    fn distinct_n_at_a_budget_matches_the_reference() {
        let golden = golden();
        let tokens: Vec<Vec<String>> = texts(&golden).iter().map(|text| words(text)).collect();
        for (n, expected) in golden["distinct"]["values"].as_array().unwrap().iter().enumerate() {
            assert!((distinct(&tokens, n + 1, 30) - expected.as_f64().unwrap()).abs() < 1e-12);
        }
    }

    #[test]
    fn edit_distance_matches_nltk() {
        for case in golden()["edits"].as_array().unwrap() {
            assert_eq!(edit_distance(case["a"].as_str().unwrap(), case["b"].as_str().unwrap()) as u64, case["value"].as_u64().unwrap());
        }
    }

    #[test]
    fn the_compression_ratio_matches_zlib() {
        let golden = golden();
        let repeated = texts(&golden).repeat(5);
        let (found, expected) = (compression(&repeated), golden["compression"]["value"].as_f64().unwrap());
        assert!((found / expected - 1.0).abs() < 0.1, "{found} {expected}");
    }

    #[test]
    fn empty_sets_have_no_diversity() {
        assert_eq!(Diversity::of(&[]).self_bleu, 0.0);
        assert!(Diversity::of(&["", "?"]).distinct.iter().all(|share| *share == 0.0));
    }

    proptest! {
        #[test]
        fn edit_distance_is_a_metric(a in "[ab]{0,8}", b in "[ab]{0,8}", c in "[ab]{0,8}") {
            let d = |x: &str, y: &str| edit_distance(x, y);
            prop_assert_eq!(d(&a, &b), d(&b, &a));
            prop_assert_eq!(d(&a, &b) == 0, a == b);
            prop_assert!(d(&a, &c) <= d(&a, &b) + d(&b, &c));
        }
    }
}
