//! The training plan of a fit.

use super::head::SmallHead;
use super::row::TrainRow;
use crate::task::file::TrainKeys;

/// The training rows of a fit and its settings.
pub struct FitPlan<'a, H: SmallHead> {
    pub rows: &'a [TrainRow<H::Target>],
    pub keys: &'a TrainKeys,
    pub seed: u64,
}
