//! Checks the machine, and whether the registry's models and data are in the cache and intact.

use super::report::table;
use super::student::described;
use crate::error::{Error, Result};
use crate::fetch::cache::{Cache, Check};
use crate::fetch::registry::{Entry, EntryKind, Registry, RegistryError};
use crate::generator::llama::{BackEnd, Fit, Host, Unavailable, how_to_get_one};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The result of the checks.
#[derive(Debug)]
pub struct Diagnosis {
    /// The report, as plain text.
    pub text: String,
    /// What must be repaired; empty if everything is fine.
    pub faults: Vec<String>,
}

/// Checks the machine, everything in the cache (hashing every byte), and `models`: GGUF files, and folders of small models, of which a
/// training step is timed.
///
/// # Errors
/// llama.cpp cannot start.
pub fn examine(models: &[PathBuf], threads: usize) -> Result<Diagnosis> {
    let cache = Cache::from_env().ok();
    let host = Host::examine().map_err(Error::Model)?;
    let mut rows = machine(&host);
    rows.push(["network".into(), network().into()]);
    let no_place = || "no place for it: set LACUNA_HOME or HOME".to_string();
    rows.push(["cache".into(), cache.as_ref().map_or_else(no_place, |cache| cache.root().display().to_string())]);
    let mut text = String::new();
    for [name, value] in rows {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{name:<12} {value}");
    }
    // A processor without kernels of ours is not a fault.
    let failed = host.kernels.as_ref().err().filter(|reason| matches!(reason, Unavailable::SelfTest(_)));
    let mut faults: Vec<String> = failed.map(ToString::to_string).into_iter().collect();
    // One that is for another machine's GPU harms nothing where the one that is here was found.
    let counts = |found: &&BackEnd| !found.whole || !host.has_gpu();
    let unloaded = |found: &BackEnd| Some(format!("{}: {}", found.path.display(), found.loaded.as_ref().err()?));
    faults.extend(host.back_ends.iter().filter(counts).filter_map(unloaded));
    let mut lines = Vec::new();
    for (entry, cache) in Registry::built_in().entries().iter().zip(std::iter::repeat(cache.as_ref())) {
        lines.extend(cache.map(|cache| known(entry, cache, threads, &mut faults)));
    }
    for path in models {
        let state = if path.is_dir() { student(path, threads, &mut faults) } else { fit(path, threads, &mut faults) };
        lines.push(vec![path.display().to_string(), state]);
    }
    let _ = write!(text, "\n{}", table(&["name", "state"], &lines));
    Ok(Diagnosis { text, faults })
}

fn machine(host: &Host) -> Vec<[String; 2]> {
    let kernels = match &host.kernels {
        Ok(isa) => format!("lacuna's for {isa}, self-test passed; the rest is ggml's ({})", host.ggml_for),
        Err(reason) => format!("ggml's ({}); lacuna's are off: {reason}", host.ggml_for),
    };
    let free = host.free.map_or("unknown".into(), |free| format!("{} MiB free", free >> 20));
    let mut rows = vec![["processor".into(), host.processor.clone()], ["memory".into(), free], ["kernels".into(), kernels]];
    rows.extend(host.devices.iter().map(|device| {
        let free = if device.free == 0 { String::new() } else { format!(", {} MiB free", device.free >> 20) };
        ["device".into(), format!("{} {}{free}", device.backend, device.description)]
    }));
    rows.extend(host.back_ends.iter().map(|found| {
        let state = match &found.loaded {
            Err(reason) => format!("NOT LOADED: {reason}"),
            Ok(()) if host.has_gpu_of(found) => "loaded".into(),
            Ok(()) => "loaded, but it finds no GPU: is there one, with its driver, and may you open it?".into(),
        };
        ["back end".into(), format!("{}: {state}", found.path.display())]
    }));
    if host.back_ends.is_empty() {
        rows.push(["back end".into(), format!("none for a GPU in {}", how_to_get_one())]);
    }
    let small = match lacuna_models::try_out(lacuna_models::Device::Cuda(0)) {
        Ok(()) => "on the first NVIDIA GPU, self-test passed".into(),
        Err(reason) => format!("on the CPU: {reason}"),
    };
    rows.push(["small model".into(), small]);
    rows
}

fn network() -> &'static str {
    if cfg!(feature = "hub") { "used by `lacuna fetch` only" } else { "never used: this binary was built without `lacuna fetch`" }
}

/// The report's line for a registry entry.
fn known(entry: &Entry, cache: &Cache, threads: usize, faults: &mut Vec<String>) -> Vec<String> {
    let state = match cache.check(entry, Check::Hash) {
        Ok(path) if entry.kind == EntryKind::Gguf => format!("whole; {}", fit(&path, threads, faults)),
        Ok(_) => "whole".to_string(),
        Err(RegistryError::NotFetched { .. }) => format!("not in the cache; get it with `lacuna fetch {}`", entry.name),
        Err(error) => {
            faults.push(error.to_string());
            "DAMAGED".to_string()
        }
    };
    vec![entry.name.clone(), state]
}

/// What a small model is, and what a training step of it takes here.
fn student(folder: &Path, threads: usize, faults: &mut Vec<String>) -> String {
    described(folder, threads).unwrap_or_else(|error| {
        faults.push(error.to_string());
        "cannot be used".to_string()
    })
}

/// Whether a model can be loaded on this machine.
fn fit(path: &Path, threads: usize, faults: &mut Vec<String>) -> String {
    match Fit::of(path, threads) {
        Ok(fit) => {
            let what = format!("{} {}, {} MiB of weights, needs {} MiB", fit.architecture, fit.format, fit.weights >> 20, fit.needs >> 20);
            match fit.fits {
                Ok(workers) => {
                    let fewer = if workers < fit.workers { format!(" with {workers} of {} threads", fit.workers) } else { String::new() };
                    match fit.chat_template {
                        Ok(()) => format!("{what}: fits{fewer}"),
                        Err(reason) => format!("{what}: fits{fewer}; needs models.chat_template, as its own cannot be used: {reason}"),
                    }
                }
                Err(reason) => {
                    faults.push(format!("{}: {reason}", path.display()));
                    format!("{what}: DOES NOT FIT")
                }
            }
        }
        Err(error) => {
            faults.push(error.to_string());
            "cannot be used".to_string()
        }
    }
}
