//! What differs between classification, with one label a text or several, and question answering in examples. Other rooms extend the
//! trait for their own differences.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The head of a task: [`Labels`](super::labels::Labels), [`LabelSets`](super::label_sets::LabelSets) or
/// [`Answers`](super::answers::Answers).
pub trait Head: Clone + Debug + PartialEq + Eq + Send + Sync + 'static {
    /// The gold label or answers of a row.
    type Gold: Clone + Debug + PartialEq + Eq + Send + Sync;
    /// What a synthetic row is written for: a label, a set of labels, or an answer in its context. In JSON, an object.
    type Goal: Clone + Debug + PartialEq + Eq + Serialize + DeserializeOwned + Send + Sync;
    /// A model's prediction for a row.
    type Prediction: Clone + Debug + PartialEq + Eq + Serialize + DeserializeOwned + Send + Sync;

    fn goal(gold: &Self::Gold) -> Self::Goal;

    /// The gold of a row that has this label; `None` where there is no such label.
    fn gold_named(&self, label: &str) -> Option<Self::Gold>;

    /// The correct prediction for a goal.
    fn right(goal: &Self::Goal) -> Self::Prediction;

    /// Whether a prediction counts as correct.
    fn accepts(gold: &Self::Gold, prediction: &Self::Prediction) -> bool;

    /// Number of strata for sampling and counting: one per label, and where a text may have none one for that; questions are a single
    /// stratum.
    fn strata(&self) -> usize;

    /// Rows of each stratum that a sample has at least, where there are so many.
    const LEAST: usize = 2;

    /// The stratum of a row with this goal, less than [`Head::strata`].
    fn stratum(goal: &Self::Goal) -> usize;

    /// All strata that a row with this goal counts in: of several labels, each.
    fn strata_of(goal: &Self::Goal) -> Vec<usize> {
        vec![Self::stratum(goal)]
    }
}
