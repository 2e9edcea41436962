//! Residual sum and LayerNorm (Ba et al., arXiv 1607.06450) in one pass; biased variance like PyTorch's.

use crate::sum::{sum, sum2};
use crate::vectorised;
#[cfg(feature = "candle")]
use candle_core::{D, Tensor};

vectorised! {
    /// `y` = x̂ · weight + bias with x̂ = (x + residual − mean) · rstd, row by row.
    ///
    /// `x`, `residual` and `y` are (tokens, hidden), `weight` and `bias` (hidden), `rstd` (tokens); `bias` may be empty. `x` holds x̂
    /// afterwards: with `rstd` it is all that [`backward`] needs.
    pub fn forward(x: &mut [f32], residual: Option<&[f32]>, weight: &[f32], bias: &[f32], eps: f32, y: &mut [f32], rstd: &mut [f32]) {
        let n = weight.len();
        let biased = !bias.is_empty();
        assert!((bias.len() == n || !biased) && x.len() == rstd.len() * n && y.len() == x.len(), "shapes of a LayerNorm");
        if let Some(residual) = residual {
            assert_eq!(residual.len(), x.len());
            x.iter_mut().zip(residual).for_each(|(x, r)| *x += r);
        }
        for ((x, y), rstd) in x.chunks_exact_mut(n).zip(y.chunks_exact_mut(n)).zip(rstd) {
            let mean = sum(x, |v| v) / n as f32;
            let variance = sum(x, |v| (v - mean) * (v - mean)) / n as f32;
            *rstd = 1.0 / (variance + eps).sqrt();
            x.iter_mut().for_each(|x| *x = (*x - mean) * *rstd);
            if biased {
                (0..n).for_each(|i| y[i] = x[i] * weight[i] + bias[i]);
            } else {
                (0..n).for_each(|i| y[i] = x[i] * weight[i]);
            }
        }
    }
}

vectorised! {
    /// Replaces `dy` by the gradient of x (and of the residual, which is the same); adds to `dweight`, and to `dbias` if it is not empty.
    pub fn backward(dy: &mut [f32], x_hat: &[f32], rstd: &[f32], weight: &[f32], dweight: &mut [f32], dbias: &mut [f32]) {
        let n = weight.len();
        let biased = !dbias.is_empty();
        assert!(dweight.len() == n && (dbias.len() == n || !biased) && dy.len() == rstd.len() * n && x_hat.len() == dy.len(), "shapes of a LayerNorm");
        for ((dy, x_hat), rstd) in dy.chunks_exact_mut(n).zip(x_hat.chunks_exact(n)).zip(rstd) {
            dbias.iter_mut().zip(&*dy).for_each(|(sum, dy)| *sum += dy);
            for i in 0..n {
                dweight[i] += dy[i] * x_hat[i];
                dy[i] *= weight[i];
            }
            let mean = sum(dy, |d| d) / n as f32;
            let along = sum2(dy, x_hat, |d, x| d * x) / n as f32;
            for (dy, x_hat) in dy.iter_mut().zip(x_hat) {
                *dy = rstd * (*dy - mean - x_hat * along);
            }
        }
    }
}

