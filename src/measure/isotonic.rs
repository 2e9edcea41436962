//! Curves that may only rise, and how many human-labelled rows a score on such a curve is worth.

use serde::{Deserialize, Serialize};

/// The rising function of `x` nearest to `y`, by squared error with `weights` > 0: its value at each x, in the order given. Equal x
/// have one value. By pooling adjacent violators (Barlow et al., Statistical Inference under Order Restrictions, 1972).
pub fn isotonic(x: &[f64], y: &[f64], weights: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&a, &b| x[a].total_cmp(&x[b]));
    let mut blocks: Vec<Block> = Vec::new();
    for equal in order.chunk_by(|&a, &b| x[a] == x[b]) {
        let weight = equal.iter().map(|&i| weights[i]).sum();
        let sum = equal.iter().map(|&i| weights[i] * y[i]).sum();
        let mut last = Block { sum, weight, rows: equal.len() };
        while let Some(before) = blocks.pop_if(|before| before.mean() > last.mean()) {
            last = Block { sum: before.sum + last.sum, weight: before.weight + last.weight, rows: before.rows + last.rows };
        }
        blocks.push(last);
    }
    let mut fitted = vec![0.0; x.len()];
    let values = blocks.iter().flat_map(|block| std::iter::repeat_n(block.mean(), block.rows));
    order.into_iter().zip(values).for_each(|(i, value)| fitted[i] = value);
    fitted
}

/// Neighbours that share a value.
struct Block {
    /// Σ w · y
    sum: f64,
    weight: f64,
    rows: usize,
}

impl Block {
    fn mean(&self) -> f64 {
        self.sum / self.weight
    }
}

/// A number of human-labelled rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Worth {
    /// Fewer than the curve begins with.
    Below(usize),
    /// So many, between points of the curve.
    Rows(f64),
    /// More than the curve ends with.
    Above(usize),
}

/// Accuracies no further apart are the same: they are shares of rows, and rounding must not lead past a flat piece.
const SAME: f64 = 1e-9;

/// The number of rows with which a learning curve reaches `accuracy`: the smallest, where it is flat there.
///
/// `curve` has accuracies by number of rows, each number at least 1, in any order. It is made to rise ([`isotonic`], all points weighing
/// the same) and is a straight line in ln N between points.
///
/// # Panics
/// If the curve has no points.
pub fn worth(curve: &[(usize, f64)], accuracy: f64) -> Worth {
    let (rows, accuracies): (Vec<f64>, Vec<f64>) = curve.iter().map(|&(rows, accuracy)| (rows as f64, accuracy)).unzip();
    let mut points: Vec<(f64, f64)> = rows.iter().copied().zip(isotonic(&rows, &accuracies, &vec![1.0; rows.len()])).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (first, last) = (points[0], points[points.len() - 1]);
    if accuracy < first.1 - SAME {
        return Worth::Below(first.0 as usize);
    }
    // Points before `reached` are below the accuracy, it and those after it are not.
    let reached = points.partition_point(|point| point.1 < accuracy - SAME);
    let Some(&(high, above)) = points.get(reached) else { return Worth::Above(last.0 as usize) };
    if above <= accuracy + SAME {
        return Worth::Rows(high);
    }
    let (low, below) = points[reached - 1];
    let share = (accuracy - below) / (above - below);
    Worth::Rows((low.ln() + share * (high.ln() - low.ln())).exp().clamp(low, high))
}

#[cfg(test)]
mod tests {
    use super::super::golden::{assert_near, numbers, scikit};
    use super::*;
    use proptest::prelude::*;

    /// Values of `tests/reference/scikit.py`: scikit-learn's `IsotonicRegression`.
    #[test]
    fn fits_match_scikit_learn() {
        for case in scikit()["isotonic"].as_array().unwrap() {
            let found = isotonic(&numbers(&case["x"]), &numbers(&case["y"]), &numbers(&case["weights"]));
            assert_near(&[found], &[numbers(&case["fitted"])], 1e-12);
        }
        assert!(isotonic(&[], &[], &[]).is_empty());
    }

    const CURVE: [(usize, f64); 4] = [(1000, 0.9), (10, 0.5), (100, 0.7), (500, 0.7)];

