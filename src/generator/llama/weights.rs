//! Chooses the weights to run: the file itself, or a copy in a format that is faster on this machine and not noticeably worse.

use super::backend::has_kernels;
use super::config::{KvFormat, LlamaConfig, N_BATCH, Settings};
use super::copies::Copies;
use super::format_trial::{Measured, Trial, TrialError};
use super::gguf::Header;
use super::gpu;
use super::host::machine;
use super::probe::WORSE;
use super::requantise::requantise;
use crate::files::whole::put;
use crate::generator::request::GenerateError;
use llama_cpp_sys_2 as sys;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A copy must be faster by this factor to be used.
const FASTER: f64 = 1.1;

/// Which weights to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Weights {
    /// The file, or a faster copy of the same measured quality.
    #[default]
    Auto,
    /// The file as it is.
    AsIs,
}

/// The chosen format and the measurements behind it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    pub format: String,
    /// The measured formats, the original first.
    pub measured: Vec<Measured>,
    /// The machine that it was measured on.
    machine: String,
}

/// The path of the fastest version of a model whose perplexity on a built-in text is within 1 % of the original's, and the measurements.
/// Copies are made and measured once, in seconds to minutes, which `say` announces. The choice is kept in `cache_dir` for this file (by
/// SHA-256) and machine, even if the machine was busy: a resumed run must find the same weights. Of the new copies only the chosen one is
/// kept.
pub fn fastest_weights(config: &LlamaConfig, cache_dir: &Path, say: &dyn Fn(String)) -> Result<(PathBuf, Choice), GenerateError> {
    let path = &config.path;
    let fail = |reason: String| GenerateError::Load { path: path.display().to_string(), reason };
    let own = Header::read(path).map_err(fail)?.format();
    let on_gpu = config.gpu_layers > 0;
    let candidates = if on_gpu { candidates_on_gpu(&own) } else { candidates(&own, has_kernels(config)) };
    let machine = machine_of(config).map_err(fail)?;
    if candidates.is_empty() {
        return Ok((path.clone(), Choice { format: own, measured: Vec::new(), machine }));
    }
    let as_it_is = |reason: String| {
        say(format!("{}: no faster copy is made in {} ({reason}); the file is used as it is", path.display(), cache_dir.display()));
        Ok((path.clone(), Choice { format: own.clone(), measured: Vec::new(), machine: machine.clone() }))
    };
    let unusable = |error: std::io::Error| fail(format!("cannot make a faster copy in {}: {error}", cache_dir.display()));
    let copies = Copies::of(path, cache_dir).map_err(unusable)?;
    let record = cache_dir.join(format!("{}.{}weights.json", copies.stem, if on_gpu { "gpu." } else { "" }));
    let form = |format: &str| if format == own { path.clone() } else { copies.path(format) };
    let kept = || {
        let choice: Choice = serde_json::from_slice(&std::fs::read(&record).ok()?).ok()?;
        (choice.machine == machine && form(&choice.format).is_file()).then_some(choice)
    };
    if let Some(choice) = kept() {
        return Ok((form(&choice.format), choice));
    }
    // Another process may have chosen meanwhile: read the choice again.
    let _lock = match copies.lock() {
        Err(error) => return as_it_is(error.to_string()),
        Ok(lock) => lock,
    };
    if let Some(choice) = kept() {
        return Ok((form(&choice.format), choice));
    }
    if on_gpu && !f16_fits(path, &own).map_err(fail)? {
        let choice = Choice { format: own, measured: Vec::new(), machine };
        keep(&choice, &record).map_err(unusable)?;
        return Ok((path.clone(), choice));
    }
    let formats: Vec<&str> = candidates.iter().map(|(_, format)| *format).collect();
    say(format!("{}: measuring whether {} is faster on this machine than {own} and as good (once)", path.display(), formats.join(", ")));
    // On a GPU as many texts are written at once as it is there for: formats differ by that.
    let wide = Settings { slots: 128, kv: KvFormat::F16, unified: false, n_batch: N_BATCH };
    let config = &LlamaConfig { settings: if on_gpu { wide } else { config.settings }, ..config.clone() };
    let mut trial = Trial::resume(config, &copies, &own, &machine, say);
    match trial.run(&candidates) {
        Err(TrialError::Copy(error)) => {
            trial.finish(&own).map_err(unusable)?;
            return as_it_is(error.to_string());
        }
        Err(TrialError::Model(error)) => return Err(error),
        Ok(()) => {}
    }
    let choice = Choice { format: fastest_as_good(&trial.measured), measured: trial.measured.clone(), machine };
    trial.finish(&choice.format).map_err(unusable)?;
    // Without room for the record, the next start measures again.
    if let Err(error) = keep(&choice, &record) {
        say(format!("{}: the choice cannot be kept: {error}", record.display()));
    }
    Ok((form(&choice.format), choice))
}

/// A copy of a model with Q4_0 weights, kept in `cache_dir`, for comparisons with equal weights.
pub fn q4_0_copy(path: &Path, cache_dir: &Path) -> Result<PathBuf, GenerateError> {
    let fail = |reason: String| GenerateError::Load { path: path.display().to_string(), reason };
    Header::read(path).map_err(fail)?;
    let unusable = |error: std::io::Error| fail(format!("cannot make a copy in {}: {error}", cache_dir.display()));
    let copies = Copies::of(path, cache_dir).map_err(unusable)?;
    let _lock = copies.lock().map_err(unusable)?;
    let copy = copies.path("Q4_0");
    if !copy.is_file() {
        requantise(path, &copy, sys::LLAMA_FTYPE_MOSTLY_Q4_0, &|_| ())?;
    }
    Ok(copy)
}

