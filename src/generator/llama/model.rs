//! A loaded model: checks before loading, its description and its counters.

use llama_cpp_2::MetaValError;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::backend::{backend, choose_kernels};
use super::config::{LlamaConfig, Settings, check_settings, with_context};
use super::crash;
use super::gguf::{self, Header};
use super::in_place::{self, SharedGpu};
use super::load;
use super::memory::{self, Footprint};
use super::placement::Placement;
use super::refusal::header_of_generator;
use super::tokenise;
use super::workers::Counters;
use crate::generator::chat_template::ChatTemplate;
use crate::generator::form::Vocabulary;
use crate::generator::request::GenerateError;

/// The metadata key of a model's chat template.
const TEMPLATE: &str = "tokenizer.chat_template";

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
    /// The same model on further GPUs.
    pub(super) replicas: Vec<LlamaModel>,
    pub(super) placement: Placement,
    /// The GPU of each model, where its logits can be read without copying them; none if they cannot.
    pub(super) logits_gpus: Vec<SharedGpu>,
    /// Contexts on the CPU: one a thread, fewer if memory is short.
    cpu_workers: usize,
    pub(super) template: ChatTemplate,
    pub(super) config: LlamaConfig,
    pub(super) description: Description,
    pub(super) footprint: Footprint,
    /// Cells of a context up to which a LongRoPE model takes its factors for short texts; `None` for any other model.
    pub(super) short_rope: Option<usize>,
    pub(super) counters: Counters,
    /// Built when the first form is needed.
    pub(super) vocabulary: OnceLock<Vocabulary>,
    /// Number of layers whose hidden states can be read, once it was tried.
    pub(super) shown_layers: OnceLock<usize>,
    /// Attention in F32 throughout, several times slower: for tests that compare results.
    pub(super) exact_attention: bool,
}

/// As many workers on the CPU as were asked for and memory has room for; an error if not even for one.
fn workers_with_room(config: &LlamaConfig, footprint: &Footprint) -> Result<usize, String> {
    let wanted = config.cpu_workers();
    let workers = memory::available().map_or(Ok(wanted), |free| footprint.workers_that_fit(free, wanted))?;
    if workers < wanted {
        memory::warn_of(workers, wanted);
    }
    Ok(workers)
}

impl Llama {
    /// Maps the weights, or copies them to the GPUs, and compiles the chat template.
    pub fn load(config: LlamaConfig) -> Result<Self, GenerateError> {
        let fail = |reason: String| GenerateError::Load { path: config.path.display().to_string(), reason };
        let backend = backend().map_err(fail)?;
        check_settings(config.settings).map_err(fail)?;
        let header = header_of_generator(&config.path).map_err(fail)?;
        let footprint = Footprint::of(&header, config.settings.n_batch);
        let placement = Placement::choose(&footprint, &header, config.gpu_layers).map_err(fail)?;
        let cpu_workers = if placement.on_cpu() { workers_with_room(&config, &footprint).map_err(fail)? } else { 0 };
        choose_kernels(&config);
        let (model, replicas) = load_models(backend, &config, &placement).map_err(fail)?;
        let description = describe(&model, &config);
        check_is_attending(&model).map_err(fail)?;
        let template = chat_template(&model, config.chat_template.as_deref())?;
        // With some layers on the CPU, the output may be there too.
        let gpus = if config.gpu_layers > model.n_layer() && !config.copy_logits { placement.whole_on() } else { Vec::new() };
        let logits_gpus = gpus.iter().map_while(|name| in_place::open(name)).collect();
        let config = with_context(config, description.n_ctx_train);
        let mut llama = Llama {
            backend,
            model,
            replicas,
            logits_gpus,
            placement,
            cpu_workers,
            template,
            config,
            description,
            footprint,
            short_rope: short_rope(&header),
            counters: Counters::default(),
            vocabulary: OnceLock::new(),
            shown_layers: OnceLock::new(),
            exact_attention: false,
        };
        if let Some(Err(error)) = (!llama.logits_gpus.is_empty()).then(|| llama.try_logits_in_place()) {
            tracing::info!("logits are copied from the GPU: {error}");
            llama.logits_gpus.clear();
        }
        llama.counters = Counters::default();
        Ok(llama)
    }

    /// Changes the settings, from the next call on.
    pub fn set(&mut self, settings: Settings) -> Result<(), GenerateError> {
        check_settings(settings).map_err(|reason| GenerateError::Load { path: self.config.path.display().to_string(), reason })?;
        self.config.settings = settings;
        Ok(())
    }

    /// The model on every device set that has it.
    pub(super) fn models(&self) -> impl Iterator<Item = &LlamaModel> {
        std::iter::once(&self.model).chain(&self.replicas)
    }

    /// Number of contexts decoded in parallel.
    pub(super) fn workers(&self) -> usize {
        let per_model = match self.config.contexts_per_gpu {
            // The CPU's layers need all threads; beside other GPUs than NVIDIA's nothing was measured.
            None if self.config.gpu_layers <= self.model.n_layer() => 1,
            None if self.placement.is_cuda() => 4,
            None => 2,
            Some(contexts) => contexts.max(1),
        };
        if self.placement.on_cpu() { self.cpu_workers } else { per_model * self.models().count() }
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

fn short_rope(header: &Header) -> Option<usize> {
    let key = format!("{}.rope.scaling.original_context_length", header.text("general.architecture")?);
    header.integer(&key).filter(|_| header.long_rope).and_then(|length| usize::try_from(length).ok())
}

/// The model on the first device set, and on the others.
fn load_models(backend: &LlamaBackend, config: &LlamaConfig, placement: &Placement) -> Result<(LlamaModel, Vec<LlamaModel>), String> {
    let _guard = crash::Guard::new(&config.path);
    let mut models = placement.params(config.gpu_layers)?.into_iter().map(|params| load::load(backend, &config.path, &params));
    let first = models.next().ok_or("no device for it")??;
    Ok((first, models.collect::<Result<_, _>>()?))
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
        chat: config.chat_template.is_some() || own_template(model).is_ok_and(|source| source.is_some()),
    }
}

fn check_is_attending(model: &LlamaModel) -> Result<(), String> {
    match model.n_vocab() == 0 || model.n_head() == 0 {
        true => Err("is a recurrent model without attention, which lacuna does not run; use a causal language model with attention".into()),
        false => Ok(()),
    }
}

/// The template that is given, or else the model's own; a base model has none.
///
/// # Errors
/// A template that cannot be used.
pub(super) fn chat_template(model: &LlamaModel, given: Option<&str>) -> Result<ChatTemplate, GenerateError> {
    let vocab = model.vocab();
    let source = given.map_or_else(|| own_template(model), |given| Ok(Some(given.to_string())))?;
    ChatTemplate::new(source, tokenise::token_text(&vocab, vocab.bos()), tokenise::token_text(&vocab, vocab.eos()))
}

/// The model's own template. Where it has several, the one without a name, or the one called `default`; those for tools and documents are
/// not for plain messages.
fn own_template(model: &LlamaModel) -> Result<Option<String>, GenerateError> {
    for key in [TEMPLATE.to_string(), format!("{TEMPLATE}.default")] {
        match model.meta_val_str(&key) {
            Ok(source) => return Ok(Some(source)),
            Err(MetaValError::FromUtf8Error(_)) => return Err(GenerateError::Template(format!("{key} is not UTF-8"))),
            Err(_) => {}
        }
    }
    Ok(None)
}
