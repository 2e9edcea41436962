//! Attention over a KV cache that many sequences share, for ggml's `FLASH_ATTN_EXT`.
//!
//! Queries go in tiles of up to 64 tokens. The mask says which tokens of a tile see a cell. Cells that many of them see (a shared
//! prompt, or a tile's own past) are read once and multiplied with all tokens and all heads that share a key; each token then goes
//! through the cells that few others see by itself. Sums are in F32 and softmax is exact: maxima are kept while cells go by (Milakov
//! and Gimelshein, arXiv 1805.02867).

mod cells;
mod lanes;
mod operation;
mod product;
mod tile;
mod work;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use crate::isa::Isa;
use work::Work;

pub use operation::{Attention, Strided};

/// The part of thread `ith` of `nth`; all threads call it with the same arguments.
///
/// # Safety
/// `isa` is available; the operation's pointers and strides describe memory of its shape that nobody else writes; `work` points to
/// `work_len` bytes that all threads share.
pub unsafe fn attention(isa: Isa, attention: &Attention, (ith, nth): (usize, usize), work: *mut u8) {
    let own = work.wrapping_add(work.align_offset(64) + ith * Work::new(attention, std::ptr::null_mut()).1);
    let (mut work, _) = Work::new(attention, own);
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as the caller says.
        Isa::Avx512Vnni => unsafe { avx512::run(attention, &mut work, ith, nth) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as the caller says.
        Isa::AvxVnni | Isa::Avx2 => unsafe { avx2::run(attention, &mut work, ith, nth) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => unreachable!("{} is not available", isa.name()),
    }
}
