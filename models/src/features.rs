//! Features of texts from the encoder as it is: the mean of the last hidden states.

use crate::ModelError;
use crate::batch::{PackedBatch, Shard};
use crate::encoder::{self, Encoder};
use crate::network::Network;
use crate::spread::spread;

impl Network {
    /// The mean of the last hidden states of each row's tokens, `[CLS]` and `[SEP]` included: (rows, hidden). The head is not used.
    /// Computed on the CPU, wherever the model is; the rows go in `threads` jobs to the caller's rayon pool.
    ///
    /// # Errors
    /// [`ModelError::Batch`] for a batch that [`PackedBatch::check`] refuses.
    pub fn features(&self, batch: &PackedBatch, threads: usize) -> Result<Vec<f32>, ModelError> {
        batch.check(&self.params.config)?;
        let rounded = self.rounded(threads);
        let features = spread(batch.shards(threads), |shard| {
            let shard = Shard { every_token: true, ..shard };
            let encoder = Encoder { params: &self.params, rounded, shard: &shard, masks: None };
            let mut work = encoder::Work::default();
            encoder.forward(&mut work);
            means(&work.hidden_states, &shard.cu_seqlens, self.params.config.hidden_size)
        });
        Ok(features.concat())
    }
}

/// The mean of each row's tokens, (rows, hidden), of `hidden_states` (tokens, hidden).
fn means(hidden_states: &[f32], cu_seqlens: &[usize], hidden: usize) -> Vec<f32> {
    let mut means = vec![0.0; (cu_seqlens.len() - 1) * hidden];
    for (mean, ends) in means.chunks_exact_mut(hidden).zip(cu_seqlens.windows(2)) {
        for token in hidden_states[ends[0] * hidden..ends[1] * hidden].chunks_exact(hidden) {
            mean.iter_mut().zip(token).for_each(|(sum, x)| *sum += x);
        }
        let tokens = (ends[1] - ends[0]) as f32;
        mean.iter_mut().for_each(|sum| *sum /= tokens);
    }
    means
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_different_lengths_have_their_own_means() {
        assert_eq!(means(&[1.0, 2.0, 3.0, 4.0, 5.0, 9.0], &[0, 1, 3], 2), [1.0, 2.0, 4.0, 6.5]);
    }
}
