//! Thresholds of the labels: an offset for each logit, chosen on labelled rows that the model has not learnt from.

use crate::math::vectors::softmax;

/// Standard deviation of an offset before a row is seen: a few dozen rows move it by tenths, a few hundred settle it.
const PRIOR: f64 = 0.5;

/// The offsets of greatest posterior probability for `logits` (rows, labels) and their gold labels: multinomial logistic
/// regression with the slope fixed at 1 and a normal prior. They sum to 0.
pub fn offsets(logits: &[Vec<f32>], gold: &[usize]) -> Vec<f64> {
    let labels = logits.first().map_or(0, Vec::len);
    let weight = 1.0 / (PRIOR * PRIOR);
    let mut offsets = vec![0.0; labels];
    // Convex, with a curvature of at most 1/2 a row besides the prior's: this step converges.
    let step = 1.0 / (weight + 0.5 * gold.len() as f64);
    for _ in 0..500 {
        let mut gradient: Vec<f64> = offsets.iter().map(|b| weight * b).collect();
        for (row, &label) in logits.iter().zip(gold) {
            let shifted: Vec<f64> = row.iter().zip(&offsets).map(|(&x, b)| f64::from(x) + b).collect();
            for (j, p) in softmax(&shifted).into_iter().enumerate() {
                gradient[j] += p - f64::from(u8::from(j == label));
            }
        }
        offsets.iter_mut().zip(&gradient).for_each(|(b, d)| *b -= step * d);
    }
    offsets
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits that lean to label 1 by `lean` nats, for gold labels in equal numbers.
    fn leaning(lean: f32, rows: usize) -> (Vec<Vec<f32>>, Vec<usize>) {
        let gold: Vec<usize> = (0..rows).map(|i| i % 2).collect();
        let right = |i: usize| if i % 8 < 6 { 1.0 } else { -1.0 };
        let row = |(i, &label): (usize, &usize)| if label == 0 { vec![right(i), lean] } else { vec![0.0, right(i) + lean] };
        (gold.iter().enumerate().map(row).collect(), gold)
    }

    #[test]
    fn many_rows_take_the_lean_away() {
        let (logits, gold) = leaning(1.5, 4000);
        let found = offsets(&logits, &gold);
        assert!((found[0] - found[1] - 1.5).abs() < 0.05, "{found:?}");
        assert!((found[0] + found[1]).abs() < 1e-9);
    }

    #[test]
    fn few_rows_move_it_a_part_of_the_way() {
        let (logits, gold) = leaning(1.5, 16);
        let found = offsets(&logits, &gold);
        assert!((0.2..1.2).contains(&(found[0] - found[1])), "{found:?}");
    }

    #[test]
    fn no_rows_and_no_lean_leave_it_alone() {
        assert!(offsets(&[], &[]).is_empty());
        let (logits, gold) = leaning(0.0, 400);
        assert!(offsets(&logits, &gold).iter().all(|b| b.abs() < 1e-6));
    }
}
