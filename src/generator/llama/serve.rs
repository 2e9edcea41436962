//! Serves requests with a loaded model: tokenises and checks them, sorts them by prompt, and has workers decode them.

use llama_cpp_2::context::params::{KvCacheType, LlamaContextParams};
use std::num::NonZeroU32;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::answers::{TokenFork, of_answers};
use super::backend::running_kernels;
use super::config::{KvFormat, LlamaConfig, Settings};
use super::host::machine;
use super::in_place::InPlace;
use super::memory::Footprint;
use super::model::{Description, Llama};
use super::raw::raw_params;
use super::readers::{Judging, Reading, Writing};
use super::tap::Tap;
use super::workers::{self, Reader, Tapped, Work};
use super::{guard, memory, tokenise};
use crate::generator::prefix::{PrefixTree, Token};
use crate::generator::request::{
    Completion, CompletionRequest, Generate, GenerateError, Likelihood, LikelihoodRequest, Posterior, PosteriorRequest, Sink,
};
use crate::generator::sampler;
use crate::generator::scheduler::{Job, Limits};

/// A shared prefix must save at least this many tokens of prefill to get its own sequence.
const LEAST_SAVED: usize = 32;

/// Most slots with a KV cache each: with a berth for every eight and some holders, they are llama.cpp's 256 sequences.
const MOST_STREAMED: usize = 208;

/// Most tokens of a batch whose logits are read, where those of prompts are.
const MOST_OUTPUTS: usize = 128;

/// How deep a model is computed, and which hidden states are read on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Depth<'l> {
    layers: &'l [usize],
    /// Whether nothing above the last of them is needed.
    cut: bool,
}

impl Llama {
    /// Sorts the jobs by prompt and serves all of them; `start` creates the reader of a job, which reads logits.
    pub(super) fn run<R: Reader, J: Sync>(
        &self,
        jobs: Vec<(Job, J)>,
        start: impl Fn(&Job, &J) -> R + Sync,
        sink: Sink<R::Answer>,
    ) -> Result<(), GenerateError> {
        self.run_to(Depth { layers: &[], cut: false }, jobs, start, sink)
    }

    /// The same to some depth, with hidden states.
    fn run_to<R: Reader, J: Sync>(
        &self,
        depth: Depth,
        mut jobs: Vec<(Job, J)>,
        start: impl Fn(&Job, &J) -> R + Sync,
        sink: Sink<R::Answer>,
    ) -> Result<(), GenerateError> {
        if jobs.is_empty() {
            return Ok(());
        }
        let begun = Instant::now();
        // By the shareable tokens first, from which the prefix tree is built.
        jobs.sort_by(|(a, _), (b, _)| a.as_ref().cmp(b.as_ref()).then_with(|| a.input_ids.cmp(&b.input_ids)));
        let (jobs, details): (Vec<Job>, Vec<J>) = jobs.into_iter().unzip();
        let tree = PrefixTree::new(&jobs, LEAST_SAVED);
        let (contexts, limits) = self.contexts(&jobs, &tree, depth)?;
        self.counters.contexts.store(contexts.len() as u64, Ordering::Relaxed);
        let pool = (!self.placement.on_cpu()).then(|| rayon::ThreadPoolBuilder::new().num_threads(self.config.threads).build());
        let pool = pool.transpose().map_err(|error| GenerateError::Decode(format!("cannot start threads: {error}")))?;
        let work = Work {
            jobs: &jobs,
            tree: &tree,
            limits,
            n_vocab: self.model.n_vocab().max(0) as usize,
            start: |job: usize| start(&jobs[job], &details[job]),
            pool: pool.as_ref(),
            counters: &self.counters,
        };
        let outcome = workers::run(contexts, &work, sink);
        let prompt_tokens = jobs.iter().map(|job| job.input_ids.len() as u64).sum();
        self.counters.requests.fetch_add(jobs.len() as u64, Ordering::Relaxed);
        self.counters.prompt_tokens.fetch_add(prompt_tokens, Ordering::Relaxed);
        self.counters.microseconds.fetch_add(begun.elapsed().as_micros() as u64, Ordering::Relaxed);
        outcome
    }

