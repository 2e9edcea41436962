//! The encoder's forward on a device.

use super::arena::Arena;
use super::pass::Pass;
use crate::ModelError;
use crate::affine::Affine;
use crate::masks::Site;
use lacuna_cuda::Place;
use lacuna_cuda::kernels::{Attention, Embed, Gelu, RelativeBias, ResidualNorm};
use lacuna_kernels::attention::Queries;

/// What a LayerNorm keeps for its backward.
#[derive(Clone, Copy)]
pub struct Norm {
    /// (queries, hidden); before the norm the sum's first part.
    pub x_hat: Place,
    /// (queries), or none in inference.
    pub rstd: Place,
}

/// What a layer keeps for its backward. *Queries* are all tokens, or one a row in a classifier's last layer.
#[derive(Clone, Copy)]
pub struct Kept {
    /// (tokens, hidden)
    pub input: Place,
    /// (rows, hidden): the first tokens of the input, where they are the queries.
    pub first: Place,
    /// (tokens, 3 hidden), or (tokens, 2 hidden) and `query`, (rows, hidden).
    pub qkv: Place,
    pub query: Place,
    pub lse: Place,
    /// (queries, hidden)
    pub context: Place,
    pub attention_norm: Norm,
    /// (queries, hidden)
    pub attended: Place,
    /// (queries, intermediate): the slope of GELU, and its output.
    pub slope: Place,
    pub activated: Place,
    pub output_norm: Norm,
}

/// What a whole forward leaves.
pub struct Forward {
    pub embedding_norm: Norm,
    /// (tokens, embedding): what the projection reads, where there is one.
    pub embeddings: Place,
    /// (heads, 2 longest - 1): what relative positions add to scores, where they do.
    pub bias: Place,
    /// One for each layer; in inference all are the same.
    pub layers: Vec<Kept>,
    /// (queries of the last layer, hidden): the last hidden states.
    pub last: Place,
}

/// Hidden states on their way from layer to layer.
#[derive(Clone, Copy)]
struct Hidden {
    /// (tokens, hidden)
    all: Place,
    /// (rows, hidden): the first tokens, where the next layer has no other queries.
    first: Place,
}

