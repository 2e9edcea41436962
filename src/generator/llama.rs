//! A GGUF language model through llama.cpp. Only this module and its children know llama-cpp-2.

mod gguf;
mod guard;
mod host;
mod memory;
mod probe;
mod readers;
mod requantise;
mod tokenise;
mod weights;
mod workers;

#[cfg(test)]
mod chain_tests;
#[cfg(test)]
mod tests;

use super::chat_template::ChatTemplate;
use super::form::Vocabulary;
use super::prefix::PrefixTree;
use super::sampler;
use super::scheduler::{Job, Limits};
use super::{Completion, CompletionRequest, Generate, GenerateError, Likelihood, LikelihoodRequest, Score, ScoreRequest, Sink};
use gguf::Header;
pub use host::{Device, Fit, Host};
pub use lacuna_ggml_kernels::Unavailable;
use llama_cpp_2::LlamaBackendDeviceType;
use llama_cpp_2::LogOptions;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{KvCacheType, LlamaContextParams};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use memory::Footprint;
pub use probe::{Settings, Wishes};
use readers::{Judging, Reading, Writing};
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
pub use weights::{Choice, Measured, Weights, fastest_weights, q4_0_copy};
use workers::{Counters, Reader, Work};

/// The most tokens in one `llama_decode`, logical and physical, unless another number is measured or wished.
const N_BATCH: usize = 512;
/// Larger ones only take memory.
const LARGEST_BATCH: usize = 4096;
/// A shared prefix that saves fewer tokens of prefill is not worth a sequence of its own.
const LEAST_SAVED: usize = 32;
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
    fn workers(&self) -> usize {
        match (self.gpu_layers, self.threads) {
            (0, 0) => cores(),
            (0, threads) => threads,
            _ => 1,
        }
    }
}

/// What a model is, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    pub path: PathBuf,
    /// The model's own name, empty if the file does not say.
    pub name: String,
    pub architecture: String,
    /// Bytes of the weights.
    pub bytes: u64,
    pub n_params: u64,
    /// The format of most weights, for example `Q4_0`.
    pub quantisation: String,
    /// Tokens of context in training.
    pub n_ctx_train: usize,
    /// Whether it has a chat template; a base model has none.
    pub chat: bool,
}

/// What a model has done since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Requests, both kinds.
    pub requests: u64,
    /// Tokens of all prompts.
    pub prompt_tokens: u64,
    /// Prompt tokens that were computed; the others were shared.
    pub prefilled_tokens: u64,
    /// New tokens that were decoded.
    pub decoded_tokens: u64,
    /// Batches that were decoded, by all workers.
    pub steps: u64,
    /// Wall-clock time spent in `complete` and `score`.
    pub seconds: f64,
}

