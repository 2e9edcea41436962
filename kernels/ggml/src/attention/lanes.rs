//! The vector operations that attention needs, one implementation for each instruction set; and the operands of its matrix product.

/// A vector of F32 numbers. Every function needs the vector's instructions; those with pointers need [`Lanes::LEN`] numbers there.
pub(super) trait Lanes: Copy {
    /// Numbers in a vector: 16 or a divisor of it.
    const LEN: usize;
    /// Vectors per row of a product's register tile.
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

/// c (rows, cols) = a (rows, inner) · b (inner, cols), or c += that. Strides are in numbers.
#[derive(Clone, Copy)]
pub(super) struct Product {
    pub rows: usize,
    /// A multiple of the vector's length.
    pub cols: usize,
    pub inner: usize,
    /// First number, stride of rows, stride along `inner`.
    pub a: (*const f32, usize, usize),
    /// First number, stride of rows.
    pub b: (*const f32, usize),
    /// First number, stride of rows.
    pub c: (*mut f32, usize),
    pub accumulate: bool,
}

impl Product {
    /// The part from row `row` and column `col` on.
    #[inline(always)]
    pub(super) fn from(self, row: usize, col: usize) -> Product {
        let (a, b, c) = (self.a.0.wrapping_add(row * self.a.1), self.b.0.wrapping_add(col), self.c.0.wrapping_add(row * self.c.1 + col));
        Product { a: (a, self.a.1, self.a.2), b: (b, self.b.1), c: (c, self.c.1), ..self }
    }
}
