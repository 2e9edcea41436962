//! The machine's resources for a generator, and whether a model fits, from its header alone.

use super::config::{Kernels, LlamaConfig, N_BATCH, cores};
use super::gpu::{self, BackEnd};
use super::memory::{self, Footprint};
use super::outline::Outline;
use super::refusal::{first_part, header_of_generator};
use crate::generator::request::GenerateError;
use lacuna_ggml_kernels::Unavailable;
use std::path::Path;

/// The machine's resources for a generator.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    pub processor: String,
    /// Available memory in bytes; `None` if the system does not report it.
    pub free: Option<u64>,
    /// lacuna's CPU kernels: their instruction set, or why they are not used.
    pub kernels: Result<&'static str, Unavailable>,
    /// The processor that ggml's own kernels were compiled for, "portable" for any.
    pub ggml_for: &'static str,
    /// GPU back ends that were found, and whether they were loaded.
    pub back_ends: &'static [BackEnd],
    /// Devices of all back ends, including the CPU.
    pub devices: Vec<Device>,
}

/// A device of a back end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub backend: String,
    pub description: String,
    /// Free memory in bytes; 0 if the device does not report it.
    pub free: u64,
}

impl Host {
    /// The processor's name, its cores and its architecture.
    pub fn processor() -> String {
        format!("{}, {} cores, {}", processor(), cores(), std::env::consts::ARCH)
    }

    /// Whether a back end has found a device.
    pub fn has_gpu_of(&self, back_end: &BackEnd) -> bool {
        self.devices.iter().any(|device| device.backend == back_end.name)
    }

    /// Whether any back end that was found at run time has.
    pub fn has_gpu(&self) -> bool {
        self.back_ends.iter().any(|found| self.has_gpu_of(found))
    }

    /// Examines the machine, loads the GPU back ends and runs the kernels' self-test.
    ///
    /// # Errors
    /// llama.cpp cannot start.
    pub fn examine() -> Result<Self, String> {
        let back_ends = gpu::load()?;
        let devices = llama_cpp_2::list_llama_ggml_backend_devices().into_iter();
        Ok(Host {
            processor: Host::processor(),
            free: memory::available(),
            back_ends,
            kernels: lacuna_ggml_kernels::install().map(|isa| isa.name()),
            ggml_for: lacuna_ggml_kernels::backend(),
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

/// Identifies what a measurement depends on: processor, kernels and version.
pub(super) fn machine(kernels: Kernels) -> String {
    let ours = lacuna_ggml_kernels::install().map_or("none", |isa| isa.name());
    let kernels = format!("{kernels:?} kernels ({ours}, ggml's for {})", lacuna_ggml_kernels::backend());
    format!("{}, {} cores, {kernels}, lacuna {}", processor(), cores(), env!("CARGO_PKG_VERSION"))
}

/// A GGUF's description, and whether it fits in memory on the CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    pub architecture: String,
    /// The format of most weights.
    pub format: String,
    /// Bytes of the weights.
    pub weights: u64,
    /// Bytes of the weights and the smallest contexts for these threads.
    pub needs: u64,
    /// The threads that were asked for.
    pub workers: usize,
    /// Threads that it fits with, as many or fewer; the error says what to do.
    pub fits: Result<usize, String>,
    /// Whether its chat template can be used; the error says why not.
    pub chat_template: Result<(), String>,
}

impl Fit {
    /// Reads the header, the vocabulary and the chat template; `threads` 0 for all cores.
    ///
    /// # Errors
    /// The file is no GGUF that can write, or is damaged.
    pub fn of(path: &Path, threads: usize) -> Result<Self, GenerateError> {
        let fail = |reason| GenerateError::Load { path: path.display().to_string(), reason };
        let path = &first_part(path).map_err(fail)?;
        let header = header_of_generator(path).map_err(fail)?;
        let chat_template = match Outline::open(path, None) {
            Err(GenerateError::Template(reason)) => Err(reason),
            opened => opened.map(|_| Ok(()))?,
        };
        let footprint = Footprint::of(&header, N_BATCH);
        let workers = LlamaConfig { threads, ..LlamaConfig::new(path) }.cpu_workers();
        Ok(Fit {
            architecture: header.text("general.architecture").unwrap_or_default().into(),
            format: header.format(),
            weights: footprint.weights,
            needs: footprint.needs(workers),
            workers,
            chat_template,
            fits: memory::available().map_or(Ok(workers), |free| footprint.workers_that_fit(free, workers)),
        })
    }
}
