//! The learning rate of the small model, chosen by cross-validation on the gold rows that it will learn from.

use std::time::Instant;

use super::fitting::fit_gold;
use crate::data::example::GoldRow;
use crate::error::Result;
use crate::run::progress::Progress;
use crate::small::folds::{Folds, at, sides};
use crate::small::model::SmallModel;
use crate::task::file::TrainKeys;

/// The task's learning rate times these. The task's own is first: of equally good ones the first is taken.
const FACTORS: [f64; 3] = [1.0, 0.4, 2.0];
const FOLDS: usize = 3;

/// Training keys with the chosen learning rate.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuned {
    pub keys: TrainKeys,
    /// Floating-point operations of the fits that it took.
    pub flops: f64,
    pub seconds: f64,
}

/// The learning rate with the smallest mean log loss over gold rows, each predicted by a model that has not learnt from it. Of rows that
/// cannot be held out, such as a single one, the task's.
///
/// # Errors
/// As [`SmallModel::fit`].
pub fn learning_rate<H: Folds>(
    small: &SmallModel<H>,
    gold: &[GoldRow<H>],
    keys: &TrainKeys,
    seed: u64,
    progress: Progress,
) -> Result<Tuned> {
    let clock = Instant::now();
    let folds = sides(&small.head.held_out(gold, FOLDS, seed));
    if folds.is_empty() {
        return Ok(Tuned { keys: keys.clone(), flops: 0.0, seconds: 0.0 });
    }
    let mut bar = progress.bar("gold only · learning rate", "fits", FACTORS.len() * folds.len(), 0);
    let (mut best, mut flops): (Option<(f64, TrainKeys)>, f64) = (None, 0.0);
    for factor in FACTORS {
        let candidate = TrainKeys { learning_rate: factor * keys.learning_rate, ..keys.clone() };
        let mut loss = 0.0;
        for (learnt, held_out) in &folds {
            let fit = fit_gold(small, &at(gold, learnt), &candidate, seed)?;
            let rows = at(gold, held_out);
            loss += H::evaluate(&rows, &small.outputs(&fit.model, &rows)?).log_loss * rows.len() as f64;
            flops += fit.flops;
            bar.step(1)?;
        }
        if best.as_ref().is_none_or(|(least, _)| loss < *least) {
            best = Some((loss, candidate));
        }
    }
    let keys = best.map_or_else(|| keys.clone(), |(_, keys)| keys);
    bar.finish(&format!("{:.1e}", keys.learning_rate));
    Ok(Tuned { keys, flops, seconds: clock.elapsed().as_secs_f64() })
}
