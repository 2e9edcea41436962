//! Contrastive fine-tuning: the encoder learns from pairs of texts; the head stays as it is.

use super::{ShardWork, StepOutcome, Trainer, own_or_first};
use crate::ModelError;
use crate::batch::{PackedBatch, Shard};
use crate::contrastive::{Pair, check_pairs, cosine_similarity_loss};
use crate::device::Device;
use crate::encoder::Encoder;
use crate::network::Network;
use crate::pooling::{means, means_backward};

impl Trainer {
    /// One step of SetFit's first stage (Tunstall et al., arXiv 2209.11055): forward, backward and update of the encoder on pairs of
    /// rows of the batch.
    ///
    /// The loss is that of sentence-transformers' `CosineSimilarityLoss`, the mean over the pairs of (cos(u, v) − similarity)²; u and v
    /// are the means of the rows' last hidden states, `[CLS]` and `[SEP]` included. A row may be in many pairs or in none. It has one
    /// dropout mask for all of them; a text that is to have several is put into the batch as often. Jobs, clipping, schedule and AdamW
    /// are those of [`Trainer::step`], but the head keeps its parameters and moments.
    ///
    /// # Errors
    /// No pairs, rows that are not in the batch, similarities that are not from -1 to 1; a model that is not on [`Device::Cpu`]; a batch or
    /// configuration out of range; a loss or gradient that is not finite (the model is then unchanged).
    pub fn step_pairs(&mut self, model: &mut Network, batch: &PackedBatch, pairs: &[Pair]) -> Result<StepOutcome, ModelError> {
        let loss = self.accumulate_pairs(model, batch, pairs)?;
        self.update(model, loss, model.params.layout.encoder_len(), batch.rows())
    }

    /// The loss of [`Trainer::step_pairs`] and the gradients of all parameters, in the order of [`Network::parameters`], without an update.
    /// Those of the head are 0.
    pub fn pair_gradients(&mut self, model: &Network, batch: &PackedBatch, pairs: &[Pair]) -> Result<(f32, &[f32]), ModelError> {
        let loss = self.accumulate_pairs(model, batch, pairs)?;
        Ok((loss, &self.gradients))
    }

    /// The loss, and its gradients into `self.gradients`. The rows of a pair may lie in two shards, so that every shard's forward
    /// comes before the loss, and every backward after it.
    fn accumulate_pairs(&mut self, model: &Network, batch: &PackedBatch, pairs: &[Pair]) -> Result<f32, ModelError> {
        self.check_model(model)?;
        if model.device != Device::Cpu {
            let reason =
                format!("contrastive training runs on the CPU only, but the model is on {}: call `set_device` first", model.device);
            return Err(ModelError::Device(reason));
        }
        batch.check(&model.params.config)?;
        check_pairs(pairs, batch.rows())?;
        self.begin(model);
        let hidden = model.params.config.hidden_size;
        let shards: Vec<Shard> = batch.shards(self.config.threads).into_iter().map(|shard| Shard { every_token: true, ..shard }).collect();
        let embeddings = self.each_shard(model, &shards, 0, |encoder, work, _| work.embed(encoder)).concat();
        let (loss, dembeddings) = cosine_similarity_loss(&embeddings, hidden, pairs);
        self.each_shard(model, &shards, 0, |encoder, work, first| {
            let rows = encoder.shard.first_row..encoder.shard.first_row + encoder.shard.rows();
            work.embed_backward(encoder, &dembeddings[rows.start * hidden..rows.end * hidden], first);
        });
        self.collect(model, batch, &shards);
        Ok(loss as f32)
    }
}

impl ShardWork {
    /// The embeddings of a shard's rows, (rows, hidden): the means of their last hidden states.
    fn embed(&mut self, encoder: &Encoder) -> Vec<f32> {
        encoder.forward(&mut self.encoder);
        means(&self.encoder.hidden_states, &encoder.shard.cu_seqlens, encoder.params.config.hidden_size)
    }

    /// The backward of [`ShardWork::embed`]: adds the gradients of the encoder to `first`, or leaves them in its own buffer. `dembeddings`
    /// is (rows, hidden).
    fn embed_backward(&mut self, encoder: &Encoder, dembeddings: &[f32], first: Option<&mut [f32]>) {
        let ShardWork { encoder: work, dense, dlast, .. } = self;
        means_backward(dembeddings, &encoder.shard.cu_seqlens, encoder.params.config.hidden_size, dlast);
        encoder.backward(dlast, work, own_or_first(dense, first, encoder));
    }
}
