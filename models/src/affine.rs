//! A weight and its bias at their place in the flat buffer.

use std::ops::Range;

/// A weight and its bias, in the dense part of the flat buffer; the bias lies behind the weight and may be empty.
#[derive(Clone, Debug)]
pub struct Affine {
    pub weight: Range<usize>,
    pub bias: Range<usize>,
    /// Numbers that it makes of a token.
    pub outputs: usize,
    /// Its number among the weights that are rounded for fast products, if it is one of them.
    pub rounded: Option<usize>,
}

impl Affine {
    pub fn weight<'a>(&self, dense: &'a [f32]) -> &'a [f32] {
        &dense[self.weight.clone()]
    }

    pub fn bias<'a>(&self, dense: &'a [f32]) -> &'a [f32] {
        &dense[self.bias.clone()]
    }

    /// Both, to be written.
    pub fn parts_mut<'a>(&self, dense: &'a mut [f32]) -> (&'a mut [f32], &'a mut [f32]) {
        let (before, from_bias) = dense.split_at_mut(self.bias.start);
        (&mut before[self.weight.clone()], &mut from_bias[..self.bias.len()])
    }

    /// Width of the input of a linear layer.
    pub fn inputs(&self) -> usize {
        self.weight.len() / self.outputs
    }

    /// Whether there is none, and what would go in comes out.
    pub fn is_none(&self) -> bool {
        self.weight.is_empty()
    }
}
