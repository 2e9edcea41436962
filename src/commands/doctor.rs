//! What this machine has, and whether all that is known by name is there and whole.

use super::report::table;
use crate::error::{Error, Result};
use crate::fetch::cache::{Cache, Check};
use crate::fetch::registry::{Entry, EntryKind, Registry, RegistryError};
use crate::generator::llama::{Fit, Host, Unavailable};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// What was found.
#[derive(Debug)]
pub struct Diagnosis {
    /// For people.
    pub text: String,
    /// What must be mended; without any, all is well.
    pub faults: Vec<String>,
}

/// Examines the machine, everything in the cache (every byte is hashed), and other `models`: GGUF files.
///
/// # Errors
/// No place for the cache; llama.cpp cannot start.
pub fn examine(models: &[PathBuf], threads: usize) -> Result<Diagnosis> {
    let cache = Cache::from_env().map_err(|e| Error::Model(e.to_string()))?;
    let host = Host::examine().map_err(Error::Model)?;
    let mut rows = machine(&host);
    rows.push(["network".into(), network().into()]);
    rows.push(["cache".into(), cache.root().display().to_string()]);
    let mut text = String::new();
    for [name, value] in rows {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{name:<12} {value}");
    }
    // That there are no kernels for a processor is no fault.
    let failed = host.kernels.err().filter(|reason| matches!(reason, Unavailable::SelfTest(_)));
    let mut faults: Vec<String> = failed.iter().map(ToString::to_string).collect();
    let mut lines = Vec::new();
    for entry in Registry::built_in().entries() {
        lines.push(known(entry, &cache, threads, &mut faults));
    }
    for path in models {
        lines.push(vec![path.display().to_string(), fit(path, threads, &mut faults)]);
    }
    let _ = write!(text, "\n{}", table(&["name", "state"], &lines));
    Ok(Diagnosis { text, faults })
}

fn machine(host: &Host) -> Vec<[String; 2]> {
    let kernels = match &host.kernels {
        Ok(isa) => format!("our own for {isa}, self-test passed"),
        Err(reason) => format!("ggml's; of our own: {reason}"),
    };
    let free = host.free.map_or("the system does not say".into(), |free| format!("{} MiB free", free >> 20));
    let mut rows = vec![["processor".into(), host.processor.clone()], ["memory".into(), free], ["kernels".into(), kernels]];
    rows.extend(host.devices.iter().map(|device| {
        let free = if device.free == 0 { String::new() } else { format!(", {} MiB free", device.free >> 20) };
        ["device".into(), format!("{} {}{free}", device.backend, device.description)]
    }));
    rows.push(["back ends".into(), back_ends()]);
    rows
}

/// The generator's back ends that this binary was built with.
fn back_ends() -> String {
    let all = [("cuda", cfg!(feature = "cuda")), ("metal", cfg!(feature = "metal")), ("vulkan", cfg!(feature = "vulkan"))];
    let (with, without): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, compiled)| *compiled);
    let names = |list: Vec<(&str, bool)>| list.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
    let with = [vec![("cpu", true)], with].concat();
    format!("{}; not compiled: {}", names(with), if without.is_empty() { "none".into() } else { names(without) })
}

fn network() -> &'static str {
    if cfg!(feature = "hub") { "`lacuna fetch` may use it, nothing else does" } else { "this binary cannot fetch; it has no code for it" }
}

/// The line of something that is known by name.
fn known(entry: &Entry, cache: &Cache, threads: usize, faults: &mut Vec<String>) -> Vec<String> {
    let state = match cache.check(entry, Check::Hash) {
        Ok(path) if entry.kind == EntryKind::Gguf => format!("whole; {}", fit(&path, threads, faults)),
        Ok(_) => "whole".to_string(),
        Err(RegistryError::NotFetched { .. }) => format!("not here; get it with `lacuna fetch {}`", entry.name),
        Err(error) => {
            faults.push(error.to_string());
            "DAMAGED".to_string()
        }
    };
    vec![entry.name.clone(), state]
}

/// Whether a model can be loaded here.
fn fit(path: &Path, threads: usize, faults: &mut Vec<String>) -> String {
    match Fit::of(path, threads) {
        Ok(fit) => {
            let what = format!("{} {}, {} MiB of weights, needs {} MiB", fit.architecture, fit.format, fit.weights >> 20, fit.needs >> 20);
            match fit.fits {
                Ok(()) => format!("{what}: fits"),
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
