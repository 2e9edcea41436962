//! The heads on a device: logits, losses, and the gradient of the last hidden states.

use super::arena::Arena;
use super::partials::Partials;
use super::pass::{Grads, Pass};
use crate::ModelError;
use crate::affine::Affine;
use crate::architectures;
use crate::layout::Head;
use crate::masks::Site;
use lacuna_cuda::Place;
use lacuna_cuda::kernels::{Activation, Classify, ClassifyGradients, Dropout, Spans};

/// What a head needs to train: where its rows' losses go, and the factor of the loss.
#[derive(Clone, Copy)]
pub struct Goal {
    /// (rows) or, for spans, (rows, 2), f64.
    pub losses: Place,
    pub scale: f32,
    /// (queries, hidden): receives the gradient of the last hidden states.
    pub dlast: Place,
    pub grads: Grads,
}

/// Losses that a row leaves.
pub fn losses_a_row(head: Head) -> usize {
    if head == Head::Span { 2 } else { 1 }
}

impl Pass<'_> {
    /// The logits (rows, labels), or (tokens, 2) for spans, of the last hidden states; with a goal also the head's way back.
    pub fn head(&self, arena: &mut Arena, last: Place, goal: Option<(Goal, &mut Partials)>) -> Result<Place, ModelError> {
        match &self.layout().head.dense {
            Some(dense) => self.classify(arena, dense, last, goal.map(|(goal, _)| goal)),
            None => self.spans(arena, last, goal),
        }
    }

    fn classify(&self, arena: &mut Arena, dense: &Affine, last: Place, goal: Option<Goal>) -> Result<Place, ModelError> {
        let classifier = &self.layout().head.outputs;
        let (rows, hidden, labels) = (self.plan.rows, self.hidden(), classifier.outputs);
        let [pooled, dpooled] = [self.room(arena, rows, hidden)?, self.room(arena, rows, hidden)?];
        let [kept, logits, dlogits] = [arena.floats(rows * hidden)?, arena.floats(rows * labels)?, arena.floats(rows * labels)?];
        self.linear(dense, last, pooled, rows)?;
        let classify = Classify {
            pooled,
            weight: self.vector(&classifier.weight),
            bias: self.vector(&classifier.bias),
            targets: self.plan.targets,
            weights: self.plan.weights,
            kept,
            logits,
            dlogits,
            losses: goal.map_or(Place::NONE, |goal| goal.losses),
            dpooled,
            drop: self.drop(Site::Classifier),
            loss_scale: goal.map_or(0.0, |goal| goal.scale),
            hidden: hidden as u32,
            labels: labels as u32,
            several: self.plan.several.into(),
            activation: match self.params.config.architecture.activation() {
                architectures::Activation::Tanh => Activation::Tanh,
                architectures::Activation::Relu => Activation::Relu,
                architectures::Activation::Gelu => Activation::Gelu,
            },
        };
        classify.run(self.device, self.number, rows)?;
        let Some(Goal { dlast, grads, .. }) = goal else { return Ok(logits) };
        let gradients = ClassifyGradients {
            kept,
            dlogits,
            dpooled,
            dweight: self.gradient(grads, &classifier.weight),
            dbias: self.gradient(grads, &classifier.bias),
            dpooler_bias: self.gradient(grads, &dense.bias),
            rows: rows as u32,
            hidden: hidden as u32,
            labels: labels as u32,
            accumulate: grads.accumulate.into(),
        };
        gradients.run(self.device, self.number)?;
        self.weight_gradient(dense, last, dpooled, rows, grads)?;
        self.input_gradient(dense, dpooled, dlast, rows, false)?;
        Ok(logits)
    }

    fn spans(&self, arena: &mut Arena, last: Place, goal: Option<(Goal, &mut Partials)>) -> Result<Place, ModelError> {
        let outputs = &self.layout().head.outputs;
        let (logits, size) = (arena.floats(2 * self.plan.tokens)?, outputs.weight.len() + outputs.bias.len());
        let (goal, partials) = goal.unzip();
        let mut place = Place::NONE;
        if let Some(partials) = partials {
            let from = partials.take(self.plan.rows * size)?;
            partials.sum(from, [self.plan.rows, size, size], self.layout().words + outputs.weight.start);
            place = partials.place.words(from);
        }
        let spans = Spans {
            last,
            weight: self.vector(&outputs.weight),
            bias: self.vector(&outputs.bias),
            logits,
            cu_seqlens: self.plan.cu_seqlens,
            answers: self.plan.targets,
            losses: goal.map_or(Place::NONE, |goal| goal.losses),
            dlast: goal.map_or(Place::NONE, |goal| goal.dlast),
            partials: place,
            drop: if self.params.config.architecture.drops_before_spans() { self.drop(Site::Classifier) } else { Dropout::OFF },
            loss_scale: goal.map_or(0.0, |goal| goal.scale),
            hidden: self.hidden() as u32,
        };
        spans.run(self.device, self.number, self.plan.rows)?;
        Ok(logits)
    }
}
