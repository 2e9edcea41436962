//! Rows with more features than there are rows, as coordinates in their own span: as many as rows, with the same products.
//!
//! A linear classifier with a penalty on ‖w‖² is the same on both, since its weights are a sum of rows, and far cheaper on the
//! coordinates where a few hundred rows have thousands of features.

use crate::math::vectors::dot;

/// Rows, and the lower triangular factor L with L Lᵀ = X Xᵀ.
pub struct Span {
    /// (rows, features)
    rows: Vec<Vec<f64>>,
    /// (rows, rows); the rows themselves where they have fewer features.
    coordinates: Vec<Vec<f64>>,
}

/// Added to the products of rows with themselves, as a share of their mean: rows may depend on each other.
const RIDGE: f64 = 1e-9;

impl Span {
    /// Of rows (rows, features) with as many features each.
    pub fn of(rows: Vec<Vec<f64>>) -> Span {
        let (count, features) = (rows.len(), rows.first().map_or(0, Vec::len));
        let coordinates = if count < features { cholesky(&rows) } else { rows.clone() };
        Span { rows, coordinates }
    }

    /// (rows, coordinates)
    pub fn coordinates(&self) -> &[Vec<f64>] {
        &self.coordinates
    }

    /// The weights of the features that give what these weights of the coordinates give.
    pub fn weights(&self, of_coordinates: &[f64]) -> Vec<f64> {
        let width = self.rows.first().map_or(0, Vec::len);
        if self.rows.len() >= width {
            return of_coordinates.to_vec();
        }
        // Lᵀ a = v; then w = Xᵀ a.
        let mut of_rows = of_coordinates.to_vec();
        for i in (0..of_rows.len()).rev() {
            of_rows[i] /= self.coordinates[i][i];
            let (before, own) = of_rows.split_at_mut(i);
            before.iter_mut().zip(&self.coordinates[i]).for_each(|(a, l)| *a -= l * own[0]);
        }
        let mut weights = vec![0.0; width];
        for (row, a) in self.rows.iter().zip(of_rows) {
            weights.iter_mut().zip(row).for_each(|(w, x)| *w += a * x);
        }
        weights
    }
}

/// The factor of the rows' products, with zeros above the diagonal.
fn cholesky(rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mean = rows.iter().map(|row| dot(row, row)).sum::<f64>() / rows.len().max(1) as f64;
    let ridge = (RIDGE * mean).max(f64::MIN_POSITIVE);
    let mut factor = vec![vec![0.0; rows.len()]; rows.len()];
    for i in 0..rows.len() {
        let (above, own) = factor.split_at_mut(i);
        let own = &mut own[0];
        for j in 0..i {
            own[j] = (dot(&rows[i], &rows[j]) - dot(&own[..j], &above[j][..j])) / above[j][j];
        }
        own[i] = (dot(&rows[i], &rows[i]) + ridge - dot(&own[..i], &own[..i])).max(ridge).sqrt();
    }
    factor
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::random;
    use crate::measure::logistic::{Logistic, Shape};
    use rand::RngExt;

    fn rows(count: usize, features: usize) -> Vec<Vec<f64>> {
        let mut rng = random::rng(1, "test", 0);
        (0..count).map(|_| (0..features).map(|_| rng.random_range(-1.0..1.0)).collect()).collect()
    }

    #[test]
    fn products_are_those_of_the_rows_and_weights_come_back() {
        for (count, features) in [(7, 30), (30, 7), (5, 5), (1, 3)] {
            let rows = rows(count, features);
            let span = Span::of(rows.clone());
            let z = span.coordinates();
            let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-7, "{a} {b}");
            (0..count).for_each(|i| (0..count).for_each(|j| near(dot(&z[i], &z[j]), dot(&rows[i], &rows[j]))));
            let of_coordinates: Vec<f64> = (0..z[0].len()).map(|i| 0.3 * i as f64 - 0.5).collect();
            let weights = span.weights(&of_coordinates);
            (0..count).for_each(|i| near(dot(&weights, &rows[i]), dot(&of_coordinates, &z[i])));
        }
    }

    #[test]
    fn a_logistic_regression_is_the_same_on_both() {
        let rows = rows(20, 50);
        let gold: Vec<usize> = (0..20).map(|i| (i * i) % 3).collect();
        let span = Span::of(rows.clone());
        let plain = Logistic::fit(&rows, &gold, Shape { labels: 3, width: 50 }, 2.0);
        let mapped = Logistic::fit(span.coordinates(), &gold, Shape { labels: 3, width: 20 }, 2.0).mapped(|w| span.weights(w));
        for row in &rows {
            let (a, b) = (plain.probabilities(row), mapped.probabilities(row));
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5), "{a:?} {b:?}");
        }
    }

    #[test]
    fn rows_that_repeat_do_no_harm() {
        let row = rows(1, 9).remove(0);
        let span = Span::of(vec![row.clone(), row.clone(), row]);
        assert!(span.coordinates().iter().flatten().all(|x| x.is_finite()));
        assert!(span.weights(&[1.0, 0.0, 0.0]).iter().all(|x| x.is_finite()));
    }
}
