//! What the product asks of a vector; one implementation for each instruction set.

use super::Job;
use super::tile::{Kind, STEPS};
use crate::packed::BLOCK;

/// 32 activations in 8 bits, as the kernels read them.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Rounded {
    /// Where the dot products of the block begin, as the bits of a float: [`super::MAGIC`] less the share of the codes' zero. The
    /// second is for the second half of a block whose halves have scales of their own.
    pub init: [i32; 2],
    /// What a code is worth.
    pub scale: f32,
    /// The sum of all codes, times the scale.
    pub sum: f32,
    /// Four codes in each number, the first in its lowest byte.
    pub codes: [i32; STEPS],
}

/// The codes of 32 activations, what they are worth, and the sums of the first 16 codes and of the others.
pub(super) struct Codes32 {
    pub codes: [i32; STEPS],
    pub scale: f32,
    pub sums: [i32; 2],
}

/// Up to this the inverse overflows; such numbers count as 0.
pub(super) const SMALLEST: f32 = 1e-30;

/// What 32 activations, the largest of which is `largest`, are multiplied with to give codes, and what a code is worth. `odd` says
/// that one of them is not a number; then no result is.
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

/// Vectors of [`Vector::ROWS`] rows. Every function needs the vector's instructions; those with pointers need the memory that they
/// name.
pub(super) trait Vector {
    /// A row's four codes, or a 32-bit sum, for each row.
    type Int: Copy;
    /// A number for each row.
    type Float: Copy;
    /// Rows of a vector, 16 or 8.
    const ROWS: usize;
    /// Whether [`Vector::dot`] takes bytes, and values of a table, as signed: the byte less 128.
    const SIGNED_BYTES: bool;

    /// Four bytes for each row.
    unsafe fn bytes(from: *const u8) -> Self::Int;
    unsafe fn store_bytes(codes: Self::Int, to: *mut u8);
    /// The low half of each byte.
    unsafe fn low_nibbles(bytes: Self::Int) -> Self::Int;
    /// The high half of each byte.
    unsafe fn high_nibbles(bytes: Self::Int) -> Self::Int;
    /// What 4-bit codes of IQ4_NL stand for, plus 128.
    unsafe fn lookup(nibbles: Self::Int) -> Self::Int;
    /// Adds `VALUE` to each byte whose bit is set.
    unsafe fn add_bits<const VALUE: i8>(codes: Self::Int, bits: *const u8) -> Self::Int;
    unsafe fn splat_int(x: i32) -> Self::Int;
    /// Adds the product of each row's four unsigned codes with four signed bytes.
    unsafe fn dot<K: Kind>(sums: Self::Int, codes: Self::Int, x: Self::Int) -> Self::Int;
    /// The same bits.
    unsafe fn as_float(bits: Self::Int) -> Self::Float;
    unsafe fn splat(x: f32) -> Self::Float;
    unsafe fn mul(a: Self::Float, b: Self::Float) -> Self::Float;
    /// a · b + c
    unsafe fn mul_add(a: Self::Float, b: Self::Float, c: Self::Float) -> Self::Float;
    /// a · b − c
    unsafe fn mul_sub(a: Self::Float, b: Self::Float, c: Self::Float) -> Self::Float;
    /// Half-precision numbers.
    unsafe fn halves(from: *const u8) -> Self::Float;
    /// Numbers of which there are the upper halves.
    unsafe fn upper_halves(from: *const u8) -> Self::Float;
    /// Unsigned bytes.
    unsafe fn unsigned(from: *const u8) -> Self::Float;
    /// Signed bytes.
    unsafe fn signed(from: *const u8) -> Self::Float;
    /// Writes the first `count` numbers.
    unsafe fn store(numbers: Self::Float, to: *mut f32, count: usize);
    /// Rounds 32 numbers.
    unsafe fn round(x: *const f32) -> Codes32;
    /// Rounds 4 x 32 numbers, each as [`Vector::round`] does.
    #[inline(always)]
    unsafe fn round4(x: *const f32) -> [Codes32; 4] {
        // SAFETY: the caller gives 128 numbers.
        std::array::from_fn(|i| unsafe { Self::round(x.add(i * BLOCK)) })
    }

    /// [`super::tile::tile`] with the vector's instructions enabled.
    unsafe fn tile<K: Kind, const UNPACKED: bool, const C: usize>(job: &Job, p: usize, g: usize);
    /// [`super::tile::unpack`] with the vector's instructions enabled.
    unsafe fn unpack<K: Kind>(job: &Job, p: usize);
    /// [`super::floats::tile`] with the vector's instructions enabled.
    unsafe fn floats<const UPPER: bool, const C: usize>(job: &Job, p: usize, g: usize);
}
