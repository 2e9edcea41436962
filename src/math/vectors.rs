//! Functions of short vectors: logits, log-probabilities, features. Each is summed from the first entry to the last, so that runs repeat.

use std::iter::Sum;
use std::ops::{Add, Sub};

/// f32 and f64, as far as [`log_sum_exp`] needs them.
pub trait Real: Copy + Add<Output = Self> + Sub<Output = Self> + Sum + PartialEq {
    /// −∞
    const LOWEST: Self;
    /// The larger of two.
    fn max(self, other: Self) -> Self;
    /// e to its power.
    fn exp(self) -> Self;
    /// Its natural logarithm.
    fn ln(self) -> Self;
}

macro_rules! real {
    ($float:ident) => {
        impl Real for $float {
            const LOWEST: Self = $float::NEG_INFINITY;
            fn max(self, other: Self) -> Self {
                self.max(other)
            }
            fn exp(self) -> Self {
                self.exp()
            }
            fn ln(self) -> Self {
                self.ln()
            }
        }
    };
}

real!(f32);
real!(f64);

/// ln Σ exp(x), in nats, in the precision of its input. −∞ for no values, and where all are −∞.
pub fn log_sum_exp<T: Real>(values: &[T]) -> T {
    let max = values.iter().copied().fold(T::LOWEST, T::max);
    if max == T::LOWEST {
        return max;
    }
    max + values.iter().map(|&x| (x - max).exp()).sum::<T>().ln()
}

/// 1 / (1 + exp(-x)).
pub fn sigmoid(x: f64) -> f64 {
    // exp of nothing above 0, so that it never overflows.
    let small = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + small) } else { small / (1.0 + small) }
}

/// Probabilities in [0, 1] that sum to 1, from logits in nats: exp(x) / Σ exp(x). A logit of −∞ has probability 0; there must be one
/// that is not −∞, and none may be ∞ (else all are NaN). Empty for no logits.
pub fn softmax<T: Copy + Into<f64>>(logits: &[T]) -> Vec<f64> {
    let mut values: Vec<f64> = logits.iter().map(|&x| x.into()).collect();
    normalise(&mut values);
    values
}

/// The cross-entropy `−ln softmax(logits)[label]`, in nats. Leaves its gradient in `logits`: the probabilities, less 1 at the label.
pub fn cross_entropy(logits: &mut [f64], label: usize) -> f64 {
    let own = logits[label];
    let total = normalise(logits);
    logits[label] -= 1.0;
    total - own
}

/// Makes logits into their softmax; returns ln Σ exp of what they were.
fn normalise(logits: &mut [f64]) -> f64 {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    logits.iter_mut().for_each(|x| *x = (*x - max).exp());
    let sum: f64 = logits.iter().sum();
    logits.iter_mut().for_each(|x| *x /= sum);
    max + sum.ln()
}

/// The index of the largest value; the first of equals, 0 for no values.
pub fn argmax<T: PartialOrd>(values: &[T]) -> usize {
    values.iter().enumerate().fold(0, |best, (i, x)| if *x > values[best] { i } else { best })
}

/// Σ a · b over two vectors of one length; 0 for empty ones.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    debug_assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// The values less their mean, in the same unit; empty for none.
pub fn centre<T: Copy + Into<f64>>(values: &[T]) -> Vec<f64> {
    let mean = values.iter().map(|&x| x.into()).sum::<f64>() / values.len().max(1) as f64;
    values.iter().map(|&x| x.into() - mean).collect()
}

/// A number as people read it: a model says no more than six decimal places.
pub fn to_six_places(x: f64) -> f64 {
    (x * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LOW: f64 = f64::NEG_INFINITY;

    #[test]
    fn nothing_and_minus_infinity_have_their_values() {
        assert_eq!((log_sum_exp::<f64>(&[]), log_sum_exp(&[LOW, LOW]), log_sum_exp(&[LOW, 2.0])), (LOW, LOW, 2.0));
        assert_eq!(softmax(&[LOW, 3.0]), [0.0, 1.0]);
        assert!(softmax(&[LOW, LOW]).iter().all(|p| p.is_nan()));
        assert!(softmax::<f64>(&[]).is_empty() && centre::<f32>(&[]).is_empty());
        assert_eq!((argmax::<f64>(&[]), dot(&[], &[])), (0, 0.0));
    }

    #[test]
    fn small_cases_by_hand() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0, 2.0]), 1);
        assert_eq!(dot(&[1.0, 2.0, 3.0], &[4.0, -5.0, 6.0]), 12.0);
        assert_eq!(centre(&[1f32, 2.0, 6.0]), [-2.0, -1.0, 3.0]);
        let thirds = softmax(&[0.0, std::f64::consts::LN_2]);
        assert!((thirds[0] - 1.0 / 3.0).abs() < 1e-15 && (thirds[1] - 2.0 / 3.0).abs() < 1e-15);
        assert!((log_sum_exp(&[0.0, 3f64.ln()]) - 4f64.ln()).abs() < 1e-15);
        assert!((log_sum_exp(&[0f32, 3f32.ln()]) - 4f32.ln()).abs() < 1e-6);
        assert_eq!(log_sum_exp(&[1000.0, 1000.0]), 1000.0 + std::f64::consts::LN_2);
    }

    proptest! {
        #[test]
        fn softmax_is_the_gradient_of_log_sum_exp(logits in proptest::collection::vec(-20f64..20.0, 1..8)) {
            let found = softmax(&logits);
            prop_assert!((found.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            for (j, p) in found.iter().enumerate() {
                let at = |by: f64| log_sum_exp(&logits.iter().enumerate().map(|(i, x)| if i == j { x + by } else { *x }).collect::<Vec<_>>());
                prop_assert!((p - (at(1e-5) - at(-1e-5)) / 2e-5).abs() < 1e-8);
            }
        }

        #[test]
        fn cross_entropy_is_minus_ln_p(logits in proptest::collection::vec(-20f64..20.0, 1..8), label in 0usize..8) {
            let label = label % logits.len();
            let expected = softmax(&logits);
            let mut gradient = logits.clone();
            prop_assert!((cross_entropy(&mut gradient, label) + expected[label].ln()).abs() < 1e-12);
            for (j, (g, p)) in gradient.iter().zip(&expected).enumerate() {
                prop_assert_eq!(*g, p - f64::from(u8::from(j == label)));
            }
        }
    }
}
