//! The walk through the stages. A stage reads its journal first and does what is missing, so going on after a crash is the same walk:
//! stages that are done only read.

use std::time::Instant;

use super::next::{Limits, next};
use super::stages::Stages;
use super::state::Synthesis;
use crate::error::Result;
use crate::run::cost::{Spent, Work};
use crate::run::stage::Stage;
use crate::run::summary::Delivery;

impl<H: Stages> Synthesis<'_, H> {
    /// Walks through all stages; what an earlier process finished is only read.
    ///
    /// # Errors
    /// Whatever a stage runs into. The folder is then as a crash would leave it: the same call goes on.
    pub fn run(mut self) -> Result<Delivery> {
        let limits = Limits::of(self.inputs.task);
        let mut stage = limits.first();
        let mut resuming = true;
        if self.manifest.rounds.is_empty() {
            H::try_the_judge(&mut self)?;
        }
        loop {
            resuming &= stage != self.manifest.stage;
            if !resuming && stage != self.manifest.stage {
                self.manifest.stage = stage;
                self.manifest.write(self.run)?;
            }
            if matches!(stage, Stage::Deliver | Stage::Done) {
                return self.deliver();
            }
            let clock = Instant::now();
            let outcome = self.stage(stage);
            Spent::note(self.run, Work::of_stage(stage), clock.elapsed())?;
            outcome?;
            stage = next(stage, &limits, &self.manifest.rounds);
        }
    }

    fn stage(&mut self, stage: Stage) -> Result<()> {
        match stage {
            Stage::Rationales => H::write_rationales(self),
            Stage::Calibrate => H::calibrate(self),
            Stage::Write { round: 0 } => self.write_seed(),
            Stage::Write { round } => self.write_extrapolations(round),
            Stage::Judge { round } => H::judge(self, round),
            Stage::Train { round } => self.train(round),
            Stage::Deliver | Stage::Done => Ok(()),
        }
    }
}
