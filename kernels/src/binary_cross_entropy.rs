//! Sigmoid cross-entropy against soft targets, each label for itself, with a weight for each row.

#[cfg(feature = "candle")]
use candle_core::Tensor;

/// Returns `scale` · Σ_r weight_r · mean_l (log(1 + exp(logit_rl)) − target_rl · logit_rl) and leaves its gradient in `dlogits`.
///
/// `logits`, `targets` and `dlogits` are (rows, labels), `weights` (rows); each target is in [0, 1]. With `scale` = 1 / rows of the batch
/// and weights of 1 it is the mean of PyTorch's `binary_cross_entropy_with_logits`.
pub fn binary_cross_entropy(logits: &[f32], targets: &[f32], weights: &[f32], scale: f32, dlogits: &mut [f32]) -> f64 {
    let rows = weights.len();
    assert!(rows > 0 && logits.len().is_multiple_of(rows) && !logits.is_empty(), "{} logits for {rows} rows", logits.len());
    assert!(targets.len() == logits.len() && dlogits.len() == logits.len(), "shapes of a cross-entropy");
    let labels = logits.len() / rows;
    let mut loss = 0.0;
    for (i, ((&logit, &target), dlogit)) in logits.iter().zip(targets).zip(dlogits).enumerate() {
        let (logit, target) = (logit as f64, target as f64);
        let weight = weights[i / labels] as f64 * scale as f64 / labels as f64;
        // exp of nothing above 0, so that it never overflows.
        let small = (-logit.abs()).exp();
        loss += weight * (logit.max(0.0) + small.ln_1p() - target * logit);
        let p = if logit >= 0.0 { 1.0 / (1.0 + small) } else { small / (1.0 + small) };
        *dlogit = (weight * (p - target)) as f32;
    }
    loss
}

/// [`binary_cross_entropy`] of candle's operations, as a scalar: `logits` (rows, labels), finite; the rest as there.
#[cfg(feature = "candle")]
pub fn composed(logits: &Tensor, targets: &[f32], weights: &[f32], scale: f32) -> candle_core::Result<Tensor> {
    let (rows, labels) = logits.dims2()?;
    let targets = Tensor::from_slice(targets, (rows, labels), logits.device())?;
    let weights = Tensor::from_slice(weights, (rows, 1), logits.device())?;
    // The larger of the logit and 0, without a branch whose gradient candle would cut.
    let positive = logits.relu()?;
    let small = logits.abs()?.neg()?.exp()?;
    let losses = ((positive + (small + 1.0)?.log()?)? - (targets * logits)?)?;
    losses.broadcast_mul(&weights)?.sum_all()? * (scale as f64 / labels as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, gradient, random, wide};

    fn reference(logits: &[f64], targets: &[f32], weights: &[f32], scale: f64) -> f64 {
        let labels = logits.len() / weights.len();
        let loss = |i: usize| {
            let (p, target) = (1.0 / (1.0 + (-logits[i]).exp()), targets[i] as f64);
            -target * p.ln() - (1.0 - target) * (1.0 - p).ln()
        };
        (0..logits.len()).map(|i| scale * weights[i / labels] as f64 / labels as f64 * loss(i)).sum()
    }

    fn case(rows: usize, labels: usize) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let logits = random(rows * labels, 1).iter().map(|x| x * 5.0).collect();
        let weights = random(rows, 2).iter().map(|x| x + 1.5).collect();
        let mut targets: Vec<f32> = random(rows * labels, 3).iter().map(|x| (0.5 + 0.5 * x).clamp(0.0, 1.0)).collect();
        (targets[0], targets[rows * labels - 1]) = (0.0, 1.0);
        (logits, targets, weights)
    }

    #[test]
    fn value_and_gradient() {
        for (rows, labels) in [(1, 2), (4, 3), (7, 11)] {
            let (logits, targets, weights) = case(rows, labels);
            let mut dlogits = vec![0.0; logits.len()];
            let loss = binary_cross_entropy(&logits, &targets, &weights, 0.25, &mut dlogits);
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
            let (logits, targets, mut weights) = case(rows, labels);
            weights[rows - 1] = 0.0;
            let mut dlogits = vec![0.0; logits.len()];
            let loss = binary_cross_entropy(&logits, &targets, &weights, 0.25, &mut dlogits);
            let vars = [var(&logits, (rows, labels))];
            let found = composed(&vars[0], &targets, &weights, 0.25).unwrap();
            assert_tensor(&found, &[loss as f32], 1e-5);
            assert_tensor(&gradients(&found, &[1.0], &vars)[0], &dlogits, 1e-6);
        }
    }

    #[test]
    fn extreme_logits() {
        let mut dlogits = [0.0; 2];
        assert_eq!(binary_cross_entropy(&[1e4, -1e4], &[1.0, 0.0], &[1.0], 1.0, &mut dlogits), 0.0);
        assert_eq!(dlogits, [0.0, 0.0]);
        assert_eq!(binary_cross_entropy(&[1e4, -1e4], &[0.0, 1.0], &[1.0], 1.0, &mut dlogits), 1e4);
        assert_eq!(dlogits, [0.5, -0.5]);
    }
}
