//! Runs the stages in order. Each stage reads its journal first and does only what is missing, so resuming after a crash runs the same
//! code: finished stages only read.

use super::next::{LoopRules, next};
use super::stages::Stages;
use super::state::Synthesis;
use crate::data::unlabelled::Texts;
use crate::error::Result;
use crate::run::cost::Work;
use crate::run::interrupt::check;
use crate::run::stage::Stage;
use crate::run::summary::Delivery;

impl<H: Stages> Synthesis<'_, H> {
    /// Runs all stages; the results of finished stages are only read.
    ///
    /// # Errors
    /// The error of a stage. The folder is then as after a crash: the same call resumes the run.
    pub fn run(mut self) -> Result<Delivery> {
        let rules = LoopRules::of(self.inputs.task, self.inputs.methods, self.inputs.unlabelled.map_or(0, Texts::len));
        let mut stage = rules.first();
        let mut resuming = true;
        if self.manifest.rounds.is_empty() {
            H::try_the_judge(&mut self)?;
        }
        loop {
            check()?;
            resuming &= stage != self.manifest.stage;
            if !resuming && stage != self.manifest.stage {
                self.manifest.stage = stage;
                self.manifest.write(self.run)?;
            }
            if matches!(stage, Stage::Deliver | Stage::Done) {
                return self.deliver();
            }
            let part = Work::of_stage(stage);
            let begun = self.begins(part);
            let outcome = self.stage(stage);
            self.ended(part, begun)?;
            outcome?;
            stage = next(stage, &rules, &self.manifest.rounds);
            let rounds = &self.manifest.rounds;
            if stage == Stage::Deliver && rounds.len() <= rules.max_rounds && rounds.last().is_some_and(|round| round.errors_after == 0) {
                self.inputs.progress.say("no errors on mine are left: there is nothing to extrapolate");
            }
        }
    }

    fn stage(&mut self, stage: Stage) -> Result<()> {
        match stage {
            Stage::Rationales => H::write_rationales(self),
            Stage::Calibrate => H::calibrate(self),
            Stage::List => H::list(self),
            Stage::Read { round } => H::read(self, round),
            Stage::Write { round: 0 } => self.write_seed(),
            Stage::Write { round } => self.write_extrapolations(round),
            Stage::Judge { round } => H::judge(self, round),
            Stage::Train { round } => {
                self.heed_decisions();
                self.train(round)
            }
            Stage::Deliver | Stage::Done => Ok(()),
        }
    }
}
