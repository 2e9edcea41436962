//! Classification metrics.

use serde::{Deserialize, Serialize};

use crate::math::vectors::argmax;

/// The mean negative log-likelihood of the gold labels, in nats, from probabilities `(rows, labels)`.
pub fn log_loss(probabilities: &[Vec<f64>], gold: &[usize]) -> f64 {
    let sum: f64 = probabilities.iter().zip(gold).map(|(p, &g)| -p[g].max(1e-12).ln()).sum();
    sum / gold.len().max(1) as f64
}

/// The Brier score, in [0, 2]: the squared error of the probabilities `(rows, labels)`, summed over the labels, the mean over rows
/// (Brier, 1950). Of two labels, twice the score of scikit-learn, which sums over one.
pub fn brier(probabilities: &[Vec<f64>], gold: &[usize]) -> f64 {
    let error =
        |(p, &g): (&Vec<f64>, &usize)| p.iter().enumerate().map(|(label, p)| (p - f64::from(u8::from(label == g))).powi(2)).sum::<f64>();
    probabilities.iter().zip(gold).map(error).sum::<f64>() / gold.len().max(1) as f64
}

/// The expected calibration error, in [0, 1]: how far the share of right predictions is from their mean probability, the mean over
/// `bins` bins of that probability, (0, 1/bins], (1/bins, 2/bins] and so on, weighted by their rows (Guo et al., arXiv 1706.04599, with
/// 15 bins).
pub fn expected_calibration_error(probabilities: &[Vec<f64>], gold: &[usize], bins: usize) -> f64 {
    // The rows that are right, less the sum of their probabilities.
    let mut surplus = vec![0.0; bins];
    for (p, &g) in probabilities.iter().zip(gold) {
        let label = argmax(p);
        surplus[bin_of(p[label], bins)] += f64::from(u8::from(label == g)) - p[label];
    }
    surplus.iter().map(|x| x.abs()).sum::<f64>() / gold.len().max(1) as f64
}

/// The bin of a probability among `bins` equal ones, each with its upper bound.
pub fn bin_of(probability: f64, bins: usize) -> usize {
    ((probability * bins as f64).ceil() as usize).clamp(1, bins) - 1
}

/// The area under the ROC curve, in [0, 1], 0.5 by chance: the share of pairs, a row of a label and one of another, in which the former
/// has the larger probability of it; equal ones count half.
///
/// Of two labels that of label 1; of more, the unweighted mean over labels. A label that no row has, or all have, is left out; `None` if
/// no label is left.
pub fn auroc(probabilities: &[Vec<f64>], gold: &[usize]) -> Option<f64> {
    let labels = probabilities.first().map_or(0, Vec::len);
    let of_label = |label: usize| {
        let scores: Vec<(f64, bool)> = probabilities.iter().zip(gold).map(|(p, &g)| (p[label], g == label)).collect();
        area_under_roc(scores)
    };
    let areas: Vec<f64> = (usize::from(labels == 2)..labels).filter_map(of_label).collect();
    (!areas.is_empty()).then(|| areas.iter().sum::<f64>() / areas.len() as f64)
}

/// From each row's score and whether it is positive; `None` if no row is, or all are.
fn area_under_roc(mut scores: Vec<(f64, bool)>) -> Option<f64> {
    scores.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut won, mut negatives) = (0.0, 0);
    for equal in scores.chunk_by(|a, b| a.0 == b.0) {
        let positive = equal.iter().filter(|(_, positive)| *positive).count();
        let negative = equal.len() - positive;
        won += positive as f64 * (negatives as f64 + 0.5 * negative as f64);
        negatives += negative;
    }
    let pairs = negatives * (scores.len() - negatives);
    (pairs > 0).then(|| won / pairs as f64)
}

/// Each label's counts, from the predicted and the gold labels of rows that may have several.
pub fn counts_of_sets<'r>(rows: impl Iterator<Item = (Vec<usize>, &'r [usize])>, labels: usize) -> Vec<Counts> {
    let mut counts = vec![Counts::default(); labels];
    for (predicted, gold) in rows {
        gold.iter().for_each(|&label| counts[label].gold += 1);
        predicted.iter().for_each(|&label| counts[label].predicted += 1);
        predicted.iter().filter(|label| gold.contains(label)).for_each(|&label| counts[label].right += 1);
    }
    counts
}

/// F1 of all labels' counts together; 0 where nothing is predicted and nothing is there.
pub fn micro_f1(counts: &[Counts]) -> f64 {
    let sum = |of: fn(&Counts) -> usize| counts.iter().map(of).sum();
    Counts { gold: sum(|of| of.gold), predicted: sum(|of| of.predicted), right: sum(|of| of.right) }.f1()
}

/// A classifier's counts for one label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Rows with this gold label.
    pub gold: usize,
    /// Rows with this predicted label.
    pub predicted: usize,
    /// Rows where both are this label (true positives).
    pub right: usize,
}

impl Counts {
    /// The harmonic mean of precision and recall; 0 where neither is defined.
    pub fn f1(&self) -> f64 {
        2.0 * self.right as f64 / (self.gold + self.predicted).max(1) as f64
    }
}

/// Counts of each label below `labels`.
pub fn counts(predicted: &[usize], gold: &[usize], labels: usize) -> Vec<Counts> {
    let mut counts = vec![Counts::default(); labels];
    for (&p, &g) in predicted.iter().zip(gold) {
        counts[p].predicted += 1;
        counts[g].gold += 1;
        counts[g].right += usize::from(p == g);
    }
    counts
}

