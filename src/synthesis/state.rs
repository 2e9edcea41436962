//! A run in progress: what it works with and what it has so far.

use super::rows::{SyntheticRow, Tally};
use crate::data::example::{Context, GoldRow};
use crate::data::split::Split;
use crate::error::Error;
use crate::generator::Generate;
use crate::run::folder::RunDir;
use crate::run::manifest::Manifest;
use crate::run::progress::Progress;
use crate::run::summary::Method;
use crate::small::train::SmallModel;
use crate::task::file::Task;
use crate::task::prompts::Prompts;

/// Everything that a run works with.
pub struct Inputs<'a> {
    pub task: &'a Task,
    pub prompts: &'a Prompts<'a>,
    pub split: &'a Split,
    /// First texts for pairs and contexts of questions; empty for texts.
    pub contexts: &'a [Context],
    /// Opened only by [`Stage::Deliver`](crate::run::stage::Stage::Deliver).
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
    pub(super) inputs: Inputs<'a>,
    pub(super) generator: &'a mut dyn Generate,
    pub(super) run: &'a RunDir,
    pub(super) manifest: Manifest,
    /// The accepted rationales of each label.
    pub(super) rationales: Vec<Vec<String>>,
    /// The accepted rows of all rounds so far.
    pub(super) rows: Vec<SyntheticRow>,
    /// What each round so far cost.
    pub(super) tallies: Vec<Tally>,
}

impl<'a> Synthesis<'a> {
    pub fn new(inputs: Inputs<'a>, generator: &'a mut dyn Generate, run: &'a RunDir, manifest: Manifest) -> Self {
        Synthesis { inputs, generator, run, manifest, rationales: Vec::new(), rows: Vec::new(), tallies: Vec::new() }
    }

    /// How many labels there are; questions are counted under one.
    pub(super) fn labels(&self) -> usize {
        self.inputs.task.labels.len().max(1)
    }

    pub(super) fn rows_of(&self, round: usize) -> impl Iterator<Item = &SyntheticRow> {
        self.rows.iter().filter(move |row| row.round == round)
    }
}

/// A prompt that cannot be rendered, though it could when the task was read.
pub(super) fn prompt_error(message: String) -> Error {
    Error::Failed(format!("a prompt cannot be rendered: {message}"))
}
