//! The model on an NVIDIA GPU, with kernels of our own: the same network, masks, losses and updates as on the CPU.
//!
//! Parameters, gradients and moments stay on the GPU. A step is launched without waiting and read once, at its end: its loss and norm.

mod arena;
mod backward;
mod fit;
mod forward;
mod head;
mod partials;
mod pass;
mod placed;
mod plan;
mod session;
mod weights;

pub use fit::{Fit, Step, training_bytes};
pub use placed::Placed;
pub use session::Session;
