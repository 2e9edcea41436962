//! GeGLU (Shazeer, arXiv 2002.05202): GELU of one half of the numbers times the other half, the gate.

use crate::approx::normal;
use crate::vectorised;
#[cfg(feature = "candle")]
use candle_core::{D, Result, Tensor};

vectorised! {
    /// `y` (tokens, columns) = GELU(first half of `x`) · second half; `x` is (tokens, 2 * columns). For [`backward`], the first half of `x`
    /// becomes GELU of what it was, and `slope` (tokens, columns) its slope.
    pub fn forward(x: &mut [f32], columns: usize, slope: &mut [f32], y: &mut [f32]) {
        assert!(x.len() == 2 * y.len() && slope.len() == y.len() && y.len().is_multiple_of(columns), "shapes of a GeGLU");
        for ((x, slope), y) in x.chunks_exact_mut(2 * columns).zip(slope.chunks_exact_mut(columns)).zip(y.chunks_exact_mut(columns)) {
            let (x, gate) = x.split_at_mut(columns);
            for (((x, gate), slope), y) in x.iter_mut().zip(gate).zip(slope).zip(y) {
                let (cdf, density) = normal::<FMA>(*x);
                *slope = *x * density + cdf;
                *x *= cdf;
                *y = *x * *gate;
            }
        }
    }
}

vectorised! {
    /// `dx` (tokens, 2 * columns) from `dy` (tokens, columns); `x` and `slope` as [`forward`] left them.
    pub fn backward(dy: &[f32], x: &[f32], columns: usize, slope: &[f32], dx: &mut [f32]) {
        assert!(x.len() == 2 * dy.len() && slope.len() == dy.len() && dx.len() == x.len(), "shapes of a GeGLU");
        let rows = dx.chunks_exact_mut(2 * columns).zip(x.chunks_exact(2 * columns));
        for (((dx, x), dy), slope) in rows.zip(dy.chunks_exact(columns)).zip(slope.chunks_exact(columns)) {
            let (dx, dgate) = dx.split_at_mut(columns);
            let (gelu, gate) = x.split_at(columns);
            for i in 0..columns {
                dx[i] = dy[i] * gate[i] * slope[i];
                dgate[i] = dy[i] * gelu[i];
            }
        }
    }
}

/// [`forward`] of candle's operations.
#[cfg(feature = "candle")]
pub fn composed(x: &Tensor) -> Result<Tensor> {
    let columns = x.dim(D::Minus1)? / 2;
    x.narrow(D::Minus1, 0, columns)?.contiguous()?.gelu_erf()? * x.narrow(D::Minus1, columns, columns)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gelu;
    use crate::testing::{assert_close, dot, gradient, random, wide};

    /// With Φ by the trapezoidal rule.
    fn reference(x: &[f64], columns: usize) -> Vec<f64> {
        let gelu = |x: f64| {
            let density = |t: f64| (-0.5 * t * t).exp() / (2.0 * std::f64::consts::PI).sqrt();
            let (n, width) = (4000, x + 12.0);
            let sum: f64 = (1..n).map(|i| density(-12.0 + width * i as f64 / n as f64)).sum::<f64>() + 0.5 * (density(-12.0) + density(x));
            x * sum * width / n as f64
        };
        x.chunks(2 * columns).flat_map(|x| (0..columns).map(|i| gelu(x[i]) * x[columns + i]).collect::<Vec<_>>()).collect()
    }

    #[test]
    fn forward_and_backward() {
        for (tokens, columns) in [(1, 1), (3, 5), (2, 33)] {
            let (inputs, dy) = (random(2 * tokens * columns, 1), random(tokens * columns, 2));
            let (mut x, mut slope, mut y) = (inputs.clone(), vec![0.0; dy.len()], vec![0.0; dy.len()]);
            forward(&mut x, columns, &mut slope, &mut y);
            assert_close(&y, &reference(&wide(&inputs), columns), 1e-6);
            let mut plain = inputs[..columns].to_vec();
            gelu::forward(&mut plain);
            assert_eq!(x[..columns], plain);
            let mut dx = vec![0.0; x.len()];
            backward(&dy, &x, columns, &slope, &mut dx);
            assert_close(&dx, &gradient(&inputs, |x| dot(&reference(x, columns), &dy)), 1e-5);
        }
    }

    #[cfg(feature = "candle")]
    #[test]
    fn composed_is_the_same() {
        use crate::testing::{assert_tensor, gradients, var};
        let (tokens, columns) = (3, 33);
        let (inputs, dy) = (random(2 * tokens * columns, 1), random(tokens * columns, 2));
        let (mut x, mut slope, mut y, mut dx) = (inputs.clone(), vec![0.0; dy.len()], vec![0.0; dy.len()], vec![0.0; inputs.len()]);
        forward(&mut x, columns, &mut slope, &mut y);
        backward(&dy, &x, columns, &slope, &mut dx);
        let vars = [var(&inputs, (tokens, 2 * columns))];
        let found = composed(&vars[0]).unwrap();
        assert_tensor(&found, &y, 1e-6);
        assert_tensor(&gradients(&found, &dy, &vars)[0], &dx, 1e-5);
    }
}
