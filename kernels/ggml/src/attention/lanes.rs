//! What attention asks of a vector of floats; one implementation for each instruction set.

use super::product::Product;

/// A vector of F32 numbers. Every function needs the vector's instructions; those with pointers need [`Lanes::LEN`] numbers there.
pub(super) trait Lanes: Copy {
    /// Numbers in a vector: 16 or a divisor of it.
    const LEN: usize;
    /// Vectors beside each other in a product's register tile.
    const STRIP: usize;

    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// Half-precision numbers, widened.
    unsafe fn halves(from: *const u16) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// self · factor + more
    unsafe fn mul_add(self, factor: Self, more: Self) -> Self;
    unsafe fn max(self, other: Self) -> Self;
    /// e to the power of numbers that are at most 0 or −∞; relative error below 1e-6.
    unsafe fn exp(self) -> Self;
    /// The own number where the bit is set, the other's elsewhere.
    unsafe fn keep(self, bits: u32, other: Self) -> Self;
    /// The sum of all numbers.
    unsafe fn sum(self) -> f32;
    /// The largest number.
    unsafe fn largest(self) -> f32;
    /// Dot products of [`Lanes::LEN`] rows of `len` numbers with one.
    unsafe fn dots(rows: *const f32, other: *const f32, len: usize) -> Self;
    /// A matrix product.
    unsafe fn product(product: Product);
}
