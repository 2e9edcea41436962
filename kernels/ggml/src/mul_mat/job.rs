//! One product: its operands, and how its columns are grouped.

use super::rounded::Rounded;
use crate::format::Format;
use crate::isa::Isa;
use crate::packed::BLOCK;

/// Packed weights, (rows, k).
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    pub format: Format,
    pub rows: usize,
    pub k: usize,
    /// As `Format::pack` wrote them.
    pub packed: &'a [u8],
}

/// Where columns of F32 numbers begin: those of a ggml tensor with up to three dimensions of columns.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    pub base: *mut u8,
    /// Columns in each dimension, the innermost first.
    pub counts: [usize; 3],
    /// Bytes between columns in each dimension.
    pub strides: [usize; 3],
}

impl Columns {
    /// Columns that lie `stride` bytes apart.
    pub fn new(base: *mut f32, count: usize, stride: usize) -> Self {
        Columns { base: base.cast(), counts: [count, 1, 1], strides: [stride, 0, 0] }
    }

    /// Number of columns.
    pub fn len(&self) -> usize {
        self.counts.iter().product()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first number of column `i`.
    pub(super) fn at(&self, i: usize) -> *mut f32 {
        let [n0, n1, n2] = self.counts;
        assert!(i < n0 * n1 * n2, "column {i} of {}", self.len());
        if n1 == 1 && n2 == 1 {
            // The common case, without divisions.
            return self.base.wrapping_add(i * self.strides[0]).cast();
        }
        let place = [i % n0, i / n0 % n1, i / n0 / n1];
        let bytes: usize = place.iter().zip(self.strides).map(|(index, stride)| index * stride).sum();
        self.base.wrapping_add(bytes).cast()
    }
}

/// Columns in groups as even as can be.
#[derive(Clone, Copy)]
pub(super) struct Groups {
    pub count: usize,
    /// Columns of a group; the first `longer` groups have one more.
    width: usize,
    longer: usize,
}

impl Groups {
    /// Groups of `n` columns, at least one, for the registers of `isa`.
    pub(super) fn new(isa: Isa, n: usize) -> Self {
        let most = match isa {
            Isa::Avx512Vnni => 8,
            Isa::AvxVnni => 5,
            Isa::Avx2 => 4,
        };
        let count = n.div_ceil(most);
        Groups { count, width: n / count, longer: n % count }
    }

    /// First column of group `g`, and of the next for `g + 1`.
    pub(super) fn begin(&self, g: usize) -> usize {
        g * self.width + g.min(self.longer)
    }
}

/// Everything that the kernels need to know about a product.
pub(super) struct Job<'a> {
    pub weights: Weights<'a>,
    pub x: Columns,
    pub y: Columns,
    pub groups: Groups,
    /// Rounded activations, group after group: (blocks, columns of the group).
    pub rounded: *mut Rounded,
    /// A panel's codes as bytes, of this thread alone.
    pub scratch: *mut u8,
}

impl Job<'_> {
    /// Blocks of a row.
    pub(super) fn blocks(&self) -> usize {
        self.weights.k / BLOCK
    }

    /// The packed weights of panel `p`.
    pub(super) fn panel(&self, p: usize) -> *const u8 {
        self.weights.packed[p * self.weights.format.panel_len(self.weights.k)..].as_ptr()
    }

    /// Rounded activations of group `g`.
    pub(super) fn rounded_group(&self, g: usize) -> *mut Rounded {
        self.rounded.wrapping_add(self.groups.begin(g) * self.blocks())
    }
}
