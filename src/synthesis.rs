//! The loop of S3 (arXiv 2310.13671): rationales, seed, train, extrapolate the errors, until that stops paying.
//!
//! [`next`] says what follows a stage, [`Synthesis::run`] does it. A stage reads its journal first and does what is missing,
//! so going on after a crash is the same walk through the stages: those that are done only read.

mod changes;
mod deliver;
mod judge;
mod likeness;
mod round;
mod write;

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::cost::{Part, Spent};
use crate::dataset::{Context, Goal, GoldRow, Input};
use crate::error::{Error, Result};
use crate::generator::{Finish, Generate};
use crate::manifest::{Manifest, RoundRecord};
use crate::progress::Progress;
use crate::prompt::Prompts;
use crate::run_dir::RunDir;
use crate::split::Split;
use crate::task::{Parents, TargetKind, Task};
use crate::train::{SmallModel, Target};

pub use changes::Changes;
pub use deliver::{Delivery, Method, MethodResult};
pub use likeness::{Likeness, ToParents};
pub use round::Misclassified;
use write::Tally;

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Reasons for each label (Algorithm 1, lines 1–3).
    Rationales,
    /// The generator judges the gold rows, to calibrate its posterior of a label.
    Calibrate,
    /// Round 0: the seed (Algorithm 1). Later: one text or more for each error (Algorithm 2).
    Write {
        round: usize,
    },
    /// The generator judges what it wrote.
    Judge {
        round: usize,
    },
    /// The small model, reinitialised, learns the union and errs on *mine*.
    Train {
        round: usize,
    },
    /// The best round is delivered, and the test rows are opened.
    Deliver,
    Done,
}

/// What decides the walk through the stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub rationales: bool,
    pub soft_targets: bool,
    /// A round extrapolates all *mine* rows, so it needs no errors.
    pub all_of_mine: bool,
    pub max_rounds: usize,
    pub patience: usize,
}

impl Limits {
    pub fn of(task: &Task) -> Self {
        Limits {
            rationales: task.seed.rationales > 0,
            soft_targets: task.targets.kind == TargetKind::Soft,
            all_of_mine: task.extrapolate.from == Parents::Mine,
            max_rounds: task.extrapolate.max_rounds,
            patience: task.extrapolate.patience,
        }
    }

    pub fn first(&self) -> Stage {
        if self.rationales { Stage::Rationales } else { self.after_rationales() }
    }

    fn after_rationales(&self) -> Stage {
        if self.soft_targets { Stage::Calibrate } else { Stage::Write { round: 0 } }
    }
}

/// The stage after `stage`, given the rounds so far.
pub fn next(stage: Stage, limits: &Limits, rounds: &[RoundRecord]) -> Stage {
    match stage {
        Stage::Rationales => limits.after_rationales(),
        Stage::Calibrate => Stage::Write { round: 0 },
        Stage::Write { round } if limits.soft_targets => Stage::Judge { round },
        Stage::Write { round } | Stage::Judge { round } => Stage::Train { round },
        Stage::Train { round } => {
            let rounds = &rounds[..=round];
            let paid_off = round - best_round(rounds) < limits.patience;
            let errors_left = limits.all_of_mine || rounds[round].errors_after > 0;
            if round < limits.max_rounds && paid_off && errors_left { Stage::Write { round: round + 1 } } else { Stage::Deliver }
        }
        Stage::Deliver | Stage::Done => Stage::Done,
    }
}

/// The round with the best score on *select*; the earliest of equals.
pub fn best_round(rounds: &[RoundRecord]) -> usize {
    let better = |best: usize, i: usize| if rounds[i].select.better_than(&rounds[best].select) { i } else { best };
    (0..rounds.len()).fold(0, better)
}

/// What the generator wrote for one request: a row of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Written {
    pub id: u64,
    /// The template in the task file: `rationale`, `seed` or `extrapolate`.
    pub prompt: String,
    /// What it was written for: `label` or `answer` in the journal.
    #[serde(flatten)]
    pub goal: Goal,
    pub seed: u64,
    /// The gold line whose error it extrapolates.
    pub parent: Option<usize>,
    /// The line of the context that it is the second text of, for a pair or a question of the seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
    /// Which of the label's rationales stood in the prompt.
    pub rationales: Vec<usize>,
    pub text: String,
    /// New tokens that were sampled.
    pub tokens: u32,
    pub finish: Finish,
}

/// A row of the synthetic dataset.
#[derive(Clone, Debug, PartialEq)]
pub struct SyntheticRow {
    pub round: usize,
    pub text: String,
    /// The second text of a pair, or a question; then `text` was given, and this was written.
    pub text_pair: Option<String>,
    pub written: Written,
    /// For each judge prompt, ln p of each label's word.
    pub log_probs: Vec<Vec<f32>>,
    /// What the small model learns.
    pub target: Target,
}

impl SyntheticRow {
    pub fn input(&self) -> Input<'_> {
        Input { text: &self.text, text_pair: self.text_pair.as_deref() }
    }

    /// The part that the generator wrote.
    pub fn own_text(&self) -> &str {
        self.text_pair.as_deref().unwrap_or(&self.text)
    }
}

/// Everything that a run works with.
pub struct Inputs<'a> {
    pub task: &'a Task,
    pub prompts: &'a Prompts<'a>,
    pub split: &'a Split,
    /// First texts for pairs and contexts of questions; empty for texts.
    pub contexts: &'a [Context],
    /// Opened only by [`Stage::Deliver`].
    pub test: Option<&'a [GoldRow]>,
    pub small: &'a SmallModel,
    /// What is compared on the test rows at the end. One of them is delivered: [`Method::S3Gold`], or [`Method::S3`] where that is not
    /// compared; but [`Method::GoldOnly`] where the generator judges hardly better than chance.
    pub methods: &'a [Method],
    pub seed: u64,
    pub progress: Progress,
}

