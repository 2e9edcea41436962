//! The operations of a small transformer on an NVIDIA GPU: kernels of our own, and cublasLt's products, over packed tokens.
//!
//! The kernels are those of `lacuna-kernels` in CUDA (`cu/`), compiled to PTX (`ptx/`, by `scripts/cuda-ptx.sh`) that the driver
//! translates for the GPU at hand. No sum depends on the order in which threads come: results repeat. With the feature `emulated` the same
//! sources run on the host, slowly, for tests.

mod blas;
mod device;
#[cfg(feature = "emulated")]
mod emulated;
mod error;
mod gpu;
mod heads;
pub mod kernels;
mod memory;
mod product;
pub mod profile;

pub use device::{Device, Number};
#[cfg(feature = "emulated")]
pub use emulated::reverse_threads;
pub use error::CudaError;
pub use heads::{Head, Heads, Logits, Want};
pub use memory::{Memory, Place};
pub use product::{Dimension, Operand, Product};
