//! GELU in its exact form x Φ(x) (Hendrycks and Gimpel, arXiv 1606.08415), with its slope kept for the backward.

use crate::approx::normal;
use crate::vectorised;

vectorised! {
    /// Replaces every x by x Φ(x). Absolute error below 3e-7 · max(1, |x|).
    pub fn forward(x: &mut [f32]) {
        for x in x {
            *x *= normal::<FMA>(*x).0;
        }
    }
}

vectorised! {
    /// [`forward`] that also leaves the slope Φ(x) + x φ(x) in `slope`: both need the same exp, so the backward is a product.
    pub fn forward_with_slope(x: &mut [f32], slope: &mut [f32]) {
        assert_eq!(x.len(), slope.len());
        for (x, slope) in x.iter_mut().zip(slope) {
            let (cdf, density) = normal::<FMA>(*x);
            *slope = *x * density + cdf;
            *x *= cdf;
        }
    }
}

vectorised! {
    /// Replaces the gradient of the output by that of the input: `dy` *= `slope`.
    pub fn backward(dy: &mut [f32], slope: &[f32]) {
        assert_eq!(dy.len(), slope.len());
        for (dy, slope) in dy.iter_mut().zip(slope) {
            *dy *= slope;
        }
    }
}

/// [`forward`] of candle's operations; candle's plain `gelu` is the approximation by tanh.
#[cfg(feature = "candle")]
pub fn composed(x: &candle_core::Tensor) -> candle_core::Result<candle_core::Tensor> {
    x.gelu_erf()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::assert_close;

    /// x Φ(x) with Φ by the trapezoidal rule from -12, which converges fast for a Gaussian.
    fn reference(x: f64) -> f64 {
        let density = |t: f64| (-0.5 * t * t).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let (n, width) = (4000, x + 12.0);
        let sum: f64 = (1..n).map(|i| density(-12.0 + width * i as f64 / n as f64)).sum::<f64>() + 0.5 * (density(-12.0) + density(x));
        x * sum * width / n as f64
    }

    #[test]
    fn value_and_slope() {
        let inputs: Vec<f32> = (-60..60).map(|i| i as f32 * 0.1003).collect();
        let (mut y, mut slope, mut plain) = (inputs.clone(), vec![0.0; inputs.len()], inputs.clone());
        forward_with_slope(&mut y, &mut slope);
        forward(&mut plain);
        assert_eq!(y, plain);
        let expected: Vec<f64> = inputs.iter().map(|&x| reference(x as f64)).collect();
        assert_close(&y, &expected, 1e-6);
        let expected: Vec<f64> = inputs.iter().map(|&x| (reference(x as f64 + 1e-3) - reference(x as f64 - 1e-3)) / 2e-3 * 2.0).collect();
        let mut dy = vec![2.0; inputs.len()];
        backward(&mut dy, &slope);
        assert_close(&dy, &expected, 1e-5);
    }

    #[cfg(feature = "candle")]
    #[test]
    fn composed_is_the_same() {
        use crate::testing::{assert_tensor, gradients, random, var};
        let x: Vec<f32> = (-60..60).map(|i| i as f32 * 0.1003).collect();
        let dy = random(x.len(), 1);
        let (mut y, mut slope, mut dx) = (x.clone(), vec![0.0; x.len()], dy.clone());
        forward_with_slope(&mut y, &mut slope);
        backward(&mut dx, &slope);
        let vars = [var(&x, x.len())];
        let found = composed(&vars[0]).unwrap();
        assert_tensor(&found, &y, 1e-6);
        assert_tensor(&gradients(&found, &dy, &vars)[0], &dx, 2e-6);
    }

    #[test]
    fn nan_and_ends() {
        let mut x = [f32::NAN, -30.0, 30.0, 0.0];
        forward(&mut x);
        assert!(x[0].is_nan());
        assert_eq!(x[1..], [0.0, 30.0, 0.0]);
    }
}
