//! Measures how fast a model decodes on this machine with various settings, and remembers the best ones.

use super::config::{KvFormat, Settings, Wishes};
use super::host::machine;
use super::in_place::Ask;
use super::model::Llama;
use super::workers::{Next, Outputs, Reader};
use crate::files::sha256::sha256_of_bytes;
use crate::files::whole::put;
use crate::generator::prefix::Token;
use crate::generator::request::GenerateError;
use crate::generator::sampler::Room;
use crate::generator::scheduler::Job;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long each of two measurements of a setting takes, after its prefill.
const TRIAL: Duration = Duration::from_millis(700);
/// The longest that all measurements may take together. A slow model keeps the defaults for what was not measured by then.
const LONGEST: Duration = Duration::from_secs(60);
/// A measurement that takes longer, prefill and all, is not repeated: a slow model's speed varies less.
const ONCE: Duration = Duration::from_secs(4);
/// A setting must be faster than the default by this factor to be chosen: less may be noise.
const CLEARLY: f64 = 1.05;
/// Perplexity on the built-in text may exceed that of what was before by this factor.
pub(super) const WORSE: f64 = 1.01;
/// A measurement is disturbed by other programs if its threads got less than this share of processor time.
const LEAST_SHARE: f64 = 0.85;
/// Tokens of the shared prefix and new tokens of the measured requests: about those of a seed stage.
const PREFIX: usize = 96;
const NEW: usize = 24;
/// Tokens that each worker prefills to measure a micro-batch size: a multiple of every size that is tried.
const READ: usize = 2048;
/// Tokens of each prompt in that measurement.
const PROMPT: usize = 32;
/// The longest that one such prefill may take; slower models keep the default micro-batch.
const LONGEST_READ: Duration = Duration::from_secs(5);
/// Tokens whose prefill says whether a model can be measured in the time.
const LOOK: usize = 16;

/// A remembered choice.
#[derive(Debug, Serialize, Deserialize)]
struct Memory {
    /// The model, the machine and the fixed settings that it holds for.
    of: String,
    chosen: Settings,
    /// New tokens per second with each setting that was tried.
    measured: Vec<(Settings, f64)>,
}

impl Llama {
    /// Chooses the number of slots, the format and layout of the KV cache, and the micro-batch: the user's wishes, else the choice
    /// remembered in `folder`, if there is one, for this model and machine, else a measurement of some seconds, which `say` announces. If
    /// other programs disturb the measurement, it is not remembered and the defaults are used. Nothing is measured if every setting is
    /// fixed.
    pub fn tune(&mut self, folder: Option<&Path>, wishes: Wishes, say: &dyn Fn(String)) -> Result<Settings, GenerateError> {
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
        let file = folder.map(|folder| folder.join(format!("{}.json", &sha256_of_bytes(of.as_bytes())[..16])));
        let remembered =
            file.as_ref().and_then(|file| std::fs::read(file).ok()).and_then(|bytes| serde_json::from_slice::<Memory>(&bytes).ok());
        let chosen = match remembered.filter(|memory| memory.of == of) {
            Some(memory) => memory.chosen,
            None => {
                let path = self.config.path.display().to_string();
                let flags = "--slots, --kv, --kv-unified and --n-batch together skip it";
                say(format!("{path}: measuring how this machine runs it fastest (once, about {} s at most; {flags})", LONGEST.as_secs()));
                let (chosen, Tried { rates: measured, shares, begun, left_out, .. }) = self.choose(wished, wishes, say)?;
                let unusable = if measured.is_empty() {
                    Some("too slow here to measure")
                } else {
                    (!undisturbed(&shares)).then_some("other programs keep the processor busy")
                };
                if let Some(why) = unusable {
                    say(format!("{why}: using the default settings; the next start will measure again"));
                    self.set(wished)?;
                    return Ok(wished);
                }
                let others = if left_out { "; too slow here to measure all settings, the others are the defaults" } else { "" };
                let Settings { slots, kv, unified, n_batch } = chosen;
                let kv = kv.to_possible_value().map_or(String::new(), |kv| format!(" --kv {}", kv.get_name()));
                let found = format!("--slots {slots}{kv} --kv-unified {unified} --n-batch {n_batch}");
                say(format!("{path}: measured in {} s: {found}{others}", begun.elapsed().as_secs()));
                // If the folder cannot be written, the only cost is another measurement next time.
                let json = serde_json::to_vec_pretty(&Memory { of, chosen, measured }).unwrap_or_default();
                if let Some((file, Err(error))) = file.map(|file| (file.clone(), put(&file, &json))) {
                    tracing::warn!("{}: the measured settings cannot be saved: {error}", file.display());
                }
                chosen
            }
        };
        self.set(chosen)?;
        Ok(chosen)
    }

