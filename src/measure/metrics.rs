//! Classification metrics and bootstrap intervals.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::math::random;

/// The mean negative log-likelihood of the gold labels, in nats, from probabilities `(rows, labels)`.
pub fn log_loss(probabilities: &[Vec<f64>], gold: &[usize]) -> f64 {
    let sum: f64 = probabilities.iter().zip(gold).map(|(p, &g)| -p[g].max(1e-12).ln()).sum();
    sum / gold.len().max(1) as f64
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

/// Macro-F1, the unweighted mean of the labels' F1; a label that occurs nowhere counts as 0, as in scikit-learn.
pub fn macro_f1(counts: &[Counts]) -> f64 {
    counts.iter().map(Counts::f1).sum::<f64>() / counts.len().max(1) as f64
}

/// A mean with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
}

/// Number of bootstrap resamples.
const RESAMPLES: usize = 2000;

/// The mean of `values[seed][row]`, with a 95 % percentile bootstrap interval over random seeds and rows jointly.
///
/// Each resample draws seeds with replacement and, for all of them, the same rows with replacement, because all seeds are evaluated on
/// the same test rows and share their sampling error. With one seed this is the bootstrap over rows. For accuracy, a value is 1 if the
/// row is correct and 0 if not; for a paired difference, it is the difference of two such values of the same row.
pub fn bootstrap(values: &[Vec<f64>]) -> Interval {
    let rows = values.first().map_or(0, Vec::len);
    assert!(values.iter().all(|v| v.len() == rows), "all seeds are evaluated on the same rows");
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len().max(1) as f64;
    let overall = mean(&values.iter().map(|v| mean(v)).collect::<Vec<_>>());
    if rows == 0 {
        return Interval { mean: overall, low: overall, high: overall };
    }
    let mut rng = random::rng(0, "bootstrap", 0);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let seeds: Vec<usize> = (0..values.len()).map(|_| rng.random_range(0..values.len())).collect();
            let sum: f64 = (0..rows)
                .map(|_| {
                    let row = rng.random_range(0..rows);
                    seeds.iter().map(|&s| values[s][row]).sum::<f64>()
                })
                .sum();
            sum / (rows * seeds.len()) as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let at = |share: f64| means[((RESAMPLES - 1) as f64 * share).round() as usize];
    Interval { mean: overall, low: at(0.025), high: at(0.975) }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let found = macro_f1(&counts(&labels("predicted"), &labels("gold"), 5));
        assert!((found - case["value"].as_f64().unwrap()).abs() < 1e-12, "{found}");
    }

    #[test]
    fn one_seed_gives_the_binomial_interval() {
        let values: Vec<f64> = (0..3000).map(|i| f64::from(i % 4 != 0)).collect();
        let interval = bootstrap(&[values]);
        let half = 1.96 * (0.75f64 * 0.25 / 3000.0).sqrt();
        assert_eq!(interval.mean, 0.75);
        assert!((interval.high - 0.75 - half).abs() < 0.002 && (0.75 - interval.low - half).abs() < 0.002, "{interval:?}");
    }

    #[test]
    fn differences_between_seeds_widen_the_interval() {
        let seed = |share: usize| (0..1000).map(|i| f64::from(i % 100 < share)).collect::<Vec<_>>();
        let same = bootstrap(&[seed(70), seed(70), seed(70)]);
        let apart = bootstrap(&[seed(60), seed(70), seed(80)]);
        assert!((same.mean - apart.mean).abs() < 1e-9);
        assert!(apart.high - apart.low > 1.5 * (same.high - same.low), "{same:?} {apart:?}");
    }
}
