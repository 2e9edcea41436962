//! What the generator wrote: journal rows and dataset rows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::data::example::Input;
use crate::data::head::Head;
use crate::data::unlabelled::Unlabelled;
use crate::generator::Finish;
use crate::run::round::Rejection;
use crate::small::head::SmallHead;
use crate::small::row::TrainRow;

/// A journal row: what the generator wrote for one request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Written<H: Head> {
    pub id: u64,
    /// The template in the task file: `rationale`, `seed` or `extrapolate`.
    pub prompt: String,
    /// The goal that it was written for: `label` or `answer` in the journal.
    #[serde(flatten)]
    pub goal: H::Goal,
    pub seed: u64,
    /// Line of the gold row that it extrapolates.
    pub parent: Option<usize>,
    /// In the seed, the line of its context: a pair's first text, or a question's context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
    /// Indices of the label's rationales in the prompt.
    pub rationales: Vec<usize>,
    pub text: String,
    /// New tokens that were sampled.
    pub tokens: u32,
    /// Tokens that the generator computed since the answer before; their sum is what the journal cost.
    #[serde(default)]
    pub computed: u32,
    pub finish: Finish,
}

/// A row of the synthetic dataset.
#[derive(Clone, Debug, PartialEq)]
pub struct SyntheticRow<H: SmallHead> {
    pub round: usize,
    pub text: String,
    /// The second text of a pair, or a question. If present, the generator wrote this, and `text` was given.
    pub text_pair: Option<String>,
    pub written: Written<H>,
    /// For each judge prompt, ln p of each label's word; then ln p of the labels by each head on hidden states.
    pub answers: Vec<Vec<f32>>,
    /// The hard target of its goal.
    pub target: H::Target,
}

impl<H: SmallHead> SyntheticRow<H> {
    /// The row as a training row with this target.
    pub fn to_learn(&self, target: H::Target) -> TrainRow<H::Target> {
        TrainRow { text: self.text.clone(), text_pair: self.text_pair.clone(), target }
    }

    pub fn input(&self) -> Input<'_> {
        Input { text: &self.text, text_pair: self.text_pair.as_deref() }
    }

    /// The part that the generator wrote.
    pub fn own_text(&self) -> &str {
        self.text_pair.as_deref().unwrap_or(&self.text)
    }
}

/// A real text without a label that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadRow {
    pub round: usize,
    pub text: Unlabelled,
    /// As those of a [`SyntheticRow`].
    pub answers: Vec<Vec<f32>>,
}

impl ReadRow {
    /// The row as a training row with this target.
    pub fn to_learn<T>(&self, target: T) -> TrainRow<T> {
        TrainRow { text: self.text.text.clone(), text_pair: self.text.text_pair.clone(), target }
    }
}

/// The counts of a round's writing.
pub struct Tally {
    /// Completions requested.
    pub written: usize,
    pub rejected: BTreeMap<Rejection, usize>,
    /// New tokens sampled.
    pub tokens: u64,
}
