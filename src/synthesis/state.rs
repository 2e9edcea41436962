//! A run in progress: its inputs and its state.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::head::LoopHead;
use super::rows::{ReadRow, SyntheticRow, Tally};
use crate::data::example::{Context, GoldRow};
use crate::data::split::Split;
use crate::data::unlabelled::Texts;
use crate::error::Result;
use crate::generator::Generate;
use crate::judge::panel::Panel;
use crate::run::cost::{Fits, Spent, Work};
use crate::run::folder::{RunDir, TRAINING};
use crate::run::live;
use crate::run::manifest::Manifest;
use crate::run::progress::{Bar, Progress};
use crate::run::review::Decisions;
use crate::run::summary::Method;
use crate::small::checkpoint::{Checkpoints, clear_all};
use crate::small::fit::Fitted;
use crate::small::model::SmallModel;
use crate::small::plan::FitPlan;
use crate::task::file::Task;
use crate::task::prompts::Prompts;

/// The inputs of a run.
pub struct Inputs<'a, H: LoopHead> {
    pub task: &'a Task,
    pub prompts: &'a Prompts<'a, H>,
    /// As people have decided about its rows.
    pub split: &'a Split<H>,
    /// The rows that were drawn, whatever was decided: prompts are of them, and no text may be a copy of one.
    pub drawn: &'a Split<H>,
    /// What people have decided about rows.
    pub decisions: &'a Decisions,
    /// First texts of pairs, or contexts of questions, in the order in which the seed uses them; empty for single texts.
    pub contexts: &'a [Context],
    /// Texts to read, in order of their lines; none of them a gold row's or a test row's.
    pub unlabelled: Option<&'a Texts>,
    /// Read only in [`Stage::Deliver`](crate::run::stage::Stage::Deliver).
    pub test: Option<&'a [GoldRow<H>]>,
    pub small: &'a SmallModel<H>,
    /// The methods to compare on the test rows at the end. One of them is delivered.
    pub methods: &'a [Method],
    /// Whether gold rows choose the delivered model and its temperature, out of fold: a fit more for each fold and candidate. If not, it is
    /// [`Method::S3Gold`], or [`Method::S3`] if that is not compared; [`Method::GoldOnly`] if the generator's judgement is not told from
    /// chance.
    pub chooses: bool,
    pub seed: u64,
    pub progress: Progress,
    /// Between two checkpoints of a fit.
    pub checkpoint_every: Duration,
}

/// A run in progress.
pub struct Synthesis<'a, H: LoopHead> {
    pub(super) inputs: Inputs<'a, H>,
    pub(super) generator: &'a mut dyn Generate,
    pub(super) run: &'a RunDir,
    pub(super) manifest: Manifest,
    /// The accepted rationales of each label.
    pub(super) rationales: Vec<Vec<String>>,
    /// The accepted rows of all rounds so far.
    pub(super) rows: Vec<SyntheticRow<H>>,
    /// The unlabelled texts of all rounds so far.
    pub(super) read: Vec<ReadRow>,
    /// The counts of each round so far.
    pub(super) tallies: Vec<Tally>,
    /// The judges of soft targets, once the gold rows are judged.
    pub(super) judges: Option<Panel>,
    /// Fits that no part of the work has been charged with yet.
    pub(super) learnt: Cell<Fits>,
}

impl<'a, H: LoopHead> Synthesis<'a, H> {
    pub fn new(inputs: Inputs<'a, H>, generator: &'a mut dyn Generate, run: &'a RunDir, manifest: Manifest) -> Self {
        Synthesis {
            inputs,
            generator,
            run,
            manifest,
            rationales: Vec::new(),
            rows: Vec::new(),
            read: Vec::new(),
            tallies: Vec::new(),
            judges: None,
            learnt: Cell::new(Fits::default()),
        }
    }

    /// See [`Head::strata`](crate::data::head::Head::strata).
    pub(super) fn strata(&self) -> usize {
        self.inputs.small.head.strata()
    }

    /// Runs a fit with a progress bar. Its checkpoints are in `training/` of the run's folder until its model is saved and
    /// [`Synthesis::clear_checkpoints`] is called.
    pub(super) fn fit(&self, name: &str, plan: &FitPlan<H>) -> Result<Fitted<H::Model>> {
        let Inputs { progress, small, checkpoint_every, .. } = self.inputs;
        let say = |what: String| progress.say(what);
        let folder = self.run.join(TRAINING).join(name.replace(' ', "-"));
        let checkpoints = Checkpoints::in_folder(folder, checkpoint_every, &say);
        let start = |done, all| progress.bar(format!("{name} · training"), "steps", all, done);
        let mut bar: Option<Bar> = None;
        let (begun, mut first) = (Instant::now(), None);
        let fitted = small.fit(plan, &checkpoints, &mut |done, all| {
            first.get_or_insert_with(|| (done, begun.elapsed().as_secs_f64()));
            bar.get_or_insert_with(|| start(done - 1, all)).step(1)
        })?;
        let (done, lead_seconds) = first.unwrap_or((fitted.steps, 0.0));
        let steps = fitted.steps - done;
        let step_seconds = if steps > 0 { begun.elapsed().as_secs_f64() - lead_seconds } else { 0.0 };
        self.learnt.set(self.learnt.get() + Fits { flops: fitted.flops, rows: plan.rows.len(), lead_seconds, steps, step_seconds });
        bar.unwrap_or_else(|| start(fitted.steps, fitted.steps)).finish("");
        Ok(fitted)
    }

    /// A part of the work begins.
    pub(super) fn begins(&self, part: Work) -> Instant {
        live::part(part);
        Instant::now()
    }

    /// It has ended, or was broken off.
    pub(super) fn ended(&self, part: Work, begun: Instant) -> Result<()> {
        let spent = Spent { part, seconds: begun.elapsed().as_secs_f64(), fits: self.learnt.take() };
        live::done(spent);
        spent.note(self.run)
    }

    /// Removes the checkpoints of fits whose models are saved.
    pub(super) fn clear_checkpoints(&self) {
        clear_all(&self.run.join(TRAINING), &|what| self.inputs.progress.say(what));
    }

    pub(super) fn rows_of(&self, round: usize) -> impl Iterator<Item = &SyntheticRow<H>> {
        self.rows.iter().filter(move |row| row.round == round)
    }
}