    /// The workers' contexts: as many, with as many slots, as memory allows. With little of it first GPUs have fewer contexts, then streams
    /// fewer slots, then all slots share one cache, and at last there are fewer workers.
    fn contexts(&self, jobs: &[Job], tree: &PrefixTree, depth: Depth) -> Result<(Vec<Tapped<'_>>, Limits), GenerateError> {
        let (mut workers, models) = (self.workers().min(jobs.len()), self.models().count());
        let mut settings = self.config.settings;
        settings.unified |= !depth.layers.is_empty() || !self.can_stream(jobs);
        loop {
            let reason = match self.contexts_of(workers, settings, jobs, tree, depth) {
                Err(GenerateError::Decode(reason)) => reason,
                made => return made,
            };
            tracing::info!("{workers} contexts, {settings:?}: {reason}");
            match settings {
                _ if !self.placement.on_cpu() && workers > models => workers = (workers / 2).max(models),
                Settings { unified: false, slots: 17.., .. } => settings.slots /= 2,
                Settings { unified: false, .. } => settings.unified = true,
                _ if self.placement.on_cpu() && workers > 1 => {
                    workers -= workers.div_ceil(8);
                    memory::warn_of(workers, self.workers());
                }
                _ => return Err(GenerateError::Decode(reason)),
            }
        }
    }

    /// One context per worker, as large as the jobs need or memory allows. They are created one by one: llama.cpp may write to the model
    /// meanwhile.
    fn contexts_of(
        &self,
        workers: usize,
        settings: Settings,
        jobs: &[Job],
        tree: &PrefixTree,
        depth: Depth,
    ) -> Result<(Vec<Tapped<'_>>, Limits), GenerateError> {
        let threads = if self.placement.on_cpu() { 1 } else { self.threads_beside_gpu(workers) };
        let Settings { slots, n_batch, unified, .. } = settings;
        // Many logits of a prompt are read in smaller batches: those of a whole one can be a gigabyte.
        let reads_one = jobs.iter().all(Job::reads_one);
        let n_batch = if reads_one { n_batch } else { n_batch.min(MOST_OUTPUTS.max(slots)) };
        // Few jobs are shared by all workers.
        let slots = slots.min(jobs.len().div_ceil(workers));
        // Half of the sequences that recurrent layers leave room for hold prefixes.
        let sequences = self.footprint.sequences(self.placement.free().unwrap_or(u64::MAX), workers);
        let slots = slots.min(sequences / 2);
        // A batch must have room for a token of each sequence.
        let unified = unified || slots == n_batch;
        let slots = if unified { slots } else { slots.min(MOST_STREAMED) };
        let berths = if unified { 0 } else { slots.div_ceil(8).min(n_batch - slots) };
        let holders = if unified { slots } else { slots.div_ceil(4).max(4) };
        let holders = holders.min(guard::MOST_SEQUENCES.min(n_batch) - slots - berths).min(tree.nodes.len());
        let holders = holders.min(sequences.saturating_sub(slots + berths).max(1));
        // Without a unified cache, each sequence has the cells for one request.
        let caches = if unified { 1 } else { slots + berths + holders };
        let wanted = if unified { cells_wanted(jobs, tree, slots).min(self.short_context(jobs)) } else { 1 };
        let outputs = if reads_one { slots + berths + holders } else { n_batch };
        let footprint = self.footprint.with_batch(n_batch, outputs);
        let n_cells = self.affordable_cells(&footprint, wanted, jobs, workers, caches)?;
        let limits = Limits { slots, berths, holders, n_batch, n_cells, unified };
        guard::check_limits(&limits).map_err(GenerateError::Decode)?;
        let mut params = self.context_params(limits, threads);
        // Logits are computed for this many tokens of a batch at most; room for all of them would be a large part of a GPU's memory.
        // llama.cpp itself makes room for one of each sequence.
        let raw = raw_params(&mut params);
        (raw.n_outputs_max, raw.n_outputs_max_per_seq) = (outputs as u32, outputs as u32);
        self.check_rows(workers, outputs, depth)?;
        let models: Vec<_> = self.models().collect();
        let contexts = (0..workers).map(|worker| {
            let mut params = params.clone();
            let tap = (!depth.layers.is_empty()).then(|| Tap::new(depth.layers, self.model.n_layer() as usize, depth.cut));
            let mut in_place = self.logits_in_place(worker % models.len(), limits, tap.is_some())?;
            // SAFETY: context, tap and logits go together from here on, and the context is dropped first.
            tap.iter().for_each(|tap| unsafe { tap.attach(&mut params) });
            in_place.iter_mut().for_each(|in_place| unsafe { in_place.attach(&mut params) });
            let context = models[worker % models.len()].new_context(self.backend, params).map_err(|_| {
                GenerateError::Decode(format!(
                    "llama.cpp cannot create a context of {n_cells} tokens (LACUNA_LOG=llama-cpp-2=info says why)"
                ))
            })?;
            Ok(Tapped { context, tap, in_place })
        });
        Ok((contexts.collect::<Result<_, GenerateError>>()?, limits))
    }

