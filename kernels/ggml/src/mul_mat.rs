//! The product of packed weights with F32 activations: y = W x, a column for each token.
//!
//! Activations are rounded to 8 bits with a scale for each 32 of them, as ggml does; the sums of a block are exact integers. Weights
//! that are floats are multiplied with the activations as they are.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod floats;
mod tile;
mod vector;

use crate::format::Format;
use crate::isa::Isa;
use crate::packed::{BLOCK, PANEL};
use vector::Rounded;

/// 1.5 · 2²³: a float this large counts in ones, so an integer added to its bits is added to its value.
const MAGIC: f32 = 12_582_912.0;

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
    fn at(&self, i: usize) -> *mut f32 {
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
struct Groups {
    count: usize,
    /// Columns of a group; the first `longer` groups have one more.
    width: usize,
    longer: usize,
}

impl Groups {
    /// Groups of `n` columns, at least one, for the registers of `isa`.
    fn new(isa: Isa, n: usize) -> Self {
        let most = match isa {
            Isa::Avx512Vnni => 8,
            Isa::AvxVnni => 5,
            Isa::Avx2 => 4,
        };
        let count = n.div_ceil(most);
        Groups { count, width: n / count, longer: n % count }
    }

    /// First column of group `g`, and of the next for `g + 1`.
    fn begin(&self, g: usize) -> usize {
        g * self.width + g.min(self.longer)
    }
}

/// Bytes of work space for a product with `n` columns on `threads` threads.
pub fn work_len(weights_k: usize, n: usize, threads: usize) -> usize {
    rounded_len(weights_k, n) + threads * scratch_len(weights_k) + 64
}

/// Rounded activations of all columns, a whole number of cache lines.
fn rounded_len(k: usize, n: usize) -> usize {
    (k / BLOCK * n * size_of::<Rounded>()).next_multiple_of(64)
}

/// A panel's codes as bytes.
fn scratch_len(k: usize) -> usize {
    k * PANEL
}

/// The part of thread `ith` of `nth` in the product of `weights` with the columns `x` (k numbers each) into the columns `y` (rows
/// numbers each). All threads call it with the same arguments; `barrier` waits for all of them.
///
/// # Safety
/// `isa` is available; `x` and `y` point to as many columns as `x.len()` of that many numbers, which nobody else writes; `work`
/// points to `work_len` bytes that all threads share.
pub unsafe fn mul_mat(isa: Isa, weights: Weights, x: Columns, y: Columns, part: (usize, usize), work: *mut u8, barrier: impl Fn()) {
    let (ith, nth) = part;
    assert_eq!(weights.packed.len(), weights.format.packed_len(weights.rows, weights.k));
    assert_eq!(x.len(), y.len());
    let n = x.len();
    if n == 0 {
        return;
    }
    let rounded = work.wrapping_add(work.align_offset(64));
    let scratch = rounded.wrapping_add(rounded_len(weights.k, n) + ith * scratch_len(weights.k));
    let groups = Groups::new(isa, n);
    let job = Job { weights, x, y, groups, rounded: rounded.cast(), scratch };
    let panels = weights.rows.div_ceil(PANEL);
    let (round, panel): (Step, Step) = match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => (avx512::round, tile::panel::<avx512::Zmm>),
        #[cfg(target_arch = "x86_64")]
        Isa::AvxVnni => (avx2::vnni::round, tile::panel::<avx2::Ymm<true>>),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => (avx2::plain::round, tile::panel::<avx2::Ymm<false>>),
        #[cfg(not(target_arch = "x86_64"))]
        _ => unreachable!("{} is not available", isa.name()),
    };
    if weights.format.is_quantised() {
        // SAFETY: the caller vouches for the instruction set and all pointers; threads write different groups.
        (ith..groups.count).step_by(nth).for_each(|g| unsafe { round(&job, g) });
        barrier();
    }
    // SAFETY: as above; threads write different rows.
    (panels * ith / nth..panels * (ith + 1) / nth).for_each(|p| unsafe { panel(&job, p) });
}

/// A kernel for one group of columns or one panel of rows.
type Step = unsafe fn(&Job, usize);

/// Everything that the kernels need to know about a product.
struct Job<'a> {
    weights: Weights<'a>,
    x: Columns,
    y: Columns,
    groups: Groups,
    /// Rounded activations, group after group: (blocks, columns of the group).
    rounded: *mut Rounded,
    /// A panel's codes as bytes, of this thread alone.
    scratch: *mut u8,
}

impl Job<'_> {
    fn blocks(&self) -> usize {
        self.weights.k / BLOCK
    }

    /// The packed weights of panel `p`.
    fn panel(&self, p: usize) -> *const u8 {
        self.weights.packed[p * self.weights.format.panel_len(self.weights.k)..].as_ptr()
    }

    /// Rounded activations of group `g`.
    fn rounded_group(&self, g: usize) -> *mut Rounded {
        self.rounded.wrapping_add(self.groups.begin(g) * self.blocks())
    }
}
