//! A small F32 matrix product: tiles of six rows by a few vectors that stay in registers.

// Arrays of registers are indexed by row and column, as in the mathematics.
#![allow(clippy::needless_range_loop)]

use super::lanes::{Lanes, Product};

/// The product in vectors of type `L`.
///
/// # Safety
/// The pointers and strides describe matrices of these shapes, `c` apart from the others; the caller enables the instructions of `L`.
#[inline(always)]
pub(super) unsafe fn product<L: Lanes>(p: Product) {
    let mut col = 0;
    while col < p.cols {
        let vectors = ((p.cols - col) / L::LEN).min(L::STRIP);
        // SAFETY: as the caller says; `vectors` are left from this column on.
        unsafe {
            match vectors {
                1 => strip::<L, 1>(p.from(0, col)),
                2 => strip::<L, 2>(p.from(0, col)),
                3 => strip::<L, 3>(p.from(0, col)),
                _ => strip::<L, 4>(p.from(0, col)),
            }
        }
        col += vectors * L::LEN;
    }
}

/// All rows of `V` vectors of columns.
#[inline(always)]
unsafe fn strip<L: Lanes, const V: usize>(p: Product) {
    let mut row = 0;
    // SAFETY: as the caller says; the rows are left.
    unsafe {
        while row + 6 <= p.rows {
            tile::<L, 6, V>(p.from(row, 0));
            row += 6;
        }
        match p.rows - row {
            0 => {}
            1 => tile::<L, 1, V>(p.from(row, 0)),
            2 => tile::<L, 2, V>(p.from(row, 0)),
            3 => tile::<L, 3, V>(p.from(row, 0)),
            4 => tile::<L, 4, V>(p.from(row, 0)),
            _ => tile::<L, 5, V>(p.from(row, 0)),
        }
    }
}

/// `R` rows of `V` vectors of columns.
#[inline(always)]
unsafe fn tile<L: Lanes, const R: usize, const V: usize>(p: Product) {
    let ((a, a_row, a_inner), (b, b_row), (c, c_row)) = (p.a, p.b, p.c);
    // SAFETY: as the caller says.
    unsafe {
        let mut sums = [[L::splat(0.0); V]; R];
        if p.accumulate {
            for r in 0..R {
                for v in 0..V {
                    sums[r][v] = L::load(c.add(r * c_row + v * L::LEN));
                }
            }
        }
        for k in 0..p.inner {
            let mut row = [L::splat(0.0); V];
            for v in 0..V {
                row[v] = L::load(b.add(k * b_row + v * L::LEN));
            }
            for r in 0..R {
                let factor = L::splat(*a.add(r * a_row + k * a_inner));
                for v in 0..V {
                    sums[r][v] = factor.mul_add(row[v], sums[r][v]);
                }
            }
        }
        for r in 0..R {
            for v in 0..V {
                sums[r][v].store(c.add(r * c_row + v * L::LEN));
            }
        }
    }
}
