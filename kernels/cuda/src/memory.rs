//! Memory of a device.

use crate::device::{Device, Number};
use crate::error::CudaError;
use std::sync::Arc;

/// A piece of a device's memory; given back when dropped.
pub struct Memory {
    device: Arc<Device>,
    place: Place,
    bytes: usize,
}

/// An address in a device's memory. Whoever holds it sees to it that the [`Memory`] is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Place(pub(crate) u64);

impl Memory {
    pub(crate) fn new(device: Arc<Device>, place: Place, bytes: usize) -> Self {
        Memory { device, place, bytes }
    }

    pub fn place(&self) -> Place {
        self.place
    }

    /// The address in the device's memory.
    pub fn address(&self) -> u64 {
        self.place.0
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// All of it as f32 numbers, on the host.
    pub fn floats(&self) -> Result<Vec<f32>, CudaError> {
        let mut floats = vec![0.0; self.bytes / 4];
        self.device.download(self.place, &mut floats)?;
        Ok(floats)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.device.free(self.place);
    }
}

impl Place {
    /// No place: a kernel's argument that is not there.
    pub const NONE: Place = Place(0);

    pub fn is_none(self) -> bool {
        self == Place::NONE
    }

    /// The place `bytes` further on.
    pub fn bytes(self, bytes: usize) -> Place {
        Place(self.0 + bytes as u64)
    }

    /// The place `n` numbers of 32 bits further on.
    pub fn words(self, n: usize) -> Place {
        self.bytes(4 * n)
    }

    /// The place `n` numbers of this format further on.
    pub fn numbers(self, n: usize, number: Number) -> Place {
        self.bytes(n * number.bytes())
    }
}
