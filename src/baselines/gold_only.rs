//! The baseline of every kind of task: the small model learns from the gold rows alone.

use super::fitting::fit_gold;
use super::tune::learning_rate;
use crate::data::example::GoldRow;
use crate::error::Result;
use crate::math::random;
use crate::run::progress::Progress;
use crate::small::fit::Fitted;
use crate::small::folds::Folds;
use crate::small::model::SmallModel;
use crate::task::file::TrainKeys;

/// Fine-tunes on all gold rows, with the learning rate that cross-validation chooses. The fit's operations include those of choosing,
/// its steps do not.
///
/// # Errors
/// As [`SmallModel::fit`].
pub fn gold_only<H: Folds>(
    small: &SmallModel<H>,
    gold: &[GoldRow<H>],
    keys: &TrainKeys,
    seed: u64,
    progress: Progress,
) -> Result<Fitted<H::Model>> {
    let tuned = learning_rate(small, gold, keys, seed, progress)?;
    let fit = fit_gold(small, gold, &tuned.keys, member_seed(seed, 0))?;
    Ok(Fitted { flops: fit.flops + tuned.flops, ..fit })
}

/// The seed of one of the models that learn from all gold rows; gold only is the first.
pub(super) fn member_seed(seed: u64, member: usize) -> u64 {
    random::derive(seed, "gold only", member as u64)
}
