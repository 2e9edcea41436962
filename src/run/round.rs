//! What a round brought, as the manifest and its own files say it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::errors::Changes;
use crate::small::evaluation::Evaluation;

/// Why a text is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    /// It ran into the token limit in the middle of a sentence.
    Unfinished,
    /// Fewer than three words.
    TooShort,
    /// The same words as an earlier row.
    Duplicate,
    /// Most of it stands in one gold row.
    CopyOfGold,
    /// Most of it stands in the prompt's rationales.
    CopyOfRationale,
    /// The same words as the text that it is the second of.
    CopyOfContext,
    /// It was to be a question, and does not end with a question mark.
    NotAQuestion,
    /// The answer stands in its question.
    GivesAnswer,
}

/// One round: what was written, what was kept, how the model trained on the union did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundRecord {
    pub round: usize,
    /// Completions asked for in this round.
    pub written: usize,
    pub accepted: usize,
    /// Accepted rows of each label, in the task's order; of questions in one count.
    pub labels: Vec<usize>,
    pub rejected: BTreeMap<Rejection, usize>,
    /// New tokens sampled in this round.
    pub tokens: u64,
    /// Rows of the union that the model learnt from.
    pub rows: usize,
    pub epoch: usize,
    pub steps: usize,
    /// Misclassified *mine* rows: those that this round extrapolated (none for the seed), and those that are left.
    pub errors_before: Option<usize>,
    pub errors_after: usize,
    /// What became of the errors of the round before; none for the seed.
    pub changes: Option<Changes>,
    pub select: Evaluation,
    /// What *select* added to each label's logit; see [`crate::small::threshold`].
    pub offsets: Vec<f64>,
}