    /// Tries numbers of slots, then formats, layouts and micro-batches, each with the best of the previous choices.
    fn choose<'s>(&mut self, usual: Settings, wishes: Wishes, say: &'s dyn Fn(String)) -> Result<(Settings, Tried<'s>), GenerateError> {
        let mut measured = Tried::new(say);
        let mut best = usual;
        measured.last = self.time_of_a_trial()?;
        if !measured.has_time_for(measured.last) {
            return Ok((best, measured));
        }
        let on_cpu = self.placement.on_cpu();
        let widths: &[usize] = if on_cpu { &[16, 32, 64] } else { &[32, 64, 128, 250] };
        let widths: Vec<Settings> = widths.iter().map(|&slots| Settings { slots, ..best }).collect();
        if wishes.slots.is_none() {
            measured.announce("texts at once");
            best = self.fastest(best, &widths, Llama::decoding, &mut measured)?;
            // What is measured beside other programs is not kept: no need to go on.
            if !undisturbed(&measured.shares) {
                return Ok((best, measured));
            }
        }
        // On a GPU, attention over 8-bit keys and values is not faster.
        if wishes.kv.is_none() && on_cpu {
            measured.announce("format of the KV cache");
            let small = self.fastest(best, &[Settings { kv: KvFormat::Q8_0, ..best }], Llama::decoding, &mut measured)?;
            if small != best && self.is_as_good(small, best, &mut measured)? {
                best = small;
            }
        }
        if wishes.unified.is_none() {
            measured.announce("layout of the KV cache");
            best = self.fastest(best, &[Settings { unified: !best.unified, ..best }], Llama::decoding, &mut measured)?;
        }
        if wishes.n_batch.is_some() {
            return Ok((best, measured));
        }
        if measured.rates.is_empty() {
            self.fastest(best, &[], Llama::decoding, &mut measured)?;
        }
        // Prefill is at least as fast as decoding.
        let reading = (READ * self.workers()) as f64 / measured.best().max(1e-6);
        if reading < LONGEST_READ.as_secs_f64() {
            measured.announce("micro-batch");
            let others = if on_cpu { [128, 1024] } else { [1024, 2048] }.map(|n_batch| Settings { n_batch, ..best });
            best = self.fastest(best, &others, Llama::reading, &mut measured)?;
        }
        Ok((best, measured))
    }

    /// Whether perplexity with some settings is within 1 % of that with the usual ones; not if there is no time to see.
    fn is_as_good(&mut self, other: Settings, usual: Settings, measured: &mut Tried) -> Result<bool, GenerateError> {
        // Prefill is at least as fast as decoding.
        let tokens = 2.0 * self.perplexity_tokens() as f64;
        if !measured.has_time_for(Duration::from_secs_f64(tokens / measured.best().max(1e-3))) {
            return Ok(false);
        }
        let before = self.config.settings;
        let found = [other, usual].map(|settings| {
            self.set(settings)?;
            self.perplexity(usize::MAX)
        });
        self.config.settings = before;
        let [other, usual] = found;
        Ok(other? <= WORSE * usual?)
    }

    /// Roughly how long one measurement takes, from a prefill of a few tokens. The first one reads the weights from the disk, and a GPU may
    /// compile its kernels: the second counts.
    fn time_of_a_trial(&self) -> Result<Duration, GenerateError> {
        let mut taken = Duration::ZERO;
        for _ in 0..2 {
            let begun = Instant::now();
            self.run(vec![(Job::new((0..LOOK.min(self.config.n_ctx) as Token).collect(), 0), ())], |_, ()| AtOnce, &mut |()| Ok(()))?;
            taken = begun.elapsed();
        }
        Ok(taken * (PREFIX / LOOK) as u32)
    }

    /// The fastest of `usual` and `others` at `work`, measured alternately, as many as there is time for.
    fn fastest(&mut self, usual: Settings, others: &[Settings], work: Measure, measured: &mut Tried) -> Result<Settings, GenerateError> {
        let mut settings = vec![usual];
        settings.extend(others.iter().filter(|&&other| other != usual));
        let mut rates = vec![0.0f64; settings.len()];
        for round in 0..2 {
            let all = measured.last * settings.len() as u32;
            if round > 0 && (measured.last > ONCE || !measured.has_time_for(all)) {
                break;
            }
            for (rate, &settings) in rates.iter_mut().zip(&settings) {
                if !measured.has_time_for(measured.last) {
                    break;
                }
                let begun = Instant::now();
                let pace = self.pace_of(settings, work)?;
                measured.last = begun.elapsed();
                *rate = rate.max(pace.tokens_per_second);
                measured.shares.extend(pace.share);
            }
        }
        measured.rates.extend(settings.iter().copied().zip(rates.iter().copied()).filter(|(_, rate)| *rate > 0.0));
        let best = (1..rates.len()).max_by(|&a, &b| rates[a].total_cmp(&rates[b]));
        Ok(best.filter(|&best| rates[best] > CLEARLY * rates[0]).map_or(usual, |best| settings[best]))
    }

    /// The speed with some settings; 0 if the model cannot be run with them.
    fn pace_of(&mut self, settings: Settings, work: Measure) -> Result<Pace, GenerateError> {
        let before = self.config.settings;
        if self.set(settings).is_err() {
            return Ok(Pace::default());
        }
        let pace = work(self);
        self.config.settings = before;
        match pace {
            Err(GenerateError::Decode(reason)) if settings != before => {
                tracing::info!("{settings:?}: {reason}");
                Ok(Pace::default())
            }
            other => other,
        }
    }

    fn decoding(&self) -> Result<Pace, GenerateError> {
        self.pace(TRIAL)
    }

    /// The prefill speed of prompts that share nothing.
    fn reading(&self) -> Result<Pace, GenerateError> {
        let (n_vocab, workers) = (self.model.n_vocab().max(1) as usize, self.workers());
        let prompt = PROMPT.min(self.config.n_ctx).max(1);
        let word = |i: usize| (i * 7919 % n_vocab) as Token;
        let jobs: Vec<_> =
            (0..workers * READ / prompt).map(|i| (Job::new((0..prompt).map(|at| word(i + 31 * at)).collect(), 0), ())).collect();
        let tokens = (jobs.len() * prompt) as f64;
        let (begun, cpu) = (Instant::now(), cpu_time());
        self.run(jobs, |_, ()| AtOnce, &mut |()| Ok(()))?;
        Ok(self.pace_from(tokens, begun.elapsed(), cpu, cpu_time()))
    }

    /// The pace of the last call, whose contexts may have been fewer than the threads.
    fn pace_from(&self, tokens: f64, time: Duration, from: Option<Duration>, to: Option<Duration>) -> Pace {
        let (seconds, workers) = (time.as_secs_f64().max(1e-6), self.counters.contexts.load(Ordering::Relaxed).max(1));
        let on_cpu = to.zip(from).filter(|_| self.placement.on_cpu()).map(|(to, from)| to.saturating_sub(from));
        Pace { tokens_per_second: tokens / seconds, share: on_cpu.map(|on_cpu| on_cpu.as_secs_f64() / (seconds * workers as f64)) }
    }

    /// The decoding speed over `time` from the first new token on, all workers together.
    pub(super) fn pace(&self, time: Duration) -> Result<Pace, GenerateError> {
        let n_vocab = self.model.n_vocab().max(1) as usize;
        let context = self.config.n_ctx.clamp(4, PREFIX + NEW);
        let part = |tokens: usize| context * tokens / (PREFIX + NEW);
        let word = |i: usize| (i * 7919 % n_vocab) as Token;
        let requests = self.config.settings.slots * self.workers() * 4;
        let job = |i: usize| Job::new((0..part(PREFIX)).map(|at| word(at + 5)).chain([word(i)]).collect(), part(NEW).max(1));
        let pacer = Pacer { first: OnceLock::new(), tokens: AtomicU64::new(0), time };
        let jobs = (0..requests).map(|i| (job(i), ())).collect();
        let (mut last, mut cpu) = (Duration::ZERO, None);
        let outcome = self.run(jobs, |job, ()| Pacing { pacer: &pacer, rest: job.max_tokens, n_vocab }, &mut |at| {
            (last, cpu) = (last.max(at), cpu_time());
            anyhow::ensure!(at < time, "time is up");
            Ok(())
        });
        match outcome {
            // The sink's error is how the workers are stopped.
            Ok(()) | Err(GenerateError::Consumer(_)) => {}
            Err(error) => return Err(error),
        }
        let at_first = pacer.first.get().and_then(|first| first.cpu);
        Ok(self.pace_from(pacer.tokens.load(Ordering::Relaxed) as f64, last, at_first, cpu))
    }

    /// Identifies the model and the machine that a measurement holds for.
    pub(super) fn identity(&self) -> String {
        let file = std::fs::metadata(&self.config.path);
        let changed = file.as_ref().ok().and_then(|file| file.modified().ok());
        let bytes = file.map_or(0, |file| file.len());
        let (path, config) = (self.config.path.display(), &self.config);
        let (gpu, machine) = (self.placement.gpus(), machine(config.kernels));
        format!("{path} {bytes} {changed:?} threads {} gpu {}{}\n{machine}", config.threads, config.gpu_layers, gpu.join(","))
    }
}

