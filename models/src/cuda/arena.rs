//! Work space on a device, handed out piece by piece and taken back as a whole.

use crate::ModelError;
use lacuna_cuda::{Device, Memory, Place};
use std::sync::Arc;

/// The least that is asked of the device at once.
const CHUNK: usize = 16 << 20;
/// Pieces begin at multiples of this.
const ALIGNMENT: usize = 256;

/// Chunks of memory, kept between steps.
pub struct Arena {
    device: Arc<Device>,
    chunks: Vec<Memory>,
    /// The chunk in use, and the bytes of it that are taken.
    current: usize,
    taken: usize,
}

impl Arena {
    pub fn new(device: Arc<Device>) -> Self {
        Arena { device, chunks: Vec::new(), current: 0, taken: 0 }
    }

    /// Takes all pieces back. What runs on the device still has them: calls there keep their order.
    pub fn clear(&mut self) {
        (self.current, self.taken) = (0, 0);
    }

    /// A piece of this size, of arbitrary content.
    pub fn take(&mut self, bytes: usize) -> Result<Place, ModelError> {
        while let Some(chunk) = self.chunks.get(self.current) {
            if self.taken + bytes <= chunk.bytes() {
                let place = chunk.place().bytes(self.taken);
                self.taken += bytes.next_multiple_of(ALIGNMENT);
                return Ok(place);
            }
            (self.current, self.taken) = (self.current + 1, 0);
        }
        self.chunks.push(self.device.memory(bytes.max(CHUNK))?);
        self.take(bytes)
    }

    /// A piece of `n` f32 numbers.
    pub fn floats(&mut self, n: usize) -> Result<Place, ModelError> {
        self.take(4 * n)
    }
}
