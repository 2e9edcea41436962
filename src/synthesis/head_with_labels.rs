//! What differs between one label a text and several, in what the judge, the texts that are read and the choice of a model need.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::stages::Stages;
use crate::data::example::GoldRow;
use crate::judge::panel::JudgedHead;
use crate::small::head::SmallHead;

/// A head with labels.
pub trait HeadWithLabels: Stages + JudgedHead + SmallHead<Output: Serialize + DeserializeOwned> {
    /// The fold, below `count`, that each gold row is held out in; none for one that is always learnt from.
    fn folds(&self, gold: &[GoldRow<Self>], count: usize, seed: u64) -> Vec<Option<usize>>;

    /// How unsure an output is: the entropy of its probabilities, in nats.
    fn doubt(output: &Self::Output) -> f64;

    /// A line about a gold row of which a judge, whose probabilities are `judged` for each question, and the `output` of a model both say
    /// other than it does, and how probable they find what it says; none where one of them says the same.
    fn doubtful(&self, row: &GoldRow<Self>, judged: &[Vec<f64>], output: &Self::Output) -> Option<(f64, Value)>;
}

/// −p ln p, in nats.
pub(super) fn entropy(probabilities: impl IntoIterator<Item = f64>) -> f64 {
    probabilities.into_iter().filter(|p| *p > 0.0).map(|p| -p * p.ln()).sum()
}
