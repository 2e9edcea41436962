//! Gold rows, divided once: *mine*, whose errors are extrapolated, and *select*, which chooses epoch and round.

use rand::seq::SliceRandom;

use crate::data::example::GoldRow;
use crate::math::random;

/// The two sides of the gold rows; each in the order of their lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    pub mine: Vec<GoldRow>,
    pub select: Vec<GoldRow>,
}

/// `rows` of `gold`, stratified: each label keeps its share (largest remainders), rows drawn with `seed`.
///
/// # Errors
/// Says how many there are when `gold` has fewer.
pub fn sample(gold: &[GoldRow], rows: usize, labels: &[String], seed: u64) -> Result<Vec<GoldRow>, String> {
    if rows > gold.len() {
        return Err(format!("gold_rows asks for {rows} rows, there are {}", gold.len()));
    }
    let by_label = shuffled_by_label(gold, labels.len(), seed, "gold sample");
    let counts = shares(&by_label.iter().map(Vec::len).collect::<Vec<_>>(), rows);
    let mut taken: Vec<GoldRow> = by_label.into_iter().zip(counts).flat_map(|(rows, n)| rows.into_iter().take(n)).collect();
    taken.sort_by_key(|row| row.line);
    Ok(taken)
}

/// Divides `gold`, stratified and seeded; `select_share` in (0, 1) of each label goes to *select*, at least one row to each side.
///
/// Questions, which have no labels, are divided by their contexts: none is on both sides.
///
/// # Errors
/// Names a label that has no two rows; says so where all questions are about one context.
pub fn divide(gold: &[GoldRow], select_share: f64, labels: &[String], seed: u64) -> Result<Split, String> {
    if labels.is_empty() {
        return divide_by_context(gold, select_share, seed);
    }
    let mut split = Split { mine: Vec::new(), select: Vec::new() };
    for (label, rows) in shuffled_by_label(gold, labels.len(), seed, "split").into_iter().enumerate() {
        if rows.len() < 2 {
            let (name, count) = (&labels[label], rows.len());
            return Err(format!("label {name:?} has {count} gold rows; it needs at least 2, one to learn from and one to select by"));
        }
        let select = ((rows.len() as f64 * select_share).round() as usize).clamp(1, rows.len() - 1);
        let mut rows = rows.into_iter();
        split.select.extend(rows.by_ref().take(select));
        split.mine.extend(rows);
    }
    Ok(in_order_of_lines(split))
}

/// Whole contexts, in an order drawn with `seed`, go to *select* until it has its share; the last one never does.
fn divide_by_context(gold: &[GoldRow], select_share: f64, seed: u64) -> Result<Split, String> {
    let mut contexts: Vec<&str> = gold.iter().map(|row| row.text.as_str()).collect();
    contexts.sort_unstable();
    contexts.dedup();
    if contexts.len() < 2 {
        return Err("all questions are about one context; it needs at least 2, one to learn from and one to select by".to_string());
    }
    contexts.shuffle(&mut random::rng(seed, "split", 0));
    let mut split = Split { mine: Vec::new(), select: Vec::new() };
    for (i, context) in contexts.iter().enumerate() {
        let own = gold.iter().filter(|row| row.text == *context).cloned();
        let more = i + 1 < contexts.len() && (split.select.len() as f64) < select_share * gold.len() as f64;
        if more { &mut split.select } else { &mut split.mine }.extend(own);
    }
    Ok(in_order_of_lines(split))
}

fn in_order_of_lines(mut split: Split) -> Split {
    split.mine.sort_by_key(|row| row.line);
    split.select.sort_by_key(|row| row.line);
    split
}

fn shuffled_by_label(gold: &[GoldRow], labels: usize, seed: u64, purpose: &str) -> Vec<Vec<GoldRow>> {
    let mut by_label = vec![Vec::new(); labels.max(1)];
    for row in gold {
        by_label[row.goal.label()].push(row.clone());
    }
    for (label, rows) in by_label.iter_mut().enumerate() {
        rows.shuffle(&mut random::rng(seed, purpose, label as u64));
    }
    by_label
}

