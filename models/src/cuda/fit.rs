//! A fit on a device: gradients, moments and the update.

use super::arena::Arena;
use super::head::{Goal, losses_a_row};
use super::partials::Partials;
use super::pass::{Grads, Pass};
use super::plan::Plan;
use super::session::Session;
use super::weights::Weights;
use crate::ModelError;
use crate::batch::Shard;
use crate::config::Config;
use crate::layout::Layout;
use crate::masks::Masks;
use crate::optimizer::Optimizer;
use crate::parameters::Parameters;
use crate::targets::{MicroBatch, Targets};
use lacuna_cuda::kernels::{LONGEST, PIECE, SQUARES, Squares, Update};
use lacuna_cuda::{Memory, Number};
use lacuna_kernels::adamw::AdamW;
use std::borrow::Cow;
use std::sync::Arc;

/// How many bytes the activations of one piece of a batch may take.
const ACTIVATIONS: usize = 2 << 30;

/// Tokens of a large batch: 64 rows of the longest.
const TOKENS: usize = 64 * LONGEST;

/// Gradients and moments of a model's parameters, on its device.
pub struct Fit {
    session: Arc<Session>,
    /// Flat, like the parameters. Word rows without tokens in the last batch hold what they held.
    grads: Memory,
    m: Memory,
    v: Memory,
    /// (vocabulary): for each word row the last step in which it had a gradient, as a number from 2; 1 for an earlier fit's, 0 for none.
    stamps: Memory,
    stamp: u32,
    /// The dense parameters in pieces.
    pieces: Memory,
    piece_count: usize,
    /// Loss and norm, f64.
    outcome: Memory,
    /// Word rows with a gradient now, in order.
    pub touched: Vec<u32>,
    /// Bytes for the activations of a piece of a batch.
    pub activations: usize,
}

/// What a fit's passes have in common.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    pub params: &'a Parameters,
    pub weights: &'a Weights,
    pub number: Number,
    /// Those of the first part.
    pub masks: Masks,
}

/// The losses of a step on the device.
struct Losses {
    place: lacuna_cuda::Place,
    count: usize,
}

impl Fit {
    /// With the moments of `optimizer`.
    pub fn new(session: &Arc<Session>, params: &Parameters, optimizer: &Optimizer) -> Result<Self, ModelError> {
        let device = &session.device;
        let pieces = pieces(&params.layout);
        let seen: Vec<u32> = optimizer.seen.iter().map(|&seen| seen.into()).collect();
        // Before the first step the moments are zeros: those need no copy.
        let fresh = !optimizer.seen.contains(&true);
        let moment = |of: &[f32]| if fresh { device.zeros(size_of_val(of)) } else { device.uploaded(of) };
        Ok(Fit {
            session: session.clone(),
            grads: device.memory(4 * params.layout.len())?,
            m: moment(&optimizer.m)?,
            v: moment(&optimizer.v)?,
            stamps: device.uploaded(&seen)?,
            stamp: 1,
            piece_count: pieces.len() / 4,
            pieces: device.uploaded(&pieces)?,
            outcome: device.memory(16)?,
            touched: Vec::new(),
            activations: ACTIVATIONS,
        })
    }

    /// One step; returns the loss and the gradients' norm. If one of them is not finite, nothing has changed.
    pub fn step(
        &mut self,
        step: Step,
        parts: &[MicroBatch],
        adamw: &AdamW,
        decay: f32,
        clip: Option<f32>,
    ) -> Result<(f32, f64), ModelError> {
        let session = self.session.clone();
        let mut arena = session.lock();
        let losses = self.accumulate(step, parts, &mut arena)?;
        self.update(step, &losses, (adamw, decay, clip), &mut arena)?;
        let mut outcome = [0.0f64; 2];
        session.device.download(self.outcome.place(), &mut outcome)?;
        Ok((outcome[0] as f32, outcome[1]))
    }

    /// The loss of all parts together, and their gradients into `gradients` on the host, where they are added to nothing: word rows
    /// without tokens must be 0.
    pub fn gradients(&mut self, step: Step, parts: &[MicroBatch], gradients: &mut [f32]) -> Result<f32, ModelError> {
        let session = self.session.clone();
        let mut arena = session.lock();
        let places = self.accumulate(step, parts, &mut arena)?;
        let mut losses = vec![0.0f64; places.count];
        session.device.download(places.place, &mut losses)?;
        let (layout, columns) = (&step.params.layout, step.params.config.embedding_size);
        let flat = self.grads.floats()?;
        gradients[layout.words..].copy_from_slice(&flat[layout.words..]);
        for &id in &self.touched {
            let row = id as usize * columns..(id as usize + 1) * columns;
            gradients[row.clone()].copy_from_slice(&flat[row]);
        }
        Ok(losses.iter().sum::<f64>() as f32)
    }

    /// First and second moment of all parameters.
    pub fn moments(&self) -> Result<[Cow<'static, [f32]>; 2], ModelError> {
        let _alone = self.session.lock();
        Ok([self.m.floats()?.into(), self.v.floats()?.into()])
    }

