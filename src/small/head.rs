//! What differs between small models that label and small models that find answers.

use std::fmt::Debug;
use std::ops::DerefMut;
use std::path::Path;

use lacuna_models::{ModelError, Network, Reading, TextEncoder, Trainer};

use super::evaluation::Evaluation;
use super::reader::Reader;
use super::row::TrainRow;
use crate::data::example::{GoldRow, Input};
use crate::data::head::Head;
use crate::error::Result;

/// The head of a small model, and how it learns and predicts.
pub trait SmallHead: Head {
    /// The network with its head; a clone copies its parameters.
    type Model: Clone + DerefMut<Target = Network> + Send + Sync;
    /// What a row teaches.
    type Target: Clone + Debug + PartialEq + Send + Sync;
    /// What a model says of a row, before it is decided.
    type Output: Clone + Debug + PartialEq + Send + Sync;
    /// What batches are drawn from.
    type Lessons: Lessons<Self::Model> + Sync;

    /// Loads a pretrained encoder or a saved model; a head that is not in the file is drawn, seeded by `init_seed`.
    ///
    /// # Errors
    /// Missing or damaged files, another architecture.
    fn load(&self, folder: &Path, init_seed: u64) -> Result<Self::Model, ModelError>;

    /// Writes a folder that transformers opens.
    ///
    /// # Errors
    /// Writing.
    fn save(model: &Self::Model, folder: &Path, encoder: &TextEncoder) -> Result<(), ModelError>;

    /// How texts are read where the task or the saved model states this.
    fn reading(stated: Option<Reading>) -> Reading;

    /// A target that is certain.
    fn hard_target(&self, goal: &Self::Goal) -> Self::Target;

    /// Runs a model on inputs; outputs in their order.
    ///
    /// # Errors
    /// A text that cannot be encoded, such as a question that leaves no room for its context.
    fn outputs(&self, reader: &Reader, model: &Self::Model, inputs: &[Input]) -> Result<Vec<Self::Output>>;

    /// What an output comes to.
    fn prediction(output: &Self::Output) -> Self::Prediction;

    /// How good outputs are on gold rows.
    fn evaluate(gold: &[GoldRow<Self>], outputs: &[Self::Output]) -> Evaluation;

    /// Encodes rows to learn from.
    ///
    /// # Errors
    /// A text that cannot be encoded; writing a temporary file.
    fn lessons(&self, reader: &Reader, rows: &[TrainRow<Self::Target>]) -> Result<Self::Lessons>;

    /// Moves each label's threshold as *select* asks for; returns what was added to the logits. A head without thresholds has nothing
    /// to move.
    ///
    /// # Errors
    /// As [`SmallHead::outputs`].
    fn move_thresholds(&self, reader: &Reader, model: &mut Self::Model, select: &[GoldRow<Self>]) -> Result<Vec<f64>>;
}

/// What batches are drawn from, one lesson a sequence.
pub trait Lessons<M> {
    /// How many there are.
    fn count(&self) -> usize;

    /// One optimiser step on some of them.
    ///
    /// # Errors
    /// A loss that is not finite; a damaged file.
    fn step(&self, trainer: &mut Trainer, model: &mut M, chosen: &[usize]) -> Result<()>;
}
