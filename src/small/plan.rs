//! What a fit learns, and how.

use super::head::SmallHead;
use super::row::TrainRow;
use crate::data::example::GoldRow;
use crate::task::file::TrainKeys;

/// What is learnt, and how.
pub struct FitPlan<'a, H: SmallHead> {
    pub rows: &'a [TrainRow<H::Target>],
    /// Chooses the epoch and the labels' thresholds; without it the last epoch is kept as it is.
    pub select: Option<Select<'a, H>>,
    pub keys: &'a TrainKeys,
    pub seed: u64,
}

/// Gold rows that choose the epoch and the labels' [`thresholds`](super::threshold).
pub struct Select<'a, H: SmallHead> {
    pub rows: &'a [GoldRow<H>],
    /// Epochs without a better score before it stops.
    pub patience: usize,
}

impl<H: SmallHead> FitPlan<'_, H> {
    /// Passes over the rows: those of the task, or more where a small set would see fewer than `min_steps` steps.
    pub fn epochs(&self) -> usize {
        let steps_per_epoch = self.rows.len().div_ceil(self.keys.batch).max(1);
        self.keys.epochs.max(self.keys.min_steps.div_ceil(steps_per_epoch))
    }
}
