//! What the generator wrote: journal rows and dataset rows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::data::example::Input;
use crate::data::head::Head;
use crate::data::unlabelled::Unlabelled;
use crate::generator::Finish;
use crate::run::review::{Decision, Verdict};
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
    /// Of the request that it answers: an answer to another, as after a change of what came before, is none.
    #[serde(default)]
    pub mark: String,
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
    pub reviewed: Reviewed,
}

/// What a person decided about a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reviewed {
    /// Nothing, or that it stays as it is.
    #[default]
    AsItIs,
    /// No model learns from it.
    Rejected,
    /// It has this label.
    Relabelled(String),
}

impl Reviewed {
    /// By the last decision about a row.
    pub fn by(decision: Option<&Decision>) -> Self {
        match decision.map(|decision| (decision.verdict, &decision.label)) {
            Some((Verdict::Reject, _)) => Reviewed::Rejected,
            Some((Verdict::Relabel, Some(label))) => Reviewed::Relabelled(label.clone()),
            _ => Reviewed::AsItIs,
        }
    }

    /// In `dataset.jsonl`: the label that a person gave it.
    pub fn in_json(&self) -> Option<Value> {
        if let Reviewed::Relabelled(label) = self { Some(json!({"relabelled": label})) } else { None }
    }
}

impl<H: SmallHead> SyntheticRow<H> {
    /// The row as a training row with this target.
    pub fn to_learn(&self, target: H::Target) -> TrainRow<H::Target> {
        TrainRow { text: self.text.clone(), text_pair: self.text_pair.clone(), target }
    }

    pub fn input(&self) -> Input<'_> {
        Input { text: &self.text, text_pair: self.text_pair.as_deref() }
    }

    /// As in `dataset.jsonl`.
    pub fn id(&self) -> String {
        format!("{}-{}", self.round, self.written.id)
    }

    /// The part that the generator wrote.
    pub fn own_text(&self) -> &str {
        self.text_pair.as_deref().unwrap_or(&self.text)
    }
}

/// A text without a label that the judge has read: a real one, or one that continues a list.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadRow {
    pub round: usize,
    /// Its line is that of its file, or the number of its request.
    pub text: Unlabelled,
    /// Lines of the gold rows of the list that it continues; none for a real text.
    pub shown: Option<Vec<usize>>,
    /// As those of a [`SyntheticRow`].
    pub answers: Vec<Vec<f32>>,
    pub reviewed: Reviewed,
}

impl ReadRow {
    /// As in `dataset.jsonl`.
    pub fn id(&self) -> String {
        format!("{}-{}", if self.is_real() { "read" } else { "list" }, self.text.line)
    }

    /// Whether it is a real text.
    pub fn is_real(&self) -> bool {
        self.shown.is_none()
    }

    /// The row as a training row with this target.
    pub fn to_learn<T>(&self, target: T) -> TrainRow<T> {
        TrainRow { text: self.text.text.clone(), text_pair: self.text.text_pair.clone(), target }
    }
}

/// The counts of a round's writing.
#[derive(Default)]
pub struct Tally {
    /// Completions requested.
    pub written: usize,
    pub rejected: BTreeMap<Rejection, usize>,
    /// New tokens sampled.
    pub tokens: u64,
    /// For each stratum and reason, how many texts, and one of them.
    examples: BTreeMap<(usize, Rejection), (usize, String)>,
}

/// Characters of a text that is shown as an example.
const SHOWN: usize = 60;

impl Tally {
    /// Counts a text, and why it was rejected if it was.
    pub fn add<H: Head>(&mut self, row: &Written<H>, rejected: Option<Rejection>) {
        self.written += 1;
        self.tokens += u64::from(row.tokens);
        let Some(reason) = rejected else { return };
        *self.rejected.entry(reason).or_default() += 1;
        let text = || row.text.chars().take(SHOWN).collect();
        self.examples.entry((H::stratum(&row.goal), reason)).or_insert_with(|| (0, text())).0 += 1;
    }

    /// `87 % accepted: 4 too short, 2 duplicate`.
    pub fn in_words(&self) -> String {
        format!("{} % accepted{}", 100 * self.accepted() / self.written.max(1), self.rejections())
    }

    /// Texts that nothing was found wrong with.
    pub fn accepted(&self) -> usize {
        self.written - self.rejected.values().sum::<usize>()
    }

    /// `: 4 too short, 2 duplicate`, the most frequent first; nothing if none was rejected.
    pub fn rejections(&self) -> String {
        rejections(&self.rejected)
    }

    /// Why texts of a stratum were rejected, and an example of the most frequent reason.
    pub fn of_stratum(&self, stratum: usize) -> (String, String) {
        let own: Vec<_> = self.examples.iter().filter(|((of, _), _)| *of == stratum).collect();
        let example = own.iter().max_by_key(|(_, (count, _))| *count).map_or(String::new(), |(_, (_, text))| format!("{text:?}"));
        (in_order(own.iter().map(|((_, reason), (count, _))| (*count, *reason))), example)
    }
}

/// As [`Tally::rejections`].
pub(super) fn rejections(counts: &BTreeMap<Rejection, usize>) -> String {
    let named = in_order(counts.iter().map(|(reason, count)| (*count, *reason)));
    if named.is_empty() { named } else { format!(": {named}") }
}

/// What is said of accepted texts that a last wave brought beyond what was missing.
pub(super) fn not_needed(spare: usize) -> String {
    if spare > 0 { format!("; {spare} more not needed") } else { String::new() }
}

fn in_order(counts: impl Iterator<Item = (usize, Rejection)>) -> String {
    let mut counts: Vec<(usize, Rejection)> = counts.collect();
    counts.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    counts.iter().map(|(count, reason)| format!("{count} {}", reason.says())).collect::<Vec<_>>().join(", ")
}
