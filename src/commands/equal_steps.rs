//! The optimiser steps that every model of a table takes, so that none wins by having been trained for longer.

use super::setup::Setup;
use crate::task::file::Task;

/// The steps of the task file if it says how many, or else those for the largest training set that S3 can have: its synthetic rows, `texts`
/// that it reads, and the gold rows repeated. Where a round writes so many rows an error, it is not taken to write more than the seed.
/// `pool` is the number of rows in the gold file.
pub fn equal_steps(task: &Task, pool: usize, texts: usize) -> usize {
    let gold = task.data.gold_rows.unwrap_or(pool);
    let mine = gold - (gold as f64 * task.data.select_share) as usize;
    let of_round = task.extrapolate.rows.unwrap_or_else(|| (mine * task.extrapolate.rows_per_error).min(task.seed.rows));
    let listed = task.lists().map_or(0, |list| list.rows);
    let written = listed + task.seed.rows + task.extrapolate.max_rounds * of_round;
    task.train.steps_for(written + texts + task.train.gold_repeat * gold)
}

impl Setup {
    /// Gives all models of a run the same steps, unless it reads texts or continues lists: thousands of texts need more steps than are good
    /// for the gold rows alone, so that each model then takes those of its own training set.
    #[must_use]
    pub fn with_steps_of_a_run(self) -> Self {
        if self.task.reads() || self.task.lists().is_some() { self } else { self.with_equal_steps() }
    }

    /// Gives all models the same steps; more to those that learn from thousands of texts, unless the task says how many.
    #[must_use]
    pub fn with_equal_steps(mut self) -> Self {
        let (pool, texts) = (self.gold_pool(), self.texts_to_read());
        self.steps_with_texts = Some(equal_steps(&self.task, pool, texts));
        self.task.train.steps = Some(equal_steps(&self.task, pool, 0));
        self
    }
}
