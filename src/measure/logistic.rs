//! Multinomial logistic regression on fixed features: the usual baseline for a few hundred labels.

use crate::math::convex::{Stopping, minimise};
use crate::math::vectors::{argmax, cross_entropy, dot, softmax};

/// A linear classifier. Weights are penalised by |w|² / 2 against the summed loss (scikit-learn's C = 1), intercepts are not.
#[derive(Clone, Debug, PartialEq)]
pub struct Logistic {
    /// (labels, features)
    weights: Vec<Vec<f64>>,
    /// (labels)
    intercepts: Vec<f64>,
}

/// For a summed loss; far more steps than a few thousand rows of unit length need.
const LIMITS: Stopping = Stopping { tolerance: 1e-6, steps: 2000 };

impl Logistic {
    /// Fits rows of features (rows, features) and their labels, each below `labels`.
    pub fn fit(rows: &[Vec<f64>], gold: &[usize], labels: usize) -> Logistic {
        let width = rows.first().map_or(0, Vec::len) + 1;
        let found = minimise(vec![0.0; labels * width], LIMITS, |at, gradient| objective(rows, gold, at, gradient, width));
        let mut weights: Vec<Vec<f64>> = found.or_warn("the logistic regression").chunks_exact(width).map(<[f64]>::to_vec).collect();
        let intercepts = weights.iter_mut().map(|row| row.pop().unwrap_or(0.0)).collect();
        Logistic { weights, intercepts }
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

/// The summed cross-entropy plus the penalty, at weights (labels, width) whose last column is the intercept; writes the gradient to
/// `gradient`.
fn objective(rows: &[Vec<f64>], gold: &[usize], weights: &[f64], gradient: &mut [f64], width: usize) -> f64 {
    let features = width - 1;
    gradient.copy_from_slice(weights);
    gradient.chunks_exact_mut(width).for_each(|row| row[features] = 0.0);
    let mut loss = 0.5 * dot(gradient, weights);
    for (row, &label) in rows.iter().zip(gold) {
        let mut errors: Vec<f64> = weights.chunks_exact(width).map(|w| w[features] + dot(&w[..features], row)).collect();
        loss += cross_entropy(&mut errors, label);
        for (gradient, error) in gradient.chunks_exact_mut(width).zip(errors) {
            gradient.iter_mut().zip(row).for_each(|(g, x)| *g += error * x);
            gradient[features] += error;
        }
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::convex::check_gradient;

    /// Values of `tests/reference/metrics.py`, scikit-learn's `LogisticRegression(C=1, tol=1e-10)`.
    #[test]
    fn the_fit_matches_scikit_learn() {
        let golden: serde_json::Value = serde_json::from_str(include_str!("../../tests/reference/metrics.json")).unwrap();
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

    #[test]
    fn the_gradient_matches_the_loss() {
        let rows = [vec![0.3, -1.2], vec![0.9, 0.4], vec![-0.5, 0.8], vec![0.1, 0.2]];
        let at = [0.2, -0.4, 0.7, -0.3, 0.5, 0.1, 0.9, -0.8, -0.6];
        check_gradient(&at, |at, gradient| objective(&rows, &[0, 1, 2, 1], at, gradient, 3));
    }
}
