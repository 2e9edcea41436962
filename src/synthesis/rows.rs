//! What the generator wrote, from the journal's row to the row of the dataset.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::data::example::Input;
use crate::data::head::Head;
use crate::generator::Finish;
use crate::run::round::Rejection;
use crate::small::head::SmallHead;
use crate::small::row::TrainRow;

/// What the generator wrote for one request: a row of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Written<H: Head> {
    pub id: u64,
    /// The template in the task file: `rationale`, `seed` or `extrapolate`.
    pub prompt: String,
    /// What it was written for: `label` or `answer` in the journal.
    #[serde(flatten)]
    pub goal: H::Goal,
    pub seed: u64,
    /// The gold line whose error it extrapolates.
    pub parent: Option<usize>,
    /// In the seed, the line of the context that it was written for: a pair's first text, or a question's context.
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
pub struct SyntheticRow<H: SmallHead> {
    pub round: usize,
    pub text: String,
    /// The second text of a pair, or a question; then `text` was given, and this was written.
    pub text_pair: Option<String>,
    pub written: Written<H>,
    /// For each judge prompt, ln p of each label's word.
    pub log_probs: Vec<Vec<f32>>,
    /// What the small model learns.
    pub target: H::Target,
}

impl<H: SmallHead> SyntheticRow<H> {
    /// What the small model learns of it.
    pub fn to_learn(&self) -> TrainRow<H::Target> {
        TrainRow { text: self.text.clone(), text_pair: self.text_pair.clone(), target: self.target.clone() }
    }

    pub fn input(&self) -> Input<'_> {
        Input { text: &self.text, text_pair: self.text_pair.as_deref() }
    }

    /// The part that the generator wrote.
    pub fn own_text(&self) -> &str {
        self.text_pair.as_deref().unwrap_or(&self.text)
    }
}

/// What a round cost.
pub struct Tally {
    /// Completions asked for.
    pub written: usize,
    pub rejected: BTreeMap<Rejection, usize>,
    /// New tokens sampled.
    pub tokens: u64,
}