    /// Leaves the gradients and the losses of all parts on the device.
    fn accumulate(&mut self, step: Step, parts: &[MicroBatch], arena: &mut Arena) -> Result<Losses, ModelError> {
        let (layout, device) = (&step.params.layout, self.session.device.clone());
        let rows: usize = parts.iter().map(|part| part.batch.rows()).sum();
        let a_row = losses_a_row(layout.head());
        let losses = Losses { place: arena.take(8 * rows * a_row)?, count: rows * a_row };
        // Positions and types without tokens have a gradient of zero.
        let tables = layout.words..layout.words + layout.embedding_norm.weight.start;
        device.zero(self.grads.place().words(tables.start), 4 * tables.len())?;
        self.touched.clear();
        let (mut first_row, mut accumulate) = (0, false);
        for part in parts {
            let step = Step { masks: Masks { first_row, ..step.masks }, ..step };
            for shard in part.batch.shards(self.shards(part, &step)) {
                let mark = arena.mark();
                let place = losses.place.bytes(8 * a_row * (first_row + shard.first_row));
                self.pass(step, &shard, &part.targets, (place, 1.0 / rows as f32, accumulate), arena)?;
                arena.rewind(mark);
                accumulate = true;
                self.touched.extend_from_slice(shard.input_ids);
                self.touched.sort_unstable();
                self.touched.dedup();
            }
            first_row += part.batch.rows();
        }
        Ok(losses)
    }

    /// Into how many shards a part is cut so that the activations of each stay near the allowed bytes.
    fn shards(&self, part: &MicroBatch, step: &Step) -> usize {
        (part.batch.tokens() * token_bytes(&step.params.config, step.number)).div_ceil(self.activations)
    }

    /// Forward and backward of one shard.
    fn pass(
        &self,
        step: Step,
        shard: &Shard,
        targets: &Targets,
        (losses, scale, accumulate): (lacuna_cuda::Place, f32, bool),
        arena: &mut Arena,
    ) -> Result<(), ModelError> {
        let Step { params, weights, number, masks } = step;
        let (device, columns) = (&*self.session.device, params.config.embedding_size);
        let plan = Plan::new(device, arena, shard, (&params.layout, &params.config), Some((targets, &self.touched)))?;
        let pass = Pass { device, params, weights, shard, plan: &plan, number, masks: Some(masks) };
        let grads = Grads { flat: self.grads.place(), accumulate };
        let mut partials = Partials::new(arena, pass.partial_sums(), accumulate)?;
        let pieces = partials.take(plan.type_pieces.last().map_or(0, |pieces| pieces.end) * columns)?;
        let forward = pass.forward(arena)?;
        let scratch = pass.scratch(arena)?;
        let goal = Goal { losses, scale, dlast: pass.dlast(&scratch), grads };
        pass.head(arena, forward.last, Some((goal, &mut partials)))?;
        pass.backward(&forward, &scratch, &mut partials, grads, pieces)?;
        partials.reduce(device, arena, grads.flat)
    }

    fn update(
        &mut self,
        step: Step,
        losses: &Losses,
        (adamw, decay, clip): (&AdamW, f32, Option<f32>),
        arena: &mut Arena,
    ) -> Result<(), ModelError> {
        let (layout, config, device) = (&step.params.layout, &step.params.config, &*self.session.device);
        self.stamp += 1;
        let (touched, partials) = (arena.take(4 * self.touched.len())?, arena.take(8 * (SQUARES + 1))?);
        device.upload(touched, &self.touched)?;
        let squares = Squares {
            grads: self.grads.place(),
            touched,
            stamps: self.stamps.place(),
            losses: losses.place,
            partials,
            words: layout.words as u64,
            length: layout.len() as u64,
            touched_count: self.touched.len() as u32,
            hidden: config.embedding_size as u32,
            stamp: self.stamp,
            loss_count: losses.count as u32,
        };
        squares.run(device)?;
        let (rate, root, keep) = adamw.factors(decay);
        let update = Update {
            params: step.weights.flat.place(),
            m: self.m.place(),
            v: self.v.place(),
            grads: self.grads.place(),
            rounded: step.weights.rounded.place(),
            stamps: self.stamps.place(),
            pieces: self.pieces.place(),
            partials,
            outcome: self.outcome.place(),
            max_norm: clip.unwrap_or(0.0).into(),
            words: layout.words as u64,
            rate,
            root,
            keep,
            beta1: adamw.beta1,
            beta2: adamw.beta2,
            eps: adamw.eps,
            vocabulary: config.vocab_size as u32,
            hidden: config.embedding_size as u32,
            stamp: self.stamp,
            word_blocks: Update::word_blocks(config.vocab_size),
        };
        Ok(update.run(device, self.piece_count)?)
    }
}

/// The work space of a fit is large: others on the device need it afterwards.
impl Drop for Fit {
    fn drop(&mut self) {
        self.session.lock().release();
    }
}

/// About how many bytes the activations of a token take.
fn token_bytes(config: &Config, number: Number) -> usize {
    (config.num_hidden_layers + 1) * (10 * config.hidden_size + 2 * config.intermediate_size) * number.bytes()
}

/// How many bytes a fit of a model of this layout takes on a device at most, with its parameters there and with batches of up to
/// [`TOKENS`].
pub fn training_bytes(config: &Config, layout: &Layout) -> usize {
    // Parameters, gradients and two moments; the dense parameters in bf16; a number for each word row.
    let parameters = 4 * 4 * layout.len() + 2 * (layout.len() - layout.words) + 4 * config.vocab_size;
    let activations = (TOKENS * token_bytes(config, Number::Bf16)).min(ACTIVATIONS);
    // Partial sums come on top of the activations, and the arena asks for somewhat more than it needs.
    parameters + activations + activations / 4
}

/// The dense parameters in pieces: start, length, whether it decays (biases and LayerNorms do not), and nothing.
fn pieces(layout: &Layout) -> Vec<u32> {
    let tensors = layout.tensors[1..].iter().map(|t| (t.range.start - layout.words, t.range.len(), t.shape.len() > 1));
    let cut = |(start, len, decays): (usize, usize, bool)| {
        (0..len).step_by(PIECE).flat_map(move |from| [(start + from) as u32, PIECE.min(len - from) as u32, decays.into(), 0])
    };
    tensors.flat_map(cut).collect()
}
