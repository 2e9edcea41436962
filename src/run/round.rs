//! The record of a round, as in the manifest and in the round's own files.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::misclassified::Changes;
use crate::small::evaluation::Evaluation;

/// Why a text was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    /// It reached the token limit in the middle of a sentence.
    Unfinished,
    /// Fewer words than `accept.min_words`.
    TooShort,
    /// Most of its trigrams are in an accepted row, and most of that row's in it.
    Duplicate,
    /// The same words or characters again and again.
    Loop,
    /// The generator speaks of itself, or declines to write.
    Refusal,
    /// It has a place that is to be filled in, such as "[Your Name]".
    Blank,
    /// It has a tag of a model's thoughts.
    Thought,
    /// It says its label.
    NamesLabel,
    /// Most of its trigrams are in a single gold row.
    CopyOfGold,
    /// Most of its trigrams are in a test row, and most of that row's in it.
    CopyOfTest,
    /// Most of its trigrams are in a rationale of the prompt.
    CopyOfRationale,
    /// The same words as the first text of the pair, or as the question's context.
    CopyOfContext,
    /// A question that does not end with a question mark.
    NotAQuestion,
    /// The question contains its answer.
    GivesAnswer,
}

impl Rejection {
    /// In a few words, for people.
    pub fn says(self) -> &'static str {
        match self {
            Rejection::Unfinished => "cut off",
            Rejection::TooShort => "too short",
            Rejection::Duplicate => "duplicate",
            Rejection::Loop => "loop",
            Rejection::Refusal => "refusal",
            Rejection::Blank => "a blank to be filled in",
            Rejection::Thought => "thought aloud",
            Rejection::NamesLabel => "says its label",
            Rejection::CopyOfGold => "copy of a gold row",
            Rejection::CopyOfTest => "copy of a test row",
            Rejection::CopyOfRationale => "copy of a rationale",
            Rejection::CopyOfContext => "copy of its context",
            Rejection::NotAQuestion => "no question",
            Rejection::GivesAnswer => "gives its answer",
        }
    }
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// A round: what was written and accepted, and the results of the model trained on the union.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundRecord {
    pub round: usize,
    /// Unlabelled texts read before this round.
    #[serde(default)]
    pub read: usize,
    /// Texts before this round that continue lists of gold rows.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub listed: usize,
    /// Completions requested in this round.
    pub written: usize,
    /// Those that became rows.
    pub accepted: usize,
    /// Accepted texts beyond what was wanted, which became no rows.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub spare: usize,
    /// Accepted rows per label, in the task's order; one count for questions.
    pub labels: Vec<usize>,
    pub rejected: BTreeMap<Rejection, usize>,
    /// New tokens sampled in this round.
    pub tokens: u64,
    /// Rows of the union that the model was trained on.
    pub rows: usize,
    /// Of these rows: where it differs, the model is of other rows, and is trained anew.
    #[serde(default)]
    pub made_from: String,
    pub steps: usize,
    /// Misclassified *mine* rows that this round extrapolated; none for the seed.
    pub errors_before: Option<usize>,
    /// Misclassified *mine* rows after training.
    pub errors_after: usize,
    /// How the misclassified rows changed since the previous round; none for the seed.
    pub changes: Option<Changes>,
    /// On *select*, with offsets cross-fitted within it.
    pub select: Evaluation,
    /// Offsets added to the labels' logits, fitted on *select*; see [`crate::small::offsets`].
    pub offsets: Vec<f64>,
}
