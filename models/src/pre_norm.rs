//! Layers that normalise what goes into their parts, as ModernBERT's: attention with rotary positions, to all tokens or to neighbours, and
//! a gated feed-forward; forward and backward over the rows of one shard.
//!
//! The hidden states are a sum that each part adds to. A layer changes them in place; in a classifier's last layer, those of the first
//! tokens alone go on.

use crate::activations::{LayerActivations, Norm, Relative, Scratch, resize};
use crate::affine::Affine;
use crate::config::Modern;
use crate::encoder::Encoder;
use crate::masks::Site;
use lacuna_kernels::attention::{self, Added, Queries};
use lacuna_kernels::geglu;
use lacuna_kernels::mat::Mat;
use lacuna_kernels::rotary::{Rotation, turn};

impl Encoder<'_> {
    /// Turns queries and keys in `qkv` (tokens, 3 * hidden), or their gradients back.
    fn turn(&self, i: usize, modern: &Modern, rotations: &[Rotation; 2], qkv: &mut [f32], back: bool) {
        let (heads, hidden) = (self.params.config.num_attention_heads, self.params.config.hidden_size);
        let rotation = modern.rotation(i, rotations);
        // The first token is at position 0: its query is not turned.
        if self.queries(i) == Queries::All {
            turn(rotation, &self.shard.position_ids, heads, qkv, 3 * hidden, back);
        }
        turn(rotation, &self.shard.position_ids, heads, &mut qkv[hidden..], 3 * hidden, back);
    }

    /// `output` = LayerNorm of `x`, which stays.
    pub fn norm_of(&self, affine: &Affine, norm: &mut Norm, x: &[f32], output: &mut Vec<f32>) {
        norm.x_hat.clear();
        norm.x_hat.extend_from_slice(x);
        self.norm(affine, norm, None, output);
    }

    /// `hidden_states` from (tokens, hidden) before the layer to (queries, hidden) behind it.
    pub fn pre_norm_forward(
        &self,
        i: usize,
        modern: &Modern,
        rotations: &[Rotation; 2],
        a: &mut LayerActivations,
        s: &mut Scratch,
        hidden_states: &mut Vec<f32>,
    ) {
        let (layer, queries, dense) = (&self.params.layout.layers[i], self.queries(i), self.dense());
        let hidden = self.params.config.hidden_size;
        if layer.attention_norm.is_none() {
            a.input.clone_from(hidden_states);
        } else {
            self.norm_of(&layer.attention_norm, &mut a.attention_norm, hidden_states, &mut a.input);
        }
        self.project(layer, queries, a, s);
        self.turn(i, modern, rotations, &mut a.qkv, false);
        let none = Relative::default();
        let attention = self.attention(i, &none, &[]);
        resize(&mut a.probs, attention.probs_len());
        resize(&mut a.context, attention.query_tokens() * hidden);
        attention::forward(&attention, &a.qkv, &mut a.probs, &mut a.context, &mut s.attention);
        if queries == Queries::First {
            self.keep_first(hidden_states);
        }
        self.add_branch(&layer.attention_output, &a.context, Some(Site::AttentionOutput(i)), queries, s, hidden_states);

        self.norm_of(&layer.output_norm, &mut a.output_norm, hidden_states, &mut a.attended);
        layer.intermediate.forward(dense, &a.attended, &mut a.gated, &mut s.linear);
        resize(&mut a.activated, a.gated.len() / 2);
        resize(&mut a.slope, a.gated.len() / 2);
        geglu::forward(&mut a.gated, self.params.config.intermediate_size, &mut a.slope, &mut a.activated);
        self.drop(Site::Output(i), queries, &mut a.activated);
        self.add_branch(&layer.output, &a.activated, None, queries, s, hidden_states);
    }

    /// Leaves the first token of each row in `hidden_states`.
    fn keep_first(&self, hidden_states: &mut Vec<f32>) {
        let hidden = self.params.config.hidden_size;
        for (row, &token) in self.shard.cu_seqlens[..self.shard.rows()].iter().enumerate() {
            hidden_states.copy_within(token * hidden..(token + 1) * hidden, row * hidden);
        }
        hidden_states.truncate(self.shard.rows() * hidden);
    }

    /// Adds a linear layer of `x`, with the dropout of a site, to `hidden_states`.
    fn add_branch(&self, linear: &Affine, x: &[f32], site: Option<Site>, queries: Queries, s: &mut Scratch, hidden_states: &mut [f32]) {
        linear.forward(self.dense(), x, &mut s.branch, &mut s.linear);
        if let Some(site) = site {
            self.drop(site, queries, &mut s.branch);
        }
        hidden_states.iter_mut().zip(&s.branch).for_each(|(sum, x)| *sum += x);
    }

    /// `s.d` from the gradient of the layer's output (queries, hidden) to that of its input (tokens, hidden).
    pub fn pre_norm_backward(
        &self,
        i: usize,
        modern: &Modern,
        rotations: &[Rotation; 2],
        a: &LayerActivations,
        s: &mut Scratch,
        grads: &mut [f32],
    ) {
        self.gated_backward(i, a, s, grads);
        let (layer, queries) = (&self.params.layout.layers[i], self.queries(i));
        let hidden = self.params.config.hidden_size;
        let branch = Mat::new(self.branch(Site::AttentionOutput(i), queries, &s.d, &mut s.branch), hidden);
        layer.attention_output.backward(self.dense(), (&a.context, branch), &mut s.dcontext, false, grads, &mut s.linear);
        resize(&mut s.dqkv, a.qkv.len());
        let none = Relative::default();
        attention::backward(
            &self.attention(i, &none, &[]),
            (&a.qkv, &a.probs),
            &s.dcontext,
            &mut s.dqkv,
            Added::default(),
            &mut s.attention,
        );
        self.turn(i, modern, rotations, &mut s.dqkv, true);
        // What went past the attention comes back to the same tokens.
        std::mem::swap(&mut s.d, &mut s.past);
        match queries {
            Queries::All => {
                let dqkv = Mat::new(&s.dqkv, 3 * hidden);
                layer.qkv.backward(self.dense(), (&a.input, dqkv), &mut s.d, false, grads, &mut s.linear);
            }
            Queries::First => {
                s.d.clear();
                resize(&mut s.d, s.past.len());
                self.project_first_backward(layer, a, s, grads);
            }
        }
        if !layer.attention_norm.is_none() {
            self.norm_backward(&layer.attention_norm, &a.attention_norm, &mut s.d, grads);
        }
        self.add_past(queries, &s.past, &mut s.d);
    }

    /// Adds the gradient `past` (queries, hidden) to `d` (tokens, hidden).
    fn add_past(&self, queries: Queries, past: &[f32], d: &mut [f32]) {
        let hidden = self.params.config.hidden_size;
        match queries {
            Queries::All => d.iter_mut().zip(past).for_each(|(sum, d)| *sum += d),
            Queries::First => {
                for (&token, past) in self.shard.cu_seqlens.iter().zip(past.chunks_exact(hidden)) {
                    d[token * hidden..][..hidden].iter_mut().zip(past).for_each(|(sum, d)| *sum += d);
                }
            }
        }
    }

    /// `s.d` from the gradient of the layer's output to that of the sum before its feed-forward, both (queries, hidden).
    fn gated_backward(&self, i: usize, a: &LayerActivations, s: &mut Scratch, grads: &mut [f32]) {
        let (layer, hidden, intermediate) =
            (&self.params.layout.layers[i], self.params.config.hidden_size, self.params.config.intermediate_size);
        layer.output.backward(self.dense(), (&a.activated, Mat::new(&s.d, hidden)), &mut s.dintermediate, false, grads, &mut s.linear);
        self.drop(Site::Output(i), self.queries(i), &mut s.dintermediate);
        resize(&mut s.dgated, a.gated.len());
        geglu::backward(&s.dintermediate, &a.gated, intermediate, &a.slope, &mut s.dgated);
        let dgated = Mat::new(&s.dgated, 2 * intermediate);
        layer.intermediate.backward(self.dense(), (&a.attended, dgated), &mut s.branch, false, grads, &mut s.linear);
        self.norm_backward(&layer.output_norm, &a.output_norm, &mut s.branch, grads);
        s.d.iter_mut().zip(&s.branch).for_each(|(sum, d)| *sum += d);
    }
}
