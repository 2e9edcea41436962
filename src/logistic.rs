//! Multinomial logistic regression on fixed features: what a user with a few hundred labels would otherwise train.

use crate::math::vectors::{argmax, dot, softmax};

/// A linear classifier. Weights are penalised by |w|² / 2 against the summed loss (scikit-learn's C = 1), intercepts are not.
#[derive(Clone, Debug, PartialEq)]
pub struct Logistic {
    /// (labels, features)
    weights: Vec<Vec<f64>>,
    /// (labels)
    intercepts: Vec<f64>,
}

/// The gradient's largest entry at which the fit is done.
const TOLERANCE: f64 = 1e-6;
/// Far more steps than a few thousand rows of unit length need.
const MOST_STEPS: usize = 20_000;

impl Logistic {
    /// Fits rows of features (rows, features) and their labels, each below `labels`, by Nesterov's accelerated gradient with
    /// restarts (O'Donoghue and Candès, 2012): the problem is smooth and convex.
    pub fn fit(rows: &[Vec<f64>], gold: &[usize], labels: usize) -> Logistic {
        let features = rows.first().map_or(0, Vec::len);
        // The curvature of the summed loss is at most half of the summed squared lengths, the intercept's 1 among them.
        let curvature: f64 = rows.iter().map(|row| 1.0 + row.iter().map(|x| x * x).sum::<f64>()).sum();
        let step = 1.0 / (1.0 + 0.5 * curvature);
        let mut at = vec![vec![0.0; features + 1]; labels];
        let mut ahead = at.clone();
        let mut momentum = 1.0f64;
        for _ in 0..MOST_STEPS {
            let gradient = gradient(rows, gold, &ahead);
            if gradient.iter().flatten().all(|g| g.abs() < TOLERANCE) {
                break;
            }
            let moved: Vec<Vec<f64>> =
                ahead.iter().zip(&gradient).map(|(w, g)| w.iter().zip(g).map(|(w, g)| w - step * g).collect()).collect();
            let uphill: f64 =
                (0..labels).flat_map(|j| (0..=features).map(move |k| (j, k))).map(|(j, k)| gradient[j][k] * (moved[j][k] - at[j][k])).sum();
            let grown = if uphill > 0.0 { 1.0 } else { 0.5 * (1.0 + (1.0 + 4.0 * momentum * momentum).sqrt()) };
            let push = if uphill > 0.0 { 0.0 } else { (momentum - 1.0) / grown };
            for (j, row) in ahead.iter_mut().enumerate() {
                row.iter_mut().enumerate().for_each(|(k, w)| *w = moved[j][k] + push * (moved[j][k] - at[j][k]));
            }
            (at, momentum) = (moved, grown);
        }
        let intercepts = at.iter_mut().map(|row| row.pop().unwrap_or(0.0)).collect();
        Logistic { weights: at, intercepts }
    }

    /// Probabilities of the labels.
    pub fn probabilities(&self, row: &[f64]) -> Vec<f64> {
        softmax(&self.weights.iter().zip(&self.intercepts).map(|(w, b)| b + dot(w, row)).collect::<Vec<_>>())
    }

    /// The most probable label.
    pub fn predict(&self, row: &[f64]) -> usize {
        argmax(&self.probabilities(row))
    }
}

/// Of the summed cross-entropy and the penalty, at weights whose last column is the intercept: (labels, features + 1).
fn gradient(rows: &[Vec<f64>], gold: &[usize], weights: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let features = weights.first().map_or(0, |row| row.len() - 1);
    let mut gradient: Vec<Vec<f64>> = weights.to_vec();
    gradient.iter_mut().for_each(|row| row[features] = 0.0);
    for (row, &label) in rows.iter().zip(gold) {
        let logits: Vec<f64> = weights.iter().map(|w| w[features] + dot(&w[..features], row)).collect();
        for (j, p) in softmax(&logits).into_iter().enumerate() {
            let error = p - f64::from(u8::from(j == label));
            gradient[j].iter_mut().zip(row).for_each(|(g, x)| *g += error * x);
            gradient[j][features] += error;
        }
    }
    gradient
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of `tests/reference/metrics.py`, scikit-learn's `LogisticRegression(C=1, tol=1e-10)`.
    #[test]
    fn the_fit_is_scikit_learns() {
        let golden: serde_json::Value = serde_json::from_str(include_str!("../tests/reference/metrics.json")).unwrap();
        let case = &golden["logistic"];
        let numbers = |v: &serde_json::Value| -> Vec<f64> { v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect() };
        let rows: Vec<Vec<f64>> = case["x"].as_array().unwrap().iter().map(numbers).collect();
        let gold: Vec<usize> = numbers(&case["y"]).into_iter().map(|y| y as usize).collect();
        let fitted = Logistic::fit(&rows, &gold, 3);
        for (row, expected) in rows.iter().zip(case["probabilities"].as_array().unwrap()) {
            for (p, q) in fitted.probabilities(row).iter().zip(numbers(expected)) {
                assert!((p - q).abs() < 1e-5, "{p} {q}");
            }
        }
    }
}
