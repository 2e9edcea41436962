//! Divides labelled rows of a table into gold and test rows: texts once each, no text in both, each label with its share of both.

use std::collections::{HashMap, HashSet};

use rand::seq::SliceRandom;
use serde_json::Value;

use super::example::{Input, key_of};
use crate::math::random;

/// A labelled text, or pair of texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// Where it stands in the table.
    pub line: usize,
    /// Its cell of a column `id`, if there is one.
    pub id: Option<Value>,
    pub text: String,
    pub text_pair: Option<String>,
    pub label: String,
}

impl Labelled {
    /// [`Input::key`] of its texts.
    pub fn key(&self) -> u64 {
        Input { text: &self.text, text_pair: self.text_pair.as_deref() }.key()
    }
}

/// The parts, each in the order of the table, and what was left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parts {
    pub gold: Vec<Labelled>,
    pub test: Vec<Labelled>,
    pub left_out: Vec<(Labelled, Fault)>,
}

/// Why a labelled row is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its text, with its label, was there before.
    Repeated,
    /// Its text has several labels.
    Contradicting,
}

/// Rows of each label that stay gold at least: one for each side of the split.
const LEAST: usize = 2;

/// A share of the rows of each label, at random, becomes test rows; all pairs with the same first text go the same way.
pub fn divide(rows: Vec<Labelled>, test_share: f64, seed: u64) -> Parts {
    let mut parts = Parts::default();
    let mut labels: HashMap<u64, HashSet<&str>> = HashMap::new();
    rows.iter().for_each(|row| _ = labels.entry(row.key()).or_default().insert(&row.label));
    let contradicting: HashSet<u64> = labels.into_iter().filter(|(_, labels)| labels.len() > 1).map(|(key, _)| key).collect();
    let mut seen = HashSet::new();
    let mut kept = Vec::new();
    for row in rows {
        let key = row.key();
        if contradicting.contains(&key) {
            parts.left_out.push((row, Fault::Contradicting));
        } else if seen.insert(key) {
            kept.push(row);
        } else {
            parts.left_out.push((row, Fault::Repeated));
        }
    }
    let tested = tested(&kept, test_share, seed);
    for (row, tested) in kept.into_iter().zip(tested) {
        if tested { parts.test.push(row) } else { parts.gold.push(row) }
    }
    parts
}

/// Whether each row is a test row.
fn tested(rows: &[Labelled], share: f64, seed: u64) -> Vec<bool> {
    let mut of_label: HashMap<&str, usize> = HashMap::new();
    rows.iter().for_each(|row| *of_label.entry(&row.label).or_default() += 1);
    let mut wanted: HashMap<&str, usize> =
        of_label.iter().map(|(label, n)| (*label, ((*n as f64 * share).round() as usize).min(n.saturating_sub(LEAST)))).collect();
    let mut groups: HashMap<u64, Vec<usize>> = HashMap::new();
    rows.iter().enumerate().for_each(|(i, row)| groups.entry(key_of(&row.text)).or_default().push(i));
    let mut groups: Vec<Vec<usize>> = groups.into_values().collect();
    groups.sort_unstable();
    groups.shuffle(&mut random::rng(seed, "test rows", 0));
    let mut tested = vec![false; rows.len()];
    for group in groups {
        let mut of_group: HashMap<&str, usize> = HashMap::new();
        group.iter().for_each(|&i| *of_group.entry(&rows[i].label).or_default() += 1);
        if of_group.iter().all(|(label, n)| wanted[label] >= *n) {
            of_group.iter().for_each(|(label, n)| *wanted.get_mut(label).expect("every label has a count") -= n);
            group.into_iter().for_each(|i| tested[i] = true);
        }
    }
    tested
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(text: &str, text_pair: Option<&str>, label: &str) -> Labelled {
        Labelled { line: 0, id: None, text: text.into(), text_pair: text_pair.map(str::to_string), label: label.into() }
    }

    #[test]
    fn each_text_is_there_once_and_contradictions_are_left_out() {
        let parts =
            divide(vec![row("a", None, "x"), row(" A ", None, "x"), row("b", None, "x"), row("b", None, "y"), row("c", None, "y")], 0.0, 0);
        assert_eq!(parts.gold, [row("a", None, "x"), row("c", None, "y")]);
        let why: Vec<Fault> = parts.left_out.iter().map(|(_, why)| *why).collect();
        assert_eq!((parts.test.len(), why), (0, vec![Fault::Repeated, Fault::Contradicting, Fault::Contradicting]));
    }

    proptest! {
        #[test]
        fn no_text_is_in_both_and_every_label_stays_gold(sizes in proptest::collection::vec(1usize..40, 1..5), share in 0.0..0.9f64, seed: u64, firsts in 1usize..9) {
            let rows: Vec<Labelled> = sizes.iter().enumerate().flat_map(|(label, n)| {
                (0..*n).map(move |i| row(&format!("first {}", i % firsts), Some(&format!("{label} {i}")), &label.to_string()))
            }).collect();
            let parts = divide(rows.clone(), share, seed);
            prop_assert_eq!(parts.gold.len() + parts.test.len(), rows.len());
            let firsts = |rows: &[Labelled]| rows.iter().map(|row| row.text.clone()).collect::<HashSet<_>>();
            prop_assert!(firsts(&parts.gold).is_disjoint(&firsts(&parts.test)));
            for (label, n) in sizes.iter().enumerate() {
                let gold = parts.gold.iter().filter(|row| row.label == label.to_string()).count();
                prop_assert!(gold >= (*n).min(LEAST));
            }
            let single: Vec<Labelled> = rows.into_iter().map(|row| Labelled { text: row.text_pair.unwrap(), text_pair: None, ..row }).collect();
            let parts = divide(single, share, seed);
            for (label, n) in sizes.iter().enumerate() {
                let test = parts.test.iter().filter(|row| row.label == label.to_string()).count();
                prop_assert_eq!(test, ((*n as f64 * share).round() as usize).min(n.saturating_sub(LEAST)));
            }
        }
    }
}
