//! A matrix product on a device.

use crate::device::Number;
use crate::memory::Place;

/// A matrix in rows that lie `stride` numbers apart.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    pub place: Place,
    pub stride: usize,
    /// Whether its columns are the rows of the product's operand.
    pub transposed: bool,
}

/// `c` (m, n) = `a` (m, k) · `b` (k, n) + `bias` (n); with `accumulate`, added to `c`. Sums are f32.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    /// Which of them is a number of tokens, and another one in every batch.
    pub varies: Dimension,
    /// The format of `a`, `b` and `bias`.
    pub number: Number,
    pub a: Operand,
    pub b: Operand,
    pub c: Place,
    pub c_stride: usize,
    /// The format of `c`.
    pub c_number: Number,
    /// May be [`Place::NONE`]; must be that if `c` is of another format or is added to.
    pub bias: Place,
    pub accumulate: bool,
}

/// A dimension of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dimension {
    M,
    K,
}

impl Operand {
    /// A matrix in rows of `stride` numbers.
    pub fn rows(place: Place, stride: usize) -> Self {
        Operand { place, stride, transposed: false }
    }

    /// The transposed matrix.
    pub fn t(self) -> Self {
        Operand { transposed: !self.transposed, ..self }
    }
}