    /// Whether the host has memory for what llama.cpp allocates there beside logits in place, locked: four numbers for each logit.
    fn check_rows(&self, workers: usize, rows: usize, depth: Depth) -> Result<(), GenerateError> {
        let in_place = !self.logits_gpus.is_empty() && depth.layers.is_empty();
        let needed = (workers * rows * 16) as u64 * self.model.n_vocab().max(0) as u64;
        match memory::available() {
            Some(free) if in_place && needed > free / 2 => {
                Err(GenerateError::Decode(format!("{} MiB of memory are needed beside the GPU, and {} are free", needed >> 20, free >> 20)))
            }
            _ => Ok(()),
        }
    }

    /// What reads the logits of a context where they are, if that is an NVIDIA GPU.
    fn logits_in_place(&self, model: usize, limits: Limits, tapped: bool) -> Result<Option<InPlace>, GenerateError> {
        let Some(gpu) = self.logits_gpus.get(model).filter(|_| !tapped) else { return Ok(None) };
        let vocabulary = self.model.n_vocab().max(0) as usize;
        let made = InPlace::new(gpu, limits.sequences(), limits.n_batch, vocabulary);
        made.map(Some).map_err(|error| GenerateError::Decode(format!("logits cannot be read on the GPU: {error}")))
    }

    /// Whether jobs can have a KV cache of their own for each sequence: texts to write, by a model that forgets padding when its cells
    /// are removed.
    fn can_stream(&self, jobs: &[Job]) -> bool {
        let window = format!("{}.attention.sliding_window", self.description.architecture);
        let forgets = !self.model.is_recurrent() && !self.model.is_hybrid() && self.model.meta_val_str(&window).is_err();
        forgets && jobs.iter().all(|job| job.reads_one() && job.max_tokens > 0)
    }

    /// Whether logits can be read in place: two short prompts are tried. A recurrent model's batches are cut, and those of the last piece
    /// alone would be found.
    pub(super) fn try_logits_in_place(&self) -> Result<(), GenerateError> {
        if self.model.is_recurrent() || self.model.is_hybrid() {
            return Err(GenerateError::Decode("llama.cpp cuts the batches of a recurrent model".into()));
        }
        let token = 1.min(self.model.n_vocab() - 1);
        let jobs = (0..2).map(|id| (Job::new(vec![token; 2 + id], 0), Judging { id: id as u64, words: vec![token] })).collect();
        self.run(jobs, |_, judging| judging.clone(), &mut |_| Ok(()))
    }

    /// The number of layers, if the states of the first and the last one can be read; else 0. Architectures name their tensors as they
    /// please, and a recurrent model's batches are reordered, whatever the cache.
    fn find_layers(&self) -> usize {
        let of = self.model.n_layer() as usize;
        if self.model.is_recurrent() || self.model.is_hybrid() || of < 2 {
            return 0;
        }
        let tokens = [0, 1].map(|token| token.min(self.model.n_vocab() - 1));
        let jobs = vec![(Job::new(tokens.to_vec(), 0), Judging { id: 0, words: Vec::new() })];
        let depth = Depth { layers: &[1, of], cut: false };
        let tried = self.run_to(depth, jobs, |_, judging| judging.clone(), &mut |_| Ok(()));
        if tried.is_ok() { of } else { 0 }
    }

    /// Threads of a context for what a GPU does not compute: with all layers there, the rows of the embeddings.
    fn threads_beside_gpu(&self, workers: usize) -> i32 {
        let all = self.config.gpu_layers > self.model.n_layer();
        if all { 1 } else { (self.config.threads / workers).max(1) as i32 }
    }

    pub(super) fn context_params(&self, limits: Limits, threads: i32) -> LlamaContextParams {
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(limits.all_cells() as u32))
            .with_n_batch(limits.n_batch as u32)
            .with_n_ubatch(limits.n_batch as u32)
            .with_n_seq_max(limits.sequences() as u32)
            .with_kv_unified(limits.unified)
            .with_n_threads(threads)
            .with_n_threads_batch(threads)
            .with_offload_kqv(!self.placement.on_cpu())
            .with_op_offload(!self.placement.on_cpu())
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

