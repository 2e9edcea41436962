//! The dense part of the parameters, and the linear layers of it.

use crate::affine::Affine;
use crate::rounded::Rounded;
use lacuna_kernels::linear::{self, Scratch, Weight};
use lacuna_kernels::mat::{Mat, MatMut};

/// The dense part of the parameters, and its weights rounded for fast products.
#[derive(Clone, Copy)]
pub struct Dense<'a> {
    pub values: &'a [f32],
    pub rounded: &'a Rounded,
}

impl Affine {
    fn operand<'a>(&self, dense: Dense<'a>) -> Weight<'a> {
        dense.rounded.weight(self).unwrap_or(Weight::F32(&dense.values[self.weight.clone()]))
    }

    /// `y` (tokens, out) of `x` (tokens, in), as a linear layer.
    pub fn forward(&self, dense: Dense, x: &[f32], y: &mut Vec<f32>, scratch: &mut Scratch) {
        let x = Mat::new(x, self.inputs());
        y.resize(x.rows() * self.outputs, 0.0);
        self.forward_into(dense, x, MatMut::new(y, self.outputs), scratch);
    }

    /// [`Affine::forward`] into a part of a matrix.
    pub fn forward_into(&self, dense: Dense, x: Mat, y: MatMut, scratch: &mut Scratch) {
        linear::forward(x, self.operand(dense), self.bias(dense.values), y, scratch);
    }

    /// Adds the gradients of weight and bias to `grads` (the dense part); `dx` = the gradient of `x`, or += with `accumulate`.
    pub fn backward(&self, dense: Dense, (x, dy): (&[f32], Mat), dx: &mut Vec<f32>, accumulate: bool, grads: &mut [f32], s: &mut Scratch) {
        let (weight, (dweight, dbias)) = (self.operand(dense), self.parts_mut(grads));
        linear::backward_parameters(Mat::new(x, self.inputs()), dy, weight.format(), dweight, dbias, s);
        dx.resize(x.len(), 0.0);
        linear::backward_input(weight, dy, MatMut::new(dx, self.inputs()), accumulate, s);
    }
}
