//! AdamW (Loshchilov and Hutter, arXiv 1711.05101) over flat slices, in one pass.

use crate::vectorised;
#[cfg(feature = "candle")]
use candle_core::Tensor;

/// The settings of one update; the same for every parameter except for the weight decay.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    pub lr: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub eps: f32,
    /// Number of this update, from 1, for the bias correction.
    pub step: u32,
    /// Factor applied to every gradient first: see [`clip_scale`].
    pub grad_scale: f32,
}

impl AdamW {
    /// The factors of the first moment and of the root of the second, with bias correction, and the factor of weight decay.
    pub fn factors(&self, weight_decay: f32) -> (f32, f32, f32) {
        assert!(self.step > 0, "steps count from 1");
        let correction = |beta: f32| 1.0 - (beta as f64).powi(self.step as i32);
        let rate = (self.lr as f64 / correction(self.beta1)) as f32;
        let root = (1.0 / correction(self.beta2).sqrt()) as f32;
        (rate, root, 1.0 - self.lr * weight_decay)
    }
}

vectorised! {
    /// Updates `params` and the moments `m` and `v` in place; decays the parameters by `lr * weight_decay` first, as PyTorch does.
    pub fn update(adamw: &AdamW, weight_decay: f32, params: &mut [f32], grads: &[f32], m: &mut [f32], v: &mut [f32]) {
        assert!(grads.len() == params.len() && m.len() == params.len() && v.len() == params.len(), "shapes of an update");
        let AdamW { beta1, beta2, eps, grad_scale, .. } = *adamw;
        let (rate, root, keep) = adamw.factors(weight_decay);
        for (((p, g), m), v) in params.iter_mut().zip(grads).zip(m).zip(v) {
            let g = g * grad_scale;
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            *p = *p * keep - rate * *m / (v.sqrt() * root + eps);
        }
    }
}

/// [`update`] of candle's operations: the parameters and the moments `m` and `v` after it.
#[cfg(feature = "candle")]
pub fn composed(adamw: &AdamW, weight_decay: f32, [param, grad, m, v]: [&Tensor; 4]) -> candle_core::Result<[Tensor; 3]> {
    let (rate, root, keep) = adamw.factors(weight_decay);
    let [beta1, beta2] = [adamw.beta1, adamw.beta2].map(|beta| [beta as f64, (1.0 - beta) as f64]);
    let grad = (grad * adamw.grad_scale as f64)?;
    let m = ((m * beta1[0])? + (&grad * beta1[1])?)?;
    let v = ((v * beta2[0])? + (grad.sqr()? * beta2[1])?)?;
    let step = ((&m * rate as f64)? / v.sqrt()?.affine(root as f64, adamw.eps as f64)?)?;
    Ok([((param * keep as f64)? - step)?, m, v])
}

vectorised! {
    /// Σ x² in f64.
    pub fn squared_norm(x: &[f32]) -> f64 {
        // Blocks short enough for f32 lanes not to lose digits.
        x.chunks(4096).map(|block| crate::sum::sum(block, |v| v * v) as f64).sum()
    }
}

/// The factor that brings gradients of norm `norm` down to `max_norm`; 1 if they are smaller. As PyTorch's `clip_grad_norm_`.
pub fn clip_scale(norm: f64, max_norm: f64) -> f32 {
    (max_norm / (norm + 1e-6)).min(1.0) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, random};

    #[test]
    fn three_updates_by_the_paper() {
        let (n, decay) = (37, 0.1);
        let mut params = random(n, 1);
        let (mut m, mut v) = (vec![0.0; n], vec![0.0; n]);
        let mut expected: Vec<[f64; 3]> = params.iter().map(|&p| [p as f64, 0.0, 0.0]).collect();
        for step in 1..=3 {
            let adamw = AdamW { lr: 0.01, beta1: 0.9, beta2: 0.99, eps: 1e-8, step, grad_scale: 0.5 };
            let grads = random(n, 10 + step as u64);
            update(&adamw, decay, &mut params, &grads, &mut m, &mut v);
            for ([p, m, v], &g) in expected.iter_mut().zip(&grads) {
                let g = 0.5 * g as f64;
                *m = 0.9 * *m + 0.1 * g;
                *v = 0.99 * *v + 0.01 * g * g;
                let (m_hat, v_hat) = (*m / (1.0 - 0.9f64.powi(step as i32)), *v / (1.0 - 0.99f64.powi(step as i32)));
                *p -= 0.01 * 0.1 * *p + 0.01 * m_hat / (v_hat.sqrt() + 1e-8);
            }
        }
        assert_close(&params, &expected.iter().map(|e| e[0]).collect::<Vec<_>>(), 1e-6);
        assert_close(&m, &expected.iter().map(|e| e[1]).collect::<Vec<_>>(), 1e-6);
        assert_close(&v, &expected.iter().map(|e| e[2]).collect::<Vec<_>>(), 1e-6);
    }

    #[cfg(feature = "candle")]
    #[test]
    fn composed_is_the_same() {
        use crate::testing::{assert_tensor, var};
        let n = 37;
        let (mut params, mut m, mut v) = (random(n, 1), vec![0.0; n], vec![0.0; n]);
        let mut state = [&params, &m, &v].map(|x| var(x, n).as_detached_tensor());
        for step in 1..=3 {
            let adamw = AdamW { lr: 0.01, beta1: 0.9, beta2: 0.99, eps: 1e-8, step, grad_scale: 0.5 };
            let grads = random(n, 10 + step as u64);
            update(&adamw, 0.1, &mut params, &grads, &mut m, &mut v);
            state = composed(&adamw, 0.1, [&state[0], &var(&grads, n).as_detached_tensor(), &state[1], &state[2]]).unwrap();
            state.iter().zip([&params, &m, &v]).for_each(|(found, expected)| assert_tensor(found, expected, 1e-6));
        }
    }

    #[test]
    fn norm_and_clipping() {
        let x = random(10_001, 1);
        let exact: f64 = x.iter().map(|&v| v as f64 * v as f64).sum();
        assert!((squared_norm(&x) - exact).abs() < 1e-5 * exact);
        assert!((clip_scale(4.0, 1.0) - 0.25).abs() < 1e-6);
        assert_eq!(clip_scale(0.5, 1.0), 1.0);
        assert!(squared_norm(&[1.0, f32::NAN]).is_nan());
    }
}
