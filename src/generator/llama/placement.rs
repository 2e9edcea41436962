//! Which devices hold a model: the CPU, each GPU a whole model of its own, or all GPUs the layers of one.

use llama_cpp_2::model::params::{LlamaModelParams, LlamaSplitMode};
use llama_cpp_2::{LlamaBackendDevice, list_llama_ggml_backend_devices};

use super::config::{ALL_LAYERS, N_BATCH};
use super::gguf::Header;
use super::gpu;
use super::memory::{self, Footprint};
use crate::generator::request::GenerateError;
use std::path::Path;

/// The devices of a model.
#[derive(Clone, Debug)]
pub(super) struct Placement {
    gpus: Vec<LlamaBackendDevice>,
    /// Whether every GPU holds the whole model. If not, they share its layers.
    each: bool,
}

impl Placement {
    /// For `layers` layers on GPUs; 0 touches no GPU.
    ///
    /// # Errors
    /// No GPU, or too little memory there.
    pub(super) fn choose(footprint: &Footprint, header: &Header, layers: u32) -> Result<Self, String> {
        if layers == 0 {
            return Ok(Placement { gpus: Vec::new(), each: false });
        }
        needs_gpu()?;
        let gpus = gpu::gpus()?;
        let n_layers = header.layers().unwrap_or(u64::MAX - 1);
        // A device that shares the system's memory may not report its own.
        let check = |free: u64, total: u64| if total == 0 { Ok(()) } else { footprint.check_gpu(free, layers, n_layers) };
        let holds = |gpu: &LlamaBackendDevice| check(gpu.memory_free as u64, gpu.memory_total as u64).is_ok();
        let whole: Vec<LlamaBackendDevice> = gpus.iter().filter(|gpu| holds(gpu)).cloned().collect();
        if !whole.is_empty() {
            return Ok(Placement { gpus: whole, each: true });
        }
        let all = |of: fn(&LlamaBackendDevice) -> usize| gpus.iter().map(|gpu| of(gpu) as u64).sum::<u64>();
        check(all(|gpu| gpu.memory_free), all(|gpu| gpu.memory_total))?;
        Ok(Placement { gpus, each: false })
    }

    /// Whether the GPUs are NVIDIA's.
    pub(super) fn is_cuda(&self) -> bool {
        self.gpus.iter().all(|gpu| gpu.backend == "CUDA")
    }

    pub(super) fn on_cpu(&self) -> bool {
        self.gpus.is_empty()
    }

    /// The GPUs, by what they call themselves.
    pub(super) fn gpus(&self) -> Vec<String> {
        self.gpus.iter().map(|gpu| format!("{} {}", gpu.name, gpu.description)).collect()
    }

    /// ggml's name of the GPU of each model, in their order; none if a model is on several.
    pub(super) fn whole_on(&self) -> Vec<&str> {
        if self.each { self.gpus.iter().map(|gpu| gpu.name.as_str()).collect() } else { Vec::new() }
    }

    /// How to load each model.
    pub(super) fn params(&self, layers: u32) -> Result<Vec<LlamaModelParams>, String> {
        let indices: Vec<usize> = self.gpus.iter().map(|gpu| gpu.index).collect();
        let sets: Vec<&[usize]> = if self.each { indices.chunks(1).collect() } else { vec![&indices] };
        let of = |devices: &[usize]| {
            let params = LlamaModelParams::default().with_n_gpu_layers(layers).with_use_mmap(true);
            let params = if devices.len() == 1 { params.with_split_mode(LlamaSplitMode::None) } else { params };
            params.with_devices(devices).map_err(|error| format!("its devices cannot be used: {error}"))
        };
        sets.into_iter().map(of).collect()
    }

    /// Bytes that are free now for the contexts of one model; `None` if that is not known.
    pub(super) fn free(&self) -> Option<u64> {
        if self.on_cpu() {
            return memory::available();
        }
        let now = list_llama_ggml_backend_devices();
        let free = self.gpus.iter().map(|gpu| now.get(gpu.index).map_or(0, |gpu| gpu.memory_free as u64));
        let free = if self.each { free.min()? } else { free.sum() };
        (free > 0).then_some(free)
    }
}

/// Whether all layers of a model fit on this machine's GPUs; `None` without a GPU. The inner error says how many layers do.
///
/// # Errors
/// The file is not a GGUF; llama.cpp cannot start.
pub fn fits_on_gpus(path: &Path) -> Result<Option<Result<(), String>>, GenerateError> {
    let fail = |reason: String| GenerateError::Load { path: path.display().to_string(), reason };
    if gpu::gpus().map_err(fail)?.is_empty() {
        return Ok(None);
    }
    let header = Header::read(path).map_err(fail)?;
    Ok(Some(Placement::choose(&Footprint::of(&header, N_BATCH), &header, ALL_LAYERS).map(|_| ())))
}

/// Whether there is a GPU.
///
/// # Errors
/// Why there is none.
pub fn needs_gpu() -> Result<(), String> {
    if !gpu::gpus()?.is_empty() {
        return Ok(());
    }
    let found = gpu::load()?;
    let failed: Vec<String> =
        found.iter().filter_map(|found| Some(format!("{}: {}", found.path.display(), found.loaded.as_ref().err()?))).collect();
    let why = match (found.is_empty(), failed.is_empty()) {
        (true, _) => format!("no back end for one is in {}", gpu::how_to_get_one()),
        (false, false) => failed.join("; "),
        (false, true) => "the back ends that were loaded find none".into(),
    };
    Err(format!("no GPU can be used: {why}. --device cpu runs on the CPU"))
}
