//! The work space of one thread.

use super::cells::{Cells, TILE};
use super::operation::Attention;

/// Cells that are multiplied together; their keys, values and scores stay in the second-level cache.
pub(super) const CHUNK: usize = 128;

impl Attention {
    /// Bytes of work space on `threads` threads.
    pub fn work_len(&self, threads: usize) -> usize {
        threads * Work::new(self, std::ptr::null_mut()).1 + 64
    }
}

/// One thread's work space.
pub(super) struct Work {
    pub cells: Cells,
    /// Scaled queries of a tile, (key_dim, lanes): a lane for each token of each head of the group.
    pub queries: *mut f32,
    /// The same of one token, (group, key_dim).
    pub query: *mut f32,
    pub keys: *mut f32,
    pub values: *mut f32,
    /// (CHUNK, lanes), or (group, cells) for one token.
    pub scores: *mut f32,
    /// Sums of weighted values, (lanes, value_dim).
    pub sums: *mut f32,
    /// By lane: the largest score so far, the sum of weights, and the factor that the last chunk rescaled both by.
    pub largest: *mut f32,
    pub total: *mut f32,
    pub factor: *mut f32,
}

impl Work {
    /// Lays the parts out from `base`; also says how many bytes they take.
    pub(super) fn new(a: &Attention, base: *mut u8) -> (Work, usize) {
        let mut len = 0;
        let mut floats = |n: usize| {
            let at = base.wrapping_add(len);
            len += (n * 4).next_multiple_of(64);
            at.cast::<f32>()
        };
        let lanes = a.group() * a.tokens.min(TILE).next_multiple_of(16);
        let queries = floats(a.key_dim * lanes);
        let query = floats(a.group() * a.key_dim);
        let keys = floats(CHUNK * a.key_dim);
        let values = floats(CHUNK * a.value_dim);
        let scores = floats((CHUNK * lanes).max(a.group() * a.cells.next_multiple_of(16)));
        let sums = floats(lanes * a.value_dim);
        let [largest, total, factor] = [floats(lanes), floats(lanes), floats(lanes)];
        let (cells, cells_len) = Cells::new(a.cells, base.wrapping_add(len));
        let work = Work { cells, queries, query, keys, values, scores, sums, largest, total, factor };
        (work, len + cells_len.next_multiple_of(64))
    }
}
