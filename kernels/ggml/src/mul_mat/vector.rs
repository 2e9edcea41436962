//! The vector operations that the product needs; one implementation for each instruction set.

use super::job::Job;
use super::quantised::Quantised;
use super::rounded::Codes32;
use crate::packed::BLOCK;

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
    /// The values of 4-bit codes of IQ4_NL, plus 128.
    unsafe fn lookup(nibbles: Self::Int) -> Self::Int;
    /// Adds `VALUE` to each byte whose bit is set.
    unsafe fn add_bits<const VALUE: i8>(codes: Self::Int, bits: *const u8) -> Self::Int;
    unsafe fn splat_int(x: i32) -> Self::Int;
    /// Adds the product of each row's four unsigned codes with four signed bytes.
    unsafe fn dot<K: Quantised>(sums: Self::Int, codes: Self::Int, x: Self::Int) -> Self::Int;
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
        unsafe { [Self::round(x), Self::round(x.add(BLOCK)), Self::round(x.add(2 * BLOCK)), Self::round(x.add(3 * BLOCK))] }
    }

    /// [`super::tile::tile`] with the vector's instructions enabled.
    unsafe fn tile<K: Quantised, const UNPACKED: bool, const C: usize>(job: &Job, p: usize, g: usize);
    /// [`super::tile::unpack`] with the vector's instructions enabled.
    unsafe fn unpack<K: Quantised>(job: &Job, p: usize);
    /// [`super::floats::tile`] with the vector's instructions enabled.
    unsafe fn floats<const UPPER: bool, const C: usize>(job: &Job, p: usize, g: usize);
}