/// [`forward`] of candle's operations; candle's fused LayerNorm has no gradient.
#[cfg(feature = "candle")]
pub fn composed(x: &Tensor, residual: Option<&Tensor>, weight: &Tensor, bias: Option<&Tensor>, eps: f32) -> candle_core::Result<Tensor> {
    let sum = residual.map_or(Ok(x.clone()), |residual| x + residual)?;
    let centred = sum.broadcast_sub(&sum.mean_keepdim(D::Minus1)?)?;
    let deviation = centred.sqr()?.mean_keepdim(D::Minus1)?.affine(1.0, eps as f64)?.sqrt()?;
    let scaled = centred.broadcast_div(&deviation)?.broadcast_mul(weight)?;
    bias.map_or(Ok(scaled.clone()), |bias| scaled.broadcast_add(bias))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, dot, gradient, random, wide};

    const EPS: f32 = 1e-5;

    fn reference(x: &[f64], residual: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
        let n = weight.len();
        let total: Vec<f64> = x.iter().zip(residual).map(|(x, r)| x + r).collect();
        total
            .chunks(n)
            .flat_map(|row| {
                let mean = row.iter().sum::<f64>() / n as f64;
                let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
                let normed = row.iter().map(move |v| (v - mean) / (variance + EPS as f64).sqrt());
                normed.zip(weight).zip(bias).map(|((x, w), b)| x * w + b).collect::<Vec<f64>>()
            })
            .collect()
    }

    #[test]
    fn forward_and_backward() {
        for (tokens, n) in [(1, 2), (3, 5), (4, 33), (2, 96)] {
            let (x, residual) = (random(tokens * n, 1), random(tokens * n, 2));
            let (weight, bias, dy) = (random(n, 3), random(n, 4), random(tokens * n, 5));
            let (x64, r64, w64, b64) = (wide(&x), wide(&residual), wide(&weight), wide(&bias));
            let (mut x_hat, mut y, mut rstd) = (x.clone(), vec![0.0; x.len()], vec![0.0; tokens]);
            forward(&mut x_hat, Some(&residual), &weight, &bias, EPS, &mut y, &mut rstd);
            assert_close(&y, &reference(&x64, &r64, &w64, &b64), 1e-5);

            let (mut dx, mut dweight, mut dbias) = (dy.clone(), vec![0.0; n], vec![0.0; n]);
            backward(&mut dx, &x_hat, &rstd, &weight, &mut dweight, &mut dbias);
            assert_close(&dx, &gradient(&x, |x| dot(&reference(x, &r64, &w64, &b64), &dy)), 1e-4);
            assert_close(&dx, &gradient(&residual, |r| dot(&reference(&x64, r, &w64, &b64), &dy)), 1e-4);
            assert_close(&dweight, &gradient(&weight, |w| dot(&reference(&x64, &r64, w, &b64), &dy)), 1e-4);
            assert_close(&dbias, &gradient(&bias, |b| dot(&reference(&x64, &r64, &w64, b), &dy)), 1e-4);
        }
    }

    #[cfg(feature = "candle")]
    #[test]
    fn composed_is_the_same() {
        use crate::testing::{assert_tensor, gradients, var};
        for (tokens, n) in [(1, 2), (3, 5), (4, 33), (2, 96)] {
            let (x, residual) = (random(tokens * n, 1), random(tokens * n, 2));
            let (weight, bias, dy) = (random(n, 3), random(n, 4), random(tokens * n, 5));
            for residual in [None, Some(&residual)] {
                let (mut x_hat, mut y, mut rstd) = (x.clone(), vec![0.0; x.len()], vec![0.0; tokens]);
                forward(&mut x_hat, residual.map(|r| &r[..]), &weight, &bias, EPS, &mut y, &mut rstd);
                let (mut dx, mut dweight, mut dbias) = (dy.clone(), vec![0.0; n], vec![0.0; n]);
                backward(&mut dx, &x_hat, &rstd, &weight, &mut dweight, &mut dbias);

                let mut vars = vec![var(&weight, n), var(&bias, n), var(&x, (tokens, n))];
                vars.extend(residual.map(|r| var(r, (tokens, n))));
                let found = composed(&vars[2], vars.get(3).map(|r| r.as_tensor()), &vars[0], Some(&vars[1]), EPS).unwrap();
                assert_tensor(&found, &y, 1e-5);
                let expected = [&dweight, &dbias, &dx, &dx];
                gradients(&found, &dy, &vars).iter().zip(expected).for_each(|(found, expected)| assert_tensor(found, expected, 1e-4));
            }
        }
    }

    #[test]
    fn no_bias_is_a_bias_of_zeros() {
        let (tokens, n) = (3, 37);
        let (x, weight, dy) = (random(tokens * n, 1), random(n, 2), random(tokens * n, 3));
        let of = |bias: &[f32]| {
            let (mut x_hat, mut y, mut rstd, mut dx, mut dweight) =
                (x.clone(), vec![0.0; x.len()], vec![0.0; tokens], dy.clone(), vec![0.0; n]);
            forward(&mut x_hat, None, &weight, bias, EPS, &mut y, &mut rstd);
            backward(&mut dx, &x_hat, &rstd, &weight, &mut dweight, &mut vec![0.0; bias.len()]);
            [y, dx, dweight]
        };
        assert_eq!(of(&[]), of(&vec![0.0; n]));
    }

    #[test]
    fn nan_spoils_its_row_only() {
        let (mut x, mut y, mut rstd) = (vec![0.0, f32::NAN, 1.0, 2.0], vec![0.0; 4], vec![0.0; 2]);
        forward(&mut x, None, &[1.0, 1.0], &[0.0, 0.0], EPS, &mut y, &mut rstd);
        assert!(y[0].is_nan() && y[1].is_nan() && y[2].is_finite() && y[3].is_finite());
    }
}