impl Pass<'_> {
    fn trains(&self) -> bool {
        self.masks.is_some()
    }

    /// Room for (count, columns) activations.
    pub fn room(&self, arena: &mut Arena, count: usize, columns: usize) -> Result<Place, ModelError> {
        arena.take(count * columns * self.number.bytes())
    }

    fn norm_room(&self, arena: &mut Arena, count: usize, columns: usize) -> Result<Norm, ModelError> {
        let rstd = if self.trains() { arena.floats(count)? } else { Place::NONE };
        Ok(Norm { x_hat: self.room(arena, count, columns)?, rstd })
    }

    /// Room for what a layer keeps, but for its input.
    fn layer_room(&self, arena: &mut Arena, queries: Queries) -> Result<Kept, ModelError> {
        let (hidden, count) = (self.hidden(), self.query_count(queries));
        let (of_qkv, of_query) = if queries == Queries::All { (3 * hidden, 0) } else { (2 * hidden, hidden) };
        Ok(Kept {
            input: Place::NONE,
            first: Place::NONE,
            qkv: self.room(arena, self.plan.tokens, of_qkv)?,
            query: self.room(arena, count, of_query)?,
            lse: if self.trains() { arena.floats(self.params.config.num_attention_heads * count)? } else { Place::NONE },
            context: self.room(arena, count, hidden)?,
            attention_norm: self.norm_room(arena, count, hidden)?,
            attended: self.room(arena, count, hidden)?,
            slope: self.room(arena, count, self.intermediate())?,
            activated: self.room(arena, count, self.intermediate())?,
            output_norm: self.norm_room(arena, count, hidden)?,
        })
    }

    /// Room for the hidden states that go into a layer.
    fn hidden_room(&self, arena: &mut Arena, into: usize) -> Result<Hidden, ModelError> {
        let layers = self.layout().layers.len();
        let count = if into < layers { self.plan.tokens } else { self.query_count(self.queries(layers - 1)) };
        let first_only = into < layers && self.queries(into) == Queries::First;
        let first = if first_only { self.room(arena, self.plan.rows, self.hidden())? } else { Place::NONE };
        Ok(Hidden { all: self.room(arena, count, self.hidden())?, first })
    }

    /// The last hidden states of the queries. Without masks, all layers but the last work in the same room.
    pub fn forward(&self, arena: &mut Arena) -> Result<Forward, ModelError> {
        let embedding_norm = self.norm_room(arena, self.plan.tokens, self.embedding())?;
        let mut states = self.hidden_room(arena, 0)?;
        let embeddings = self.embed(arena, embedding_norm, states)?;
        let bias = self.relative_bias(arena)?;
        let mut layers: Vec<Kept> = Vec::with_capacity(self.layout().layers.len());
        let mut inputs: Vec<Hidden> = vec![states];
        for i in 0..self.layout().layers.len() {
            let queries = self.queries(i);
            let again = !self.trains() && i > 0 && queries == self.queries(i - 1);
            let room = if again { layers[i - 1] } else { self.layer_room(arena, queries)? };
            // In inference two rooms take turns; the last one is of another kind.
            let last = i + 1 == self.layout().layers.len() || self.queries(i + 1) == Queries::First;
            let output = if !self.trains() && !last && i > 0 { inputs[i - 1] } else { self.hidden_room(arena, i + 1)? };
            let kept = Kept { input: states.all, first: states.first, ..room };
            self.layer(i, &kept, bias, output)?;
            layers.push(kept);
            inputs.push(output);
            states = output;
        }
        Ok(Forward { embedding_norm, embeddings, bias, layers, last: states.all })
    }

    /// What relative positions add to scores.
    fn relative_bias(&self, arena: &mut Arena) -> Result<Place, ModelError> {
        let Some(table) = &self.layout().relative_bias else { return Ok(Place::NONE) };
        let (heads, distances) = (self.params.config.num_attention_heads, 2 * self.plan.longest - 1);
        let (bias, scale) = (arena.floats(heads * distances)?, self.scale());
        let (table, buckets) = (self.vector(table), self.plan.buckets);
        RelativeBias { table, buckets, bias, scale, heads: heads as u32, distances: distances as u32 }.run(self.device)?;
        Ok(bias)
    }

    /// The factor of the products of queries and keys.
    fn scale(&self) -> f32 {
        1.0 / (self.params.config.head_size() as f32).sqrt()
    }

    /// The input of the first layer into `y`; returns what the projection reads, if there is one.
    fn embed(&self, arena: &mut Arena, norm: Norm, y: Hidden) -> Result<Place, ModelError> {
        let Some(projection) = &self.layout().projection else {
            self.embeddings(norm, y)?;
            return Ok(Place::NONE);
        };
        let embeddings = self.room(arena, self.plan.tokens, self.embedding())?;
        self.embeddings(norm, Hidden { all: embeddings, first: Place::NONE })?;
        self.linear(projection, embeddings, y.all, self.plan.tokens)?;
        Ok(embeddings)
    }

    /// (tokens, embedding), with their norm and dropout.
    fn embeddings(&self, norm: Norm, y: Hidden) -> Result<(), ModelError> {
        let (layout, plan) = (self.layout(), self.plan);
        let embed = Embed {
            words: self.weights.flat.place(),
            positions: self.vector(&layout.positions),
            types: layout.token_types.as_ref().map_or(Place::NONE, |types| self.vector(types)),
            ids: plan.ids,
            position_ids: plan.position_ids,
            type_ids: plan.type_ids,
            rows: plan.row_ids,
            weight: self.vector(&layout.embedding_norm.weight),
            bias: self.vector(&layout.embedding_norm.bias),
            x_hat: if self.trains() { norm.x_hat } else { Place::NONE },
            rstd: norm.rstd,
            y: y.all,
            firsts: y.first,
            drop: self.drop(Site::Embeddings),
            eps: self.params.config.layer_norm_eps as f32,
            tokens: plan.tokens as u32,
            hidden: self.embedding() as u32,
        };
        Ok(embed.run(self.device, self.number)?)
    }

    /// `output` (queries, hidden) of layer `i`.
    fn layer(&self, i: usize, kept: &Kept, bias: Place, output: Hidden) -> Result<(), ModelError> {
        let (layer, queries) = (&self.layout().layers[i], self.queries(i));
        let count = self.query_count(queries);
        if queries == Queries::All {
            self.linear(&layer.qkv, kept.input, kept.qkv, count)?;
        } else {
            self.linear(&layer.key_value, kept.input, kept.qkv, self.plan.tokens)?;
            self.linear(&layer.query, kept.first, kept.query, count)?;
        }
        self.attention(i, kept, bias).run(self.device, self.number, self.plan.tiles, self.params.config.head_size())?;

        self.linear(&layer.attention_output, kept.context, kept.attention_norm.x_hat, count)?;
        let residual = if queries == Queries::All { kept.input } else { kept.first };
        let attended = Hidden { all: kept.attended, first: Place::NONE };
        self.norm(&layer.attention_norm, kept.attention_norm, residual, attended, (Site::AttentionOutput(i), queries))?;

        self.linear(&layer.intermediate, kept.attended, kept.slope, count)?;
        let pairs = (count * self.intermediate() / 2) as u64;
        let gelu = Gelu { x: kept.slope, activated: kept.activated, pairs, with_slope: self.trains().into() };
        gelu.run(self.device, self.number)?;
        self.linear(&layer.output, kept.activated, kept.output_norm.x_hat, count)?;
        self.norm(&layer.output_norm, kept.output_norm, kept.attended, output, (Site::Output(i), queries))
    }

    /// `y` = LayerNorm(dropout(x_hat's room) + residual).
    fn norm(&self, affine: &Affine, norm: Norm, residual: Place, y: Hidden, (site, queries): (Site, Queries)) -> Result<(), ModelError> {
        let (position_ids, rows) = self.query_tables(queries);
        let norm = ResidualNorm {
            x: norm.x_hat,
            residual,
            position_ids,
            rows,
            weight: self.vector(&affine.weight),
            bias: self.vector(&affine.bias),
            rstd: norm.rstd,
            y: y.all,
            firsts: y.first,
            drop: self.drop(site),
            eps: self.params.config.layer_norm_eps as f32,
            tokens: self.query_count(queries) as u32,
            hidden: self.hidden() as u32,
        };
        Ok(norm.run(self.device, self.number)?)
    }

    /// The attention of a layer.
    pub fn attention(&self, i: usize, kept: &Kept, bias: Place) -> Attention {
        let (hidden, queries, number) = (self.hidden(), self.queries(i), self.number);
        let keys = if queries == Queries::All { hidden } else { 0 };
        let stride = if queries == Queries::All { 3 * hidden } else { 2 * hidden };
        Attention {
            q: if queries == Queries::All { kept.qkv } else { kept.query },
            k: kept.qkv.numbers(keys, number),
            v: kept.qkv.numbers(keys + hidden, number),
            context: kept.context,
            lse: kept.lse,
            cu_seqlens: self.plan.cu_seqlens,
            tiles: self.plan.tile_table,
            bias,
            drop: self.drop(Site::Probabilities(i)),
            scale: self.scale(),
            q_stride: if queries == Queries::All { stride } else { hidden } as u32,
            kv_stride: stride as u32,
            hidden: hidden as u32,
            queries: self.query_count(queries) as u32,
            first_only: (queries == Queries::First).into(),
            longest: self.plan.longest as u32,
        }
    }
}
