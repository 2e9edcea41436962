//! A short measurement of how fast a model decodes here, and the settings chosen by it, remembered for the model and the machine.

use super::host::processor;
use super::workers::{Next, Reader};
use super::{Kernels, KvFormat, Llama};
use crate::generator::GenerateError;
use crate::generator::prefix::Token;
use crate::generator::sampler::Room;
use crate::generator::scheduler::Job;
use crate::registry::cache::put;
use crate::sha256::sha256_of_bytes;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long one setting is measured, each of two times.
const TRIAL: Duration = Duration::from_millis(700);
/// A setting must be so much faster than the usual one to be taken: less may be noise.
const CLEARLY: f64 = 1.05;
/// Tokens of the prefix that the measured requests share, of each one's own prompt, and new ones: about a round's.
const PREFIX: usize = 96;
const OWN: usize = 24;
const NEW: usize = 24;

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

/// What is remembered.
#[derive(Debug, Serialize, Deserialize)]
struct Memory {
    /// The model and the machine.
    of: String,
    chosen: Settings,
    /// New tokens a second with each setting that was tried.
    measured: Vec<(Settings, f64)>,
}

impl Llama {
    /// Chooses width, format and layout of the KV cache, and the micro-batch: what is wished, else what was measured earlier for this
    /// model on this machine, else what a measurement of some seconds finds, which `say` tells. `folder` keeps what was found; a
    /// model that a person has fixed altogether is not measured.
    pub fn tune(&mut self, folder: &Path, wishes: Wishes, say: &dyn Fn(String)) -> Result<Settings, GenerateError> {
        let usual = self.config.settings;
        let wished = Settings {
            slots: wishes.slots.unwrap_or(usual.slots),
            kv: wishes.kv.unwrap_or(usual.kv),
            unified: wishes.unified.unwrap_or(usual.unified),
            n_batch: wishes.n_batch.unwrap_or(usual.n_batch),
        };
        if let Wishes { slots: Some(_), kv: Some(_), unified: Some(_), n_batch: Some(_) } = wishes {
            self.set(wished)?;
            return Ok(wished);
        }
        let of = format!("{}\n{wishes:?}", self.identity());
        let file = folder.join(format!("{}.json", &sha256_of_bytes(of.as_bytes())[..16]));
        let remembered = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice::<Memory>(&bytes).ok());
        let chosen = match remembered.filter(|memory| memory.of == of) {
            Some(memory) => memory.chosen,
            None => {
                say(format!("{}: measuring once how it decodes fastest here", self.config.path.display()));
                let (chosen, measured) = self.choose(wished, wishes)?;
                // A folder that cannot be written costs another measurement next time, nothing else.
                let kept =
                    serde_json::to_vec_pretty(&Memory { of, chosen, measured }).map_err(Into::into).and_then(|json| put(&file, &json));
                if let Err(error) = kept {
                    tracing::warn!("{}: the measured settings cannot be kept: {error}", file.display());
                }
                chosen
            }
        };
        self.set(chosen)?;
        Ok(chosen)
    }

    /// Tries widths, then formats, layouts and micro-batches, each with the best of what came before.
    fn choose(&mut self, usual: Settings, wishes: Wishes) -> Result<(Settings, Vec<(Settings, f64)>), GenerateError> {
        let mut measured = Vec::new();
        let mut best = usual;
        let widths: Vec<Settings> = [16, 32, 64].map(|slots| Settings { slots, ..best }).into();
        if wishes.slots.is_none() {
            best = self.fastest(best, &widths, &mut measured)?;
        }
        if wishes.kv.is_none() {
            best = self.fastest(best, &[Settings { kv: KvFormat::Q8_0, ..best }], &mut measured)?;
        }
        if wishes.unified.is_none() {
            best = self.fastest(best, &[Settings { unified: !best.unified, ..best }], &mut measured)?;
        }
        if wishes.n_batch.is_none() {
            let others = [128, 1024].map(|n_batch| Settings { n_batch, ..best });
            best = self.fastest(best, &others, &mut measured)?;
        }
        Ok((best, measured))
    }

    /// The fastest of `usual` and `others`, measured in turns.
    fn fastest(&mut self, usual: Settings, others: &[Settings], measured: &mut Vec<(Settings, f64)>) -> Result<Settings, GenerateError> {
        let mut settings = vec![usual];
        settings.extend(others.iter().filter(|&&other| other != usual));
        let mut rates = vec![0.0f64; settings.len()];
        for _ in 0..2 {
            for (rate, &settings) in rates.iter_mut().zip(&settings) {
                *rate = rate.max(self.pace_of(settings)?);
            }
        }
        measured.extend(settings.iter().copied().zip(rates.iter().copied()));
        let best = (1..rates.len()).max_by(|&a, &b| rates[a].total_cmp(&rates[b]));
        Ok(best.filter(|&best| rates[best] > CLEARLY * rates[0]).map_or(usual, |best| settings[best]))
    }

    /// New tokens a second with some settings; 0 if the model cannot be run with them.
    fn pace_of(&mut self, settings: Settings) -> Result<f64, GenerateError> {
        let before = self.config.settings;
        if self.set(settings).is_err() {
            return Ok(0.0);
        }
        let pace = self.pace(TRIAL);
        self.config.settings = before;
        match pace {
            Err(GenerateError::Decode(reason)) if settings != before => {
                tracing::info!("{settings:?}: {reason}");
                Ok(0.0)
            }
            other => other,
        }
    }

    /// New tokens a second, all workers together, from the first of them on for `time`.
    pub(super) fn pace(&self, time: Duration) -> Result<f64, GenerateError> {
        let n_vocab = self.model.n_vocab().max(1) as usize;
        let context = self.config.n_ctx.clamp(6, PREFIX + OWN + NEW);
        let part = |tokens: usize| context * tokens / (PREFIX + OWN + NEW);
        let word = |i: usize| (i * 7919 % n_vocab) as Token;
        let requests = self.config.settings.slots * self.config.threads * 4;
        let own = |i: usize| (0..part(OWN)).map(move |at| word(i + 31 * at));
        let job = |i: usize| Job::new((0..part(PREFIX)).map(|at| word(at + 5)).chain(own(i)).collect(), part(NEW).max(1));
        let pacer = Pacer { first: OnceLock::new(), tokens: AtomicU64::new(0), time };
        let jobs = (0..requests).map(|i| (job(i), ())).collect();
        let mut last = Duration::ZERO;
        let outcome = self.run(jobs, |job, ()| Pace { pacer: &pacer, rest: job.max_tokens, n_vocab }, &mut |at| {
            last = last.max(at);
            anyhow::ensure!(at < time, "time is up");
            Ok(())
        });
        match outcome {
            // That is how the workers are stopped.
            Ok(()) | Err(GenerateError::Consumer(_)) => {}
            Err(error) => return Err(error),
        }
        Ok(pacer.tokens.load(Ordering::Relaxed) as f64 / last.as_secs_f64().max(1e-6))
    }

    /// The model and the machine that a measurement holds for.
    pub(super) fn identity(&self) -> String {
        let file = std::fs::metadata(&self.config.path);
        let changed = file.as_ref().ok().and_then(|file| file.modified().ok());
        let bytes = file.map_or(0, |file| file.len());
        let (path, config) = (self.config.path.display(), &self.config);
        format!("{path} {bytes} {changed:?} threads {} gpu {}\n{}", config.threads, config.gpu_layers, machine(config.kernels))
    }
}

/// The processor, whose kernels run on it, and the version that measured.
pub(super) fn machine(kernels: Kernels) -> String {
    format!("{}, {} cores, {kernels:?} kernels, lacuna {}", processor(), super::cores(), env!("CARGO_PKG_VERSION"))
}

/// Counts the tokens of all workers until time is up.
struct Pacer {
    first: OnceLock<Instant>,
    tokens: AtomicU64,
    time: Duration,
}

/// A request of a measurement; its answer is when it ended, counted from the first token of all.
struct Pace<'p> {
    pacer: &'p Pacer,
    rest: usize,
    n_vocab: usize,
}

impl Reader for Pace<'_> {
    type Answer = Duration;

    fn read(&mut self, _: &[f32], _: &mut Room) -> Result<Next<Duration>, GenerateError> {
        let elapsed = self.pacer.first.get_or_init(Instant::now).elapsed();
        if elapsed < self.pacer.time {
            self.pacer.tokens.fetch_add(1, Ordering::Relaxed);
            self.rest = self.rest.saturating_sub(1);
            if self.rest > 0 {
                return Ok(Next::Token((self.rest * 101 % self.n_vocab) as Token));
            }
        }
        Ok(Next::Done(elapsed.min(self.pacer.time)))
    }
}
