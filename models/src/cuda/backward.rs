//! The encoder's backward on a device.

use super::arena::Arena;
use super::forward::{Forward, Kept, Norm};
use super::partials::Partials;
use super::pass::{Grads, Pass};
use crate::ModelError;
use crate::affine::Affine;
use crate::masks::Site;
use lacuna_cuda::Place;
use lacuna_cuda::kernels::{AttentionBackward, Dropout, GeluBackward, NormBackward, Scatter};
use lacuna_kernels::attention::Queries;
use std::ops::Range;

/// Buffers that all layers use one after the other.
pub struct Scratch {
    /// (tokens, hidden): the gradient that is passed from layer to layer.
    pub d: Place,
    /// (rows, hidden): that of the first tokens.
    pub dfirst: Place,
    /// (queries, hidden): a gradient through a dropout.
    branch: Place,
    /// (queries, intermediate)
    dintermediate: Place,
    /// (queries, hidden)
    dcontext: Place,
    /// (tokens, 3 hidden)
    dqkv: Place,
    /// (rows, hidden)
    dquery: Place,
    /// (tokens, embedding), where a projection follows the embeddings.
    dembeddings: Place,
}

/// The gradient of hidden states: of all tokens, and what is to be added to the first ones.
#[derive(Clone, Copy)]
struct Incoming {
    d: Place,
    dfirst: Place,
}

