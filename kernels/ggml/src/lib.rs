//! Faster quantised products and attention for llama.cpp on a CPU, hooked into ggml from outside.
//!
//! [`install`] adds a buffer type to ggml's CPU backend: weights that a model loads in a known format are packed into it (in place
//! of ggml's own repacking, not beside it), and their products, as well as flash attention, run here, inside ggml's own threads.
//! Whatever is not supported (an operation, a format, a layout) stays with ggml. [`set_enabled`] turns it off.
//!
//! One file a kernel: [`mul_mat`], [`attention`]; `hook.rs` and `hook.cpp` are what ggml sees.

pub mod attention;
pub mod format;
pub mod ggml;
mod hook;
mod isa;
pub mod mul_mat;
pub mod packed;
mod self_test;

pub use hook::{install, is_enabled, set_enabled};
pub use isa::Isa;

/// Why our kernels cannot be used; ggml's own are then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// There are no kernels for this processor.
    Processor,
    /// A kernel's result differed from ggml's.
    SelfTest(String),
}

impl std::fmt::Display for Unavailable {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Unavailable::Processor => write!(f, "there are none for this processor"),
            Unavailable::SelfTest(found) => write!(f, "the self-test failed: {found}"),
        }
    }
}

impl std::error::Error for Unavailable {}
