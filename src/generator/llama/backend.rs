//! llama.cpp itself, initialised once a process, and whose kernels compute beneath it.

use llama_cpp_2::LogOptions;
use llama_cpp_2::llama_backend::LlamaBackend;
use std::sync::OnceLock;

use super::config::{Kernels, LlamaConfig};
pub use lacuna_ggml_kernels::Unavailable;

/// llama.cpp is initialised once a process; its log goes to `tracing`, target `llama-cpp-2`.
pub(super) fn backend() -> Result<&'static LlamaBackend, String> {
    static BACKEND: OnceLock<Result<LlamaBackend, String>> = OnceLock::new();
    let init = || {
        llama_cpp_2::send_logs_to_tracing(LogOptions::default());
        // Before any model is loaded: the loader remembers which kinds of buffers there are.
        _ = lacuna_ggml_kernels::install();
        LlamaBackend::init().map_err(|error| format!("llama.cpp cannot start: {error}"))
    };
    BACKEND.get_or_init(init).as_ref().map_err(Clone::clone)
}

/// Turns our own CPU kernels on or off for what is loaded and computed from now on.
pub(super) fn choose_kernels(config: &LlamaConfig) {
    let wanted = config.kernels == Kernels::Auto && config.gpu_layers == 0;
    match lacuna_ggml_kernels::install() {
        Ok(isa) if wanted => tracing::info!("products and attention run on our own kernels for {}", isa.name()),
        Err(reason @ Unavailable::SelfTest(_)) if wanted => tracing::warn!("our own CPU kernels are off, ggml's run: {reason}"),
        _ => tracing::info!("products and attention run on ggml's kernels"),
    }
    lacuna_ggml_kernels::set_enabled(wanted);
}

/// Whose kernels compute: the name of ours for this processor, or ggml's.
pub(super) fn running_kernels() -> &'static str {
    match lacuna_ggml_kernels::install() {
        Ok(isa) if lacuna_ggml_kernels::is_enabled() => isa.name(),
        _ => "ggml",
    }
}