/// A loaded model.
pub struct Llama {
    backend: &'static LlamaBackend,
    model: LlamaModel,
    template: ChatTemplate,
    config: LlamaConfig,
    description: Description,
    footprint: Footprint,
    counters: Counters,
    /// Made when the first form is asked for.
    vocabulary: OnceLock<Vocabulary>,
    /// Attention in F32 throughout, several times slower: for tests that compare.
    exact_attention: bool,
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
                "llama.cpp cannot load it: it is cut off or damaged, its architecture is unknown to this build, or memory is short. \
                  Compare its sha256 with the publisher's or fetch it again; LACUNA_LOG=llama-cpp-2=info shows llama.cpp's own words"
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
            exact_attention: false,
        })
    }

    /// Takes other settings from the next call on.
    pub fn set(&mut self, settings: Settings) -> Result<(), GenerateError> {
        check_settings(settings).map_err(|reason| GenerateError::Load { path: self.config.path.display().to_string(), reason })?;
        self.config.settings = settings;
        Ok(())
    }

    /// What was loaded.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// What it has done so far.
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

    /// Sorts the jobs by prompt and serves them all; `start` makes the reader of a job.
    fn run<R: Reader, J: Sync>(
        &self,
        mut jobs: Vec<(Job, J)>,
        start: impl Fn(&Job, &J) -> R + Sync,
        sink: Sink<R::Answer>,
    ) -> Result<(), GenerateError> {
        if jobs.is_empty() {
            return Ok(());
        }
        let begun = Instant::now();
        // By what may be shared first: that is what the tree is made of.
        jobs.sort_by(|(a, _), (b, _)| a.as_ref().cmp(b.as_ref()).then_with(|| a.input_ids.cmp(&b.input_ids)));
        let (jobs, details): (Vec<Job>, Vec<J>) = jobs.into_iter().unzip();
        let tree = PrefixTree::new(&jobs, LEAST_SAVED);
        let (contexts, limits) = self.contexts(&jobs, &tree)?;
        let work = Work {
            jobs: &jobs,
            tree: &tree,
            limits,
            n_vocab: self.model.n_vocab().max(0) as usize,
            start: |job: usize| start(&jobs[job], &details[job]),
            counters: &self.counters,
        };
        let outcome = workers::run(contexts, &work, sink);
        let prompt_tokens = jobs.iter().map(|job| job.input_ids.len() as u64).sum();
        self.counters.requests.fetch_add(jobs.len() as u64, Ordering::Relaxed);
        self.counters.prompt_tokens.fetch_add(prompt_tokens, Ordering::Relaxed);
        self.counters.microseconds.fetch_add(begun.elapsed().as_micros() as u64, Ordering::Relaxed);
        outcome
    }

    /// One context a worker, as large as the jobs need or memory allows. Made one after the other: llama.cpp may write to the
    /// model meanwhile.
    fn contexts(&self, jobs: &[Job], tree: &PrefixTree) -> Result<(Vec<LlamaContext<'_>>, Limits), GenerateError> {
        let workers = self.config.workers().min(jobs.len());
        let threads = if self.config.gpu_layers > 0 { self.config.threads as i32 } else { 1 };
        let unified = self.config.settings.unified;
        let slots = self.config.settings.slots.min(jobs.len());
        let holders = if unified { slots } else { slots.div_ceil(4) };
        // Caches of their own: each has the cells for one request.
        let caches = if unified { 1 } else { slots + holders };
        let wanted = if unified { cells_wanted(jobs, tree, slots) } else { 1 };
        let n_cells = self.affordable_cells(wanted, jobs, workers, caches)?;
        let limits = Limits { slots, holders, n_batch: self.config.settings.n_batch, n_cells, unified };
        guard::check_limits(&limits).map_err(GenerateError::Decode)?;
        let params = self.context_params(limits, threads);
        let contexts = (0..workers).map(|_| {
            self.model.new_context(self.backend, params.clone()).map_err(|_| {
                GenerateError::Decode(format!("llama.cpp cannot make a context of {n_cells} tokens; use fewer slots or threads"))
            })
        });
        Ok((contexts.collect::<Result<_, _>>()?, limits))
    }

    fn context_params(&self, limits: Limits, threads: i32) -> LlamaContextParams {
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new((limits.n_cells * if limits.unified { 1 } else { limits.slots + limits.holders }) as u32))
            .with_n_batch(limits.n_batch as u32)
            .with_n_ubatch(limits.n_batch as u32)
            .with_n_seq_max((limits.slots + limits.holders) as u32)
            .with_kv_unified(limits.unified)
            .with_n_threads(threads)
            .with_n_threads_batch(threads)
            .with_no_perf(true);
        if !self.exact_attention {
            return match self.config.settings.kv {
                KvFormat::F16 => params,
                KvFormat::Q8_0 => params.with_type_k(KvCacheType::Q8_0).with_type_v(KvCacheType::Q8_0),
            };
        }
        // Flash attention would round keys and values to F16 again.
        params.with_type_k(KvCacheType::F32).with_type_v(KvCacheType::F32).with_flash_attention_policy(0)
    }

    /// Cells of each worker's KV cache; an error if not even the longest request would fit.
    fn affordable_cells(&self, wanted: usize, jobs: &[Job], workers: usize, caches: usize) -> Result<usize, GenerateError> {
        let longest = jobs.iter().map(Job::n_cells).max().unwrap_or(1);
        let free = memory::available().unwrap_or(u64::MAX);
        let footprint = self.footprint.with_batch(self.config.settings.n_batch);
        footprint.cells(free, workers, caches, wanted, longest).map_err(GenerateError::Decode)
    }

    /// Refuses a request that is longer than the context.
    fn check_length(&self, id: u64, prompt: usize, max_tokens: usize) -> Result<(), GenerateError> {
        let n_ctx = self.config.n_ctx;
        if prompt + max_tokens <= n_ctx {
            return Ok(());
        }
        let reason = format!(
            "a prompt of {prompt} tokens and max_tokens = {max_tokens} do not fit a context of {n_ctx} tokens; \
             shorten the prompt, lower max_tokens or raise n_ctx"
        );
        Err(GenerateError::Request { id, reason })
    }

    fn completion_job(&self, request: &CompletionRequest) -> Result<Job, GenerateError> {
        let refuse = |reason: String| GenerateError::Request { id: request.id, reason };
        sampler::check(&request.sampling).map_err(refuse)?;
        if request.max_tokens == 0 {
            return Err(refuse("max_tokens is 0; at least one token must be written".into()));
        }
        if request.stop.iter().any(String::is_empty) {
            return Err(refuse("a stop string is empty; it would end every text at once".into()));
        }
        let max_tokens = request.max_tokens as usize;
        request.form.iter().try_for_each(|form| form.check(max_tokens)).map_err(refuse)?;
        let input_ids = tokenise::input_ids(&self.model.vocab(), &self.template, &request.prompt)?;
        self.check_length(request.id, input_ids.len(), max_tokens)?;
        Ok(Job::new(input_ids, max_tokens))
    }
}

