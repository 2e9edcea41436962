//! A model's parameters on a device.

use crate::ModelError;
use crate::layout::Layout;
use lacuna_cuda::kernels::Round;
use lacuna_cuda::{Device, Memory, Number, Place};
use std::ops::Range;
use std::sync::Arc;

/// The flat buffer, and its dense part in bf16 for products.
pub struct Weights {
    pub flat: Memory,
    pub rounded: Memory,
}

impl Weights {
    pub fn upload(device: &Arc<Device>, layout: &Layout, flat: &[f32]) -> Result<Self, ModelError> {
        let dense = layout.len() - layout.words;
        let (flat, rounded) = (device.uploaded(flat)?, device.memory(2 * dense)?);
        Round { from: flat.place().words(layout.words), to: rounded.place(), length: dense as u64 }.run(device)?;
        Ok(Weights { flat, rounded })
    }

    /// Another one with the same numbers.
    pub fn copy(&self, device: &Arc<Device>) -> Result<Self, ModelError> {
        Ok(Weights { flat: device.copied(&self.flat)?, rounded: device.copied(&self.rounded)? })
    }

    /// Numbers of the dense part, in f32.
    pub fn vector(&self, layout: &Layout, range: &Range<usize>) -> Place {
        self.flat.place().words(layout.words + range.start)
    }

    /// Numbers of the dense part, as products read them.
    pub fn operand(&self, layout: &Layout, range: &Range<usize>, number: Number) -> Place {
        match number {
            Number::F32 => self.vector(layout, range),
            Number::Bf16 => self.rounded.place().numbers(range.start, number),
        }
    }
}
