//! The product of a panel of weights that are floats of 16 bits with a few columns: nothing is rounded, sums are in F32.

use super::job::Job;
use super::tile::Ahead;
use super::vector::Vector;
use crate::packed::{BLOCK, PANEL};

/// Computes the rows of panel `p` for all columns; weights are half precision, or the upper halves of F32 numbers (`UPPER`).
///
/// # Safety
/// As [`super::mul_mat`]; nobody else writes these rows.
pub(super) unsafe fn panel<V: Vector, const UPPER: bool>(job: &Job, p: usize) {
    for g in 0..job.groups.count {
        // SAFETY: the number of columns is the group's own; the rest as the caller says.
        unsafe {
            match job.groups.begin(g + 1) - job.groups.begin(g) {
                1 => V::floats::<UPPER, 1>(job, p, g),
                2 => V::floats::<UPPER, 2>(job, p, g),
                3 => V::floats::<UPPER, 3>(job, p, g),
                4 => V::floats::<UPPER, 4>(job, p, g),
                5 => V::floats::<UPPER, 5>(job, p, g),
                6 => V::floats::<UPPER, 6>(job, p, g),
                7 => V::floats::<UPPER, 7>(job, p, g),
                _ => V::floats::<UPPER, 8>(job, p, g),
            }
        }
    }
}

/// One panel times `C` columns.
///
/// # Safety
/// As [`panel`]; group `g` has `C` columns; the caller enables the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn tile<V: Vector, const UPPER: bool, const C: usize>(job: &Job, p: usize, g: usize) {
    let panel = job.panel(p);
    let next = panel.wrapping_add(job.weights.format.panel_len(job.weights.k));
    let columns: [*const f32; C] = std::array::from_fn(|c| job.x.at(job.groups.begin(g) + c).cast_const());
    for first in (0..PANEL).step_by(2 * V::ROWS) {
        let mut ahead = Ahead::new::<V>(job, g, first);
        // SAFETY: a panel has PANEL floats for each of k steps, a column k numbers, a column of y `rows` numbers.
        unsafe {
            let mut sums = [[V::splat(0.0); 2]; C];
            for i in 0..job.weights.k {
                let weights = panel.add(2 * (i * PANEL + first));
                let widened = |at: *const u8| if UPPER { V::upper_halves(at) } else { V::halves(at) };
                let (low, high) = (widened(weights), widened(weights.add(2 * V::ROWS)));
                for (sums, column) in sums.iter_mut().zip(columns) {
                    let x = V::splat(*column.add(i));
                    *sums = [V::mul_add(low, x, sums[0]), V::mul_add(high, x, sums[1])];
                }
                if i.is_multiple_of(BLOCK) {
                    ahead.step(next);
                }
            }
            job.write::<V, C>(p, g, first, sums);
        }
    }
}
