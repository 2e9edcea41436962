//! Activations rounded to 8 bits, with a scale for each 32 of them.

use crate::packed::BLOCK;

/// Steps of four numbers in a block.
pub(super) const STEPS: usize = BLOCK / 4;

/// 1.5 · 2²³: a float this large counts in ones, so an integer added to its bits is added to its value.
pub(super) const MAGIC: f32 = 12_582_912.0;

/// 32 activations in 8 bits, as the kernels read them.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Rounded {
    /// Where the dot products of the block begin, as the bits of a float: [`MAGIC`] less the share of the codes' zero. The
    /// second is for the second half of a block whose halves have scales of their own.
    pub init: [i32; 2],
    /// The scale: the value of one unit of the codes.
    pub scale: f32,
    /// The sum of all codes, times the scale.
    pub sum: f32,
    /// Four codes in each number, the first in its lowest byte.
    pub codes: [i32; STEPS],
}

/// The codes of 32 activations, their scale, and the sums of the first 16 codes and of the others.
pub(super) struct Codes32 {
    pub codes: [i32; STEPS],
    pub scale: f32,
    pub sums: [i32; 2],
}

/// Up to this the inverse overflows; such numbers count as 0.
pub(super) const SMALLEST: f32 = 1e-30;

/// The factor that turns 32 activations, whose largest magnitude is `largest`, into codes, and the scale of the codes. With `odd`, one
/// of them is not a number, and neither are the results.
#[inline(always)]
pub(super) fn inverse_and_scale(largest: f32, odd: bool) -> (f32, f32) {
    if odd {
        (0.0, f32::NAN)
    } else if largest > SMALLEST {
        (127.0 / largest, largest / 127.0)
    } else {
        (0.0, 0.0)
    }
}
