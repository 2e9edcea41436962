//! The post-LN transformer of BERT and its kin, forward and backward, over the rows of one shard.
//!
//! A classifier reads only the first token of each row from the last layer. There, queries, attention output and feed-forward are computed
//! for these tokens alone ([`Queries::First`]): the same logits and gradients for a seventh less work in six layers.

use crate::activations::{LayerActivations, Norm, Relative, RelativeGradients, Scratch, resize};
use crate::affine::Affine;
use crate::batch::Shard;
use crate::dense::Dense;
use crate::layout::Layer;
use crate::masks::{Masks, Site};
use crate::parameters::Parameters;
use crate::rounded::Rounded;
use lacuna_kernels::attention::{self, Queries};
use lacuna_kernels::embedding::{self, Lookup};
use lacuna_kernels::mat::{Mat, MatMut};
use lacuna_kernels::rotary::Rotation;
use lacuna_kernels::{gelu, layer_norm};

/// An encoder's parameters and the rows it works on.
#[derive(Clone, Copy)]
pub struct Encoder<'a> {
    pub params: &'a Parameters,
    /// Their weights for fast products.
    pub rounded: &'a Rounded,
    pub shard: &'a Shard<'a>,
    /// None for inference.
    pub masks: Option<Masks>,
}

/// Work space of an encoder; kept between steps so that steps do not allocate.
#[derive(Default)]
pub struct Work {
    embedding_norm: Norm,
    /// (tokens, embedding): what the projection reads, where there is one.
    embeddings: Vec<f32>,
    relative: Relative,
    drelative: RelativeGradients,
    /// The rotations of ModernBERT's positions.
    rotations: [Rotation; 2],
    layers: Vec<LayerActivations>,
    final_norm: Norm,
    /// What goes from layer to layer; after [`Encoder::forward`] the last hidden states of the queries: those of `[CLS]`, (rows, hidden),
    /// for a classifier, of all tokens for a span.
    pub hidden_states: Vec<f32>,
    /// (tokens, embedding): the gradient of the embedding sums, the output of [`Encoder::backward`].
    pub dembeddings: Vec<f32>,
    scratch: Scratch,
}