fn keep(choice: &Choice, record: &Path) -> std::io::Result<()> {
    put(record, &serde_json::to_vec_pretty(choice)?)
}

/// On a GPU, F16 in place of quantised weights: it is faster where many texts are written at once and the GPU multiplies F16 on its matrix
/// units (results/gpu.md).
fn candidates_on_gpu(format: &str) -> Vec<(sys::llama_ftype, &'static str)> {
    quantised_bits(format).map(|_| (sys::LLAMA_FTYPE_MOSTLY_F16, "F16")).into_iter().collect()
}

/// Whether a model's weights in F16 leave half of their own memory on a GPU for the contexts.
fn f16_fits(path: &Path, format: &str) -> Result<bool, String> {
    let Some(bits) = quantised_bits(format) else { return Ok(true) };
    let f16 = (Header::read(path)?.bytes as f64 * 16.0 / bits) as u64;
    Ok(gpu::gpus()?.iter().any(|gpu| f16 + f16 / 2 < gpu.memory_free as u64))
}

/// Roughly the bits of a quantised weight, with its part of the scales; `None` for other formats.
fn quantised_bits(format: &str) -> Option<f64> {
    let digit = format.trim_start_matches(['I', 'T']).strip_prefix('Q')?.chars().next()?.to_digit(10)?;
    Some(f64::from(digit) + 0.5)
}

/// Identifies what a measurement depends on: the machine, and its GPUs if they are used.
fn machine_of(config: &LlamaConfig) -> Result<String, String> {
    let gpus = if config.gpu_layers > 0 { gpu::gpus()? } else { Vec::new() };
    Ok(gpus.iter().fold(machine(config.kernels), |all, gpu| format!("{all}, {} {}", gpu.name, gpu.description)))
}

/// The formats worth measuring: those with a packed matrix product and about as many bits per weight as the original. With our kernels
/// (`ours`) every format that they know is about as fast as any of as many bits: only others are worth a copy.
fn candidates(format: &str, ours: bool) -> Vec<(sys::llama_ftype, &'static str)> {
    let four_bits = [(sys::LLAMA_FTYPE_MOSTLY_Q4_0, "Q4_0"), (sys::LLAMA_FTYPE_MOSTLY_IQ4_NL, "IQ4_NL")];
    let eight_bits = [(sys::LLAMA_FTYPE_MOSTLY_Q8_0, "Q8_0")];
    match format {
        "Q4_1" | "Q4_K_S" | "Q4_K_M" | "Q5_0" | "Q5_1" | "Q5_K_S" | "Q5_K_M" | "Q6_K" if ours => Vec::new(),
        "Q4_1" | "Q4_K_S" | "Q4_K_M" | "IQ4_XS" | "Q5_0" | "Q5_1" => [&four_bits[..], &eight_bits].concat(),
        "F32" | "F16" | "BF16" | "Q5_K_S" | "Q5_K_M" | "Q6_K" => eight_bits.into(),
        _ => Vec::new(),
    }
}

/// The fastest format whose perplexity is within 1 % of the first's; the first unless another is clearly faster.
fn fastest_as_good(measured: &[Measured]) -> String {
    let own = &measured[0];
    let good = measured.iter().filter(|other| other.perplexity <= WORSE * own.perplexity);
    let faster = good.filter(|other| other.tokens_per_second > FASTER * own.tokens_per_second);
    faster.max_by(|a, b| a.tokens_per_second.total_cmp(&b.tokens_per_second)).unwrap_or(own).format.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(format: &str, tokens_per_second: f64, perplexity: f64) -> Measured {
        Measured { format: format.into(), tokens_per_second, perplexity }
    }

    #[test]
    fn the_fastest_format_of_equal_quality_is_chosen() {
        let own = measured("Q4_1", 100.0, 20.0);
        let choose = |others: &[Measured]| fastest_as_good(&[std::slice::from_ref(&own), others].concat());
        assert_eq!(choose(&[measured("Q4_0", 180.0, 20.1), measured("Q8_0", 150.0, 19.9)]), "Q4_0");
        assert_eq!(choose(&[measured("Q4_0", 180.0, 20.3), measured("Q8_0", 150.0, 19.9)]), "Q8_0", "Q4_0 is more than 1 % worse");
        assert_eq!(choose(&[measured("Q4_0", 180.0, 25.0), measured("Q8_0", 105.0, 20.0)]), "Q4_1", "a little faster is not enough");
        assert_eq!(choose(&[measured("Q4_0", 180.0, f64::NAN)]), "Q4_1");
    }

    #[test]
    fn bits_are_read_from_a_formats_name() {
        let bits = ["Q4_K_M", "Q8_0", "IQ2_XS", "TQ1_0", "F16", "BF16", "F32", ""].map(quantised_bits);
        assert_eq!(bits, [Some(4.5), Some(8.5), Some(2.5), Some(1.5), None, None, None, None]);
    }

    #[test]
    fn a_fast_format_has_no_candidates() {
        assert!(candidates("Q4_0", false).is_empty() && candidates("Q8_0", false).is_empty());
        assert_eq!([candidates("Q4_K_M", false).len(), candidates("Q4_K_M", true).len()], [3, 0]);
        assert_eq!([candidates("F16", false).len(), candidates("F16", true).len()], [1, 1]);
    }
}
