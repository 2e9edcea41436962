//! The linear layer y = x Wᵀ + b, with W as (out, in) like PyTorch's.

use crate::matmul::{Mat, MatMut, matmul};

/// `y` (tokens, out) = `x` (tokens, in) · `weight`ᵀ + `bias`; `weight` (out, in), `bias` (out).
pub fn forward(x: Mat, weight: &[f32], bias: &[f32], mut y: MatMut) {
    let weight = Mat::new(weight, x.cols());
    assert!(weight.rows() == bias.len() && y.cols() == bias.len() && y.rows() == x.rows(), "shapes of a linear layer");
    // The product is added to the bias: one pass of stores instead of a pass of loads and stores afterwards.
    for i in 0..y.rows() {
        y.row_mut(i).copy_from_slice(bias);
    }
    matmul(y, x, weight.t(), true);
}

/// `dweight` += dyᵀ · x and `dbias` += the column sums of `dy`; shapes as in [`forward`].
pub fn backward_parameters(x: Mat, dy: Mat, dweight: &mut [f32], dbias: &mut [f32]) {
    assert!(dy.cols() == dbias.len() && dweight.len() == dbias.len() * x.cols(), "shapes of a linear layer");
    for i in 0..dy.rows() {
        for (total, value) in dbias.iter_mut().zip(dy.row(i)) {
            *total += value;
        }
    }
    matmul(MatMut::new(dweight, x.cols()), dy.t(), x, true);
}

/// `dx` (tokens, in) = `dy` (tokens, out) · `weight`, or `dx` += with `accumulate`.
pub fn backward_input(weight: &[f32], dy: Mat, dx: MatMut, accumulate: bool) {
    let weight = Mat::new(weight, dx.cols());
    matmul(dx, dy, weight, accumulate);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, dot, gradient, random, wide};

    fn reference(x: &[f64], w: &[f64], b: &[f64]) -> Vec<f64> {
        let (out, inputs) = (b.len(), w.len() / b.len());
        x.chunks(inputs)
            .flat_map(|row| (0..out).map(move |o| b[o] + row.iter().zip(&w[o * inputs..]).map(|(x, w)| x * w).sum::<f64>()))
            .collect()
    }

    #[test]
    fn forward_and_backward() {
        for (tokens, inputs, out) in [(1, 1, 1), (5, 7, 3), (9, 32, 17)] {
            let (x, w, b) = (random(tokens * inputs, 1), random(out * inputs, 2), random(out, 3));
            let dy = random(tokens * out, 4);
            let mut y = vec![f32::NAN; tokens * out];
            forward(Mat::new(&x, inputs), &w, &b, MatMut::new(&mut y, out));
            assert_close(&y, &reference(&wide(&x), &wide(&w), &wide(&b)), 1e-5);

            let (mut dx, mut dw, mut db) = (vec![1.0; x.len()], vec![1.0; w.len()], vec![1.0; out]);
            backward_parameters(Mat::new(&x, inputs), Mat::new(&dy, out), &mut dw, &mut db);
            backward_input(&w, Mat::new(&dy, out), MatMut::new(&mut dx, inputs), true);
            let plus_one = |g: Vec<f64>| -> Vec<f64> { g.into_iter().map(|v| v + 1.0).collect() };
            assert_close(&dx, &plus_one(gradient(&x, |x| dot(&reference(x, &wide(&w), &wide(&b)), &dy))), 1e-4);
            assert_close(&dw, &plus_one(gradient(&w, |w| dot(&reference(&wide(&x), w, &wide(&b)), &dy))), 1e-4);
            assert_close(&db, &plus_one(gradient(&b, |b| dot(&reference(&wide(&x), &wide(&w), b), &dy))), 1e-4);
        }
    }

    #[test]
    #[should_panic(expected = "shapes of a linear layer")]
    fn wrong_bias() {
        forward(Mat::new(&[0.0; 4], 2), &[0.0; 6], &[0.0; 2], MatMut::new(&mut [0.0; 4], 2));
    }
}