impl Encoder<'_> {
    /// The dense part of the parameters.
    pub fn dense(&self) -> Dense<'_> {
        Dense { values: self.params.dense(), rounded: self.rounded }
    }

    pub fn queries(&self, layer: usize) -> Queries {
        self.params.layout.queries(layer, self.shard)
    }

    pub fn drop(&self, site: Site, queries: Queries, x: &mut [f32]) {
        if let Some(masks) = self.masks {
            masks.at(site, self.shard.first_row).apply(x, &self.shard.cu_queries(queries));
        }
    }

    /// Leaves the last hidden states of the queries in `work.hidden_states`. With masks, keeps what [`Encoder::backward`]
    /// needs; without, all layers work in the buffers of one.
    pub fn forward(&self, work: &mut Work) {
        let layers = self.params.layout.layers.len();
        let kept = if self.masks.is_some() { layers } else { 1 };
        work.layers.resize_with(kept, Default::default);
        self.embed(work);
        self.relative_forward(&mut work.relative);
        if let Some(modern) = &self.params.config.modern {
            work.rotations = modern.rotations(self.params.config.head_size(), self.shard.longest());
        }
        for i in 0..layers {
            let (a, s, hidden_states) = (&mut work.layers[i.min(kept - 1)], &mut work.scratch, &mut work.hidden_states);
            match &self.params.config.modern {
                Some(modern) => self.pre_norm_forward(i, modern, &work.rotations, a, s, hidden_states),
                None => {
                    std::mem::swap(&mut a.input, hidden_states);
                    self.layer_forward(i, a, &work.relative, s, hidden_states);
                }
            }
        }
        if let Some(norm) = &self.params.layout.final_norm {
            let states = std::mem::take(&mut work.hidden_states);
            self.norm_of(norm, &mut work.final_norm, &states, &mut work.hidden_states);
        }
    }

    fn lookups(&self) -> Vec<Lookup<'_>> {
        let dense = self.dense().values;
        let mut lookups = vec![Lookup { table: &self.params.flat[..self.params.layout.words], ids: self.shard.input_ids }];
        if !self.params.layout.positions.is_empty() {
            lookups.push(Lookup { table: &dense[self.params.layout.positions.clone()], ids: &self.shard.position_ids });
        }
        if let Some(types) = &self.params.layout.token_types {
            lookups.push(Lookup { table: &dense[types.clone()], ids: self.shard.token_type_ids });
        }
        lookups
    }

    /// Leaves the input of the first layer in `work.hidden_states`.
    fn embed(&self, work: &mut Work) {
        let (norm, layout, columns) = (&mut work.embedding_norm, &self.params.layout, self.params.config.embedding_size);
        let embeddings = if layout.projection.is_some() { &mut work.embeddings } else { &mut work.hidden_states };
        resize(&mut norm.x_hat, self.shard.tokens() * columns);
        embedding::forward(&self.lookups(), columns, &mut norm.x_hat);
        self.norm(&layout.embedding_norm, norm, None, embeddings);
        self.drop(Site::Embeddings, Queries::All, embeddings);
        if let Some(projection) = &layout.projection {
            projection.forward(self.dense(), &work.embeddings, &mut work.hidden_states, &mut work.scratch.linear);
        }
    }

    pub fn norm(&self, affine: &Affine, norm: &mut Norm, residual: Option<&[f32]>, output: &mut Vec<f32>) {
        resize(output, norm.x_hat.len());
        resize(&mut norm.rstd, norm.x_hat.len() / affine.outputs);
        let (weight, bias) = (affine.weight(self.dense().values), affine.bias(self.dense().values));
        layer_norm::forward(&mut norm.x_hat, residual, weight, bias, self.params.config.layer_norm_eps as f32, output, &mut norm.rstd);
    }

    /// `output` (queries, hidden) from `a.input` (tokens, hidden).
    fn layer_forward(&self, i: usize, a: &mut LayerActivations, relative: &Relative, s: &mut Scratch, output: &mut Vec<f32>) {
        let (layer, queries, dense) = (&self.params.layout.layers[i], self.queries(i), self.dense());
        self.project(layer, queries, a, s);
        self.positions_forward(layer, queries, relative, &mut a.positions, &mut s.linear);
        let attention = self.attention(i, relative, &a.positions);
        resize(&mut a.probs, attention.probs_len());
        resize(&mut a.context, attention.query_tokens() * self.params.config.hidden_size);
        attention::forward(&attention, &a.qkv, &mut a.probs, &mut a.context, &mut s.attention);

        layer.attention_output.forward(dense, &a.context, &mut a.attention_norm.x_hat, &mut s.linear);
        self.drop(Site::AttentionOutput(i), queries, &mut a.attention_norm.x_hat);
        let residual = if queries == Queries::All { &a.input } else { &a.first };
        self.norm(&layer.attention_norm, &mut a.attention_norm, Some(residual), &mut a.attended);

        layer.intermediate.forward(dense, &a.attended, &mut a.activated, &mut s.linear);
        if self.masks.is_some() {
            resize(&mut a.slope, a.activated.len());
            gelu::forward_with_slope(&mut a.activated, &mut a.slope);
        } else {
            gelu::forward(&mut a.activated);
        }
        layer.output.forward(dense, &a.activated, &mut a.output_norm.x_hat, &mut s.linear);
        self.drop(Site::Output(i), queries, &mut a.output_norm.x_hat);
        self.norm(&layer.output_norm, &mut a.output_norm, Some(&a.attended), output);
    }

    /// Query, key and value of the input into `a.qkv`; with [`Queries::First`], queries of the first tokens alone.
    pub fn project(&self, layer: &Layer, queries: Queries, a: &mut LayerActivations, s: &mut Scratch) {
        let hidden = self.params.config.hidden_size;
        if queries == Queries::All {
            return layer.qkv.forward(self.dense(), &a.input, &mut a.qkv, &mut s.linear);
        }
        let tokens = self.shard.tokens();
        resize(&mut a.qkv, tokens * 3 * hidden);
        let key_value = MatMut::strided(&mut a.qkv[hidden..], tokens, 2 * hidden, 3 * hidden);
        layer.key_value.forward_into(self.dense(), Mat::new(&a.input, hidden), key_value, &mut s.linear);
        let firsts = &self.shard.cu_seqlens[..self.shard.rows()];
        a.first.clear();
        firsts.iter().for_each(|token| a.first.extend_from_slice(&a.input[token * hidden..][..hidden]));
        layer.query.forward(self.dense(), &a.first, &mut s.query, &mut s.linear);
        for (token, query) in firsts.iter().zip(s.query.chunks_exact(hidden)) {
            a.qkv[token * 3 * hidden..][..hidden].copy_from_slice(query);
        }
    }

    /// Adds to `grads` (the dense part) from `dlast` (queries, hidden), the gradient of the last hidden states; leaves that of the
    /// embedding sums in `work.dembeddings`.
    pub fn backward(&self, dlast: &[f32], work: &mut Work, grads: &mut [f32]) {
        work.scratch.d.clear();
        work.scratch.d.extend_from_slice(dlast);
        work.drelative.clear(&work.relative);
        if let Some(norm) = &self.params.layout.final_norm {
            self.norm_backward(norm, &work.final_norm, &mut work.scratch.d, grads);
        }
        for i in (0..self.params.layout.layers.len()).rev() {
            if let Some(modern) = &self.params.config.modern {
                self.pre_norm_backward(i, modern, &work.rotations, &work.layers[i], &mut work.scratch, grads);
                continue;
            }
            self.feed_forward_backward(i, &work.layers[i], &mut work.scratch, grads);
            self.attention_backward(i, &work.layers[i], (&work.relative, &mut work.drelative), &mut work.scratch, grads);
        }
        self.relative_backward(&work.relative, &mut work.drelative, grads);
        self.embed_backward(work, grads);
    }

    /// Leaves the gradient of the embedding sums in `work.dembeddings`, from that of the first layer's input.
    fn embed_backward(&self, work: &mut Work, grads: &mut [f32]) {
        let (layout, d, columns) = (&self.params.layout, &mut work.dembeddings, self.params.config.embedding_size);
        let s = &mut work.scratch;
        match &layout.projection {
            Some(projection) => {
                let dprojected = Mat::new(&s.d, self.params.config.hidden_size);
                projection.backward(self.dense(), (&work.embeddings, dprojected), d, false, grads, &mut s.linear);
            }
            None => std::mem::swap(&mut s.d, d),
        }
        self.drop(Site::Embeddings, Queries::All, d);
        self.norm_backward(&layout.embedding_norm, &work.embedding_norm, d, grads);
        if !layout.positions.is_empty() {
            embedding::backward(&self.shard.position_ids, d, columns, &mut grads[layout.positions.clone()]);
        }
        if let Some(types) = &layout.token_types {
            embedding::backward(self.shard.token_type_ids, d, columns, &mut grads[types.clone()]);
        }
    }

    pub fn norm_backward(&self, affine: &Affine, norm: &Norm, d: &mut [f32], grads: &mut [f32]) {
        let (dweight, dbias) = affine.parts_mut(grads);
        layer_norm::backward(d, &norm.x_hat, &norm.rstd, affine.weight(self.dense().values), dweight, dbias);
    }

    /// `s.d` from the gradient of the layer's output to that of `attended`.
    fn feed_forward_backward(&self, i: usize, a: &LayerActivations, s: &mut Scratch, grads: &mut [f32]) {
        let layer = &self.params.layout.layers[i];
        self.norm_backward(&layer.output_norm, &a.output_norm, &mut s.d, grads);
        let branch = self.branch(Site::Output(i), self.queries(i), &s.d, &mut s.branch);
        let branch = Mat::new(branch, self.params.config.hidden_size);
        layer.output.backward(self.dense(), (&a.activated, branch), &mut s.dintermediate, false, grads, &mut s.linear);
        gelu::backward(&mut s.dintermediate, &a.slope);
        let dintermediate = Mat::new(&s.dintermediate, self.params.config.intermediate_size);
        layer.intermediate.backward(self.dense(), (&a.attended, dintermediate), &mut s.d, true, grads, &mut s.linear);
    }

    /// `s.d` from the gradient of `attended` to that of the layer's input.
    fn attention_backward(
        &self,
        i: usize,
        a: &LayerActivations,
        (relative, drelative): (&Relative, &mut RelativeGradients),
        s: &mut Scratch,
        grads: &mut [f32],
    ) {
        let (layer, queries) = (&self.params.layout.layers[i], self.queries(i));
        self.norm_backward(&layer.attention_norm, &a.attention_norm, &mut s.d, grads);
        let branch = self.branch(Site::AttentionOutput(i), queries, &s.d, &mut s.branch);
        let hidden = self.params.config.hidden_size;
        let branch = Mat::new(branch, hidden);
        layer.attention_output.backward(self.dense(), (&a.context, branch), &mut s.dcontext, false, grads, &mut s.linear);
        resize(&mut s.dqkv, a.qkv.len());
        let (attention, added) = (self.attention(i, relative, &a.positions), drelative.added(&a.positions));
        attention::backward(&attention, (&a.qkv, &a.probs), &s.dcontext, &mut s.dqkv, added, &mut s.attention);
        self.positions_backward(layer, queries, relative, drelative, grads, s);
        match queries {
            Queries::All => {
                let dqkv = Mat::new(&s.dqkv, 3 * hidden);
                layer.qkv.backward(self.dense(), (&a.input, dqkv), &mut s.d, true, grads, &mut s.linear);
            }
            Queries::First => self.project_first_backward(layer, a, s, grads),
        }
    }

    /// The gradient through a dropout: `d` itself where there is none.
    pub fn branch<'a>(&self, site: Site, queries: Queries, d: &'a [f32], branch: &'a mut Vec<f32>) -> &'a [f32] {
        if self.masks.is_none_or(|m| m.at(site, 0).is_off()) {
            return d;
        }
        branch.clear();
        branch.extend_from_slice(d);
        self.drop(site, queries, branch);
        branch
    }

    /// The backward of `project` with [`Queries::First`]: `s.d` from (rows, hidden) to (tokens, hidden).
    pub fn project_first_backward(&self, layer: &Layer, a: &LayerActivations, s: &mut Scratch, grads: &mut [f32]) {
        let hidden = self.params.config.hidden_size;
        let firsts = &self.shard.cu_seqlens[..self.shard.rows()];
        s.query.clear();
        firsts.iter().for_each(|token| s.query.extend_from_slice(&s.dqkv[token * 3 * hidden..][..hidden]));
        let dquery = Mat::new(&s.query, hidden);
        layer.query.backward(self.dense(), (&a.first, dquery), &mut s.d, true, grads, &mut s.linear);

        let dkey_value = Mat::strided(&s.dqkv[hidden..], self.shard.tokens(), 2 * hidden, 3 * hidden);
        let dinput = &mut s.branch;
        layer.key_value.backward(self.dense(), (&a.input, dkey_value), dinput, false, grads, &mut s.linear);
        for (&token, d) in firsts.iter().zip(s.d.chunks_exact(hidden)) {
            dinput[token * hidden..][..hidden].iter_mut().zip(d).for_each(|(sum, d)| *sum += d);
        }
        std::mem::swap(&mut s.d, dinput);
    }
}