    #[test]
    fn a_worth_is_read_between_points_in_ln_n() {
        let Worth::Rows(between) = worth(&CURVE, 0.6) else { panic!() };
        assert!((between - 1000f64.sqrt()).abs() < 1e-9, "{between}");
        assert_eq!([0.5, 0.7, 0.9].map(|accuracy| worth(&CURVE, accuracy)), [10.0, 100.0, 1000.0].map(Worth::Rows));
        assert_eq!([0.4999, 0.9001].map(|accuracy| worth(&CURVE, accuracy)), [Worth::Below(10), Worth::Above(1000)]);
    }

    #[test]
    fn rounding_does_not_lead_past_a_flat_piece() {
        let mean = (0.7 + 0.7 + 0.7) / 3.0;
        assert!(mean < 0.7);
        assert_eq!(worth(&[(10, 0.5), (20, mean), (40, mean), (80, mean), (160, 0.9)], 0.7), Worth::Rows(20.0));
        assert_eq!(worth(&[(20, mean), (40, mean)], 0.7), Worth::Rows(20.0));
        assert_eq!(worth(&[(20, 0.7), (40, 0.8)], mean), Worth::Rows(20.0));
    }

    #[test]
    fn a_dip_is_pooled() {
        let dips = [(10, 0.5), (20, 0.75), (40, 0.25), (80, 1.0)];
        assert_eq!(worth(&dips, 0.5), Worth::Rows(10.0));
        let Worth::Rows(between) = worth(&dips, 0.75) else { panic!() };
        assert!((between - 3200f64.sqrt()).abs() < 1e-9, "{between}");
        assert_eq!(worth(&[(50, 0.8)], 0.8), Worth::Rows(50.0));
    }

    #[test]
    fn a_worth_has_a_form_in_json() {
        let written = serde_json::to_string(&[Worth::Below(8), Worth::Rows(90.5), Worth::Above(512)]).unwrap();
        assert_eq!(written, r#"[{"below":8},{"rows":90.5},{"above":512}]"#);
    }

    /// Below and above the curve too.
    fn place(worth: Worth) -> f64 {
        match worth {
            Worth::Below(_) => 0.0,
            Worth::Rows(rows) => rows,
            Worth::Above(_) => f64::INFINITY,
        }
    }

    proptest! {
        #[test]
        fn more_accuracy_is_worth_no_fewer_rows(
            curve in proptest::collection::vec((1usize..2000, 0f64..1.0), 1..9), mut accuracies in proptest::collection::vec(0f64..1.0, 2..20)
        ) {
            accuracies.sort_by(f64::total_cmp);
            let worths: Vec<f64> = accuracies.iter().map(|&accuracy| place(worth(&curve, accuracy))).collect();
            prop_assert!(worths.is_sorted(), "{:?}", worths);
        }

        #[test]
        fn an_accuracy_of_a_rising_curve_is_worth_its_own_rows(
            rows in proptest::collection::btree_set(1usize..2000, 1..9), start in 0f64..0.5, steps in proptest::collection::vec(0.001f64..0.05, 9)
        ) {
            let accuracies = steps.iter().scan(start, |at, step| {
                *at += step;
                Some(*at)
            });
            let curve: Vec<(usize, f64)> = rows.into_iter().zip(accuracies).collect();
            for &(rows, accuracy) in &curve {
                prop_assert_eq!(worth(&curve, accuracy), Worth::Rows(rows as f64));
            }
        }

        #[test]
        fn a_fit_rises_keeps_the_mean_and_stays_what_it_is(
            points in proptest::collection::vec((0u8..12, -2f64..2.0, 0.1f64..3.0), 1..30)
        ) {
            let x: Vec<f64> = points.iter().map(|point| f64::from(point.0)).collect();
            let (y, weights): (Vec<f64>, Vec<f64>) = points.iter().map(|point| (point.1, point.2)).unzip();
            let fitted = isotonic(&x, &y, &weights);
            for i in 0..x.len() {
                prop_assert!((0..x.len()).all(|j| x[i] > x[j] || (x[i] == x[j] && fitted[i] == fitted[j]) || fitted[i] <= fitted[j]));
            }
            let sum = |values: &[f64]| values.iter().zip(&weights).map(|(y, w)| y * w).sum::<f64>();
            prop_assert!((sum(&y) - sum(&fitted)).abs() < 1e-9);
            assert_near(&[isotonic(&x, &fitted, &weights)], &[fitted], 1e-12);
        }
    }
}
