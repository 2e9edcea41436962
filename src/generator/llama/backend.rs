//! Initialises llama.cpp once per process, and chooses between lacuna's and ggml's CPU kernels.

use llama_cpp_2::LogOptions;
use llama_cpp_2::llama_backend::LlamaBackend;
use std::sync::OnceLock;

use super::config::{Kernels, LlamaConfig};
use super::crash::catch_aborts;
pub use lacuna_ggml_kernels::Unavailable;

/// llama.cpp's back end, initialised once per process; its log goes to `tracing`, target `llama-cpp-2`.
pub(super) fn backend() -> Result<&'static LlamaBackend, String> {
    static BACKEND: OnceLock<Result<LlamaBackend, String>> = OnceLock::new();
    let init = || {
        catch_aborts();
        llama_cpp_2::send_logs_to_tracing(LogOptions::default());
        // Must come before any model is loaded: the loader remembers the available buffer types.
        _ = lacuna_ggml_kernels::install();
        LlamaBackend::init().map_err(|error| format!("llama.cpp cannot start: {error}"))
    };
    BACKEND.get_or_init(init).as_ref().map_err(Clone::clone)
}

/// Turns lacuna's CPU kernels on or off for everything loaded and computed from now on.
pub(super) fn choose_kernels(config: &LlamaConfig) {
    let wanted = config.kernels == Kernels::Auto && config.gpu_layers == 0;
    match lacuna_ggml_kernels::install() {
        Ok(isa) if wanted => tracing::info!("matrix products and attention run on lacuna's kernels for {}", isa.name()),
        Err(reason @ Unavailable::SelfTest(_)) if wanted => tracing::warn!("lacuna's CPU kernels are off, using ggml's: {reason}"),
        _ => tracing::info!("matrix products and attention run on ggml's kernels"),
    }
    lacuna_ggml_kernels::set_enabled(wanted);
}

/// Whether a model with this configuration runs on lacuna's CPU kernels, where they know its format.
pub(super) fn has_kernels(config: &LlamaConfig) -> bool {
    config.kernels == Kernels::Auto && config.gpu_layers == 0 && lacuna_ggml_kernels::install().is_ok()
}

/// The name of the CPU kernels in use: lacuna's for this processor, or ggml's.
pub(super) fn running_kernels() -> &'static str {
    match lacuna_ggml_kernels::install() {
        Ok(isa) if lacuna_ggml_kernels::is_enabled() => isa.name(),
        _ => "ggml",
    }
}
