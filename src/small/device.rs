//! The device that the small model is trained and run on.

use lacuna_models::Device;

use super::head::SmallHead;
use super::model::SmallModel;
use crate::error::{Error, Result};

/// The choice of device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SmallDevice {
    /// The first GPU that this build supports and the machine has, if it can run the model, else the CPU
    #[default]
    Auto,
    Cpu,
    /// The first NVIDIA GPU; needs its driver and cublasLt
    Cuda,
    /// Needs a build with the feature `metal`
    Metal,
}

impl SmallDevice {
    /// Moves `small` to the device, and with it every model that is fine-tuned from it. The generator will take `beside` bytes of a GPU.
    ///
    /// # Errors
    /// An explicitly chosen device that cannot be used.
    pub fn place<H: SmallHead>(self, small: &mut SmallModel<H>, beside: usize) -> Result<()> {
        // Not every model's sizes are those of a GPU's kernels.
        if self == SmallDevice::Auto {
            let device = lacuna_models::detect();
            match lacuna_models::fits(device, small.start(), beside).and_then(|()| small.set_device(device)) {
                Ok(()) => return Ok(()),
                Err(reason) => tracing::warn!("the small model stays on the CPU: {reason}"),
            }
        }
        let device = match self {
            SmallDevice::Auto | SmallDevice::Cpu => Device::Cpu,
            SmallDevice::Cuda => Device::Cuda(0),
            SmallDevice::Metal => Device::Metal(0),
        };
        let placed = lacuna_models::try_out(device).and_then(|()| small.set_device(device));
        placed.map_err(|e| Error::Model(format!("small model: {e}")))
    }
}
