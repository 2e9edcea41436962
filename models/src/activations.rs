//! What layers keep for their backward, and the buffers that they share.

use lacuna_kernels::attention::{self, Added};
use lacuna_kernels::linear;

/// What a LayerNorm keeps for its backward.
#[derive(Default)]
pub struct Norm {
    pub x_hat: Vec<f32>,
    pub rstd: Vec<f32>,
}

/// What a layer keeps for its backward. *Queries* are all tokens, or one a row in the last layer.
#[derive(Default)]
pub struct LayerActivations {
    /// (tokens, hidden)
    pub input: Vec<f32>,
    /// (rows, hidden): the first tokens of the input, in the last layer.
    pub first: Vec<f32>,
    /// (tokens, 3 * hidden)
    pub qkv: Vec<f32>,
    /// (positions, 3 * hidden): the same for relative positions, where attention meets them.
    pub positions: Vec<f32>,
    pub probs: Vec<f32>,
    /// (queries, hidden)
    pub context: Vec<f32>,
    pub attention_norm: Norm,
    /// (queries, hidden)
    pub attended: Vec<f32>,
    /// (queries, 2 * intermediate): the halves of a gated feed-forward.
    pub gated: Vec<f32>,
    /// (queries, intermediate): the slope of GELU, and its output.
    pub slope: Vec<f32>,
    pub activated: Vec<f32>,
    pub output_norm: Norm,
}

/// Buffers reused by every layer, most of them in the backward pass.
#[derive(Default)]
pub struct Scratch {
    /// (queries, hidden): the gradient that is passed from layer to layer.
    pub d: Vec<f32>,
    /// (queries, hidden): its part through a dropout.
    pub branch: Vec<f32>,
    /// (queries, hidden): the gradient that goes past a part whose input is normalised.
    pub past: Vec<f32>,
    /// (queries, 2 * intermediate)
    pub dgated: Vec<f32>,
    /// (queries, intermediate)
    pub dintermediate: Vec<f32>,
    /// (queries, hidden)
    pub dcontext: Vec<f32>,
    /// (tokens, 3 * hidden)
    pub dqkv: Vec<f32>,
    /// (rows, hidden): queries of the first tokens, or their gradients.
    pub query: Vec<f32>,
    pub attention: attention::Scratch,
    pub linear: linear::Scratch,
}

/// What all layers read; empty for a model without it.
#[derive(Default)]
pub struct Relative {
    /// (heads, 2 * longest - 1)
    pub bias: Vec<f32>,
    /// The row of each distance among the embeddings in use, and the table's first row of these.
    pub rows: Vec<u32>,
    pub first_row: usize,
    pub norm: Norm,
    /// (positions, hidden)
    pub embeddings: Vec<f32>,
}

/// The gradients of that, and those of a layer's queries and keys.
#[derive(Default)]
pub struct RelativeGradients {
    pub bias: Vec<f32>,
    pub embeddings: Vec<f32>,
    /// (positions, 3 * hidden)
    pub positions: Vec<f32>,
    /// (positions, hidden)
    pub branch: Vec<f32>,
}

impl RelativeGradients {
    /// Zeros in the shapes of `relative`.
    pub fn clear(&mut self, relative: &Relative) {
        for (gradients, n) in [(&mut self.bias, relative.bias.len()), (&mut self.embeddings, relative.embeddings.len())] {
            gradients.clear();
            resize(gradients, n);
        }
    }

    /// As attention adds to them; zeros for a layer's queries and keys, `positions`.
    pub fn added(&mut self, positions: &[f32]) -> Added<'_> {
        self.positions.clear();
        resize(&mut self.positions, positions.len());
        Added { bias: &mut self.bias, positions: &mut self.positions }
    }
}

pub fn resize(v: &mut Vec<f32>, n: usize) {
    v.resize(n, 0.0);
}