/// `total` divided in proportion to `sizes`, never more than a size; the largest remainders round up.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::example::{Answer, Goal};
    use proptest::prelude::*;

    fn rows(labels: &[usize]) -> Vec<GoldRow> {
        labels
            .iter()
            .enumerate()
            .map(|(i, &label)| GoldRow {
                line: i + 1,
                text: format!("text {i}"),
                text_pair: None,
                goal: Goal::Label(label),
                others: vec![],
            })
            .collect()
    }

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("label {i}")).collect()
    }

    #[test]
    fn a_label_without_two_rows_is_named() {
        let error = divide(&rows(&[0, 0, 1]), 0.5, &names(2), 1).unwrap_err();
        assert_eq!(error, "label \"label 1\" has 1 gold rows; it needs at least 2, one to learn from and one to select by");
    }

    #[test]
    fn another_seed_draws_other_rows() {
        let gold = rows(&[0, 1].repeat(50));
        assert_ne!(sample(&gold, 20, &names(2), 1).unwrap(), sample(&gold, 20, &names(2), 2).unwrap());
        assert_ne!(divide(&gold, 0.5, &names(2), 1).unwrap(), divide(&gold, 0.5, &names(2), 2).unwrap());
    }

    #[test]
    fn questions_about_one_context_cannot_be_divided() {
        assert!(divide(&questions(&[3, 3, 3]), 0.5, &[], 1).unwrap_err().starts_with("all questions are about one context"));
    }

    fn questions(contexts: &[usize]) -> Vec<GoldRow> {
        let row = |(i, context): (usize, &usize)| GoldRow {
            line: i + 1,
            text: format!("context {context}"),
            text_pair: Some(format!("question {i}")),
            goal: Goal::Answer(Answer { text: "context".into(), start: 0 }),
            others: vec![],
        };
        contexts.iter().enumerate().map(row).collect()
    }

    proptest! {
        #[test]
        fn no_context_is_on_both_sides(mut contexts in proptest::collection::vec(0usize..9, 0..60), share in 0.05f64..0.95, seed: u64) {
            contexts.extend([1, 2]);
            let gold = questions(&contexts);
            let split = divide(&gold, share, &[], seed).unwrap();
            prop_assert!(!split.mine.is_empty() && !split.select.is_empty());
            prop_assert_eq!(split.mine.len() + split.select.len(), gold.len());
            prop_assert!(split.mine.iter().all(|mine| split.select.iter().all(|row| row.text != mine.text)));
            prop_assert_eq!(sample(&gold, gold.len() / 2, &[], seed).unwrap().len(), gold.len() / 2);
        }

        #[test]
        fn every_row_is_on_exactly_one_side(mut labels in proptest::collection::vec(0usize..3, 0..60), share in 0.05f64..0.95, seed: u64) {
            labels.extend([0, 0, 1, 1, 2, 2]);
            let gold = rows(&labels);
            let split = divide(&gold, share, &names(3), seed).unwrap();
            let mut lines: Vec<usize> = split.mine.iter().chain(&split.select).map(|row| row.line).collect();
            lines.sort();
            prop_assert_eq!(lines, (1..=gold.len()).collect::<Vec<_>>());
            for label in 0..3 {
                let of = |side: &[GoldRow]| side.iter().filter(|row| row.goal.label() == label).count();
                prop_assert!(of(&split.mine) >= 1 && of(&split.select) >= 1);
                let wanted = share * labels.iter().filter(|&&l| l == label).count() as f64;
                prop_assert!((of(&split.select) as f64 - wanted).abs() <= 1.0);
            }
        }

        #[test]
        fn a_sample_keeps_the_shares(labels in proptest::collection::vec(0usize..3, 1..80), part in 0.0f64..=1.0, seed: u64) {
            let gold = rows(&labels);
            let wanted = (part * gold.len() as f64) as usize;
            let taken = sample(&gold, wanted, &names(3), seed).unwrap();
            prop_assert_eq!(taken.len(), wanted);
            for label in 0..3 {
                let share = labels.iter().filter(|&&l| l == label).count() as f64 * wanted as f64 / gold.len() as f64;
                prop_assert!((taken.iter().filter(|row| row.goal.label() == label).count() as f64 - share).abs() < 1.0);
            }
        }
    }
}
