//! The product of packed weights with F32 activations: y = W x, a column for each token.
//!
//! A kernel is generic over its vectors ([`vector::Vector`]) and is compiled for an instruction set by the one function of `avx2.rs` or
//! `avx512.rs` that enables it. All that it calls must be inlined into that: closures given to functions of the standard library
//! (`array::map`) are not, and each of their instructions becomes a call.
//!
//! Activations are rounded to 8 bits with a scale for each 32 of them, as ggml does; the sums of a block are exact integers. Weights
//! that are floats are multiplied with the activations as they are.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod floats;
mod job;
mod panel;
mod quantised;
mod rounded;
mod tile;
mod vector;

use crate::isa::Isa;
use crate::packed::{BLOCK, PANEL};
use job::{Groups, Job};
use panel::panel;
use rounded::Rounded;

pub use job::{Columns, Weights};

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
    let (round, multiply): (Step, Step) = match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => (avx512::round, panel::<avx512::Zmm>),
        #[cfg(target_arch = "x86_64")]
        Isa::AvxVnni => (avx2::vnni::round, panel::<avx2::Ymm<true>>),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => (avx2::plain::round, panel::<avx2::Ymm<false>>),
        #[cfg(not(target_arch = "x86_64"))]
        _ => unreachable!("{} is not available", isa.name()),
    };
    if weights.format.is_quantised() {
        // SAFETY: the caller vouches for the instruction set and all pointers; threads write different groups.
        (ith..groups.count).step_by(nth).for_each(|g| unsafe { round(&job, g) });
        barrier();
    }
    // SAFETY: as above; threads write different rows.
    (panels * ith / nth..panels * (ith + 1) / nth).for_each(|p| unsafe { multiply(&job, p) });
}

/// A kernel for one group of columns or one panel of rows.
type Step = unsafe fn(&Job, usize);
