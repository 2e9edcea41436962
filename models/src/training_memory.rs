//! The memory that training a model takes, on the CPU and on an NVIDIA GPU.

use crate::ModelError;
use crate::config::Config;
use crate::cuda::{self, Session};
use crate::device::Device;
use crate::network::Network;

/// Longer rows keep no probabilities of attention: they are computed again.
const KEPT: usize = 512;

/// About how many bytes a training step keeps on the CPU beside parameters, gradients and moments: what each layer needs for its
/// backward, for so many tokens in rows of at most `longest`.
pub fn activation_bytes(model: &Network, tokens: usize, longest: usize) -> usize {
    let Config { hidden_size: hidden, intermediate_size: intermediate, num_attention_heads: heads, num_hidden_layers: layers, .. } =
        model.params.config;
    let probabilities = if longest <= KEPT { heads * longest } else { 0 };
    // A gated feed-forward keeps its two halves too.
    let feed_forward = if model.params.config.modern.is_some() { 4 * intermediate } else { 2 * intermediate };
    let of_layer = 8 * hidden + feed_forward + probabilities;
    let shared = 12 * hidden + 3 * intermediate;
    4 * tokens * (layers * of_layer + shared)
}

/// How many bytes training a model takes on an NVIDIA GPU at most: its parameters, gradients and moments, and the activations of large
/// batches, which are cut into pieces beyond that.
pub fn training_bytes(model: &Network) -> usize {
    cuda::training_bytes(&model.params.config, &model.params.layout)
}

/// Whether an NVIDIA GPU has memory to train a model that is not there yet, beside so many bytes for others; of other devices nothing is
/// asked.
///
/// # Errors
/// Too little memory is free; a device that cannot be opened or does not say.
pub fn fits(device: Device, model: &Network, beside: usize) -> Result<(), ModelError> {
    let Some(session) = Session::open(device) else { return Ok(()) };
    let (needed, free) = (training_bytes(model), session?.free_memory()?.saturating_sub(beside));
    if needed <= free {
        return Ok(());
    }
    let (needed, free) = (needed.div_ceil(1 << 20), free >> 20);
    Err(ModelError::Device(format!("training the model needs {needed} MiB on {device}, and {free} MiB are free: use the CPU")))
}

#[cfg(test)]
#[cfg(feature = "emulated")]
mod tests {
    use super::*;
    use crate::layout::{Head, Layout};
    use crate::tiny;

    #[test]
    fn a_model_that_is_too_large_is_told_how_much_it_takes() {
        let mut model = tiny::model(2, None).network;
        let needed = training_bytes(&model);
        let parameters = model.params.layout.len();
        assert!((16 * parameters..(16 * parameters).max(1 << 30)).contains(&needed), "{needed} bytes");
        assert!(fits(Device::Emulated, &model, 0).is_ok() && fits(Device::Cpu, &model, usize::MAX).is_ok());
        assert!(fits(Device::Emulated, &model, usize::MAX).is_err());

        model.params.config.vocab_size = 1 << 36;
        model.params.layout = Layout::new(&model.params.config, Head::Span);
        let error = fits(Device::Emulated, &model, 0).unwrap_err().to_string();
        assert!(error.contains("MiB are free: use the CPU"), "{error}");
        assert!(fits(Device::Cpu, &model, 0).is_ok());
    }
}
