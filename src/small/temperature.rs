//! A temperature for logits, fitted on held-out gold rows: how sure a model may be of what it says.

use crate::math::convex::{Stopping, minimise};
use crate::math::vectors::{cross_entropy, dot};

/// Of the gradient by the inverse temperature, of the mean loss.
const LIMITS: Stopping = Stopping { tolerance: 1e-9, steps: 1000 };

/// The temperature T > 0 for `logits` (rows, labels) and their gold labels: that of the least mean cross-entropy of softmax(logits / T)
/// (Guo et al., arXiv 1706.04599). 1 for no rows.
///
/// A normal prior on ln T, of mean 0 and standard deviation 1, counts as much as it would beside the summed loss. Without it, rows that
/// are all right would ask for T = 0, rows that know nothing for T = ∞. A few dozen rows outweigh it.
pub fn temperature(logits: &[Vec<f32>], gold: &[usize]) -> f64 {
    let found = minimise(vec![1.0], LIMITS, |at, gradient| objective(logits, gold, at, gradient));
    1.0 / found.or_warn("the temperature")[0]
}

/// The mean cross-entropy plus the prior's share at the inverse temperature b = 1 / T; adds the gradient to `gradient`.
///
/// The cross-entropy is convex in b, not in ln b, and so is the prior as it is written in [`prior`]: there is one minimum.
fn objective(logits: &[Vec<f32>], gold: &[usize], inverse: &[f64], gradient: &mut [f64]) -> f64 {
    let (mut loss, mut slope) = prior(inverse[0]);
    for (row, &label) in logits.iter().zip(gold) {
        let row: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
        let mut errors: Vec<f64> = row.iter().map(|x| inverse[0] * x).collect();
        loss += cross_entropy(&mut errors, label);
        slope += dot(&errors, &row);
    }
    let rows = gold.len().max(1) as f64;
    gradient[0] += slope / rows;
    loss / rows
}

/// ln² b / 2 and its derivative by b. From b = e on, where that bends down, its tangent: the function is convex for all b > 0.
/// For b < 0 it is not a number, and [`minimise`] takes no step there.
fn prior(b: f64) -> (f64, f64) {
    const E: f64 = std::f64::consts::E;
    if b <= E { (0.5 * b.ln() * b.ln(), b.ln() / b) } else { (0.5 + (b - E) / E, 1.0 / E) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::convex::check_gradient;
    use crate::math::random;
    use crate::math::vectors::softmax;
    use proptest::prelude::*;
    use rand::RngExt;

    /// Logits whose labels are drawn from softmax(logits / temperature).
    fn drawn(temperature: f64, rows: usize) -> (Vec<Vec<f32>>, Vec<usize>) {
        let mut rng = random::rng(1, "test", 0);
        let mut row = |_| {
            let logits: Vec<f32> = (0..4).map(|_| (temperature * rng.random_range(-3.0..3.0)) as f32).collect();
            let p = softmax(&logits.iter().map(|&x| f64::from(x) / temperature).collect::<Vec<_>>());
            let mut left: f64 = rng.random();
            let label = p.iter().position(|p| {
                left -= p;
                left < 0.0
            });
            (logits, label.unwrap_or(3))
        };
        (0..rows).map(&mut row).unzip()
    }

    #[test]
    fn the_temperature_that_labels_were_drawn_at_is_found() {
        for known in [0.05, 0.3, 1.0, 2.5, 30.0] {
            let (logits, gold) = drawn(known, 4000);
            let found = temperature(&logits, &gold);
            assert!((found / known).ln().abs() < 0.06, "{found} is not {known}");
        }
    }

    /// Where the whole gradient is 0, by bisection.
    #[test]
    fn the_minimum_is_found_from_any_scale_of_logits() {
        for scale in [1e-3, 1.0, 1e3] {
            let (logits, gold) = drawn(1.0, 50);
            let logits: Vec<Vec<f32>> = logits.iter().map(|row| row.iter().map(|x| x * scale).collect()).collect();
            let slope = |log: f64| {
                let mut gradient = [0.0];
                objective(&logits, &gold, &[log.exp()], &mut gradient);
                gradient[0]
            };
            let (mut low, mut high) = (-12.0, 12.0);
            for _ in 0..80 {
                let middle = 0.5 * (low + high);
                *if slope(middle) < 0.0 { &mut low } else { &mut high } = middle;
            }
            let found = temperature(&logits, &gold);
            assert!((found.ln() + low).abs() < 1e-4, "{} is not {}", found.ln(), -low);
        }
    }

    #[test]
    fn rows_that_are_all_right_or_know_nothing_have_a_temperature() {
        let right = temperature(&vec![vec![1.0, -1.0]; 40], &[0; 40]);
        assert!(right > 0.2 && right < 0.7, "{right}");
        let wrong = temperature(&vec![vec![1.0, -1.0]; 40], &[1; 40]);
        assert!(wrong > 5.0 && wrong < 100.0, "{wrong}");
        let even: Vec<usize> = (0..40).map(|i| i % 2).collect();
        assert!(temperature(&vec![vec![1.0, -1.0]; 40], &even) > 2.0);
        assert_eq!([temperature(&[], &[]), temperature(&[vec![0.0, 0.0]], &[1])], [1.0, 1.0]);
    }

    #[test]
    fn the_prior_counts_less_the_more_rows_there_are() {
        let of = |rows: usize| temperature(&vec![vec![1.0, -1.0]; rows], &vec![0; rows]);
        assert!(of(2) > of(20) && of(20) > of(200));
    }

    #[test]
    fn the_gradient_matches_the_loss() {
        let (logits, gold) = drawn(0.7, 20);
        for inverse in [0.2, 1.0, 2.6, 4.0] {
            check_gradient(&[inverse], |at, gradient| objective(&logits, &gold, at, gradient));
        }
    }

    proptest! {
        #[test]
        fn the_objective_is_convex(a in -6f64..4.0, b in -6f64..4.0, right in 0usize..20) {
            let logits = vec![vec![0.6f32, -0.4]; 20];
            let gold: Vec<usize> = (0..20).map(|i| usize::from(i >= right)).collect();
            let loss = |inverse: f64| objective(&logits, &gold, &[inverse], &mut [0.0]);
            let (a, b) = (a.exp(), b.exp());
            prop_assert!(loss(0.5 * (a + b)) <= 0.5 * (loss(a) + loss(b)) + 1e-12);
        }
    }
}
