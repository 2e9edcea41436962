//! The linear layer y = x Wᵀ + b, with W as (out, in) like PyTorch's; its products in f32, or of operands rounded to 16 bits.

use crate::mat::{Mat, MatMut};
use crate::matmul::{Onto, matmul, matmul_packed};
use crate::packed::{Format, Left, Right};
use crate::vectorised;
#[cfg(feature = "candle")]
use candle_core::Tensor;

/// A weight (out, in) as the products read it.
#[derive(Clone, Copy)]
pub enum Weight<'a> {
    /// As it is.
    F32(&'a [f32]),
    /// Rounded and packed before.
    Packed(&'a PackedWeight),
}

/// A weight rounded to 16 bits, for many products.
#[derive(Clone, Debug, Default)]
pub struct PackedWeight {
    /// (in, out)
    forward: Right,
    /// (out, in); not there if only forwards were wanted.
    backward: Right,
}

/// Room for the rounded activations of a product; grows to the largest.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    left: Left,
    right: Right,
}

impl PackedWeight {
    /// Rounds `weight` (out, in), for [`backward_input`] too if `with_backward`. The memory of an earlier weight is used again.
    pub fn pack(&mut self, weight: &[f32], inputs: usize, format: Format, with_backward: bool) {
        let weight = Mat::new(weight, inputs);
        self.forward.pack(weight.t(), format);
        if with_backward {
            self.backward.pack(weight, format);
        }
    }
}

impl Weight<'_> {
    /// The format that the other operand is rounded to; none in f32.
    pub fn format(&self) -> Option<Format> {
        match self {
            Weight::F32(_) => None,
            Weight::Packed(weight) => Some(weight.forward.format()),
        }
    }
}

/// `y` (tokens, out) = `x` (tokens, in) · `weight`ᵀ + `bias`; `weight` (out, in), `bias` (out), or empty for none.
pub fn forward(x: Mat, weight: Weight, bias: &[f32], mut y: MatMut, scratch: &mut Scratch) {
    let biased = !bias.is_empty();
    assert!((y.cols() == bias.len() || !biased) && y.rows() == x.rows(), "shapes of a linear layer");
    // The product is added to the bias: a pass of loads and stores afterwards would cost more.
    match weight {
        Weight::F32(weight) => {
            if biased {
                (0..y.rows()).for_each(|i| y.row_mut(i).copy_from_slice(bias));
            }
            let weight = Mat::new(weight, x.cols());
            assert!(weight.rows() == y.cols(), "shapes of a linear layer");
            matmul(y, x, weight.t(), biased);
        }
        Weight::Packed(weight) => {
            scratch.left.pack(x, weight.forward.format());
            matmul_packed(y, &scratch.left, &weight.forward, if biased { Onto::Row(bias) } else { Onto::Zeros });
        }
    }
}

/// `dweight` += dyᵀ · x and, unless it is empty, `dbias` += the column sums of `dy`; shapes as in [`forward`], operands rounded to `format`
/// if there is one.
pub fn backward_parameters(x: Mat, dy: Mat, format: Option<Format>, dweight: &mut [f32], dbias: &mut [f32], scratch: &mut Scratch) {
    let shaped = (dy.cols() == dbias.len() || dbias.is_empty()) && dweight.len() == dy.cols() * x.cols();
    assert!(shaped, "shapes of a linear layer");
    if !dbias.is_empty() {
        add_rows(dy, dbias);
    }
    let dweight = MatMut::new(dweight, x.cols());
    let Some(format) = format else { return matmul(dweight, dy.t(), x, true) };
    scratch.left.pack(dy.t(), format);
    scratch.right.pack(x, format);
    matmul_packed(dweight, &scratch.left, &scratch.right, Onto::Output);
}

vectorised! {
    /// Adds every row of a matrix to the sums.
    fn add_rows(mat: Mat, sums: &mut [f32]) {
        for i in 0..mat.rows() {
            for (total, value) in sums.iter_mut().zip(mat.row(i)) {
                *total += value;
            }
        }
    }
}

/// `dx` (tokens, in) = `dy` (tokens, out) · `weight`, or `dx` += with `accumulate`. A packed weight must be packed with its backward.
pub fn backward_input(weight: Weight, dy: Mat, dx: MatMut, accumulate: bool, scratch: &mut Scratch) {
    match weight {
        Weight::F32(weight) => {
            let weight = Mat::new(weight, dx.cols());
            matmul(dx, dy, weight, accumulate);
        }
        Weight::Packed(weight) => {
            scratch.left.pack(dy, weight.backward.format());
            matmul_packed(dx, &scratch.left, &weight.backward, if accumulate { Onto::Output } else { Onto::Zeros });
        }
    }
}

