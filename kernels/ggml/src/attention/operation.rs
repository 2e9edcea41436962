//! An attention operation: its shape, and where its operands lie.

/// Numbers at `base + i · strides[0] + j · strides[1] + …` bytes.
#[derive(Clone, Copy, Debug)]
pub struct Strided {
    pub base: *mut u8,
    pub strides: [usize; 3],
}

impl Strided {
    pub(super) fn at<T>(&self, place: [usize; 3]) -> *mut T {
        let bytes: usize = place.iter().zip(self.strides).map(|(index, stride)| index * stride).sum();
        self.base.wrapping_add(bytes).cast()
    }
}

/// One attention operation; lengths are in numbers, tokens, heads and cells.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Length of a query and a key; a multiple of 16.
    pub key_dim: usize,
    /// Length of a value; a multiple of 16.
    pub value_dim: usize,
    pub tokens: usize,
    pub heads: usize,
    /// Divides `heads`; neighbouring query heads share a key head.
    pub kv_heads: usize,
    pub cells: usize,
    /// Separate caches, one after the other.
    pub streams: usize,
    pub scale: f32,
    /// F32 by (token, head, stream).
    pub q: Strided,
    /// F16 by (cell, kv head, stream).
    pub k: Strided,
    /// F16 by (cell, kv head, stream).
    pub v: Strided,
    /// F16 by (token, none, stream), one for each cell: 0 where a token sees it, −∞ where not, anything else is added.
    pub mask: Strided,
    /// F32 by (token, head, stream).
    pub out: Strided,
}

impl Attention {
    /// Query heads that share a key head.
    pub(super) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }
}
