//! The training plan of a fit.

use super::head::SmallHead;
use super::row::TrainRow;
use crate::data::example::GoldRow;
use crate::task::file::TrainKeys;

/// The training rows of a fit and its settings.
pub struct FitPlan<'a, H: SmallHead> {
    pub rows: &'a [TrainRow<H::Target>],
    /// Held-out rows that choose the epoch and the labels' thresholds; without them the last epoch is kept, without thresholds.
    pub select: Option<Select<'a, H>>,
    pub keys: &'a TrainKeys,
    pub seed: u64,
}

/// Gold rows that choose the epoch and the labels' [`thresholds`](super::threshold).
pub struct Select<'a, H: SmallHead> {
    pub rows: &'a [GoldRow<H>],
    /// Early stopping: epochs without a lower log loss before the fit stops.
    pub patience: usize,
}

impl<H: SmallHead> FitPlan<'_, H> {
    /// Number of epochs: the task's, or more if a small training set would have fewer than `min_steps` steps.
    pub fn epochs(&self) -> usize {
        let steps_per_epoch = self.rows.len().div_ceil(self.keys.batch).max(1);
        self.keys.epochs.max(self.keys.min_steps.div_ceil(steps_per_epoch))
    }
}