    /// Most cells of a context. A LongRoPE model takes its factors by the size of the context: texts that are short get those of short
    /// ones, however many there are.
    fn short_context(&self, jobs: &[Job]) -> usize {
        self.short_rope.filter(|short| longest(jobs) <= *short).unwrap_or(usize::MAX)
    }

    /// Cells of each worker's KV cache; an error if not even the longest request would fit.
    pub(super) fn affordable_cells(
        &self,
        footprint: &Footprint,
        wanted: usize,
        jobs: &[Job],
        workers: usize,
        caches: usize,
    ) -> Result<usize, GenerateError> {
        let longest = longest(jobs);
        let free = self.placement.free().unwrap_or(u64::MAX);
        // Each GPU has its share of the workers.
        let workers = if self.placement.on_cpu() { workers } else { workers.div_ceil(self.models().count()) };
        footprint.cells(free, workers, caches, wanted, longest).map_err(GenerateError::Decode)
    }

    /// Refuses a request that is longer than the context.
    fn check_length(&self, id: u64, prompt: usize, max_tokens: usize) -> Result<(), GenerateError> {
        let n_ctx = self.config.n_ctx;
        if prompt + max_tokens <= n_ctx {
            return Ok(());
        }
        let reason = format!(
            "a prompt of {prompt} tokens and max_tokens = {max_tokens} do not fit in a context of {n_ctx} tokens; \
             shorten the prompt, lower max_tokens or raise n_ctx"
        );
        Err(GenerateError::Request { id, reason })
    }

