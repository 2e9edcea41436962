//! Faster quantised products and attention for llama.cpp on a CPU, hooked into ggml from outside.
//!
//! [`install`] adds a buffer type to ggml's CPU backend: weights that a model loads in a known format are packed into it (in place
//! of ggml's own repacking, not beside it), and their products, as well as flash attention, run here, inside ggml's own threads.
//! Anything not supported (an operation, a format, a layout) stays with ggml. [`set_enabled`] turns it off.
//!
//! ggml's CPU backend is compiled for several kinds of processors, and the one for this machine is chosen at run time (`variant.rs`).
//!
//! One file a kernel: [`mul_mat`], [`attention`]; `hook.rs` and `hook.cpp` are what ggml sees.

pub mod attention;
mod callbacks;
pub mod format;
pub mod ggml;
mod hook;
mod isa;
pub mod mul_mat;
pub mod packed;
mod self_test;
mod switch;
mod unavailable;
mod variant;

pub use hook::install;
pub use isa::Isa;
pub use switch::{is_enabled, set_enabled};
pub use unavailable::Unavailable;

/// The name of the variant of ggml's CPU backend that runs: a processor that has its instructions, or "portable".
pub fn backend() -> &'static str {
    variant::variant().name()
}
