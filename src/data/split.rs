//! Splits the gold rows into *mine*, whose errors are extrapolated, and *select*, held out to move the labels' offsets and choose the
//! round.

use rand::seq::SliceRandom;

use super::example::GoldRow;
use super::head::Head;
use crate::math::random;

/// The split of the gold rows; each side in file order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split<H: Head> {
    pub mine: Vec<GoldRow<H>>,
    pub select: Vec<GoldRow<H>>,
}

impl<H: Head> Split<H> {
    /// Sorts both sides into file order.
    pub fn in_order_of_lines(mut mine: Vec<GoldRow<H>>, mut select: Vec<GoldRow<H>>) -> Self {
        mine.sort_by_key(|row| row.line);
        select.sort_by_key(|row| row.line);
        Split { mine, select }
    }

    /// All gold rows, *mine* first.
    pub fn gold(&self) -> impl Iterator<Item = &GoldRow<H>> {
        self.mine.iter().chain(&self.select)
    }
}

/// How gold rows are split.
pub trait Divide: Head {
    /// Splits gold rows into *mine* and *select*, shuffled with `seed`; a share `select_share` in (0, 1) goes to *select*.
    ///
    /// # Errors
    /// Too few rows for two sides.
    fn divide(&self, gold: &[GoldRow<Self>], select_share: f64, seed: u64) -> Result<Split<Self>, String>;
}

/// A stratified sample of `rows` gold rows, drawn with `seed`: each label keeps its share (largest remainders), but at least the rows that
/// it needs ([`Head::LEAST`], two to be in both splits), where `gold` has them; the labels with the most rows make room.
///
/// # Errors
/// `gold` has fewer rows, or two rows of every label are more than `rows`; the message says how many.
pub fn sample<H: Head>(head: &H, gold: &[GoldRow<H>], rows: usize, seed: u64) -> Result<Vec<GoldRow<H>>, String> {
    let places = places_of_sample(head, gold.iter().map(GoldRow::stratum), rows, seed)?;
    Ok(places.into_iter().map(|place| gold[place].clone()).collect())
}

/// The places of a [`sample`] among rows of these strata, in their order.
///
/// # Errors
/// As [`sample`].
pub fn places_of_sample<H: Head>(head: &H, strata: impl Iterator<Item = usize>, rows: usize, seed: u64) -> Result<Vec<usize>, String> {
    let by_label = shuffled(head.strata(), strata.enumerate().map(|(place, stratum)| (stratum, place)), seed, "gold sample");
    let sizes: Vec<usize> = by_label.iter().map(Vec::len).collect();
    let all: usize = sizes.iter().sum();
    if rows > all {
        return Err(format!("gold_rows is {rows}, but there are {all} gold rows"));
    }
    let least = |size: &usize| if head.strata() > 1 { H::LEAST.min(*size) } else { 0 };
    let least: Vec<usize> = sizes.iter().map(least).collect();
    let needed = least.iter().sum();
    if rows < needed {
        return Err(format!(
            "gold_rows is {rows}; raise it to at least {needed}, because each label needs {}",
            if H::LEAST > 1 { "one row in mine and one in select" } else { "a row" }
        ));
    }
    let counts = raised(shares(&sizes, rows), &least);
    let mut taken: Vec<usize> = by_label.into_iter().zip(counts).flat_map(|(places, n)| places.into_iter().take(n)).collect();
    taken.sort_unstable();
    Ok(taken)
}

/// The rows of each stratum, shuffled; `purpose` keeps independent draws apart.
pub fn shuffled_by_stratum<H: Head>(head: &H, gold: &[GoldRow<H>], seed: u64, purpose: &str) -> Vec<Vec<GoldRow<H>>> {
    shuffled(head.strata(), gold.iter().map(|row| (row.stratum(), row.clone())), seed, purpose)
}

