//! One fit of the small model for a baseline, and what it took.

use crate::data::example::GoldRow;
use crate::error::Result;
use crate::small::checkpoint::Checkpoints;
use crate::small::fit::Fitted;
use crate::small::head::SmallHead;
use crate::small::model::SmallModel;
use crate::small::plan::FitPlan;
use crate::task::file::TrainKeys;

/// Fine-tunes the pretrained model by a plan, without checkpoints.
///
/// # Errors
/// As [`SmallModel::fit`].
pub fn fit<H: SmallHead>(small: &SmallModel<H>, plan: &FitPlan<H>) -> Result<Fitted<H::Model>> {
    small.fit(plan, &Checkpoints::off(), &mut |_, _| Ok(()))
}

/// Fine-tunes the pretrained model on gold rows with hard targets.
///
/// # Errors
/// As [`SmallModel::fit`].
pub fn fit_gold<H: SmallHead>(small: &SmallModel<H>, gold: &[GoldRow<H>], keys: &TrainKeys, seed: u64) -> Result<Fitted<H::Model>> {
    let rows: Vec<_> = gold.iter().map(|row| small.gold_row(row)).collect();
    fit(small, &FitPlan { rows: &rows, keys, seed })
}
