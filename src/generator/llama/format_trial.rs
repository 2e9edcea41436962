//! Measures a model's speed and quality in its own format and in copies: bounded in time, and resumed where an earlier start was ended.

use super::config::LlamaConfig;
use super::copies::Copies;
use super::model::Llama;
use super::probe::Pace;
use super::readers::Reading;
use super::requantise::requantise;
use crate::files::whole::put;
use crate::generator::prefix::Token;
use crate::generator::request::{GenerateError, Likelihood};
use crate::generator::scheduler::Job;
use llama_cpp_sys_2 as sys;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const PACE: Duration = Duration::from_millis(1500);
/// One copy is always tried; another only while a start has spent less than this on copies, if it takes as long as the last one.
const LONGEST: Duration = Duration::from_secs(180);
/// The longest that perplexity may take in one format; a slow model reads fewer paragraphs, the same ones in each format.
const LONGEST_TEXT: Duration = Duration::from_secs(20);
/// Plain prose of several kinds, one piece per paragraph, written for this purpose.
const TEXT: &str = include_str!("perplexity.txt");

/// The speed and quality of a format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub format: String,
    /// New tokens of all threads per second of their processor time.
    pub tokens_per_second: f64,
    /// Perplexity on the built-in text.
    pub perplexity: f64,
}

/// The measurements of a model's formats, kept from start to start until all are done.
pub(super) struct Trial<'t> {
    config: &'t LlamaConfig,
    copies: &'t Copies<'t>,
    own: &'t str,
    say: &'t dyn Fn(String),
    /// What the measurements depend on beside the format.
    setting: String,
    /// The original first.
    pub(super) measured: Vec<Measured>,
    /// Copies that were made for this; others may be in use.
    made: Vec<String>,
    /// The paragraphs that perplexity is measured on.
    paragraphs: usize,
}

/// What is kept of an unfinished trial.
#[derive(Serialize, Deserialize)]
struct Kept {
    setting: String,
    measured: Vec<Measured>,
    made: Vec<String>,
    paragraphs: usize,
}

/// Why a trial ended early.
pub(super) enum TrialError {
    /// A copy could not be made.
    Copy(GenerateError),
    /// The model, or a copy, does not run.
    Model(GenerateError),
}

impl<'t> Trial<'t> {
    /// A new trial on a machine, or the rest of one that was ended there, with the same threads and settings.
    pub(super) fn resume(config: &'t LlamaConfig, copies: &'t Copies<'t>, own: &'t str, machine: &str, say: &'t dyn Fn(String)) -> Self {
        let setting = format!("{machine}, {} threads, n_ctx {}, {:?}", config.cpu_workers(), config.n_ctx, config.settings);
        let new = Trial { config, copies, own, say, setting, measured: Vec::new(), made: Vec::new(), paragraphs: usize::MAX };
        let kept = std::fs::read(new.file()).ok().and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
        match kept {
            Some(Kept { setting, measured, made, paragraphs }) if setting == new.setting => Trial { measured, made, paragraphs, ..new },
            Some(kept) => Trial { made: kept.made, ..new },
            None => new,
        }
    }

