//! Work space on a device, handed out piece by piece and taken back as a whole or down to a mark.

use crate::ModelError;
use lacuna_cuda::{Device, Memory, Place};
use std::sync::Arc;

/// The least that is asked of the device at once.
const CHUNK: usize = 16 << 20;
/// Pieces begin at multiples of this.
const ALIGNMENT: usize = 256;

/// Chunks of memory, kept between steps.
///
/// A chunk that is asked for because the others are full is no larger than it must be, and the pieces of a larger batch may not fit there.
/// So where several are left when pieces are taken back, they are given back too, and the next one has room for the most that was ever
/// taken: soon there is one.
pub struct Arena {
    device: Arc<Device>,
    chunks: Vec<Memory>,
    taken: Mark,
    /// The most bytes that were taken at once.
    peak: usize,
}

/// How much is taken.
#[derive(Clone, Copy, Default)]
pub struct Mark {
    /// The chunk in use, and the bytes of it that are taken.
    chunk: usize,
    of_chunk: usize,
    /// Bytes of all pieces.
    bytes: usize,
}

impl Arena {
    pub fn new(device: Arc<Device>) -> Self {
        Arena { device, chunks: Vec::new(), taken: Mark::default(), peak: 0 }
    }

    /// Where the pieces begin that [`Arena::rewind`] takes back.
    pub fn mark(&self) -> Mark {
        self.taken
    }

    /// Takes back the pieces since the mark. What runs on the device still has them: calls there keep their order, and memory is not given
    /// back before they are done.
    pub fn rewind(&mut self, mark: Mark) {
        let kept = if mark.bytes == 0 { 0 } else { mark.chunk + 1 };
        if self.chunks.len() > kept + 1 {
            self.chunks.truncate(kept);
        }
        self.taken = mark;
    }

    /// Takes all pieces back, as [`Arena::rewind`].
    pub fn clear(&mut self) {
        self.rewind(Mark::default());
    }

    /// Gives all memory back to the device.
    pub fn release(&mut self) {
        self.chunks.clear();
        (self.taken, self.peak) = (Mark::default(), 0);
    }

    /// Bytes of all chunks.
    pub fn bytes(&self) -> usize {
        self.chunks.iter().map(Memory::bytes).sum()
    }

    /// A piece of this size, of arbitrary content.
    pub fn take(&mut self, bytes: usize) -> Result<Place, ModelError> {
        while self.chunks.get(self.taken.chunk).is_some_and(|chunk| self.taken.of_chunk + bytes > chunk.bytes()) {
            (self.taken.chunk, self.taken.of_chunk) = (self.taken.chunk + 1, 0);
        }
        if self.taken.chunk == self.chunks.len() {
            let chunk = self.chunk(bytes)?;
            self.chunks.push(chunk);
        }
        let place = self.chunks[self.taken.chunk].place().bytes(self.taken.of_chunk);
        let aligned = bytes.next_multiple_of(ALIGNMENT);
        self.taken.of_chunk += aligned;
        self.taken.bytes += aligned;
        self.peak = self.peak.max(self.taken.bytes);
        Ok(place)
    }

    /// A chunk with room for a piece and, if the device has that much, for all that is still to come if it is as much as at the peak, and
    /// an eighth more: not every batch that is somewhat larger than all before then needs another chunk.
    fn chunk(&self, bytes: usize) -> Result<Memory, ModelError> {
        let (least, to_come) = (bytes.max(CHUNK), self.peak.saturating_sub(self.taken.bytes));
        let chunk = self.device.memory(least.max(to_come + to_come / 8));
        Ok(chunk.or_else(|_| self.device.memory(least))?)
    }

    /// A piece of `n` f32 numbers.
    pub fn floats(&mut self, n: usize) -> Result<Place, ModelError> {
        self.take(4 * n)
    }
}

#[cfg(test)]
#[cfg(feature = "emulated")]
impl Arena {
    /// The most bytes that were taken at once.
    pub fn peak(&self) -> usize {
        self.peak
    }
}

#[cfg(test)]
#[cfg(feature = "emulated")]
mod tests {
    use super::*;

    /// Takes what a batch of so many tokens could need, the sum of which it returns: small pieces between large ones.
    fn take_batch(arena: &mut Arena, tokens: usize) -> usize {
        let pieces = [100, 20_000 * tokens, 40 * tokens, 30_000 * tokens, 3000, 40_000 * tokens, 10 * tokens];
        pieces.iter().for_each(|&bytes| assert!(!arena.take(bytes).unwrap().is_none()));
        pieces.iter().map(|bytes| bytes.next_multiple_of(ALIGNMENT)).sum()
    }

    /// Tokens of batches of which most are larger than all before.
    const GROWING: [usize; 12] = [850, 900, 940, 930, 1000, 1060, 1110, 1090, 1150, 1210, 1260, 1300];

    #[test]
    fn growing_batches_leave_no_chunks_behind() {
        let mut arena = Arena::new(Device::emulated());
        for tokens in GROWING {
            arena.clear();
            let needed = take_batch(&mut arena, tokens);
            // In the batch that is larger than all before, what did not fit goes to new chunks of 16 MB at least.
            assert!(arena.bytes() < 2 * needed + 2 * CHUNK, "{} bytes for {needed}", arena.bytes());
        }
        arena.clear();
        let needed = take_batch(&mut arena, 1300);
        assert!(arena.chunks.len() == 1 && arena.bytes() < needed * 5 / 4, "{} bytes for {needed}", arena.bytes());
        arena.release();
        assert_eq!((arena.bytes(), arena.peak()), (0, 0));
    }

    #[test]
    fn growing_shards_of_one_step_leave_no_chunks_behind() {
        let mut arena = Arena::new(Device::emulated());
        let losses = arena.take(1000).unwrap();
        let mark = arena.mark();
        for tokens in GROWING {
            let needed = take_batch(&mut arena, tokens);
            assert!(arena.bytes() < 2 * needed + 3 * CHUNK, "{} bytes for {needed}", arena.bytes());
            assert_eq!(arena.peak(), needed.max(arena.peak() - 1024) + 1024);
            arena.rewind(mark);
            // What was taken before the mark is where it was.
            assert!(arena.chunks[0].place() == losses && arena.chunks.len() <= 2);
        }
        assert_eq!(arena.take(1).unwrap(), losses.bytes(1024));
    }
}