/// Macro-F1, the unweighted mean of the labels' F1. A label that is neither gold nor predicted is left out, as in scikit-learn; 0 if there
/// are no others.
pub fn macro_f1(counts: &[Counts]) -> f64 {
    let f1: Vec<f64> = counts.iter().filter(|of| of.gold + of.predicted > 0).map(Counts::f1).collect();
    f1.iter().sum::<f64>() / f1.len().max(1) as f64
}

/// Balanced accuracy, in [0, 1]: the unweighted mean of the labels' recall. A label without gold rows is left out, as in scikit-learn;
/// 0 if there are no others.
pub fn balanced_accuracy(counts: &[Counts]) -> f64 {
    let recalls: Vec<f64> = counts.iter().filter(|of| of.gold > 0).map(|of| of.right as f64 / of.gold as f64).collect();
    recalls.iter().sum::<f64>() / recalls.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::super::golden::{indices, rows, scikit};
    use super::*;
    use proptest::prelude::*;

    /// Values of `tests/reference/scikit.py`: scikit-learn's, and numpy's for the calibration.
    #[test]
    fn metrics_match_scikit_learn() {
        for case in scikit()["classification"].as_array().unwrap() {
            let (probabilities, gold) = (rows(&case["probabilities"]), indices(&case["gold"]));
            let predicted: Vec<usize> = probabilities.iter().map(|p| argmax(p)).collect();
            let assert_is = |name: &str, found: f64, expected: &serde_json::Value| {
                assert!((found - expected.as_f64().unwrap()).abs() < 1e-12, "{name}: {found} is not {expected}");
            };
            let counts = counts(&predicted, &gold, probabilities[0].len());
            assert_is("balanced accuracy", balanced_accuracy(&counts), &case["balanced_accuracy"]);
            assert_is("AUROC", auroc(&probabilities, &gold).unwrap(), &case["auroc"]);
            assert_is("Brier", brier(&probabilities, &gold), &case["brier"]);
            for of_bins in case["calibration"].as_array().unwrap() {
                let bins = of_bins["bins"].as_u64().unwrap() as usize;
                assert_is("calibration", expected_calibration_error(&probabilities, &gold, bins), &of_bins["value"]);
            }
        }
    }

    #[test]
    fn the_calibration_error_of_a_case_by_hand() {
        // 0.5 is in the lower of two bins: one row, right, 0.5 more than it says. Above, one of two is right, 0.5 less than they say.
        let probabilities = [vec![0.5, 0.5], vec![0.75, 0.25], vec![0.25, 0.75]];
        assert_eq!(expected_calibration_error(&probabilities, &[0, 0, 0], 2), (0.5 + 0.5) / 3.0);
        assert_eq!(expected_calibration_error(&probabilities, &[0, 0, 0], 1), 0.0);
        assert_eq!(expected_calibration_error(&[vec![0.0, 1.0]], &[1], 15), 0.0);
    }

    #[test]
    fn labels_that_no_row_or_every_row_has_have_no_area() {
        let probabilities = vec![vec![0.2, 0.5, 0.3], vec![0.6, 0.3, 0.1], vec![0.3, 0.3, 0.4]];
        assert_eq!(auroc(&probabilities, &[1, 1, 1]), None);
        assert_eq!(auroc(&[], &[]), None);
        // Label 0: 0.6 before 0.2 and 0.3. Label 1: 0.5 before 0.6's 0.3, and 0.3 as much. Label 2 has no rows.
        assert_eq!(auroc(&probabilities, &[1, 0, 1]), Some((1.0 + 0.75) / 2.0));
        assert_eq!(auroc(&[vec![0.1, 0.9], vec![0.8, 0.2]], &[0, 1]), Some(0.0));
        // Of two labels, label 0 is not asked.
        assert_eq!(auroc(&[vec![0.5, 0.1], vec![0.5, 0.2]], &[0, 1]), Some(1.0));
        assert_eq!(balanced_accuracy(&[]), 0.0);
    }

    proptest! {
        /// Over all pairs of a row of the label and one of the other.
        #[test]
        fn the_area_is_the_share_of_pairs(rows in proptest::collection::vec((0u8..6, any::<bool>()), 1..40)) {
            let rows: Vec<(f64, bool)> = rows.into_iter().map(|(score, positive)| (f64::from(score) / 6.0, positive)).collect();
            let part = |positive: bool| rows.iter().filter(move |row| row.1 == positive).map(|row| row.0);
            let pairs: Vec<f64> =
                part(true).flat_map(|a| part(false).map(move |b| if a == b { 0.5 } else { f64::from(u8::from(a > b)) })).collect();
            let expected = (!pairs.is_empty()).then(|| pairs.iter().sum::<f64>() / pairs.len() as f64);
            prop_assert_eq!(area_under_roc(rows.clone()), expected);
        }
    }

    #[test]
    fn log_loss_of_a_known_case() {
        let loss = log_loss(&[vec![0.5, 0.5], vec![0.1, 0.9]], &[0, 1]);
        assert!((loss - (0.5f64.ln() + 0.9f64.ln()) / -2.0).abs() < 1e-12);
    }

    /// The value of `tests/reference/metrics.py`, scikit-learn's `f1_score`.
    #[test]
    fn macro_f1_matches_scikit_learn() {
        let golden: serde_json::Value = serde_json::from_str(include_str!("../../tests/reference/metrics.json")).unwrap();
        let case = &golden["macro_f1"];
        let labels = |name: &str| case[name].as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as usize).collect::<Vec<_>>();
        for names in [5, 8] {
            let found = macro_f1(&counts(&labels("predicted"), &labels("gold"), names));
            assert!((found - case["value"].as_f64().unwrap()).abs() < 1e-12, "{names} labels: {found}");
        }
    }
}
