//! Classification metrics.

use serde::{Deserialize, Serialize};

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
}