/// [`forward`] of candle's operations: `x` (tokens, in), `weight` (out, in), `bias` (out) if there is one.
#[cfg(feature = "candle")]
pub fn composed(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> candle_core::Result<Tensor> {
    let product = x.matmul(&weight.t()?)?;
    bias.map_or(Ok(product.clone()), |bias| product.broadcast_add(bias))
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
            forward(Mat::new(&x, inputs), Weight::F32(&w), &b, MatMut::new(&mut y, out), &mut Scratch::default());
            assert_close(&y, &reference(&wide(&x), &wide(&w), &wide(&b)), 1e-5);

            let (mut dx, mut dw, mut db) = (vec![1.0; x.len()], vec![1.0; w.len()], vec![1.0; out]);
            let scratch = &mut Scratch::default();
            backward_parameters(Mat::new(&x, inputs), Mat::new(&dy, out), None, &mut dw, &mut db, scratch);
            backward_input(Weight::F32(&w), Mat::new(&dy, out), MatMut::new(&mut dx, inputs), true, scratch);
            let plus_one = |g: Vec<f64>| -> Vec<f64> { g.into_iter().map(|v| v + 1.0).collect() };
            assert_close(&dx, &plus_one(gradient(&x, |x| dot(&reference(x, &wide(&w), &wide(&b)), &dy))), 1e-4);
            assert_close(&dw, &plus_one(gradient(&w, |w| dot(&reference(&wide(&x), w, &wide(&b)), &dy))), 1e-4);
            assert_close(&db, &plus_one(gradient(&b, |b| dot(&reference(&wide(&x), &wide(&w), b), &dy))), 1e-4);
        }
    }

    #[cfg(feature = "candle")]
    #[test]
    fn composed_is_the_same() {
        use crate::testing::{assert_tensor, gradients, var};
        for (tokens, inputs, out) in [(1, 1, 1), (5, 7, 3), (9, 32, 17)] {
            let (x, w, b, dy) = (random(tokens * inputs, 1), random(out * inputs, 2), random(out, 3), random(tokens * out, 4));
            let mut y = vec![0.0; tokens * out];
            let scratch = &mut Scratch::default();
            forward(Mat::new(&x, inputs), Weight::F32(&w), &b, MatMut::new(&mut y, out), scratch);
            let (mut dx, mut dw, mut db) = (vec![0.0; x.len()], vec![0.0; w.len()], vec![0.0; out]);
            backward_parameters(Mat::new(&x, inputs), Mat::new(&dy, out), None, &mut dw, &mut db, scratch);
            backward_input(Weight::F32(&w), Mat::new(&dy, out), MatMut::new(&mut dx, inputs), false, scratch);

            let vars = [var(&x, (tokens, inputs)), var(&w, (out, inputs)), var(&b, out)];
            let found = composed(&vars[0], &vars[1], Some(&vars[2])).unwrap();
            assert_tensor(&found, &y, 1e-5);
            gradients(&found, &dy, &vars).iter().zip([dx, dw, db]).for_each(|(found, expected)| assert_tensor(found, &expected, 1e-5));
        }
    }

    #[test]
    fn no_bias_is_a_bias_of_zeros() {
        let (tokens, inputs, out) = (5, 32, 17);
        let (x, w, dy) = (random(tokens * inputs, 1), random(out * inputs, 2), random(tokens * out, 3));
        for format in [None, Some(Format::Int16)] {
            let mut packed = PackedWeight::default();
            format.iter().for_each(|&format| packed.pack(&w, inputs, format, true));
            let weight = if format.is_none() { Weight::F32(&w) } else { Weight::Packed(&packed) };
            let of = |bias: &[f32]| {
                let (mut y, mut dw, scratch) = (vec![f32::NAN; tokens * out], vec![0.0; w.len()], &mut Scratch::default());
                forward(Mat::new(&x, inputs), weight, bias, MatMut::new(&mut y, out), scratch);
                let dbias = &mut vec![0.0; bias.len()];
                backward_parameters(Mat::new(&x, inputs), Mat::new(&dy, out), format, &mut dw, dbias, scratch);
                [y, dw]
            };
            assert_eq!(of(&[]), of(&[0.0; 17]));
        }
    }

    #[test]
    #[should_panic(expected = "shapes of a linear layer")]
    fn wrong_bias() {
        forward(Mat::new(&[0.0; 4], 2), Weight::F32(&[0.0; 6]), &[0.0; 2], MatMut::new(&mut [0.0; 4], 2), &mut Scratch::default());
    }
}
