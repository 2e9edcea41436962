//! What this machine offers a generator, and whether a model fits it: read, not loaded.

use super::backend::backend;
use super::config::{Kernels, LlamaConfig, N_BATCH, cores};
use super::gguf::Header;
use super::memory::{self, Footprint};
use crate::generator::request::GenerateError;
use lacuna_ggml_kernels::Unavailable;
use std::path::Path;

/// A machine as a generator sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    pub processor: String,
    /// Bytes that may still be taken; `None` where the system does not say.
    pub free: Option<u64>,
    /// Our own CPU kernels: what they are for, or why they are not used.
    pub kernels: Result<&'static str, Unavailable>,
    /// What layers can be put on, as the compiled back ends find them; the CPU is among them.
    pub devices: Vec<Device>,
}

/// A device of a compiled back end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub backend: String,
    pub description: String,
    /// Bytes; 0 where the device does not say.
    pub free: u64,
}

impl Host {
    /// Looks around, and runs the kernels' self-test.
    ///
    /// # Errors
    /// llama.cpp cannot start.
    pub fn examine() -> Result<Self, String> {
        backend()?;
        let devices = llama_cpp_2::list_llama_ggml_backend_devices().into_iter();
        Ok(Host {
            processor: format!("{}, {} cores, {}", processor(), cores(), std::env::consts::ARCH),
            free: memory::available(),
            kernels: lacuna_ggml_kernels::install().map(|isa| isa.name()),
            devices: devices
                .map(|device| Device { backend: device.backend, description: device.description, free: device.memory_free as u64 })
                .collect(),
        })
    }
}

/// The processor's own name, or its architecture's.
fn processor() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim().to_string()));
    name.unwrap_or(std::env::consts::ARCH.into())
}

/// The processor, whose kernels run on it, and the version that measured.
pub(super) fn machine(kernels: Kernels) -> String {
    format!("{}, {} cores, {kernels:?} kernels, lacuna {}", processor(), cores(), env!("CARGO_PKG_VERSION"))
}

/// What a GGUF says of itself, and whether it fits the CPU's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    pub architecture: String,
    /// The format of most weights.
    pub format: String,
    /// Bytes of the weights, and of them with the smallest contexts for these threads.
    pub weights: u64,
    pub needs: u64,
    /// What to do if it does not fit.
    pub fits: Result<(), String>,
}

impl Fit {
    /// Reads the header alone; `threads` 0 is every core.
    ///
    /// # Errors
    /// Not a GGUF, or a damaged one.
    pub fn of(path: &Path, threads: usize) -> Result<Self, GenerateError> {
        let header = Header::read(path).map_err(|reason| GenerateError::Load { path: path.display().to_string(), reason })?;
        let footprint = Footprint::of(&header, N_BATCH);
        let workers = LlamaConfig { threads, ..LlamaConfig::new(path) }.workers();
        Ok(Fit {
            architecture: header.text("general.architecture").unwrap_or_default().into(),
            format: header.format(),
            weights: footprint.weights,
            needs: footprint.needs(workers),
            fits: memory::available().map_or(Ok(()), |free| footprint.check_load(free, workers)),
        })
    }
}
