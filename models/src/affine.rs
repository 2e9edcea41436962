//! A weight and its bias at their place in the flat buffer, and the linear layer they make.

use lacuna_kernels::linear;
use lacuna_kernels::matmul::{Mat, MatMut};

/// A weight and the bias that follows it, in the dense part of the flat buffer.
#[derive(Clone, Debug)]
pub struct Affine {
    /// Where the weight begins.
    pub start: usize,
    /// Their lengths.
    pub weight: usize,
    pub bias: usize,
}

impl Affine {
    pub fn weight<'a>(&self, dense: &'a [f32]) -> &'a [f32] {
        &dense[self.start..][..self.weight]
    }

    pub fn bias<'a>(&self, dense: &'a [f32]) -> &'a [f32] {
        &dense[self.start + self.weight..][..self.bias]
    }

    /// Both, to be written.
    pub fn parts_mut<'a>(&self, dense: &'a mut [f32]) -> (&'a mut [f32], &'a mut [f32]) {
        dense[self.start..][..self.weight + self.bias].split_at_mut(self.weight)
    }

    /// `y` (tokens, out) of `x` (tokens, in), as a linear layer.
    pub fn forward(&self, dense: &[f32], x: &[f32], y: &mut Vec<f32>) {
        let x = Mat::new(x, self.weight / self.bias);
        y.resize(x.rows() * self.bias, 0.0);
        linear::forward(x, self.weight(dense), self.bias(dense), MatMut::new(y, self.bias));
    }

    /// Adds the gradients of weight and bias to `grads` (the dense part); `dx` = the gradient of `x`, or += with `accumulate`.
    pub fn backward(&self, dense: &[f32], x: &[f32], dy: &[f32], dx: &mut Vec<f32>, accumulate: bool, grads: &mut [f32]) {
        let inputs = self.weight / self.bias;
        let (dy, (dweight, dbias)) = (Mat::new(dy, self.bias), self.parts_mut(grads));
        linear::backward_parameters(Mat::new(x, inputs), dy, dweight, dbias);
        dx.resize(x.len(), 0.0);
        linear::backward_input(self.weight(dense), dy, MatMut::new(dx, inputs), accumulate);
    }
}
