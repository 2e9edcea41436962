//! The extractive question answerer.

use crate::ModelError;
use crate::batch::PackedBatch;
use crate::layout::Head;
use crate::network::Network;
use crate::span::{Span, best_span};
use std::ops::{Deref, DerefMut, Range};
use std::path::Path;

/// An encoder with a span head, as transformers' `BertForQuestionAnswering` and its like.
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
    /// Loads a pretrained encoder, or an extractor that [`SpanExtractor::save`] wrote; a head that is not in the file is
    /// initialised from N(0, 0.02²), seeded by `init_seed`.
    ///
    /// # Errors
    /// As for [`Classifier::load`](crate::Classifier::load).
    pub fn load(folder: &Path, init_seed: u64) -> Result<Self, ModelError> {
        Ok(SpanExtractor { network: Network::load(folder, Head::Span, init_seed)?.0 })
    }

    /// Start and end logits for each token: (tokens, 2). As for
    /// [`Classifier::logits`](crate::Classifier::logits), the rows go in `threads` jobs to the caller's rayon pool.
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
        candidates: &[Range<usize>],
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
        self.config().to_span_json()
    }
}
