//! Features of texts: the mean of the encoder's last hidden states, or what a classifier's last layer reads.

use crate::ModelError;
use crate::batch::{PackedBatch, Shard};
use crate::classifier::Classifier;
use crate::device::Device;
use crate::encoder::{self, Encoder};
use crate::head;
use crate::network::Network;
use crate::parameters::Parameters;
use crate::pooling::means;
use crate::rounded::Rounded;
use crate::spread::spread;
use std::borrow::Cow;
use std::sync::OnceLock;

impl Network {
    /// The mean of the last hidden states of each row's tokens, `[CLS]` and `[SEP]` included: (rows, hidden). The head is not used.
    /// Computed on the CPU, wherever the model is; the rows go in `threads` jobs to the caller's rayon pool.
    ///
    /// # Errors
    /// [`ModelError::Batch`] for a batch that [`PackedBatch::check`] refuses.
    pub fn features(&self, batch: &PackedBatch, threads: usize) -> Result<Vec<f32>, ModelError> {
        self.on_the_cpu(batch, threads, |params, rounded, shard| {
            let shard = Shard { every_token: true, ..shard };
            let encoder = Encoder { params, rounded, shard: &shard, masks: None };
            let mut work = encoder::Work::default();
            encoder.forward(&mut work);
            means(&work.hidden_states, &shard.cu_seqlens, params.config.hidden_size)
        })
    }

    /// The numbers that `of_shard` makes of each shard of a batch, one after the other.
    fn on_the_cpu(
        &self,
        batch: &PackedBatch,
        threads: usize,
        of_shard: impl Fn(&Parameters, &Rounded, Shard) -> Vec<f32> + Sync,
    ) -> Result<Vec<f32>, ModelError> {
        batch.check(&self.params.config)?;
        let newest = self.flat()?;
        let network = if std::ptr::eq(newest, &self.params.flat[..]) {
            Cow::Borrowed(self)
        } else {
            let params = Parameters { flat: newest.to_vec(), ..self.params.clone() };
            Cow::Owned(Network { params, cuda: None, device: Device::Cpu, rounded: OnceLock::new(), ..self.clone() })
        };
        let rounded = network.rounded(threads);
        Ok(spread(batch.shards(threads), |shard| of_shard(&network.params, rounded, shard)).concat())
    }
}

impl Classifier {
    /// What the classifier reads of each row, without dropout: (rows, hidden). Computed as [`Network::features`].
    ///
    /// # Errors
    /// [`ModelError::Batch`] for a batch that [`PackedBatch::check`] refuses.
    pub fn pooled(&self, batch: &PackedBatch, threads: usize) -> Result<Vec<f32>, ModelError> {
        self.network.on_the_cpu(batch, threads, |params, rounded, shard| {
            let encoder = Encoder { params, rounded, shard: &shard, masks: None };
            let (mut work, mut head) = (encoder::Work::default(), head::Work::default());
            encoder.forward(&mut work);
            head::forward(&encoder, &work.hidden_states, &mut head);
            head.into_pooled()
        })
    }
}