fn shuffled<T: Clone>(count: usize, rows: impl Iterator<Item = (usize, T)>, seed: u64, purpose: &str) -> Vec<Vec<T>> {
    let mut strata = vec![Vec::new(); count];
    rows.for_each(|(stratum, row)| strata[stratum].push(row));
    for (stratum, rows) in strata.iter_mut().enumerate() {
        rows.shuffle(&mut random::rng(seed, purpose, stratum as u64));
    }
    strata
}

/// `total` divided in proportion to `sizes` by largest remainders, no share larger than its size.
fn shares(sizes: &[usize], total: usize) -> Vec<usize> {
    let all: usize = sizes.iter().sum();
    if all == 0 {
        return vec![0; sizes.len()];
    }
    let mut counts: Vec<usize> = sizes.iter().map(|&n| n * total / all).collect();
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(sizes[i] * total % all));
    let missing = total - counts.iter().sum::<usize>();
    for &i in order.iter().take(missing) {
        counts[i] += 1;
    }
    counts
}

/// `counts`, of which none is below its `least`: what is missing is taken from the largest ones. `least` must not sum to more.
fn raised(mut counts: Vec<usize>, least: &[usize]) -> Vec<usize> {
    while let Some(low) = (0..counts.len()).find(|&i| counts[i] < least[i]) {
        let largest = (0..counts.len()).max_by_key(|&i| counts[i]).expect("there is a low one");
        counts[largest] -= 1;
        counts[low] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::answers::{Answers, GoldAnswers};
    use crate::data::example::{Answer, fingerprint};
    use crate::data::labels::{Label, Labels};
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn rows(labels: &[usize]) -> Vec<GoldRow<Labels>> {
        labels
            .iter()
            .enumerate()
            .map(|(i, &label)| GoldRow { line: i + 1, text: format!("text {i}"), text_pair: None, gold: Label { label } })
            .collect()
    }

    fn head(n: usize) -> Labels {
        Labels { names: (0..n).map(|i| format!("label {i}")).collect(), pairs: false }
    }

    #[test]
    fn a_label_with_fewer_than_two_rows_is_refused() {
        let error = head(2).divide(&rows(&[0, 0, 1]), 0.5, 1).unwrap_err();
        assert_eq!(error, "label \"label 1\" has 1 gold rows; it needs at least 2, one for each split (mine, select)");
    }

    #[test]
    fn another_seed_draws_other_rows() {
        let gold = rows(&[0, 1].repeat(50));
        assert_ne!(sample(&head(2), &gold, 20, 1).unwrap(), sample(&head(2), &gold, 20, 2).unwrap());
        assert_ne!(head(2).divide(&gold, 0.5, 1).unwrap(), head(2).divide(&gold, 0.5, 2).unwrap());
    }

    #[test]
    fn questions_about_a_single_context_cannot_be_split() {
        assert!(Answers.divide(&questions(&[3, 3, 3]), 0.5, 1).unwrap_err().starts_with("all questions are about one context"));
    }

    fn questions(contexts: &[usize]) -> Vec<GoldRow<Answers>> {
        let row = |(i, context): (usize, &usize)| GoldRow {
            line: i + 1,
            text: format!("context {context}"),
            text_pair: Some(format!("question {i}")),
            gold: GoldAnswers { answer: Answer { text: "context".into(), start: 0 }, others: vec![] },
        };
        contexts.iter().enumerate().map(row).collect()
    }

    /// Pairs with these first texts and labels.
    fn pairs(of: &[(usize, usize)]) -> Vec<GoldRow<Labels>> {
        let row = |(i, &(first, label)): (usize, &(usize, usize))| {
            let text = if i % 2 == 0 { format!("First text {first}") } else { format!("first  TEXT {first}") };
            GoldRow { line: i + 1, text, text_pair: Some(format!("second {i}")), gold: Label { label } }
        };
        of.iter().enumerate().map(row).collect()
    }

    #[test]
    fn pairs_that_cannot_be_divided_by_their_first_texts_are_refused() {
        let head = Labels { pairs: true, ..head(2) };
        let error = head.divide(&pairs(&[(1, 0), (2, 0), (3, 1), (3, 1), (3, 1)]), 0.5, 1).unwrap_err();
        let expected = "so that both have label \"label 1\", whose gold rows have 1 different first texts; pairs with the same first text \
                        stay together: raise gold_rows, or add rows with other first texts";
        assert!(error.ends_with(expected), "{error}");
        let error = head.divide(&pairs(&[(1, 0), (2, 0), (3, 1)]), 0.5, 1).unwrap_err();
        assert!(error.starts_with("label \"label 1\" has 1 gold rows"), "{error}");
    }

    #[test]
    fn another_seed_divides_pairs_otherwise() {
        let (head, gold) = (Labels { pairs: true, ..head(2) }, pairs(&(0..60).map(|i| (i / 3, i % 2)).collect::<Vec<_>>()));
        assert_eq!(head.divide(&gold, 0.5, 1).unwrap(), head.divide(&gold, 0.5, 1).unwrap());
        assert_ne!(head.divide(&gold, 0.5, 1).unwrap(), head.divide(&gold, 0.5, 2).unwrap());
    }

    /// The split of single texts is what it was before pairs were divided by their first texts: earlier runs can go on.
    #[test]
    fn single_texts_are_divided_as_ever() {
        let lines = |rows: &[GoldRow<Labels>]| rows.iter().map(|row| row.line).collect::<Vec<_>>();
        let split = head(2).divide(&rows(&[0, 1].repeat(5)), 0.4, 7).unwrap();
        assert_eq!((lines(&split.mine), lines(&split.select)), (vec![1, 4, 5, 6, 8, 9], vec![2, 3, 7, 10]));
    }

    proptest! {
        #[test]
        fn no_first_text_is_on_both_sides(
            mut of in proptest::collection::vec((0usize..25, 0usize..3), 0..90), share in 0.05f64..0.95, seed: u64,
        ) {
            // Of each label two first texts that no other label has, so that there is a split.
            of.extend([(100, 0), (101, 0), (102, 1), (103, 1), (104, 2), (105, 2)]);
            let gold = pairs(&of);
            let split = Labels { pairs: true, ..head(3) }.divide(&gold, share, seed).unwrap();
            let texts = |side: &[GoldRow<Labels>]| side.iter().map(|row| fingerprint(&row.text)).collect::<HashSet<_>>();
            prop_assert!(texts(&split.mine).is_disjoint(&texts(&split.select)));
            let mut lines: Vec<usize> = split.gold().map(|row| row.line).collect();
            lines.sort();
            prop_assert_eq!(lines, (1..=gold.len()).collect::<Vec<_>>());
            for label in 0..3 {
                let count = |side: &[GoldRow<Labels>]| side.iter().filter(|row| row.gold.label == label).count();
                prop_assert!(count(&split.mine) >= 1 && count(&split.select) >= 1);
            }
        }

        /// Groups of at most three rows.
        #[test]
        fn small_groups_of_pairs_keep_the_shares(labels in proptest::collection::vec(0usize..3, 60..120), share in 0.1f64..0.9, seed: u64) {
            let of: Vec<(usize, usize)> = labels.iter().enumerate().map(|(i, &label)| (i * 2 / 5, label)).collect();
            let split = Labels { pairs: true, ..head(3) }.divide(&pairs(&of), share, seed).unwrap();
            for label in 0..3 {
                let wanted = share * labels.iter().filter(|&&l| l == label).count() as f64;
                let selected = split.select.iter().filter(|row| row.gold.label == label).count() as f64;
                prop_assert!((selected - wanted).abs() <= 2.0, "label {}: {} of {}", label, selected, wanted);
            }
        }

        #[test]
        fn no_context_is_on_both_sides(mut contexts in proptest::collection::vec(0usize..9, 0..60), share in 0.05f64..0.95, seed: u64) {
            contexts.extend([1, 2]);
            let gold = questions(&contexts);
            let split = Answers.divide(&gold, share, seed).unwrap();
            prop_assert!(!split.mine.is_empty() && !split.select.is_empty());
            prop_assert_eq!(split.mine.len() + split.select.len(), gold.len());
            prop_assert!(split.mine.iter().all(|mine| split.select.iter().all(|row| row.text != mine.text)));
            prop_assert_eq!(sample(&Answers, &gold, gold.len() / 2, seed).unwrap().len(), gold.len() / 2);
        }

        #[test]
        fn every_row_is_on_exactly_one_side(mut labels in proptest::collection::vec(0usize..3, 0..60), share in 0.05f64..0.95, seed: u64) {
            labels.extend([0, 0, 1, 1, 2, 2]);
            let gold = rows(&labels);
            let split = head(3).divide(&gold, share, seed).unwrap();
            let mut lines: Vec<usize> = split.mine.iter().chain(&split.select).map(|row| row.line).collect();
            lines.sort();
            prop_assert_eq!(lines, (1..=gold.len()).collect::<Vec<_>>());
            for label in 0..3 {
                let of = |side: &[GoldRow<Labels>]| side.iter().filter(|row| row.gold.label == label).count();
                prop_assert!(of(&split.mine) >= 1 && of(&split.select) >= 1);
                let wanted = share * labels.iter().filter(|&&l| l == label).count() as f64;
                prop_assert!((of(&split.select) as f64 - wanted).abs() <= 1.0);
            }
        }

        /// Each label has less than one row more or less than its share, unless it was raised to two rows or is one of the largest,
        /// which made room.
        #[test]
        fn a_sample_keeps_the_shares(labels in proptest::collection::vec(0usize..3, 1..80), fraction in 0.0f64..=1.0, seed: u64) {
            let gold = rows(&labels);
            let size = |label: usize| labels.iter().filter(|&&l| l == label).count();
            let needed: usize = (0..3).map(|label| size(label).min(2)).sum();
            let wanted = (fraction * gold.len() as f64) as usize;
            if wanted < needed {
                let error = sample(&head(3), &gold, wanted, seed).unwrap_err();
                prop_assert!(error.contains(&format!("raise it to at least {needed}, ")), "{}", error);
                return Ok(());
            }
            let taken = sample(&head(3), &gold, wanted, seed).unwrap();
            prop_assert_eq!(taken.len(), wanted);
            let counts = [0, 1, 2].map(|label| taken.iter().filter(|row| row.gold.label == label).count());
            let shares = [0, 1, 2].map(|label| size(label) as f64 * wanted as f64 / gold.len() as f64);
            let raised = (0..3).any(|label| shares[label] < 2.0);
            for label in 0..3 {
                let (count, share) = (counts[label], shares[label]);
                prop_assert!(count >= size(label).min(2));
                let gave = raised && (count as f64) < share && count + 1 >= *counts.iter().max().unwrap();
                prop_assert!((count as f64 - share).abs() < 1.0 || count == 2 && share < 2.0 || gave, "{:?} of {:?}", counts, shares);
            }
        }
    }

    #[test]
    fn a_rare_label_is_in_every_sample_twice() {
        let gold = rows(&[vec![0; 90], vec![1; 60], vec![2; 2]].concat());
        for seed in 0..20 {
            let taken = sample(&head(3), &gold, 8, seed).unwrap();
            assert_eq!([0, 1, 2].map(|label| taken.iter().filter(|row| row.gold.label == label).count()), [3, 3, 2]);
            head(3).divide(&taken, 0.5, seed).unwrap();
        }
        let expected = "gold_rows is 5; raise it to at least 6, because each label needs one row in mine and one in select";
        assert_eq!(sample(&head(3), &gold, 5, 1).unwrap_err(), expected);
    }

    #[test]
    fn questions_are_a_single_stratum_and_need_no_two_rows() {
        assert_eq!(sample(&Answers, &questions(&[1, 2, 3]), 1, 1).unwrap().len(), 1);
    }
}
