//! The number format of the large matrix products.

use lacuna_cuda::Number;
use lacuna_kernels::packed::Format;
use serde::{Deserialize, Serialize};

/// The number format of operands in the linear layers' matrix products. Sums, parameters, gradients and everything else are f32; on an
/// NVIDIA GPU the activations have the format of the operands, which is bf16 for all but [`Precision::F32`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// The fastest format that this CPU has instructions for: [`Precision::Int16`] with AVX512_VNNI, otherwise [`Precision::F32`].
    ///
    /// It depends on the CPU alone, never on a measurement, so that runs repeat. bf16 is never chosen: on an Intel Xeon with AVX512_BF16
    /// `vdpbf16ps` measured half the speed of f32 and a quarter of int16's, and on AMD's Zen 4 it cannot be faster than int16.
    #[default]
    Auto,
    F32,
    /// 8 significant bits for every number.
    Bf16,
    /// Integers of 13 bits; 128 neighbours along the depth of a product share a scale.
    Int16,
}

impl Precision {
    /// The format that operands are rounded to on this CPU; `None` for f32.
    pub(crate) fn format(self) -> Option<Format> {
        match self {
            Precision::Auto => Some(Format::Int16).filter(|format| format.is_fast()),
            Precision::F32 => None,
            Precision::Bf16 => Some(Format::Bf16),
            Precision::Int16 => Some(Format::Int16),
        }
    }

    /// The format of activations and products on an NVIDIA GPU.
    pub(crate) fn on_cuda(self) -> Number {
        if self == Precision::F32 { Number::F32 } else { Number::Bf16 }
    }
}
