//! The pretrained small model with its tokenizer: the starting point of every fit.

use std::path::Path;

use lacuna_models::{Device, ModelError, Reading, TextEncoder};

use super::card::Card;
use super::head::SmallHead;
use super::reader::Reader;
use super::row::TrainRow;
use crate::data::example::GoldRow;
use crate::error::{Error, Result};
use crate::math::random;
use crate::task::file::Pooling;

/// The pretrained small model and its tokenizer.
pub struct SmallModel<H: SmallHead> {
    pub head: H,
    pub base: H::Model,
    /// What fits start from, where that is not `base`.
    start: Option<H::Model>,
    pub reader: Reader,
}

impl<H: SmallHead> SmallModel<H> {
    /// Loads a folder with an encoder, to run on `threads` threads.
    ///
    /// # Errors
    /// Missing or damaged files; an unsupported architecture; threads that cannot be started.
    pub fn load(folder: &Path, head: H, seed: u64, threads: usize) -> Result<Self> {
        let model_error = |e: ModelError| Error::Model(e.to_string());
        let base = head.load(folder, random::derive(seed, "classifier head", 0)).map_err(model_error)?;
        let encoder = TextEncoder::load(folder).map_err(model_error)?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.max(1)).build();
        let pool = pool.map_err(|e| Error::Failed(format!("{threads} threads cannot be started: {e}")))?;
        let embedded = base.config().vocab_size;
        if let Some((id, token)) = encoder.last_token().filter(|(id, _)| *id as usize >= embedded) {
            let folder = folder.display();
            return Err(Error::Model(format!(
                "{folder}: the tokenizer has the token {token:?} with id {id}, and the model has embeddings of {embedded} tokens alone: they are not of one \
                 model, or tokens were added without resize_token_embeddings"
            )));
        }
        let max_position_embeddings = base.config().max_position_embeddings;
        Ok(SmallModel { head, base, start: None, reader: Reader { encoder, max_position_embeddings, pool } })
    }

    /// The model that fits start from: `base`, or the same one with a head that [reads means](SmallModel::set_pooling).
    pub fn start(&self) -> &H::Model {
        self.start.as_ref().unwrap_or(&self.base)
    }

    /// Lets fits start from a model that reads `[CLS]`, or the mean of a text's hidden states if its head can. `folder` is where the model
    /// came from.
    ///
    /// # Errors
    /// A file of the folder that cannot be read; a device without room for a larger model.
    pub fn set_pooling(&mut self, pooling: Pooling, folder: &Path, seed: u64) -> Result<()> {
        let model_error = |e: ModelError| Error::Model(e.to_string());
        let means = match pooling {
            Pooling::Auto => lacuna_models::reads_means(folder).map_err(model_error)?,
            Pooling::Mean => true,
            Pooling::Cls => false,
        };
        self.start = H::pooling(&self.base, means, random::derive(seed, "layer of means", 0)).map_err(model_error)?;
        Ok(())
    }

    /// Moves both models to a device.
    ///
    /// # Errors
    /// A device that cannot be used; both are then where they were.
    pub fn set_device(&mut self, device: Device) -> Result<(), ModelError> {
        let before = self.base.device();
        self.base.set_device(device)?;
        let moved = self.start.as_mut().map_or(Ok(()), |start| start.set_device(device));
        if moved.is_err() {
            self.base.set_device(before)?;
        }
        moved
    }

    /// How texts are cut or split into windows, in training and in prediction: as the task or the saved model states, else by default.
    pub fn reading(&self) -> Reading {
        H::reading(self.reader.stated())
    }

    /// A gold row as a training row with a hard target.
    pub fn gold_row(&self, row: &GoldRow<H>) -> TrainRow<H::Target> {
        TrainRow { text: row.text.clone(), text_pair: row.text_pair.clone(), target: self.head.hard_target(&row.goal()) }
    }

    /// Runs `model` on gold rows; returns the outputs in the same order.
    ///
    /// # Errors
    /// As [`SmallHead::outputs`].
    pub fn outputs(&self, model: &H::Model, rows: &[GoldRow<H>]) -> Result<Vec<H::Output>> {
        self.head.outputs(&self.reader, model, &rows.iter().map(GoldRow::input).collect::<Vec<_>>())
    }

    /// Saves `model` with this tokenizer into `folder`, in the format of transformers, and its [`Card`].
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, model: &H::Model, folder: &Path) -> Result<()> {
        H::save(model, folder, &self.reader.encoder).map_err(|error| match error {
            ModelError::File { path, source } => Error::Io { doing: "write", path, source },
            other => Error::Failed(other.to_string()),
        })?;
        Card { kind: self.head.kind(), precision: model.precision() }.write(folder)
    }
}
