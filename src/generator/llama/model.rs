//! A loaded model: checks before loading, its description and its counters.

use llama_cpp_2::LlamaBackendDeviceType;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::backend::{backend, choose_kernels};
use super::config::{LlamaConfig, Settings, check_settings, with_context};
use super::gguf::{self, Header};
use super::memory::{self, Footprint};
use super::tokenise;
use super::workers::Counters;
use crate::generator::chat_template::ChatTemplate;
use crate::generator::form::Vocabulary;
use crate::generator::request::GenerateError;

/// A description of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    pub path: PathBuf,
    /// The model's own name, empty if the file does not say.
    pub name: String,
    pub architecture: String,
    /// Bytes of the weights.
    pub bytes: u64,
    pub n_params: u64,
    /// The format of most weights, such as `Q4_0`.
    pub quantisation: String,
    /// Context length in training, in tokens.
    pub n_ctx_train: usize,
    /// Whether it has a chat template; a base model has none.
    pub chat: bool,
}

/// Counters since the model was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Number of requests.
    pub requests: u64,
    /// Tokens of all prompts.
    pub prompt_tokens: u64,
    /// Prompt tokens that were prefilled; the others were shared.
    pub prefilled_tokens: u64,
    /// New tokens that were decoded.
    pub decoded_tokens: u64,
    /// Decoded batches of all workers.
    pub steps: u64,
    /// Wall-clock time spent in `complete`, `posteriors` and `likelihood`.
    pub seconds: f64,
}

/// A loaded model.
pub struct Llama {
    pub(super) backend: &'static LlamaBackend,
    pub(super) model: LlamaModel,
    pub(super) template: ChatTemplate,
    pub(super) config: LlamaConfig,
    pub(super) description: Description,
    pub(super) footprint: Footprint,
    pub(super) counters: Counters,
    /// Built when the first form is needed.
    pub(super) vocabulary: OnceLock<Vocabulary>,
    /// Number of layers whose hidden states can be read, once it was tried.
    pub(super) shown_layers: OnceLock<usize>,
    /// Attention in F32 throughout, several times slower: for tests that compare results.
    pub(super) exact_attention: bool,
}

impl Llama {
    /// Maps the weights and compiles the chat template.
    pub fn load(config: LlamaConfig) -> Result<Self, GenerateError> {
        let fail = |reason: String| GenerateError::Load { path: config.path.display().to_string(), reason };
        let backend = backend().map_err(fail)?;
        check_settings(config.settings).map_err(fail)?;
        check_gpu(&config, backend).map_err(fail)?;
        let header = Header::read(&config.path).map_err(fail)?;
        let footprint = Footprint::of(&header, config.settings.n_batch);
        check_memory(&footprint, &header, &config).map_err(fail)?;
        choose_kernels(&config);
        let params = LlamaModelParams::default().with_n_gpu_layers(config.gpu_layers).with_use_mmap(true);
        let model = LlamaModel::load_from_file(backend, &config.path, &params).map_err(|_| {
            fail(
                "llama.cpp cannot load it: it is truncated or damaged, its architecture is unknown to this build, or memory is short. \
                  Compare its sha256 with the publisher's or fetch it again; LACUNA_LOG=llama-cpp-2=info shows llama.cpp's messages"
                    .into(),
            )
        })?;
        let description = describe(&model, &config);
        check_is_causal_decoder(&model, &description.architecture).map_err(fail)?;
        let template = chat_template(&model)?;
        let config = with_context(config, description.n_ctx_train);
        Ok(Llama {
            backend,
            model,
            template,
            config,
            description,
            footprint,
            counters: Counters::default(),
            vocabulary: OnceLock::new(),
            shown_layers: OnceLock::new(),
            exact_attention: false,
        })
    }

    /// Changes the settings, from the next call on.
    pub fn set(&mut self, settings: Settings) -> Result<(), GenerateError> {
        check_settings(settings).map_err(|reason| GenerateError::Load { path: self.config.path.display().to_string(), reason })?;
        self.config.settings = settings;
        Ok(())
    }

    /// The loaded model's description.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The counters so far.
    pub fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            requests: read(&self.counters.requests),
            prompt_tokens: read(&self.counters.prompt_tokens),
            prefilled_tokens: read(&self.counters.prefilled),
            decoded_tokens: read(&self.counters.decoded),
            steps: read(&self.counters.steps),
            seconds: read(&self.counters.microseconds) as f64 * 1e-6,
        }
    }
}

fn check_gpu(config: &LlamaConfig, backend: &LlamaBackend) -> Result<(), String> {
    if config.gpu_layers > 0 && !backend.supports_gpu_offload() {
        return Err(
            "gpu_layers is above 0, but no GPU can be used; build with the feature `cuda`, `metal` or `vulkan`, or set it to 0".into()
        );
    }
    Ok(())
}

/// Checks that the weights and the smallest contexts fit in the memory of their device.
fn check_memory(footprint: &Footprint, header: &Header, config: &LlamaConfig) -> Result<(), String> {
    if config.gpu_layers == 0 {
        return memory::available().map_or(Ok(()), |free| footprint.check_load(free, config.workers()));
    }
    let architecture = header.text("general.architecture").unwrap_or_default();
    let n_layers = header.integer(&format!("{architecture}.block_count")).unwrap_or(u64::MAX - 1);
    let gpus = llama_cpp_2::list_llama_ggml_backend_devices();
    let free: u64 = gpus.iter().filter(|device| device.device_type == LlamaBackendDeviceType::Gpu).map(|gpu| gpu.memory_free as u64).sum();
    // A device that shares the system's memory may not report its free memory.
    if free == 0 { Ok(()) } else { footprint.check_gpu(free, config.gpu_layers, n_layers) }
}

fn describe(model: &LlamaModel, config: &LlamaConfig) -> Description {
    let meta = |key: &str| model.meta_val_str(key).unwrap_or_default();
    Description {
        path: config.path.clone(),
        name: meta("general.name"),
        architecture: meta("general.architecture"),
        bytes: model.size(),
        n_params: model.n_params(),
        quantisation: gguf::quantisation_name(&meta("general.file_type")),
        n_ctx_train: model.n_ctx_train() as usize,
        chat: model.meta_val_str("tokenizer.chat_template").is_ok(),
    }
}

fn check_is_causal_decoder(model: &LlamaModel, architecture: &str) -> Result<(), String> {
    let causal = model.meta_val_str(&format!("{architecture}.attention.causal")).ok();
    if !writes_text(architecture, causal.as_deref()) {
        return Err(format!("has the architecture {architecture:?}, which does not generate text; use a causal language model"));
    }
    if model.n_vocab() == 0 || model.n_head() == 0 {
        return Err("has no vocabulary or no attention heads; use a causal language model with its tokenizer".into());
    }
    Ok(())
}

/// Whether an architecture predicts the next token, which encoders, embedding and diffusion models do not. `causal` is the file's
/// metadata on it.
pub(super) fn writes_text(architecture: &str, causal: Option<&str>) -> bool {
    let encoders = ["bert", "t5", "clip", "embedding", "wavtokenizer"];
    causal != Some("false") && !encoders.iter().any(|name| architecture.contains(name))
}

fn chat_template(model: &LlamaModel) -> Result<ChatTemplate, GenerateError> {
    let vocab = model.vocab();
    let source = model.meta_val_str("tokenizer.chat_template").ok();
    ChatTemplate::new(source, tokenise::token_text(&vocab, vocab.bos()), tokenise::token_text(&vocab, vocab.eos()))
}
