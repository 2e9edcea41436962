//! How a model is loaded and run: settings, their bounds, and the choice of kernels.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Most tokens in one `llama_decode` (n_batch and n_ubatch), unless another number is measured or set.
pub(super) const N_BATCH: usize = 512;
/// Larger batches only take memory.
const LARGEST_BATCH: usize = 4096;
/// More layers than any model has.
pub const ALL_LAYERS: u32 = 9999;
/// Slots and at least six holders must stay within llama.cpp's 256 sequences.
const MOST_SLOTS: usize = 250;

/// The number format of a KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum KvFormat {
    /// 16-bit floats.
    F16,
    /// 8-bit integers with a scale for every 32: half the memory.
    #[value(name = "q8_0")]
    Q8_0,
}

/// How to load and run a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LlamaConfig {
    /// The GGUF file; for a split model, its first part.
    pub path: PathBuf,
    /// A chat template, in Jinja, in place of the model's own.
    pub chat_template: Option<String>,
    /// Threads; 0 for all cores. On a CPU, each thread is a worker with its own context.
    pub threads: usize,
    /// Layers to put on GPUs, [`ALL_LAYERS`] for all; with 0 no GPU is touched.
    pub gpu_layers: u32,
    /// Contexts on each GPU, fewer if memory is short: while the step of one is computed, the tokens of another are drawn. None: as many
    /// as were found best.
    pub contexts_per_gpu: Option<usize>,
    /// Whether a GPU's logits are copied to the host, for comparisons; if not, they are read where they are where that is possible.
    pub copy_logits: bool,
    /// Slots, batch size, and format and layout of the KV cache; [`Llama::tune`](super::Llama::tune) measures the best.
    pub settings: Settings,
    /// Most tokens of one request, prompt and new tokens together; 0 for the model's training context.
    pub n_ctx: usize,
    /// The kernels for matrix products and attention on the CPU.
    pub kernels: Kernels,
}

/// The kernels for matrix products and attention on the CPU. The choice is global: the model loaded last decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Kernels {
    /// lacuna's where they support the processor and the weights, else ggml's
    #[default]
    Auto,
    /// ggml's, as in plain llama.cpp
    Ggml,
}

impl LlamaConfig {
    /// All cores, no GPU, 32 slots with one KV cache in F16, the training context.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        LlamaConfig {
            path: path.into(),
            chat_template: None,
            threads: 0,
            gpu_layers: 0,
            contexts_per_gpu: None,
            copy_logits: false,
            settings: Settings { slots: 32, kv: KvFormat::F16, unified: true, n_batch: N_BATCH },
            n_ctx: 0,
            kernels: Kernels::Auto,
        }
    }

    /// Number of contexts decoded in parallel on a CPU: one per thread.
    pub(super) fn cpu_workers(&self) -> usize {
        if self.threads == 0 { cores() } else { self.threads }
    }
}

/// The settings that are chosen by measurement. With quantised weights a text depends slightly on what is decoded in the same batch,
/// and so on these settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Number of requests that a worker decodes together.
    pub slots: usize,
    pub kv: KvFormat,
    /// Whether all sequences share one KV cache.
    pub unified: bool,
    /// Most tokens in one `llama_decode`, the micro-batch.
    pub n_batch: usize,
}

/// Settings fixed by the user; the others are measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    pub slots: Option<usize>,
    pub kv: Option<KvFormat>,
    pub unified: Option<bool>,
    pub n_batch: Option<usize>,
}

/// Refuses settings out of bounds.
pub(super) fn check_settings(settings: Settings) -> Result<(), String> {
    if !(1..=MOST_SLOTS).contains(&settings.slots) {
        return Err(format!("slots is {}; it must be between 1 and {MOST_SLOTS}", settings.slots));
    }
    if !(settings.slots..=LARGEST_BATCH).contains(&settings.n_batch) {
        return Err(format!(
            "n_batch is {}; it must be between the number of slots, {}, and {LARGEST_BATCH}",
            settings.n_batch, settings.slots
        ));
    }
    Ok(())
}

/// The cores that this process may run on.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Replaces an `n_ctx` of 0 by the training context.
pub(super) fn with_context(mut config: LlamaConfig, n_ctx_train: usize) -> LlamaConfig {
    if config.threads == 0 {
        config.threads = cores();
    }
    if config.n_ctx == 0 {
        config.n_ctx = n_ctx_train;
    }
    if config.n_ctx > n_ctx_train {
        tracing::warn!(
            "n_ctx = {} is more than the model's training context of {n_ctx_train} tokens; long texts may be nonsense",
            config.n_ctx
        );
    }
    config
}
