//! Multinomial logistic regression on fixed features: the usual baseline for a few hundred labels.

use super::metrics::log_loss;
use super::rows::Row;
use crate::math::convex::{Stopping, minimise};
use crate::math::vectors::{argmax, centre, cross_entropy, dot, softmax};

/// A linear classifier. Weights are penalised by ‖w‖² / (2 C) against the summed loss, intercepts are not.
///
/// That is scikit-learn's `LogisticRegression` for three labels and more. For two, scikit-learn has one weight a feature where this has
/// two, of opposite sign: its C is twice the one here.
#[derive(Clone, Debug, PartialEq)]
pub struct Logistic {
    /// (labels, features)
    weights: Vec<Vec<f64>>,
    /// (labels)
    intercepts: Vec<f64>,
}

/// How many labels and features a classifier has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub labels: usize,
    /// Features of a row.
    pub width: usize,
}

/// For a summed loss; far more steps than a few thousand rows of unit length need.
const LIMITS: Stopping = Stopping { tolerance: 1e-6, steps: 2000 };

impl Logistic {
    /// Fits rows and their labels, each below `shape.labels`. `c` > 0: the larger, the weaker the penalty.
    pub fn fit<R: Row>(rows: &[R], gold: &[usize], shape: Shape, c: f64) -> Logistic {
        let learnt = Learnt { rows: rows.iter().zip(gold.iter().copied()).collect(), shape };
        Logistic::of(&learnt.solve(learnt.zeros(), c), shape)
    }

    /// The same classifier of other features: `weights` takes a label's weights to those of the others.
    #[must_use]
    pub fn mapped(mut self, weights: impl Fn(&[f64]) -> Vec<f64>) -> Logistic {
        self.weights.iter_mut().for_each(|of_label| *of_label = weights(of_label));
        self
    }

    /// From weights (labels, features + 1) whose last column is the intercept.
    fn of(weights: &[f64], shape: Shape) -> Logistic {
        let (weights, intercepts) = weights.chunks_exact(shape.width + 1).map(|w| (w[..shape.width].to_vec(), w[shape.width])).unzip();
        Logistic { weights, intercepts }
    }

    /// The weights, (labels × features), and the intercepts, all times `scale`.
    pub fn parameters(&self, scale: f64) -> (Vec<f32>, Vec<f32>) {
        let scaled = |x: &f64| (scale * x) as f32;
        (self.weights.iter().flatten().map(scaled).collect(), self.intercepts.iter().map(scaled).collect())
    }

    /// The root of the mean square of the logits of at least one row, each row's less their mean.
    pub fn spread<R: Row>(&self, rows: &[R]) -> f64 {
        let square = |row: &R| {
            let logits = centre(&self.logits(row));
            dot(&logits, &logits) / logits.len() as f64
        };
        (rows.iter().map(square).sum::<f64>() / rows.len() as f64).sqrt()
    }

    fn logits<R: Row>(&self, row: &R) -> Vec<f64> {
        self.weights.iter().zip(&self.intercepts).map(|(w, b)| b + row.dot(w)).collect()
    }

    /// Probabilities of the labels.
    pub fn probabilities<R: Row>(&self, row: &R) -> Vec<f64> {
        softmax(&self.logits(row))
    }

    /// The most probable label.
    pub fn predict<R: Row>(&self, row: &R) -> usize {
        argmax(&self.probabilities(row))
    }
}

/// A strength of the penalty, and what it promises.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chosen {
    pub c: f64,
    /// Mean log loss in nats over the rows held out in cross-validation.
    pub log_loss: f64,
}

/// The C of `grid` with the smallest mean log loss over the rows that are held out in `fold`; of equals the smallest. If none is held out,
/// C = 1.
///
/// # Panics
/// If `grid` is empty.
pub fn choose_c<R: Row>(rows: &[R], gold: &[usize], shape: Shape, grid: &[f64], fold: &[Option<usize>]) -> Chosen {
    if fold.iter().all(Option::is_none) {
        return Chosen { c: 1.0, log_loss: f64::INFINITY };
    }
    let mut grid = grid.to_vec();
    grid.sort_by(f64::total_cmp);
    let losses = held_out_losses(rows, gold, shape, &grid, fold);
    let chosen = grid.into_iter().zip(losses).map(|(c, log_loss)| Chosen { c, log_loss });
    chosen.min_by(|a, b| a.log_loss.total_cmp(&b.log_loss)).expect("there is a C to choose")
}