    /// Measures the original and a copy in each of the formats, as many as there is time for.
    pub(super) fn run(&mut self, formats: &[(sys::llama_ftype, &'static str)]) -> Result<(), TrialError> {
        if self.measured.is_empty() {
            let measured = self.measure_own().map_err(TrialError::Model)?;
            self.add(measured);
        }
        let (begun, mut last) = (Instant::now(), Duration::ZERO);
        for (i, &(file_type, format)) in formats.iter().enumerate() {
            if self.measured.iter().any(|measured| measured.format == format) {
                continue;
            }
            if self.measured.len() > 1 && begun.elapsed() + last > LONGEST {
                let rest: Vec<&str> = formats[i..].iter().map(|(_, format)| *format).collect();
                self.say(format!("{} left out: measuring took {} s so far", rest.join(", "), begun.elapsed().as_secs()));
                break;
            }
            let this = Instant::now();
            self.say(format!("{format}, {} of {}", i + 1, formats.len()));
            let copy = self.copies.path(format);
            if !copy.is_file() {
                let progress = |bytes: u64| self.say(format!("{format}: {} MB written", bytes / 1_000_000));
                requantise(&self.config.path, &copy, file_type, &progress).map_err(TrialError::Copy)?;
                self.made.push(format.into());
                self.keep();
            }
            let llama = Llama::load(LlamaConfig { path: copy, ..self.config.clone() }).map_err(TrialError::Model)?;
            let measured = measure(&llama, format, self.paragraphs).map_err(TrialError::Model)?;
            self.add(measured);
            last = this.elapsed();
        }
        Ok(())
    }

    /// Removes what was kept, and the copies that were made for the trial, but for the one in the chosen format.
    pub(super) fn finish(&mut self, chosen: &str) -> std::io::Result<()> {
        for format in self.made.drain(..).filter(|format| format != chosen) {
            let copy = self.copies.path(&format);
            if copy.is_file() {
                std::fs::remove_file(copy)?;
            }
        }
        // It may never have been written, for want of room.
        _ = std::fs::remove_file(self.file());
        Ok(())
    }

    /// Measures the original, and how much text there is time for.
    fn measure_own(&mut self) -> Result<Measured, GenerateError> {
        let llama = Llama::load(self.config.clone())?;
        self.paragraphs = llama.paragraphs_in(LONGEST_TEXT)?;
        measure(&llama, self.own, self.paragraphs)
    }

    fn add(&mut self, measured: Measured) {
        self.say(format!("{}: {:.0} tokens/s, perplexity {:.2}", measured.format, measured.tokens_per_second, measured.perplexity));
        self.measured.push(measured);
        self.keep();
    }

    /// Keeps what was measured for the next start; without room for it, that measures again.
    fn keep(&self) {
        let Trial { setting, measured, made, paragraphs, .. } = self;
        let kept = Kept { setting: setting.clone(), measured: measured.clone(), made: made.clone(), paragraphs: *paragraphs };
        _ = put(&self.file(), &serde_json::to_vec_pretty(&kept).unwrap_or_default());
    }

    fn file(&self) -> PathBuf {
        let gpu = if self.config.gpu_layers > 0 { "gpu." } else { "" };
        self.copies.folder.join(format!("{}.{gpu}trial.json", self.copies.stem))
    }

    fn say(&self, what: String) {
        (self.say)(format!("{}: {what}", self.config.path.display()));
    }
}

/// Measures a format in processor time: other programs may slow down some measurements more than others.
fn measure(llama: &Llama, format: &str, paragraphs: usize) -> Result<Measured, GenerateError> {
    let paces = [llama.pace(PACE)?, llama.pace(PACE)?];
    let own_rate = |pace: &Pace| pace.tokens_per_second / pace.share.filter(|&share| share > 0.0).unwrap_or(1.0);
    let tokens_per_second = paces.iter().map(own_rate).fold(0.0, f64::max);
    let measured = Measured { format: format.into(), tokens_per_second, perplexity: llama.perplexity(paragraphs)? };
    tracing::info!("{format}: {tokens_per_second:.0} tokens/s, perplexity {:.3}", measured.perplexity);
    Ok(measured)
}

impl Llama {
    /// The paragraphs of the built-in text as tokens, each after BOS or else without its first token's probability; two tokens or more.
    fn paragraphs(&self) -> Vec<Vec<Token>> {
        let vocab = self.model.vocab();
        let tokens = TEXT.split("\n\n").map(|paragraph| vocab.tokenize(paragraph.trim().as_bytes(), true, false));
        tokens
            .map(|tokens| tokens.iter().map(|token| token.0).take(self.config.n_ctx).collect::<Vec<_>>())
            .filter(|t| t.len() > 1)
            .collect()
    }

    /// Tokens of the built-in text.
    pub(super) fn perplexity_tokens(&self) -> usize {
        self.paragraphs().iter().map(Vec::len).sum()
    }

    /// The number of paragraphs that can be read in this time, two or more, by the speed at which the first is.
    fn paragraphs_in(&self, time: Duration) -> Result<usize, GenerateError> {
        let paragraphs = self.paragraphs();
        let Some(first) = paragraphs.first() else { return Ok(usize::MAX) };
        let begun = Instant::now();
        self.perplexity(1)?;
        let per_token = begun.elapsed().as_secs_f64() / first.len() as f64 / self.workers() as f64;
        let ends = paragraphs.iter().scan(0, |tokens, paragraph| {
            *tokens += paragraph.len();
            Some(*tokens)
        });
        Ok(ends.take_while(|&tokens| tokens as f64 * per_token <= time.as_secs_f64()).count().max(2))
    }

    /// Perplexity on the first paragraphs of the built-in text: exp of the mean negative log-probability per token.
    pub(super) fn perplexity(&self, paragraphs: usize) -> Result<f64, GenerateError> {
        let jobs = self.paragraphs().into_iter().take(paragraphs).map(|tokens| {
            let next_tokens = tokens[1..].to_vec();
            (Job { input_ids: tokens[..tokens.len() - 1].into(), logits_from: 0, max_tokens: 0 }, next_tokens)
        });
        let (mut negative_log_likelihood, mut tokens) = (0.0, 0);
        self.run(jobs.collect(), |_, next_tokens| Reading::new(0, next_tokens), &mut |found: Likelihood| {
            negative_log_likelihood -= found.total();
            tokens += found.log_probs.len();
            Ok(())
        })?;
        Ok((negative_log_likelihood / tokens.max(1) as f64).exp())
    }
}