impl Pass<'_> {
    pub fn scratch(&self, arena: &mut Arena) -> Result<Scratch, ModelError> {
        let (tokens, rows, hidden) = (self.plan.tokens, self.plan.rows, self.hidden());
        Ok(Scratch {
            d: self.room(arena, tokens, hidden)?,
            dfirst: self.room(arena, rows, hidden)?,
            branch: self.room(arena, tokens, hidden)?,
            dintermediate: self.room(arena, tokens, self.intermediate())?,
            dcontext: self.room(arena, tokens, hidden)?,
            dqkv: self.room(arena, tokens, 3 * hidden)?,
            dquery: self.room(arena, rows, hidden)?,
            dembeddings: self.layout().projection.as_ref().map_or(Ok(Place::NONE), |_| self.room(arena, tokens, self.embedding()))?,
        })
    }

    /// Where the gradient of the last hidden states has to be when [`Pass::backward`] begins.
    pub fn dlast(&self, scratch: &Scratch) -> Place {
        match self.queries(self.layout().layers.len() - 1) {
            Queries::All => scratch.d,
            Queries::First => scratch.dfirst,
        }
    }

    /// The most numbers that a pass leaves as partial sums.
    pub fn partial_sums(&self) -> usize {
        let (tokens, hidden) = (self.plan.tokens, self.hidden());
        let norm = 3 * NormBackward::blocks(tokens) * hidden;
        let layer = 2 * norm + GeluBackward::blocks(tokens) * self.intermediate() + self.plan.tiles * 3 * hidden;
        let pieces = self.plan.type_pieces.last().map_or(0, |pieces| pieces.end);
        let layer = layer + self.plan.tiles * self.bias_numbers();
        let projection = if self.layout().projection.is_some() { GeluBackward::blocks(tokens) * hidden } else { 0 };
        let embeddings = (pieces + 3 * NormBackward::blocks(tokens)) * self.embedding() + projection;
        embeddings + self.layout().layers.len() * layer + self.plan.rows * (2 * hidden + 2)
    }

    /// Numbers of the table of relative positions.
    fn bias_numbers(&self) -> usize {
        self.layout().relative_bias.as_ref().map_or(0, |table| table.len())
    }

    /// The gradients of the encoder, from that of the last hidden states; `partials` has been used by the head alone.
    pub fn backward(
        &self,
        forward: &Forward,
        scratch: &Scratch,
        partials: &mut Partials,
        grads: Grads,
        pieces: usize,
    ) -> Result<(), ModelError> {
        let mut incoming = Incoming { d: self.dlast(scratch), dfirst: Place::NONE };
        let biases = self.bias_sums(partials)?;
        for (i, kept) in forward.layers.iter().enumerate().rev() {
            self.feed_forward_backward(i, kept, incoming, scratch, partials, grads)?;
            let bias = (forward.bias, biases.words(i * self.plan.tiles * self.bias_numbers()));
            incoming = self.attention_backward(i, kept, bias, incoming.d, scratch, partials, grads)?;
        }
        if let Some(projection) = &self.layout().projection {
            self.projection_backward(projection, forward.embeddings, incoming.d, scratch, partials, grads)?;
            incoming.d = scratch.dembeddings;
        }
        let norm = &self.layout().embedding_norm;
        let sites = (self.drop(Site::Embeddings), Dropout::OFF);
        self.norm_backward((norm, None), forward.embedding_norm, incoming, Place::NONE, sites, Queries::All, partials)?;
        self.scatter(incoming.d, partials, grads, pieces)
    }

    /// Room for what all layers' tiles add to the gradients of relative positions.
    fn bias_sums(&self, partials: &mut Partials) -> Result<Place, ModelError> {
        let Some(table) = &self.layout().relative_bias else { return Ok(Place::NONE) };
        let (tiles, numbers) = (self.layout().layers.len() * self.plan.tiles, table.len());
        let from = partials.take(tiles * numbers)?;
        partials.sum(from, [tiles, numbers, numbers], self.layout().words + table.start);
        Ok(partials.place.words(from))
    }

    /// The gradients of the projection behind the embeddings, from `d`, that of its output.
    fn projection_backward(
        &self,
        projection: &Affine,
        embeddings: Place,
        d: Place,
        scratch: &Scratch,
        partials: &mut Partials,
        grads: Grads,
    ) -> Result<(), ModelError> {
        let tokens = self.plan.tokens;
        self.column_sums(d, Place::NONE, tokens, &projection.bias, partials)?;
        self.weight_gradient(projection, embeddings, d, tokens, grads)?;
        self.input_gradient(projection, d, scratch.dembeddings, tokens, false)
    }

    /// `d` (count, columns) times the slope of GELU, if there is one, and its column sums, which are the gradient of a bias.
    fn column_sums(&self, d: Place, slope: Place, count: usize, bias: &Range<usize>, partials: &mut Partials) -> Result<(), ModelError> {
        let (columns, blocks) = (bias.len(), GeluBackward::blocks(count));
        let from = partials.take(blocks * columns)?;
        partials.sum(from, [blocks, columns, columns], self.layout().words + bias.start);
        let gelu = GeluBackward {
            d,
            slope,
            partials: partials.place.words(from),
            tokens: count as u32,
            columns: columns as u32,
            tokens_a_block: GeluBackward::tokens_a_block(count) as u32,
        };
        Ok(gelu.run(self.device, self.number)?)
    }

    /// `incoming.d` from the gradient of a LayerNorm's output to that of its inputs, and `branch` that of the linear layer before it.
    #[allow(clippy::too_many_arguments)] // all of them one kernel's
    fn norm_backward(
        &self,
        (affine, linear): (&Affine, Option<&Affine>),
        norm: Norm,
        incoming: Incoming,
        branch: Place,
        (after, before): (Dropout, Dropout),
        queries: Queries,
        partials: &mut Partials,
    ) -> Result<(), ModelError> {
        let (hidden, count) = (affine.outputs, self.query_count(queries));
        let (blocks, (position_ids, rows)) = (NormBackward::blocks(count), self.query_tables(queries));
        let from = partials.take(3 * blocks * hidden)?;
        let sums = [Some(&affine.weight), Some(&affine.bias), linear.map(|linear| &linear.bias)];
        for (i, range) in sums.into_iter().flatten().enumerate() {
            partials.sum(from + i * blocks * hidden, [blocks, hidden, hidden], self.layout().words + range.start);
        }
        let backward = NormBackward {
            dy: incoming.d,
            dfirsts: incoming.dfirst,
            x_hat: norm.x_hat,
            rstd: norm.rstd,
            weight: self.vector(&affine.weight),
            position_ids,
            rows,
            dx: incoming.d,
            branch,
            partials: partials.place.words(from),
            after,
            before,
            tokens: count as u32,
            hidden: hidden as u32,
        };
        Ok(backward.run(self.device, self.number)?)
    }

    /// `incoming.d` from the gradient of the layer's output to that of `attended`.
    fn feed_forward_backward(
        &self,
        i: usize,
        kept: &Kept,
        incoming: Incoming,
        scratch: &Scratch,
        partials: &mut Partials,
        grads: Grads,
    ) -> Result<(), ModelError> {
        let (layer, queries, before) = (&self.layout().layers[i], self.queries(i), self.drop(Site::Output(i)));
        let count = self.query_count(queries);
        let branch = if before.is_off() { incoming.d } else { scratch.branch };
        let affines = (&layer.output_norm, Some(&layer.output));
        self.norm_backward(affines, kept.output_norm, incoming, branch, (Dropout::OFF, before), queries, partials)?;
        self.weight_gradient(&layer.output, kept.activated, branch, count, grads)?;
        self.input_gradient(&layer.output, branch, scratch.dintermediate, count, false)?;

        self.column_sums(scratch.dintermediate, kept.slope, count, &layer.intermediate.bias, partials)?;
        self.weight_gradient(&layer.intermediate, kept.attended, scratch.dintermediate, count, grads)?;
        self.input_gradient(&layer.intermediate, scratch.dintermediate, incoming.d, count, true)
    }

    /// The gradient of the layer's input, from `d`, that of `attended`. `bias` is that of relative positions, and the room for the
    /// gradients of their numbers.
    #[allow(clippy::too_many_arguments)]
    fn attention_backward(
        &self,
        i: usize,
        kept: &Kept,
        (bias, bias_partials): (Place, Place),
        d: Place,
        scratch: &Scratch,
        partials: &mut Partials,
        grads: Grads,
    ) -> Result<Incoming, ModelError> {
        let (layer, queries, before) = (&self.layout().layers[i], self.queries(i), self.drop(Site::AttentionOutput(i)));
        let (hidden, count, tokens) = (self.hidden(), self.query_count(queries), self.plan.tokens);
        let branch = if before.is_off() { d } else { scratch.branch };
        let (affines, incoming) = ((&layer.attention_norm, Some(&layer.attention_output)), Incoming { d, dfirst: Place::NONE });
        self.norm_backward(affines, kept.attention_norm, incoming, branch, (Dropout::OFF, before), queries, partials)?;
        self.weight_gradient(&layer.attention_output, kept.context, branch, count, grads)?;
        self.input_gradient(&layer.attention_output, branch, scratch.dcontext, count, false)?;

        let from = partials.take(self.plan.tiles * 3 * hidden)?;
        partials.sum(from, [self.plan.tiles, 3 * hidden, 3 * hidden], self.layout().words + layer.qkv.bias.start);
        let all = queries == Queries::All;
        let dk = scratch.dqkv.numbers(if all { hidden } else { 0 }, self.number);
        let backward = AttentionBackward {
            forward: self.attention(i, kept, bias),
            dcontext: scratch.dcontext,
            dq: if all { scratch.dqkv } else { scratch.dquery },
            dk,
            dv: dk.numbers(hidden, self.number),
            partials: partials.place.words(from),
            buckets: self.plan.buckets,
            bias_partials,
            bucket_count: self.params.config.relative_buckets as u32,
        };
        backward.run(self.device, self.number, self.plan.tiles, self.params.config.head_size())?;
        if all {
            self.weight_gradient(&layer.qkv, kept.input, scratch.dqkv, tokens, grads)?;
            self.input_gradient(&layer.qkv, scratch.dqkv, d, tokens, true)?;
            return Ok(incoming);
        }
        self.weight_gradient(&layer.query, kept.first, scratch.dquery, count, grads)?;
        self.input_gradient(&layer.query, scratch.dquery, d, count, true)?;
        self.weight_gradient(&layer.key_value, kept.input, scratch.dqkv, tokens, grads)?;
        self.input_gradient(&layer.key_value, scratch.dqkv, scratch.d, tokens, false)?;
        Ok(Incoming { d: scratch.d, dfirst: d })
    }

    /// The gradients of the embeddings from `d` (tokens, embedding). The partial sums of the token types begin at `pieces`.
    fn scatter(&self, d: Place, partials: &mut Partials, grads: Grads, pieces: usize) -> Result<(), ModelError> {
        let columns = self.embedding();
        if let Some(types) = &self.layout().token_types {
            for (kind, of) in self.plan.type_pieces.iter().enumerate() {
                let to = self.layout().words + types.start + kind * columns;
                partials.sum(pieces + of.start * columns, [of.len(), columns, columns], to);
            }
        }
        let scatter = Scatter {
            d,
            order: self.plan.order,
            segments: self.plan.segment_table,
            grads: grads.flat,
            partials: partials.place.words(pieces),
            hidden: columns as u32,
        };
        Ok(scatter.run(self.device, self.number, self.plan.segments)?)
    }
}