impl Generate for Llama {
    fn record(&self) -> serde_json::Value {
        let LlamaConfig { threads, gpu_layers, settings, n_ctx, kernels, .. } = &self.config;
        let Description { path, quantisation, .. } = &self.description;
        serde_json::json!({
            "weights": path, "format": quantisation, "threads": threads, "gpu_layers": gpu_layers, "n_ctx": n_ctx, "settings": settings,
            "kernels": running_kernels(), "machine": probe::machine(*kernels),
        })
    }

    fn complete(&mut self, requests: &[CompletionRequest], sink: Sink<Completion>) -> Result<(), GenerateError> {
        let jobs = requests.iter().map(|request| Ok((self.completion_job(request)?, request)));
        let jobs = jobs.collect::<Result<Vec<_>, GenerateError>>()?;
        let any_form = requests.iter().any(|request| request.form.is_some());
        let vocabulary = any_form.then(|| self.vocabulary.get_or_init(|| tokenise::vocabulary(&self.model.vocab())));
        self.run(jobs, |job, request| Writing::new(&self.model, request, &job.input_ids, vocabulary), sink)
    }

    fn score(&mut self, requests: &[ScoreRequest], sink: Sink<Score>) -> Result<(), GenerateError> {
        let jobs = requests.iter().map(|request| {
            let (input_ids, words) = tokenise::question(&self.model.vocab(), &self.template, request)?;
            self.check_length(request.id, input_ids.len(), 0)?;
            Ok((Job::new(input_ids, 0), Judging { id: request.id, words }))
        });
        let jobs = jobs.collect::<Result<Vec<_>, GenerateError>>()?;
        self.run(jobs, |_, judging| judging.clone(), sink)
    }

    fn likelihood(&mut self, requests: &[LikelihoodRequest], sink: Sink<Likelihood>) -> Result<(), GenerateError> {
        let jobs = requests.iter().map(|request| {
            let (prompt, text) = tokenise::given_text(&self.model.vocab(), &self.template, request)?;
            self.check_length(request.id, prompt.len(), text.len())?;
            // Nothing follows the text's last token: it needs no cell.
            let input_ids = [&prompt[..], &text[..text.len() - 1]].concat();
            Ok((Job { input_ids, logits_from: prompt.len() - 1, max_tokens: 0 }, (request.id, text)))
        });
        let jobs = jobs.collect::<Result<Vec<_>, GenerateError>>()?;
        self.run(jobs, |_, (id, text)| Reading::new(*id, text), sink)
    }
}

/// llama.cpp is initialised once a process; its log goes to `tracing`, target `llama-cpp-2`.
fn backend() -> Result<&'static LlamaBackend, String> {
    static BACKEND: OnceLock<Result<LlamaBackend, String>> = OnceLock::new();
    let init = || {
        llama_cpp_2::send_logs_to_tracing(LogOptions::default());
        // Before any model is loaded: the loader remembers which kinds of buffers there are.
        _ = lacuna_ggml_kernels::install();
        LlamaBackend::init().map_err(|error| format!("llama.cpp cannot start: {error}"))
    };
    BACKEND.get_or_init(init).as_ref().map_err(Clone::clone)
}

