//! Whether an NVIDIA GPU has the memory that training a model takes.

use crate::ModelError;
use crate::cuda::{self, Session};
use crate::device::Device;
use crate::network::Network;

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
