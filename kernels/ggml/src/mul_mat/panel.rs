//! The product of a panel of weights with all columns: the kernel of its format.

use super::job::Job;
use super::quantised::{Iq4Nl, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
use super::vector::Vector;
use super::{floats, tile};
use crate::format::Format;

/// Computes the rows of panel `p` for all columns.
///
/// # Safety
/// As [`super::mul_mat`]; all groups are rounded; nobody else writes these rows or this job's scratch.
pub(super) unsafe fn panel<V: Vector>(job: &Job, p: usize) {
    // SAFETY: as the caller says.
    unsafe {
        match job.weights.format {
            Format::Q4_0 => tile::panel::<V, Q4_0>(job, p),
            Format::Q4_1 => tile::panel::<V, Q4_1>(job, p),
            Format::Q5_0 => tile::panel::<V, Q5_0>(job, p),
            Format::Q5_1 => tile::panel::<V, Q5_1>(job, p),
            Format::Q8_0 => tile::panel::<V, Q8_0>(job, p),
            Format::Iq4Nl => tile::panel::<V, Iq4Nl>(job, p),
            Format::Q4K => tile::panel::<V, Q4K>(job, p),
            Format::Q5K => tile::panel::<V, Q5K>(job, p),
            Format::Q6K => tile::panel::<V, Q6K>(job, p),
            Format::F16 => floats::panel::<V, false>(job, p),
            Format::Bf16 => floats::panel::<V, true>(job, p),
        }
    }
}