/// A kind of work to measure.
type Measure = fn(&Llama) -> Result<Pace, GenerateError>;

/// A measured speed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// New or prefilled tokens per second, all workers together.
    pub(super) tokens_per_second: f64,
    /// Share of the time that the workers were on a processor; `None` if the system does not report it, or on a GPU.
    pub(super) share: Option<f64>,
}

/// The measurements of a choice.
struct Tried<'s> {
    /// Tokens per second with each setting that was tried.
    rates: Vec<(Settings, f64)>,
    shares: Vec<f64>,
    begun: Instant,
    /// How long the last measurement took.
    last: Duration,
    /// Whether something was not measured for want of time.
    left_out: bool,
    say: &'s dyn Fn(String),
}

impl<'s> Tried<'s> {
    fn new(say: &'s dyn Fn(String)) -> Self {
        Tried { rates: Vec::new(), shares: Vec::new(), begun: Instant::now(), last: Duration::ZERO, left_out: false, say }
    }

    /// Says what is measured next, and how long it took so far.
    fn announce(&self, what: &str) {
        (self.say)(format!("measuring: {what} ({} s so far)", self.begun.elapsed().as_secs()));
    }

    /// Whether something that takes this long is over in time; if not, that is kept in mind.
    fn has_time_for(&mut self, next: Duration) -> bool {
        let in_time = self.begun.elapsed() + next <= LONGEST;
        self.left_out |= !in_time;
        in_time
    }

