//! A tiny classifier and a batch for it, to try a GPU out with.

use crate::batch::PackedBatch;
use crate::classifier::Classifier;
use crate::config::{Architecture, Config};
use crate::cuda::Placed;
use crate::device::Device;
use crate::layout::{Head, Layout};
use crate::network::Network;
use crate::parameters::Parameters;
use crate::precision::Precision;
use crate::problem::Problem;
use std::sync::OnceLock;

/// Tokens of the rows: one, a tile of attention, and more.
pub const LENGTHS: [u32; 4] = [1, 64, 70, 5];
pub const LABELS: usize = 3;

/// Small numbers that differ.
fn numbers(n: usize) -> Vec<f32> {
    (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 25) as f32 - 0.25).collect()
}

/// A classifier with so many heads, on a device or on the CPU.
pub fn model(heads: usize, cuda: Option<Placed>) -> Classifier {
    let config = Config {
        architecture: Architecture::Bert,
        vocab_size: 40,
        hidden_size: 64,
        embedding_size: 64,
        num_hidden_layers: 2,
        num_attention_heads: heads,
        intermediate_size: 128,
        max_position_embeddings: 80,
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
    let layout = Layout::new(&config, Head::Labels(LABELS));
    let mut flat = numbers(layout.len());
    let norms = layout.tensors.iter().filter(|tensor| tensor.name.ends_with("LayerNorm.weight"));
    norms.for_each(|tensor| flat[tensor.range.clone()].iter_mut().for_each(|x| *x += 1.0));
    let network = Network {
        params: Parameters { config, layout, flat },
        precision: Precision::F32,
        rounded: OnceLock::new(),
        device: Device::Cpu,
        cuda,
        #[cfg(feature = "candle")]
        placed: None,
    };
    let labels = (0..LABELS).map(|label| label.to_string()).collect();
    Classifier { network, labels, problem: Problem::SingleLabel, thresholds: Vec::new(), trained: true }
}

/// Rows of [`LENGTHS`] tokens.
pub fn batch() -> PackedBatch {
    let tokens = LENGTHS.iter().sum();
    let mut cu_seqlens = vec![0];
    cu_seqlens.extend(LENGTHS.iter().scan(0, |end, n| {
        *end += n;
        Some(*end)
    }));
    PackedBatch { input_ids: (0..tokens).map(|i| i * 7 % 37).collect(), token_type_ids: (0..tokens).map(|i| i % 2).collect(), cu_seqlens }
}