/// A run in progress.
pub struct Synthesis<'a> {
    inputs: Inputs<'a>,
    generator: &'a mut dyn Generate,
    run: &'a RunDir,
    manifest: Manifest,
    /// The accepted rationales of each label.
    rationales: Vec<Vec<String>>,
    /// The accepted rows of all rounds so far.
    rows: Vec<SyntheticRow>,
    /// What each round so far cost.
    tallies: Vec<Tally>,
}

impl<'a> Synthesis<'a> {
    pub fn new(inputs: Inputs<'a>, generator: &'a mut dyn Generate, run: &'a RunDir, manifest: Manifest) -> Self {
        Synthesis { inputs, generator, run, manifest, rationales: Vec::new(), rows: Vec::new(), tallies: Vec::new() }
    }

    /// Walks through all stages; what an earlier process finished is only read.
    ///
    /// # Errors
    /// Whatever a stage runs into. The folder is then as a crash would leave it: the same call goes on.
    pub fn run(mut self) -> Result<Delivery> {
        let limits = Limits::of(self.inputs.task);
        let mut stage = limits.first();
        let mut resuming = true;
        if self.manifest.rounds.is_empty() {
            self.try_the_judge()?;
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
            Spent::note(self.run, Part::of_stage(stage), clock.elapsed())?;
            outcome?;
            stage = next(stage, &limits, &self.manifest.rounds);
        }
    }

    fn stage(&mut self, stage: Stage) -> Result<()> {
        match stage {
            Stage::Rationales => self.write_rationales(),
            Stage::Calibrate => self.calibrate(),
            Stage::Write { round: 0 } => self.write_seed(),
            Stage::Write { round } => self.write_extrapolations(round),
            Stage::Judge { round } => self.judge(round),
            Stage::Train { round } => self.train(round),
            Stage::Deliver | Stage::Done => Ok(()),
        }
    }

    /// How many labels there are; questions are counted under one.
    fn labels(&self) -> usize {
        self.inputs.task.labels.len().max(1)
    }

    fn rows_of(&self, round: usize) -> impl Iterator<Item = &SyntheticRow> {
        self.rows.iter().filter(move |row| row.round == round)
    }
}

/// A prompt that cannot be rendered, though it could when the task was read.
fn prompt_error(message: String) -> Error {
    Error::Failed(format!("a prompt cannot be rendered: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use crate::train::Score;

    fn limits(max_rounds: usize, patience: usize) -> Limits {
        Limits { rationales: true, soft_targets: true, all_of_mine: false, max_rounds, patience }
    }

    fn round(round: usize, log_loss: f64, errors_after: usize) -> RoundRecord {
        RoundRecord {
            round,
            written: 0,
            accepted: 0,
            rejected: BTreeMap::new(),
            tokens: 0,
            rows: 0,
            epoch: 1,
            steps: 1,
            labels: vec![],
            errors_before: None,
            errors_after,
            changes: None,
            select: Score { accuracy: 0.5, log_loss, f1: None },
            offsets: vec![],
        }
    }

    fn walk(limits: &Limits, losses: &[f64]) -> Vec<Stage> {
        let rounds: Vec<_> = losses.iter().enumerate().map(|(i, &loss)| round(i, loss, 3)).collect();
        let mut stages = vec![limits.first()];
        while *stages.last().unwrap() != Stage::Done {
            stages.push(next(*stages.last().unwrap(), limits, &rounds));
        }
        stages
    }

    #[test]
    fn the_whole_walk() {
        use Stage::*;
        let round = |round| [Write { round }, Judge { round }, Train { round }];
        let expected = [&[Rationales, Calibrate][..], &round(0), &round(1), &[Deliver, Done]].concat();
        assert_eq!(walk(&limits(1, 1), &[0.6, 0.5]), expected);
        let hard = Limits { rationales: false, soft_targets: false, all_of_mine: false, max_rounds: 0, patience: 1 };
        assert_eq!(walk(&hard, &[0.6]), [Write { round: 0 }, Train { round: 0 }, Deliver, Done]);
    }

    #[test]
    fn rounds_stop_when_they_stop_paying() {
        let trained = |limits: Limits, losses: &[f64]| walk(&limits, losses).iter().filter(|s| matches!(s, Stage::Train { .. })).count();
        assert_eq!(trained(limits(5, 1), &[0.6, 0.5, 0.55, 0.1, 0.1, 0.1]), 3);
        assert_eq!(trained(limits(5, 2), &[0.6, 0.5, 0.55, 0.45, 0.5, 0.5]), 6);
        assert_eq!(trained(limits(2, 9), &[0.6, 0.7, 0.8]), 3);
    }

    #[test]
    fn no_errors_end_it() {
        let rounds = [round(0, 0.1, 0)];
        assert_eq!(next(Stage::Train { round: 0 }, &limits(3, 1), &rounds), Stage::Deliver);
        let goldgen = Limits { all_of_mine: true, ..limits(3, 1) };
        assert_eq!(next(Stage::Train { round: 0 }, &goldgen, &rounds), Stage::Write { round: 1 });
    }

    #[test]
    fn the_earliest_of_equal_rounds_is_best() {
        assert_eq!(best_round(&[round(0, 0.5, 1), round(1, 0.4, 1), round(2, 0.4, 1)]), 1);
    }
}
