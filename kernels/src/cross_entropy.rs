//! Softmax cross-entropy against soft targets, with a weight for each row.

#[cfg(feature = "candle")]
use candle_core::Tensor;

/// Returns `scale` · Σ_r weight_r · Σ_l target_rl · (log Σ exp(logits_r) − logit_rl) and leaves its gradient in `dlogits`.
///
/// `logits`, `targets` and `dlogits` are (rows, labels), `weights` (rows); each row of the targets sums to 1. With `scale` = 1 / rows of
/// the batch and weights of 1 it is PyTorch's mean. A label whose target is 0 may have the logit -inf.
pub fn soft_cross_entropy(logits: &[f32], targets: &[f32], weights: &[f32], scale: f32, dlogits: &mut [f32]) -> f64 {
    let rows = weights.len();
    assert!(rows > 0 && logits.len().is_multiple_of(rows) && !logits.is_empty(), "{} logits for {rows} rows", logits.len());
    assert!(targets.len() == logits.len() && dlogits.len() == logits.len(), "shapes of a cross-entropy");
    let labels = logits.len() / rows;
    let mut loss = 0.0;
    for (row, &weight) in weights.iter().enumerate() {
        let at = row * labels..(row + 1) * labels;
        let (logits, targets, dlogits) = (&logits[at.clone()], &targets[at.clone()], &mut dlogits[at]);
        let weight = weight as f64 * scale as f64;
        // A row has few labels: f64 costs nothing here and keeps a small loss exact.
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
        let total: f64 = logits.iter().map(|&l| (l as f64 - highest).exp()).sum();
        let log_total = total.ln() + highest;
        for ((&logit, &target), dlogit) in logits.iter().zip(targets).zip(dlogits) {
            let target = target as f64;
            if target != 0.0 {
                loss += weight * target * (log_total - logit as f64);
            }
            *dlogit = (weight * ((logit as f64 - log_total).exp() - target)) as f32;
        }
    }
    loss
}

/// [`soft_cross_entropy`] of candle's operations, as a scalar: `logits` (rows, labels), finite; the rest as there.
#[cfg(feature = "candle")]
pub fn composed(logits: &Tensor, targets: &[f32], weights: &[f32], scale: f32) -> candle_core::Result<Tensor> {
    let (rows, labels) = logits.dims2()?;
    let targets = Tensor::from_slice(targets, (rows, labels), logits.device())?;
    let weights = Tensor::from_slice(weights, (rows, 1), logits.device())?;
    let lowered = logits.broadcast_sub(&logits.detach().max_keepdim(1)?)?;
    let log_total = lowered.exp()?.sum_keepdim(1)?.log()?;
    let losses = (targets * log_total.broadcast_sub(&lowered)?)?;
    losses.broadcast_mul(&weights)?.sum_all()? * scale as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, gradient, random, wide};

    fn reference(logits: &[f64], targets: &[f32], weights: &[f32], scale: f64) -> f64 {
        let labels = logits.len() / weights.len();
        let target = |r: usize, l: usize| targets[r * labels + l] as f64;
        let row_loss = |r: usize| -> f64 {
            let logits = &logits[r * labels..][..labels];
            let total: f64 = logits.iter().map(|l| l.exp()).sum();
            (0..labels).map(|l| -target(r, l) * (logits[l].exp() / total).ln()).sum()
        };
        (0..weights.len()).map(|r| scale * weights[r] as f64 * row_loss(r)).sum()
    }

    #[test]
    fn value_and_gradient() {
        for (rows, labels) in [(1, 2), (4, 3), (7, 11)] {
            let logits: Vec<f32> = random(rows * labels, 1).iter().map(|x| x * 5.0).collect();
            let weights: Vec<f32> = random(rows, 2).iter().map(|x| x + 1.5).collect();
            let raw: Vec<f32> = random(rows * labels, 3).iter().map(|x| x + 1.1).collect();
            let targets: Vec<f32> = raw.chunks(labels).flat_map(|row| row.iter().map(|x| x / row.iter().sum::<f32>())).collect();
            let mut dlogits = vec![0.0; logits.len()];
            let loss = soft_cross_entropy(&logits, &targets, &weights, 0.25, &mut dlogits);
            let reference = |logits: &[f64]| reference(logits, &targets, &weights, 0.25);
            assert!((loss - reference(&wide(&logits))).abs() < 1e-6);
            assert_close(&dlogits, &gradient(&logits, reference), 1e-6);
        }
    }

    #[cfg(feature = "candle")]
    #[test]
    fn composed_is_the_same() {
        use crate::testing::{assert_tensor, gradients, var};
        for (rows, labels) in [(1, 2), (4, 3), (7, 11)] {
            let logits: Vec<f32> = random(rows * labels, 1).iter().map(|x| x * 5.0).collect();
            let mut weights: Vec<f32> = random(rows, 2).iter().map(|x| x + 1.5).collect();
            weights[rows - 1] = 0.0;
            let raw: Vec<f32> = random(rows * labels, 3).iter().map(|x| x + 1.1).collect();
            let targets: Vec<f32> = raw.chunks(labels).flat_map(|row| row.iter().map(|x| x / row.iter().sum::<f32>())).collect();
            let mut dlogits = vec![0.0; logits.len()];
            let loss = soft_cross_entropy(&logits, &targets, &weights, 0.25, &mut dlogits);
            let vars = [var(&logits, (rows, labels))];
            let found = composed(&vars[0], &targets, &weights, 0.25).unwrap();
            assert_tensor(&found, &[loss as f32], 1e-5);
            assert_tensor(&gradients(&found, &[1.0], &vars)[0], &dlogits, 1e-6);
        }
    }

    #[test]
    fn extreme_logits() {
        let mut dlogits = [0.0; 2];
        assert_eq!(soft_cross_entropy(&[f32::NEG_INFINITY, 3.0], &[0.0, 1.0], &[1.0], 1.0, &mut dlogits), 0.0);
        assert_eq!(dlogits, [0.0, 0.0]);
        assert_eq!(soft_cross_entropy(&[1e30, 0.0], &[1.0, 0.0], &[1.0], 1.0, &mut dlogits), 0.0);
        assert!(soft_cross_entropy(&[f32::NAN, 0.0], &[0.5, 0.5], &[1.0], 1.0, &mut dlogits).is_nan());
        assert!(dlogits[0].is_nan());
    }
}
