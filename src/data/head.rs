//! What differs between tasks of labels and tasks of answers, as far as examples go. Other rooms add what differs in them.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The head of a task: [`Labels`](super::labels::Labels) or [`Answers`](super::answers::Answers).
pub trait Head: Clone + Debug + PartialEq + Eq + Send + Sync + 'static {
    /// What is right for a gold row.
    type Gold: Clone + Debug + PartialEq + Eq + Send + Sync;
    /// What a row is written for: a label, or an answer in its context. In JSON an object with one field.
    type Goal: Clone + Debug + PartialEq + Eq + Serialize + DeserializeOwned + Send + Sync;
    /// What a model says of a row.
    type Prediction: Clone + Debug + PartialEq + Eq + Serialize + DeserializeOwned + Send + Sync;

    fn goal(gold: &Self::Gold) -> Self::Goal;

    /// The prediction that is right.
    fn right(goal: &Self::Goal) -> Self::Prediction;

    /// Whether a prediction counts as right.
    fn accepts(gold: &Self::Gold, prediction: &Self::Prediction) -> bool;

    /// How many strata rows are drawn and counted in: one a label; questions are one.
    fn strata(&self) -> usize;

    /// The stratum of a row with this goal, below [`Head::strata`].
    fn stratum(goal: &Self::Goal) -> usize;
}
