//! How a model is loaded and run: settings, their bounds, and whose kernels compute.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The most tokens in one `llama_decode`, logical and physical, unless another number is measured or wished.
pub(super) const N_BATCH: usize = 512;
/// Larger ones only take memory.
const LARGEST_BATCH: usize = 4096;
/// Slots and holders together must stay within llama.cpp's 256 sequences.
const MOST_SLOTS: usize = 128;

/// The numbers in a KV cache.
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
    /// The GGUF file; of a split model its first part.
    pub path: PathBuf,
    /// Threads; 0 takes every core. On a CPU each is a worker with its own context.
    pub threads: usize,
    /// Layers to put on a GPU; above 0 there is one worker. Needs a build with `cuda`, `metal` or `vulkan`.
    pub gpu_layers: u32,
    /// Width, format and layout of the KV cache; [`Llama::tune`] chooses them by measurement.
    pub settings: Settings,
    /// The most tokens of one request, prompt and new ones together; 0 takes the model's training context.
    pub n_ctx: usize,
    /// Whose products and attention run on the CPU.
    pub kernels: Kernels,
}

/// Whose products and attention run on the CPU. The choice holds for the process: the model that is loaded last decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Kernels {
    /// Our own where there are any for the processor and the weights, ggml's elsewhere
    #[default]
    Auto,
    /// llama.cpp as it is
    Ggml,
}

impl LlamaConfig {
    /// All cores, no GPU, 32 slots with one KV cache in F16, the training context.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        LlamaConfig {
            path: path.into(),
            threads: 0,
            gpu_layers: 0,
            settings: Settings { slots: 32, kv: KvFormat::F16, unified: true, n_batch: N_BATCH },
            n_ctx: 0,
            kernels: Kernels::Auto,
        }
    }

    /// Contexts that are decoded side by side: one a thread on a CPU.
    pub(super) fn workers(&self) -> usize {
        match (self.gpu_layers, self.threads) {
            (0, 0) => cores(),
            (0, threads) => threads,
            _ => 1,
        }
    }
}

/// What may be chosen by measurement. With quantised weights a text depends a little on what is decoded beside it, and so on these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Requests that a worker decodes together.
    pub slots: usize,
    pub kv: KvFormat,
    /// Whether all sequences share one KV cache.
    pub unified: bool,
    /// The most tokens in one `llama_decode`, its micro-batch.
    pub n_batch: usize,
}

/// Settings that a person has fixed; the others are measured.
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
        return Err(format!("slots is {}; it must be from 1 to {MOST_SLOTS}", settings.slots));
    }
    if !(settings.slots..=LARGEST_BATCH).contains(&settings.n_batch) {
        return Err(format!("n_batch is {}; it must be from the {} slots to {LARGEST_BATCH}", settings.n_batch, settings.slots));
    }
    Ok(())
}

/// The cores that this process may run on.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Fills in what 0 stands for.
pub(super) fn with_context(mut config: LlamaConfig, n_ctx_train: usize) -> LlamaConfig {
    if config.threads == 0 {
        config.threads = cores();
    }
    if config.n_ctx == 0 {
        config.n_ctx = n_ctx_train;
    }
    if config.n_ctx > n_ctx_train {
        tracing::warn!(
            "n_ctx = {} is more than the {n_ctx_train} tokens the model was trained on; long texts may be nonsense",
            config.n_ctx
        );
    }
    config
}
