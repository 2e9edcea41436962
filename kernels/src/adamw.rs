//! AdamW (Loshchilov and Hutter, arXiv 1711.05101) over flat slices, in one pass.

/// One update's numbers; the same for every parameter but for the weight decay.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    pub lr: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub eps: f32,
    /// The number of this update, from 1: the bias correction needs it.
    pub step: u32,
    /// Every gradient is multiplied by it first: see [`clip_scale`].
    pub grad_scale: f32,
}

/// Updates `params` and the moments `m` and `v` in place; decays the parameters by `lr * weight_decay` first, as PyTorch does.
pub fn update(adamw: &AdamW, weight_decay: f32, params: &mut [f32], grads: &[f32], m: &mut [f32], v: &mut [f32]) {
    assert!(grads.len() == params.len() && m.len() == params.len() && v.len() == params.len(), "shapes of an update");
    assert!(adamw.step > 0, "steps count from 1");
    let AdamW { lr, beta1, beta2, eps, step, grad_scale } = *adamw;
    let correction = |beta: f32| 1.0 - (beta as f64).powi(step as i32);
    let keep = 1.0 - lr * weight_decay;
    let rate = (lr as f64 / correction(beta1)) as f32;
    let root = (1.0 / correction(beta2).sqrt()) as f32;
    for (((p, g), m), v) in params.iter_mut().zip(grads).zip(m).zip(v) {
        let g = g * grad_scale;
        *m = beta1 * *m + (1.0 - beta1) * g;
        *v = beta2 * *v + (1.0 - beta2) * g * g;
        *p = *p * keep - rate * *m / (v.sqrt() * root + eps);
    }
}

/// Σ x² in f64.
pub fn squared_norm(x: &[f32]) -> f64 {
    // Blocks short enough for f32 lanes not to lose digits.
    x.chunks(4096).map(|block| crate::sum::sum(block, |v| v * v) as f64).sum()
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
