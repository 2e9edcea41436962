//! What differs between small models for classification and for question answering.

use std::fmt::Debug;
use std::ops::DerefMut;
use std::path::Path;

use lacuna_models::{ModelError, Network, Reading, TextEncoder, Trainer};

use super::evaluation::Evaluation;
use super::reader::Reader;
use super::row::TrainRow;
use crate::data::example::{GoldRow, Input, TaskKind};
use crate::data::head::Head;
use crate::error::Result;

/// The head of a small model: how it is trained and how it predicts.
pub trait SmallHead: Head {
    /// The network with its head; a clone copies its parameters.
    type Model: Clone + DerefMut<Target = Network> + Send + Sync;
    /// The training target of a row.
    type Target: Clone + Debug + PartialEq + Send + Sync;
    /// The raw output for a row, from which the prediction is decided.
    type Output: Clone + Debug + PartialEq + Send + Sync;
    /// The encoded training set, from which batches are drawn.
    type Lessons: Lessons<Self::Model> + Sync;

    /// What an example consists of.
    fn kind(&self) -> TaskKind;

    /// Loads a pretrained encoder or a saved model; a head that the file does not have is initialised at random from `init_seed`.
    ///
    /// # Errors
    /// Missing or damaged files; an unsupported architecture.
    fn load(&self, folder: &Path, init_seed: u64) -> Result<Self::Model, ModelError>;

    /// Writes a folder that transformers can load.
    ///
    /// # Errors
    /// A file that cannot be written.
    fn save(model: &Self::Model, folder: &Path, encoder: &TextEncoder) -> Result<(), ModelError>;

    /// How texts are cut or split into windows: as `stated` by the task or the saved model, else by the head's defaults.
    fn reading(stated: Option<Reading>) -> Reading;

    /// The hard target of a goal.
    fn hard_target(&self, goal: &Self::Goal) -> Self::Target;

    /// Runs a model on inputs; returns the outputs in the same order.
    ///
    /// # Errors
    /// A text that cannot be encoded, such as a question that leaves no room for its context.
    fn outputs(&self, reader: &Reader, model: &Self::Model, inputs: &[Input]) -> Result<Vec<Self::Output>>;

    /// The prediction of an output.
    fn prediction(output: &Self::Output) -> Self::Prediction;

    /// Evaluates outputs on their gold rows.
    fn evaluate(gold: &[GoldRow<Self>], outputs: &[Self::Output]) -> Evaluation;

    /// Encodes training rows.
    ///
    /// # Errors
    /// A text that cannot be encoded; a temporary file that cannot be written.
    fn lessons(&self, reader: &Reader, rows: &[TrainRow<Self::Target>]) -> Result<Self::Lessons>;

    /// `model` so that it reads the mean of a text's hidden states, or `[CLS]`; weights that are drawn are seeded by `init_seed`. `None`
    /// where it does so already, or its head reads all tokens.
    ///
    /// # Errors
    /// A device without room for it.
    fn pooling(model: &Self::Model, means: bool, init_seed: u64) -> Result<Option<Self::Model>, ModelError>;

    /// Sets a new head of `model` to what a linear model learns of at least one row; returns the floating-point operations.
    ///
    /// # Errors
    /// A text that cannot be encoded.
    fn start_linear(reader: &Reader, model: &mut Self::Model, rows: &[TrainRow<Self::Target>], seed: u64) -> Result<f64>;

    /// The [offsets](super::offsets) of the labels' logits for outputs on gold rows; empty for a head without labels.
    fn offsets(gold: &[&GoldRow<Self>], outputs: &[&Self::Output]) -> Vec<f64>;

    /// Adds the offsets to an output.
    fn shift(output: &mut Self::Output, offsets: &[f64]);

    /// Adds the offsets to the bias of the model's head, so that its outputs are shifted.
    fn add_offsets(model: &mut Self::Model, offsets: &[f64]);

    /// Divides all logits of the model by a [`temperature`](super::temperature).
    fn cool_model(model: &mut Self::Model, temperature: f64);

    /// The same of an output.
    fn cool(output: &mut Self::Output, temperature: f64);

    /// The temperature that outputs on gold rows ask for.
    fn temperature(gold: &[GoldRow<Self>], outputs: &[Self::Output]) -> f64;

    /// From which probability on a text has each label, for the best F1 on these gold rows; empty for a head that decides otherwise.
    fn thresholds(_: &[GoldRow<Self>], _: &[Self::Output]) -> Vec<f64> {
        Vec::new()
    }

    /// Decides an output by such thresholds.
    fn decide_by(_: &mut Self::Output, _: &[f64]) {}

    /// Lets the model decide by such thresholds; by 0.5 for none.
    fn set_thresholds(_: &mut Self::Model, _: &[f64]) {}
}

/// An encoded training set; a lesson is one sequence.
pub trait Lessons<M> {
    /// Number of lessons.
    fn count(&self) -> usize;

    /// Tokens of all lessons.
    fn tokens(&self) -> usize;

    /// One optimiser step on the chosen lessons.
    ///
    /// # Errors
    /// A loss that is not finite; a damaged file.
    fn step(&self, trainer: &mut Trainer, model: &mut M, chosen: &[usize]) -> Result<()>;
}
