//! What the logits of a batch should be: whether it fits the batch, and the loss.

use crate::ModelError;
use crate::batch::{PackedBatch, Shard};
#[cfg(feature = "candle")]
use crate::composed::Composed;
use crate::layout::Head;
use crate::span::Span;
#[cfg(feature = "candle")]
use crate::span_loss::composed_loss;
use crate::span_loss::span_loss;
#[cfg(feature = "candle")]
use candle_core::Tensor;
use lacuna_kernels::binary_cross_entropy::binary_cross_entropy;
use lacuna_kernels::cross_entropy::soft_cross_entropy;
#[cfg(feature = "candle")]
use lacuna_kernels::{binary_cross_entropy, cross_entropy};

/// The targets of a batch's rows.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a> {
    /// Of a classifier.
    Labels {
        /// (rows, labels), each row summing to 1.
        probabilities: &'a [f32],
        /// (rows), from 0.
        weights: &'a [f32],
    },
    /// Of a classifier of [`Problem::MultiLabel`](crate::Problem).
    LabelSets {
        /// (rows, labels), each in [0, 1], whatever the others are.
        probabilities: &'a [f32],
        /// (rows), from 0.
        weights: &'a [f32],
    },
    /// Of a span extractor: (rows), the answers.
    Spans(&'a [Span]),
}

/// Training rows: the batch of a step, or a part of it.
#[derive(Clone, Copy, Debug)]
pub struct MicroBatch<'a> {
    pub batch: &'a PackedBatch,
    pub targets: Targets<'a>,
}

impl Targets<'_> {
    /// Whether they fit the batch and the head.
    pub(crate) fn check(&self, batch: &PackedBatch, head: Head) -> Result<(), ModelError> {
        match (self, head) {
            (Targets::Labels { probabilities, weights }, Head::Labels(labels)) => {
                check_shapes(probabilities, weights, batch.rows(), labels)?;
                check_rows(probabilities, labels, |row| row.iter().all(|&p| p >= 0.0) && (row.iter().sum::<f32>() - 1.0).abs() < 1e-3)
            }
            (Targets::LabelSets { probabilities, weights }, Head::Labels(labels)) => {
                check_shapes(probabilities, weights, batch.rows(), labels)?;
                check_rows(probabilities, labels, |row| row.iter().all(|p| (0.0..=1.0).contains(p)))
            }
            (Targets::Spans(spans), Head::Span) => check_spans(batch, spans),
            _ => Err(ModelError::Train("labels for a span extractor, or spans for a classifier".into())),
        }
    }

    /// The loss of a shard of the batch; leaves its gradient in `dlogits`.
    pub(crate) fn loss(&self, shard: &Shard, logits: &[f32], scale: f32, dlogits: &mut [f32]) -> f64 {
        let rows = shard.first_row..shard.first_row + shard.rows();
        match self {
            Targets::Labels { probabilities, weights } => {
                let labels = logits.len() / shard.rows();
                let probabilities = &probabilities[rows.start * labels..rows.end * labels];
                soft_cross_entropy(logits, probabilities, &weights[rows], scale, dlogits)
            }
            Targets::LabelSets { probabilities, weights } => {
                let labels = logits.len() / shard.rows();
                let probabilities = &probabilities[rows.start * labels..rows.end * labels];
                binary_cross_entropy(logits, probabilities, &weights[rows], scale, dlogits)
            }
            Targets::Spans(spans) => span_loss(shard, logits, &spans[rows], scale, dlogits),
        }
    }

    /// [`Targets::loss`] of candle's operations, as a scalar.
    #[cfg(feature = "candle")]
    pub(crate) fn composed_loss(&self, shard: &Shard, composed: &Composed, logits: &Tensor, scale: f32) -> candle_core::Result<Tensor> {
        let rows = shard.first_row..shard.first_row + shard.rows();
        match self {
            Targets::Labels { probabilities, weights } => {
                let labels = logits.dim(1)?;
                let probabilities = &probabilities[rows.start * labels..rows.end * labels];
                cross_entropy::composed(logits, probabilities, &weights[rows], scale)
            }
            Targets::LabelSets { probabilities, weights } => {
                let labels = logits.dim(1)?;
                let probabilities = &probabilities[rows.start * labels..rows.end * labels];
                binary_cross_entropy::composed(logits, probabilities, &weights[rows], scale)
            }
            Targets::Spans(spans) => composed_loss(&composed.padding, logits, &spans[rows], scale),
        }
    }
}

fn check_shapes(targets: &[f32], weights: &[f32], rows: usize, labels: usize) -> Result<(), ModelError> {
    let error = |reason: String| Err(ModelError::Batch(reason));
    if weights.len() != rows || targets.len() != rows * labels {
        return error(format!("{rows} rows with {labels} labels, but {} targets and {} weights", targets.len(), weights.len()));
    }
    match weights.iter().position(|w| !w.is_finite() || *w < 0.0) {
        Some(row) => error(format!("the weight of row {row} is {}; it must be a finite number, 0 or more", weights[row])),
        None => Ok(()),
    }
}

fn check_rows(targets: &[f32], labels: usize, probabilities: impl Fn(&[f32]) -> bool) -> Result<(), ModelError> {
    match targets.chunks(labels).enumerate().find(|(_, row)| !probabilities(row)) {
        Some((row, found)) => Err(ModelError::Batch(format!("the targets of row {row} are not probabilities: {found:?}"))),
        None => Ok(()),
    }
}

/// Whether every row has an answer inside of it.
fn check_spans(batch: &PackedBatch, spans: &[Span]) -> Result<(), ModelError> {
    if spans.len() != batch.rows() {
        return Err(ModelError::Batch(format!("{} rows, but {} spans", batch.rows(), spans.len())));
    }
    for (row, (ends, span)) in batch.cu_seqlens.windows(2).zip(spans).enumerate() {
        let tokens = (ends[1] - ends[0]) as usize;
        if span.start > span.end || span.end >= tokens {
            return Err(ModelError::Batch(format!("the answer of row {row} is {span:?}, but the row has {tokens} tokens")));
        }
    }
    Ok(())
}