/// For each C of `grid`, the mean log loss over all rows that are held out in a fold, each predicted from the rows outside of it.
fn held_out_losses<R: Row>(rows: &[R], gold: &[usize], shape: Shape, grid: &[f64], fold: &[Option<usize>]) -> Vec<f64> {
    let probabilities = cross_fitted(rows, gold, shape, grid, fold);
    let truth: Vec<usize> = (0..rows.len()).filter(|&i| fold[i].is_some()).map(|i| gold[i]).collect();
    probabilities.into_iter().map(|p| log_loss(&p.into_iter().flatten().collect::<Vec<_>>(), &truth)).collect()
}

/// For each C of `grid` and each row, the probabilities from the rows outside of its fold: (grid, rows, labels), none for a row that no
/// fold holds out.
pub fn cross_fitted<R: Row>(rows: &[R], gold: &[usize], shape: Shape, grid: &[f64], fold: &[Option<usize>]) -> Vec<Vec<Option<Vec<f64>>>> {
    let mut probabilities = vec![vec![None; rows.len()]; grid.len()];
    for k in 0..fold.iter().flatten().max().map_or(0, |last| last + 1) {
        let (tested, others): (Vec<usize>, Vec<usize>) = (0..rows.len()).partition(|&i| fold[i] == Some(k));
        let learnt = Learnt { rows: others.iter().map(|&i| (&rows[i], gold[i])).collect(), shape };
        let mut weights = learnt.zeros();
        for (&c, probabilities) in grid.iter().zip(&mut probabilities) {
            // The minimum for one C is near that for the next.
            weights = learnt.solve(weights, c);
            let fitted = Logistic::of(&weights, shape);
            tested.iter().for_each(|&i| probabilities[i] = Some(fitted.probabilities(&rows[i])));
        }
    }
    probabilities
}

/// Rows with their labels, to be learnt from.
struct Learnt<'r, R> {
    rows: Vec<(&'r R, usize)>,
    shape: Shape,
}

