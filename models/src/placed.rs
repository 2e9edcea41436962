//! A model's parameters on a device of candle's.

use crate::ModelError;
use crate::batch::{PackedBatch, Shard};
use crate::composed::Composed;
use crate::config::Config;
use crate::masks::Masks;
use crate::parameters::Parameters;
use candle_core::{Device, Tensor, Var};
use std::sync::OnceLock;

/// Roughly how many bytes the activations kept of one piece of a batch may take. A whole step of MiniLM-L6 on 16 × 128 tokens is below it.
const ACTIVATIONS: usize = 2 << 30;

/// The device, and the parameters there once they are needed.
#[derive(Clone)]
pub struct Placed {
    pub device: Device,
    /// In the order of the layout's tensors. Never changed, only replaced: clones of a model share them.
    vars: OnceLock<Vec<Var>>,
    /// Bytes for the activations of a piece of a batch.
    pub activations: usize,
}

impl Placed {
    pub fn new(device: Device) -> Self {
        Placed { device, vars: OnceLock::new(), activations: ACTIVATIONS }
    }

    /// The parameters, copied to the device if they are not there.
    pub fn vars(&self, params: &Parameters) -> candle_core::Result<&[Var]> {
        if let Some(vars) = self.vars.get() {
            return Ok(vars);
        }
        let tensors = params.layout.tensors.iter();
        let vars = tensors
            .map(|t| Var::from_slice(&params.flat[t.range.clone()], &t.shape[..], &self.device))
            .collect::<candle_core::Result<_>>()?;
        Ok(self.vars.get_or_init(|| vars))
    }

    /// Replaces the parameters.
    pub fn replace(&mut self, vars: Vec<Var>) {
        self.vars = vars.into();
    }

    /// Drops the parameters on the device: those in the flat buffer have changed.
    pub fn forget(&mut self) {
        self.vars.take();
    }

    /// The logits of a checked batch, without dropout.
    pub fn logits(&self, params: &Parameters, batch: &PackedBatch) -> Result<Vec<f32>, ModelError> {
        let tensors: Vec<Tensor> = self.vars(params)?.iter().map(Var::as_detached_tensor).collect();
        let mut logits = Vec::new();
        for shard in batch.shards(self.pieces(batch, &params.config, 1)) {
            let composed = Composed::new(params, &tensors, &shard, None, &self.device)?;
            logits.extend(composed.logits()?.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(logits)
    }

    /// The loss of a shard, computed by `loss` from its logits, and the gradient of every tensor.
    pub fn gradients(
        &self,
        params: &Parameters,
        shard: &Shard,
        masks: Masks,
        loss: impl FnOnce(&Composed, &Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<(f32, Vec<Tensor>), ModelError> {
        let vars = self.vars(params)?;
        let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let composed = Composed::new(params, &tensors, shard, Some(masks), &self.device)?;
        let loss = loss(&composed, &composed.logits()?)?;
        let mut store = loss.backward()?;
        let named = vars.iter().zip(&params.layout.tensors);
        let missing = |name: &str| ModelError::Device(format!("no gradient reaches `{name}`: one of candle's operations has no backward"));
        let gradients = named.map(|(var, tensor)| store.remove(var).map(|g| g.detach()).ok_or_else(|| missing(&tensor.name)));
        Ok((loss.to_scalar()?, gradients.collect::<Result<_, _>>()?))
    }

    /// The number of pieces into which a batch is cut so that the activations of each, over `layers` layers, stay near the allowed bytes.
    /// candle's graph keeps every intermediate tensor: about ten of the size of the probabilities and forty of the hidden states a layer.
    pub fn pieces(&self, batch: &PackedBatch, config: &Config, layers: usize) -> usize {
        let longest = batch.cu_seqlens.windows(2).map(|ends| (ends[1] - ends[0]) as usize).max().unwrap_or(0);
        let probabilities = batch.rows() * config.num_attention_heads * longest * longest;
        let hidden_states = batch.tokens() * (40 * config.hidden_size + 4 * config.intermediate_size);
        (size_of::<f32>() * layers * (10 * probabilities + hidden_states)).div_ceil(self.activations)
    }
}

/// A tensor's numbers on the CPU.
pub fn numbers(tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Architecture;

    #[test]
    fn long_batches_come_in_pieces() {
        let config = |layers, hidden| Config {
            architecture: Architecture::Bert,
            vocab_size: 30_522,
            hidden_size: hidden,
            embedding_size: hidden,
            num_hidden_layers: layers,
            num_attention_heads: 12,
            intermediate_size: 4 * hidden,
            max_position_embeddings: 512,
            first_position: 0,
            type_vocab_size: 2,
            relative_buckets: 0,
            layer_norm_eps: 1e-12,
            hidden_dropout: 0.1,
            attention_dropout: 0.1,
            classifier_dropout: 0.1,
            pad_token_id: 0,
            modern: None,
            disentangled: None,
        };
        let batch = |rows: u32, tokens: u32| PackedBatch {
            input_ids: vec![0; (rows * tokens) as usize],
            token_type_ids: vec![0; (rows * tokens) as usize],
            cu_seqlens: (0..=rows).map(|row| row * tokens).collect(),
        };
        let placed = Placed::new(Device::Cpu);
        assert_eq!(placed.pieces(&batch(16, 128), &config(6, 384), 6), 1);
        let base = config(12, 768);
        let pieces = placed.pieces(&batch(16, 512), &base, 12);
        assert!((16..=24).contains(&pieces), "{pieces}");
        assert_eq!(placed.pieces(&batch(16, 512), &base, 1), 2);
    }
}