/// Turns our own CPU kernels on or off for what is loaded and computed from now on.
fn choose_kernels(config: &LlamaConfig) {
    let wanted = config.kernels == Kernels::Auto && config.gpu_layers == 0;
    match lacuna_ggml_kernels::install() {
        Ok(isa) if wanted => tracing::info!("products and attention run on our own kernels for {}", isa.name()),
        Err(reason @ Unavailable::SelfTest(_)) if wanted => tracing::warn!("our own CPU kernels are off, ggml's run: {reason}"),
        _ => tracing::info!("products and attention run on ggml's kernels"),
    }
    lacuna_ggml_kernels::set_enabled(wanted);
}

/// Whose kernels compute: the name of ours for this processor, or ggml's.
fn running_kernels() -> &'static str {
    match lacuna_ggml_kernels::install() {
        Ok(isa) if lacuna_ggml_kernels::is_enabled() => isa.name(),
        _ => "ggml",
    }
}

fn check_settings(settings: Settings) -> Result<(), String> {
    if !(1..=MOST_SLOTS).contains(&settings.slots) {
        return Err(format!("slots is {}; it must be from 1 to {MOST_SLOTS}", settings.slots));
    }
    if !(settings.slots..=LARGEST_BATCH).contains(&settings.n_batch) {
        return Err(format!("n_batch is {}; it must be from the {} slots to {LARGEST_BATCH}", settings.n_batch, settings.slots));
    }
    Ok(())
}

fn check_gpu(config: &LlamaConfig, backend: &LlamaBackend) -> Result<(), String> {
    if config.gpu_layers > 0 && !backend.supports_gpu_offload() {
        return Err(
            "gpu_layers is above 0 and no GPU can be used; build with the feature `cuda`, `metal` or `vulkan`, or set it to 0".into()
        );
    }
    Ok(())
}

/// The weights, and the smallest contexts, fit the memory of the device that they go to.
fn check_memory(footprint: &Footprint, header: &Header, config: &LlamaConfig) -> Result<(), String> {
    if config.gpu_layers == 0 {
        return memory::available().map_or(Ok(()), |free| footprint.check_load(free, config.workers()));
    }
    let architecture = header.text("general.architecture").unwrap_or_default();
    let n_layers = header.integer(&format!("{architecture}.block_count")).unwrap_or(u64::MAX - 1);
    let gpus = llama_cpp_2::list_llama_ggml_backend_devices();
    let free: u64 = gpus.iter().filter(|device| device.device_type == LlamaBackendDeviceType::Gpu).map(|gpu| gpu.memory_free as u64).sum();
    // A device that shares the system's memory does not always say.
    if free == 0 { Ok(()) } else { footprint.check_gpu(free, config.gpu_layers, n_layers) }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Fills in what 0 stands for.
fn with_context(mut config: LlamaConfig, n_ctx_train: usize) -> LlamaConfig {
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
        return Err(format!("is a model of the kind {architecture:?}, which does not write text; give a causal language model"));
    }
    if model.n_vocab() == 0 || model.n_head() == 0 {
        return Err("has no vocabulary or no attention heads; give a causal language model with its tokenizer".into());
    }
    Ok(())
}

/// Whether an architecture has a next token, which encoders, embedding and diffusion models have not. `causal` is the file's
/// own word on it.
fn writes_text(architecture: &str, causal: Option<&str>) -> bool {
    let encoders = ["bert", "t5", "clip", "embedding", "wavtokenizer"];
    causal != Some("false") && !encoders.iter().any(|name| architecture.contains(name))
}

fn chat_template(model: &LlamaModel) -> Result<ChatTemplate, GenerateError> {
    let vocab = model.vocab();
    let source = model.meta_val_str("tokenizer.chat_template").ok();
    ChatTemplate::new(source, tokenise::token_text(&vocab, vocab.bos()), tokenise::token_text(&vocab, vocab.eos()))
}

/// Cells with which no slot ever waits: the most that `slots` requests take for themselves, and the prefixes below them.
fn cells_wanted(jobs: &[Job], tree: &PrefixTree, slots: usize) -> usize {
    let shared = |job: usize| tree.leaf[job].map_or(0, |node| tree.nodes[node].end);
    let own = (0..jobs.len()).map(|job| jobs[job].n_cells() - shared(job)).max().unwrap_or(0);
    let all_prefixes: usize = tree.nodes.iter().map(|node| node.n_tokens()).sum();
    let longest_prefix = (0..jobs.len()).map(shared).max().unwrap_or(0);
    slots * own + all_prefixes.min(slots * longest_prefix)
}
