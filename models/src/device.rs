//! The device on which a model is trained and run.

#[cfg(feature = "candle")]
use crate::ModelError;
use std::fmt;

/// The device on which logits and gradients are computed and parameters updated. Parameters, loss, dropout masks, clipping and schedule
/// are the same on all devices; results agree up to rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The CPU, with our kernels.
    #[default]
    Cpu,
    /// The NVIDIA GPU of this number, with our kernels; in every build, where the driver and cublasLt can be loaded.
    Cuda(usize),
    /// The Apple GPU of this number, with candle's operations in f32; only in builds with the feature `metal`.
    Metal(usize),
    /// The CPU in the place of an NVIDIA GPU, thousands of times slower: for tests.
    #[cfg(feature = "emulated")]
    Emulated,
    /// The CPU with candle's operations, several times slower than [`Device::Cpu`]: for comparisons.
    #[cfg(feature = "candle")]
    CandleCpu,
}

#[cfg(feature = "candle")]
impl Device {
    /// candle's device; `None` for one with our kernels.
    pub(crate) fn open(self) -> Result<Option<candle_core::Device>, ModelError> {
        let opened = match self {
            Device::Cpu | Device::Cuda(_) => return Ok(None),
            #[cfg(feature = "emulated")]
            Device::Emulated => return Ok(None),
            Device::Metal(number) => candle_core::Device::new_metal(number),
            Device::CandleCpu => Ok(candle_core::Device::Cpu),
        };
        opened.map(Some).map_err(|e| ModelError::Device(format!("{self} cannot be used: {e}")))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Device::Cpu => write!(f, "cpu"),
            Device::Cuda(number) => write!(f, "cuda:{number}"),
            Device::Metal(number) => write!(f, "metal:{number}"),
            #[cfg(feature = "emulated")]
            Device::Emulated => write!(f, "emulated"),
            #[cfg(feature = "candle")]
            Device::CandleCpu => write!(f, "candle's cpu"),
        }
    }
}