    fn completion_job(&self, request: &CompletionRequest) -> Result<Job, GenerateError> {
        let refuse = |reason: String| GenerateError::Request { id: request.id, reason };
        sampler::check(&request.sampling).map_err(refuse)?;
        if request.max_tokens == 0 {
            return Err(refuse("max_tokens is 0; it must be at least 1".into()));
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
    fn computed(&self) -> u64 {
        let super::Stats { prefilled_tokens, decoded_tokens, .. } = self.stats();
        prefilled_tokens + decoded_tokens
    }

    fn parameters(&self) -> u64 {
        self.description.n_params
    }

    fn at_once(&self) -> usize {
        self.config.settings.slots * self.workers()
    }

    fn record(&self) -> serde_json::Value {
        let LlamaConfig { threads, gpu_layers, settings, n_ctx, kernels, .. } = &self.config;
        let Description { path, quantisation, .. } = &self.description;
        serde_json::json!({
            "weights": path, "format": quantisation, "threads": threads, "gpu_layers": gpu_layers, "n_ctx": n_ctx, "settings": settings,
            "kernels": running_kernels(), "gpus": self.placement.gpus(), "machine": machine(*kernels),
            "parameters": self.description.n_params,
        })
    }

    fn complete(&mut self, requests: &[CompletionRequest], sink: Sink<Completion>) -> Result<(), GenerateError> {
        let jobs = requests.iter().map(|request| Ok((self.completion_job(request)?, request)));
        let jobs = jobs.collect::<Result<Vec<_>, GenerateError>>()?;
        let any_form = requests.iter().any(|request| request.form.is_some());
        let vocabulary = any_form.then(|| self.vocabulary.get_or_init(|| tokenise::vocabulary(&self.model.vocab())));
        self.run(jobs, |job, request| Writing::new(&self.model, request, &job.input_ids, vocabulary), sink)
    }

    fn layers(&self) -> usize {
        *self.shown_layers.get_or_init(|| self.find_layers())
    }

    fn posteriors(&mut self, requests: &[PosteriorRequest], layers: &[usize], sink: Sink<Posterior>) -> Result<(), GenerateError> {
        let known = 1..=self.layers();
        if !layers.is_sorted_by(|a, b| a < b) || !layers.iter().all(|layer| known.contains(layer)) {
            let reason = format!("the hidden states of layers {layers:?} cannot be read, only those of {known:?}, in ascending order");
            return Err(GenerateError::Decode(reason));
        }
        let questions = requests.iter().map(|request| {
            let (prompt, forks) = tokenise::question(&self.model.vocab(), &self.template, request)?;
            let longest = forks.iter().map(|fork| fork.said.len()).max().unwrap_or(0);
            self.check_length(request.id, prompt.len() + longest, 0)?;
            Ok((prompt, forks))
        });
        let questions = questions.collect::<Result<Vec<_>, GenerateError>>()?;
        let job = |question: usize, fork: usize| {
            let (prompt, forks): &(Vec<Token>, Vec<TokenFork>) = &questions[question];
            let (said, words) = forks.get(fork).map_or((&[][..], Vec::new()), |fork| (&fork.said[..], fork.next.clone()));
            (Job::new([prompt, said].concat(), 0), Judging { id: question as u64, words })
        };
        let cut = requests.iter().all(|request| request.words.is_empty());
        // Answers at each fork, for questions that have more than one.
        let mut first: Vec<Option<Posterior>> = vec![None; questions.len()];
        let jobs = (0..questions.len()).map(|question| job(question, 0)).collect();
        self.run_to(Depth { layers, cut }, jobs, |_, judging| judging.clone(), &mut |posterior: Posterior| {
            let question = posterior.id as usize;
            let forks = &questions[question].1;
            if forks.len() > 1 {
                first[question] = Some(posterior);
                return Ok(());
            }
            let log_probs = of_answers(forks, std::slice::from_ref(&posterior.log_probs));
            sink(Posterior { id: requests[question].id, log_probs, ..posterior })
        })?;
        let further: Vec<(usize, usize)> =
            questions.iter().enumerate().flat_map(|(question, (_, forks))| (1..forks.len()).map(move |fork| (question, fork))).collect();
        if further.is_empty() {
            return Ok(());
        }
        let mut found: Vec<Vec<Option<Vec<f32>>>> = questions.iter().map(|(_, forks)| vec![None; forks.len()]).collect();
        let jobs = further.iter().enumerate().map(|(i, &(question, fork))| {
            let (job, judging) = job(question, fork);
            (job, Judging { id: i as u64, ..judging })
        });
        self.run_to(Depth { layers: &[], cut: false }, jobs.collect(), |_, judging| judging.clone(), &mut |posterior: Posterior| {
            let (question, fork) = further[posterior.id as usize];
            found[question][fork] = Some(posterior.log_probs);
            let whole = first[question].as_mut().ok_or_else(|| anyhow::anyhow!("a fork was answered before its question"))?;
            whole.computed += posterior.computed;
            if found[question][1..].iter().any(Option::is_none) {
                return Ok(());
            }
            let Posterior { log_probs, states, computed, .. } = first[question].take().expect("it was just there");
            let at_forks: Vec<Vec<f32>> = std::iter::once(log_probs).chain(found[question].drain(..).flatten()).collect();
            sink(Posterior { id: requests[question].id, log_probs: of_answers(&questions[question].1, &at_forks), states, computed })
        })
    }

    fn likelihood(&mut self, requests: &[LikelihoodRequest], sink: Sink<Likelihood>) -> Result<(), GenerateError> {
        let jobs = requests.iter().map(|request| {
            let (prompt, text) = tokenise::given_text(&self.model.vocab(), &self.template, request)?;
            self.check_length(request.id, prompt.len(), text.len())?;
            // The text's last token is never decoded, so it needs no cell.
            let input_ids = [&prompt[..], &text[..text.len() - 1]].concat();
            Ok((Job { input_ids, logits_from: prompt.len() - 1, max_tokens: 0 }, (request.id, text)))
        });
        let jobs = jobs.collect::<Result<Vec<_>, GenerateError>>()?;
        self.run(jobs, |_, (id, text)| Reading::new(*id, text), sink)
    }
}

/// Cells of the longest request.
fn longest(jobs: &[Job]) -> usize {
    jobs.iter().map(Job::n_cells).max().unwrap_or(1)
}

/// Cells with which no slot ever waits: the most that any `slots` requests need for themselves, and their shared prefixes.
fn cells_wanted(jobs: &[Job], tree: &PrefixTree, slots: usize) -> usize {
    let shared = |job: usize| tree.leaf[job].map_or(0, |node| tree.nodes[node].end);
    let own = (0..jobs.len()).map(|job| jobs[job].n_cells() - shared(job)).max().unwrap_or(0);
    let all_prefixes: usize = tree.nodes.iter().map(|node| node.n_tokens()).sum();
    let longest_prefix = (0..jobs.len()).map(shared).max().unwrap_or(0);
    slots * own + all_prefixes.min(slots * longest_prefix)
}