    fn best(&self) -> f64 {
        self.rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max)
    }
}

/// Whether the workers had the processor to themselves, on average over the measurements.
pub(super) fn undisturbed(shares: &[f64]) -> bool {
    shares.is_empty() || shares.iter().sum::<f64>() / shares.len() as f64 >= LEAST_SHARE
}

/// CPU time of this process, in steps of 10 ms; `None` without /proc.
pub(super) fn cpu_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks = fields.get(11..13)?.iter().map(|ticks| ticks.parse::<u64>().ok()).sum::<Option<u64>>()?;
    Some(Duration::from_millis(10 * ticks))
}

/// The time of the first token, and the process's CPU time then.
struct First {
    at: Instant,
    cpu: Option<Duration>,
}

/// Counts the tokens of all workers until the time is over.
struct Pacer {
    first: OnceLock<First>,
    tokens: AtomicU64,
    time: Duration,
}

/// A request of a measurement; its answer is the time of its end, counted from the first token of any request.
struct Pacing<'p> {
    pacer: &'p Pacer,
    rest: usize,
    n_vocab: usize,
}

/// A prompt that is only prefilled.
struct AtOnce;

impl Reader for AtOnce {
    type Answer = ();

    fn ask(&mut self, _: usize) -> Ask {
        Ask::Tokens(Vec::new())
    }

    fn read(&mut self, _: Outputs, _: &mut Room) -> Result<Next<()>, GenerateError> {
        Ok(Next::Done(()))
    }
}

impl Reader for Pacing<'_> {
    type Answer = Duration;

    fn ask(&mut self, _: usize) -> Ask {
        Ask::Tokens(Vec::new())
    }

    fn read(&mut self, _: Outputs, _: &mut Room) -> Result<Next<Duration>, GenerateError> {
        let elapsed = self.pacer.first.get_or_init(|| First { at: Instant::now(), cpu: cpu_time() }).at.elapsed();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_machine_is_told_from_a_quiet_one() {
        assert!(undisturbed(&[]) && undisturbed(&[0.99, 0.97, 0.8]));
        assert!(!undisturbed(&[0.9, 0.5]));
    }

    #[test]
    fn time_on_processors_goes_on() {
        let Some(before) = cpu_time() else { return };
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(60) {
            std::hint::black_box(cpu_time());
        }
        assert!(cpu_time().unwrap() > before);
    }
}
