//! The extractive question answerer: from which token to which the answer goes.

use crate::batch::Shard;
use crate::layout::Question;
use crate::network::Network;
use crate::{ModelError, PackedBatch};
#[cfg(feature = "candle")]
use candle_core::Tensor;
use lacuna_kernels::cross_entropy::soft_cross_entropy;
#[cfg(feature = "candle")]
use lacuna_kernels::padding::Padding;
use std::ops::{Deref, DerefMut};
use std::path::Path;

/// The tokens of an answer, counted from the first of its row; both ends belong to it. (0, 0), [CLS], says that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

/// A BERT or DistilBERT with a span head, as transformers' `BertForQuestionAnswering` and `DistilBertForQuestionAnswering`.
#[derive(Clone)]
pub struct SpanExtractor {
    pub(crate) network: Network,
}

impl Deref for SpanExtractor {
    type Target = Network;

    fn deref(&self) -> &Network {
        &self.network
    }
}

impl DerefMut for SpanExtractor {
    fn deref_mut(&mut self) -> &mut Network {
        &mut self.network
    }
}

impl SpanExtractor {
    /// Loads a pretrained encoder, or an extractor that [`SpanExtractor::save`] wrote; a head that is not in the file is drawn from
    /// N(0, 0.02²), seeded by `init_seed`.
    ///
    /// # Errors
    /// As for [`Classifier::load`](crate::Classifier::load).
    pub fn load(folder: &Path, init_seed: u64) -> Result<Self, ModelError> {
        Ok(SpanExtractor { network: Network::load(folder, Question::Span, init_seed)?.network })
    }

    /// For each token, the logits of being the first and of being the last of the answer: (tokens, 2).
    ///
    /// # Errors
    /// [`ModelError::Batch`] for a batch that [`PackedBatch::check`] refuses.
    pub fn logits(&self, batch: &PackedBatch, threads: usize) -> Result<Vec<f32>, ModelError> {
        self.network.logits(batch, threads)
    }

    /// The best answer of each row: the largest sum of start and end logits, with the end at or up to `longest` − 1 tokens after the
    /// start, both inside of the row's `candidates` (the tokens of the context). None where there are no candidates.
    pub fn answers(
        &self,
        batch: &PackedBatch,
        candidates: &[std::ops::Range<usize>],
        longest: usize,
        threads: usize,
    ) -> Result<Vec<Option<Span>>, ModelError> {
        let logits = self.logits(batch, threads)?;
        if candidates.len() != batch.rows() {
            return Err(ModelError::Batch(format!("{} rows, but candidates for {}", batch.rows(), candidates.len())));
        }
        let rows = batch.cu_seqlens.windows(2).zip(candidates);
        let best = |(ends, candidates): (&[u32], _)| best_span(&logits[2 * ends[0] as usize..2 * ends[1] as usize], candidates, longest);
        Ok(rows.map(|row| best(row).map(|(span, _)| span)).collect())
    }

    /// A config.json for `AutoModelForQuestionAnswering`.
    pub fn config_json(&self) -> String {
        self.config.to_span_json()
    }
}

/// The span of the largest sum of logits (tokens, 2) among `candidates`, of at most `longest` tokens, and that sum; the earliest of equals.
pub fn best_span(logits: &[f32], candidates: &std::ops::Range<usize>, longest: usize) -> Option<(Span, f32)> {
    let end = candidates.end.min(logits.len() / 2);
    let spans = (candidates.start..end).flat_map(|start| (start..end.min(start + longest)).map(move |end| Span { start, end }));
    let scored = spans.map(|span| (span, score(logits, span)));
    scored.max_by(|(a, of_a), (b, of_b)| of_a.total_cmp(of_b).then(b.start.cmp(&a.start)))
}

fn score(logits: &[f32], span: Span) -> f32 {
    logits[2 * span.start] + logits[2 * span.end + 1]
}

/// Whether every row has an answer inside of it.
pub fn check_spans(batch: &PackedBatch, spans: &[Span]) -> Result<(), ModelError> {
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

/// `scale` · Σ over the rows of the mean of two cross-entropies, of the start and of the end, each over the row's tokens; leaves the
/// gradient in `dlogits`. `logits` and `dlogits` are (tokens, 2).
pub fn span_loss(shard: &Shard, logits: &[f32], spans: &[Span], scale: f32, dlogits: &mut [f32]) -> f64 {
    let (mut column, mut dcolumn, mut target, mut loss) = (Vec::new(), Vec::new(), Vec::new(), 0.0);
    for (ends, span) in shard.cu_seqlens.windows(2).zip(spans) {
        let row = 2 * ends[0]..2 * ends[1];
        for (side, answer) in [span.start, span.end].into_iter().enumerate() {
            column.clear();
            column.extend(logits[row.clone()].iter().skip(side).step_by(2));
            target.clear();
            target.resize(column.len(), 0.0);
            target[answer] = 1.0;
            dcolumn.resize(column.len(), 0.0);
            loss += soft_cross_entropy(&column, &target, &[1.0], 0.5 * scale, &mut dcolumn);
            dlogits[row.clone()].iter_mut().skip(side).step_by(2).zip(&dcolumn).for_each(|(d, &g)| *d = g);
        }
    }
    loss
}

/// [`span_loss`] of candle's operations, as a scalar: `logits` (tokens, 2), `padding` of the shard's rows.
#[cfg(feature = "candle")]
pub fn composed_loss(padding: &Padding, logits: &Tensor, spans: &[Span], scale: f32) -> candle_core::Result<Tensor> {
    let (rows, longest) = (padding.rows(), padding.longest());
    let padded = padding.pad(logits)?.broadcast_add(&padding.mask().unsqueeze(2)?)?;
    // A row of the cross-entropy is a side of a span.
    let sides = padded.transpose(1, 2)?.reshape((2 * rows, longest))?;
    let mut targets = vec![0.0; 2 * rows * longest];
    for (answer, side) in spans.iter().flat_map(|span| [span.start, span.end]).zip(targets.chunks_exact_mut(longest)) {
        side[answer] = 1.0;
    }
    lacuna_kernels::cross_entropy::composed(&sides, &targets, &vec![1.0; 2 * rows], 0.5 * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_spans() {
        // Start logits 0 5 1 0, end logits 9 0 2 3.
        let logits = [0.0, 9.0, 5.0, 0.0, 1.0, 2.0, 0.0, 3.0];
        let best = |candidates, longest| best_span(&logits, &candidates, longest).map(|(span, _)| span);
        assert_eq!(best_span(&logits, &(1..4), 4).map(|(_, score)| score), Some(8.0));
        assert_eq!(best(0..4, 4), Some(Span { start: 0, end: 0 }));
        assert_eq!(best(1..4, 4), Some(Span { start: 1, end: 3 }));
        assert_eq!(best(1..4, 2), Some(Span { start: 1, end: 2 }));
        assert_eq!(best(2..9, 1), Some(Span { start: 2, end: 2 }));
        assert_eq!(best(2..2, 4), None);
    }
}