impl<R: Row> Learnt<'_, R> {
    fn zeros(&self) -> Vec<f64> {
        vec![0.0; self.shape.labels * (self.shape.width + 1)]
    }

    /// The weights (labels, features + 1) of the least loss, sought from `start`.
    fn solve(&self, start: Vec<f64>, c: f64) -> Vec<f64> {
        minimise(start, LIMITS, |at, gradient| self.objective(c, at, gradient)).or_warn("the logistic regression")
    }

    /// The summed cross-entropy plus the penalty, at weights (labels, features + 1) whose last column is the intercept; writes the
    /// gradient to `gradient`.
    fn objective(&self, c: f64, weights: &[f64], gradient: &mut [f64]) -> f64 {
        let width = self.shape.width;
        gradient.iter_mut().zip(weights).for_each(|(g, w)| *g = w / c);
        gradient.chunks_exact_mut(width + 1).for_each(|of_label| of_label[width] = 0.0);
        let mut loss = 0.5 * dot(gradient, weights);
        for &(row, label) in &self.rows {
            let mut errors: Vec<f64> = weights.chunks_exact(width + 1).map(|w| w[width] + row.dot(&w[..width])).collect();
            loss += cross_entropy(&mut errors, label);
            for (gradient, error) in gradient.chunks_exact_mut(width + 1).zip(errors) {
                row.add_to(error, &mut gradient[..width]);
                gradient[width] += error;
            }
        }
        loss
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{assert_near, indices, numbers, rows, scikit};
    use super::super::rows::Sparse;
    use super::*;
    use crate::math::convex::check_gradient;
    use crate::math::random;
    use crate::measure::folds::held_out;
    use rand::RngExt;
    use serde_json::Value;

    fn assert_fits<R: Row>(inputs: &[R], width: usize, gold: &[usize], fits: &Value) {
        for case in fits.as_array().unwrap() {
            let fitted = Logistic::fit(inputs, gold, Shape { labels: 3, width }, case["c"].as_f64().unwrap());
            let found: Vec<Vec<f64>> = inputs.iter().map(|row| fitted.probabilities(row)).collect();
            assert_near(&found, &rows(&case["value"]), 1e-5);
        }
    }

    /// Values of `tests/reference/scikit.py`, scikit-learn's `LogisticRegression(C, tol=1e-12)`.
    #[test]
    fn fits_match_scikit_learn() {
        let golden = &scikit()["logistic"];
        let gold = indices(&golden["gold"]);
        let dense = rows(&golden["dense"]["rows"]);
        assert_fits(&dense, 5, &gold, &golden["dense"]["fits"]);
        let sparse_row =
            |row: &Value| Sparse { index: indices(&row["index"]).into_iter().map(|i| i as u32).collect(), value: numbers(&row["value"]) };
        let sparse: Vec<Sparse> = golden["sparse"]["rows"].as_array().unwrap().iter().map(sparse_row).collect();
        assert_fits(&sparse, 30, &gold, &golden["sparse"]["fits"]);
        let two = &golden["two"];
        let fitted = Logistic::fit(&dense, &indices(&two["gold"]), Shape { labels: 2, width: 5 }, two["c"].as_f64().unwrap());
        let found: Vec<Vec<f64>> = dense.iter().map(|row| fitted.probabilities(row)).collect();
        assert_near(&found, &rows(&two["value"]), 1e-5);
    }

    /// Values of `tests/reference/metrics.py`, scikit-learn's `LogisticRegression(C=1, tol=1e-10)`.
    #[test]
    fn the_fit_of_c_1_matches_scikit_learn() {
        let golden: Value = serde_json::from_str(include_str!("../../tests/reference/metrics.json")).unwrap();
        let case = &golden["logistic"];
        let inputs = rows(&case["x"]);
        let fitted = Logistic::fit(&inputs, &indices(&case["y"]), Shape { labels: 3, width: 5 }, 1.0);
        let found: Vec<Vec<f64>> = inputs.iter().map(|row| fitted.probabilities(row)).collect();
        assert_near(&found, &rows(&case["probabilities"]), 1e-5);
    }

    /// Values of `tests/reference/scikit.py`. Rows of fold 3 are never held out there.
    #[test]
    fn held_out_losses_match_scikit_learn() {
        let golden = &scikit()["logistic"];
        let case = &golden["folds"];
        let fold: Vec<Option<usize>> = indices(&case["fold"]).into_iter().map(|k| (k < 3).then_some(k)).collect();
        let (inputs, gold) = (rows(&golden["dense"]["rows"]), indices(&golden["gold"]));
        let found = held_out_losses(&inputs, &gold, Shape { labels: 3, width: 5 }, &numbers(&case["grid"]), &fold);
        assert_near(&[found], &[numbers(&case["losses"])], 1e-6);
    }

    #[test]
    fn the_gradient_matches_the_loss() {
        let rows = [vec![0.3, -1.2], vec![0.9, 0.4], vec![-0.5, 0.8], vec![0.1, 0.2]];
        let at = [0.2, -0.4, 0.7, -0.3, 0.5, 0.1, 0.9, -0.8, -0.6];
        let learnt = Learnt { rows: rows.iter().zip([0, 1, 2, 1]).collect(), shape: Shape { labels: 3, width: 2 } };
        check_gradient(&at, |at, gradient| learnt.objective(0.3, at, gradient));
    }

    /// Rows of ten features, the first of which says the label, `clear` times as loud as the noise.
    fn noisy(clear: f64) -> (Vec<Vec<f64>>, Vec<usize>) {
        let mut rng = random::rng(3, "test", 0);
        let gold: Vec<usize> = (0..60).map(|i| i % 2).collect();
        let mut row = |&label: &usize| -> Vec<f64> {
            (0..10).map(|j| rng.random_range(-1.0..1.0) + if j == 0 { clear * (2.0 * label as f64 - 1.0) } else { 0.0 }).collect()
        };
        (gold.iter().map(&mut row).collect(), gold)
    }

    #[test]
    fn noise_asks_for_a_small_c_and_a_clear_feature_for_a_large_one() {
        let choose = |clear: f64| {
            let (rows, gold) = noisy(clear);
            choose_c(&rows, &gold, Shape { labels: 2, width: 10 }, &[1.0, 100.0, 0.001], &held_out(&gold, 2, 5, 0)).c
        };
        assert_eq!([choose(0.0), choose(2.0)], [0.001, 100.0]);
    }

    #[test]
    fn of_equals_the_smallest_is_chosen() {
        let rows = vec![vec![0.0]; 12];
        let gold: Vec<usize> = (0..12).map(|i| i % 3).collect();
        let choose = |fold: &[Option<usize>]| choose_c(&rows, &gold, Shape { labels: 3, width: 1 }, &[10.0, 0.1, 1.0], fold).c;
        assert_eq!([choose(&held_out(&gold, 3, 5, 0)), choose(&[None; 12])], [0.1, 1.0]);
    }
}
