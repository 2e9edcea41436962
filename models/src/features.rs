//! Features of texts from the encoder as it is: the mean of the last hidden states.

use crate::ModelError;
use crate::batch::{PackedBatch, Shard};
use crate::device::Device;
use crate::encoder::{self, Encoder};
use crate::network::Network;
use crate::parameters::Parameters;
use crate::pooling::means;
use crate::spread::spread;
use std::sync::OnceLock;

impl Network {
    /// The mean of the last hidden states of each row's tokens, `[CLS]` and `[SEP]` included: (rows, hidden). The head is not used.
    /// Computed on the CPU, wherever the model is; the rows go in `threads` jobs to the caller's rayon pool.
    ///
    /// # Errors
    /// [`ModelError::Batch`] for a batch that [`PackedBatch::check`] refuses.
    pub fn features(&self, batch: &PackedBatch, threads: usize) -> Result<Vec<f32>, ModelError> {
        batch.check(&self.params.config)?;
        let newest = self.flat()?;
        if !std::ptr::eq(newest, &self.params.flat[..]) {
            let params = Parameters { flat: newest.to_vec(), ..self.params.clone() };
            return Network { params, cuda: None, device: Device::Cpu, rounded: OnceLock::new(), ..self.clone() }.features(batch, threads);
        }
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
