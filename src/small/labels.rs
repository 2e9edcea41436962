//! The classification model: batches from a token cache, logits, offsets.

use lacuna_models::{Classifier, Forward, ModelError, PackedBatch, Reading, TextEncoder, Trainer};
use rayon::prelude::*;
use std::path::Path;

use super::evaluation::{Evaluation, Right, mean};
use super::head::{Lessons, SmallHead};
use super::offsets;
use super::reader::Reader;
use super::row::TrainRow;
use super::start;
use super::temperature::temperature;
use super::token_cache::{CacheRow, LabelledBatch, TokenCache};
use crate::data::example::{GoldRow, Input, TaskKind};
use crate::data::labels::{Label, Labels};
use crate::error::{Error, Result};
use crate::math::vectors::{argmax, softmax};
use crate::measure::metrics;

/// Texts in one forward pass while predicting.
const PREDICT_BATCH: usize = 32;

impl SmallHead for Labels {
    type Model = Classifier;
    /// Probabilities of the labels, summing to 1.
    type Target = Vec<f32>;
    /// Logits of the labels.
    type Output = Vec<f32>;
    type Lessons = TokenCache;

    fn kind(&self) -> TaskKind {
        if self.pairs { TaskKind::Pair } else { TaskKind::Text }
    }

    fn load(&self, folder: &Path, init_seed: u64) -> Result<Classifier, ModelError> {
        Classifier::load(folder, &self.names, init_seed)
    }

    fn save(model: &Classifier, folder: &Path, encoder: &TextEncoder) -> Result<(), ModelError> {
        model.save(folder, encoder)
    }

    fn reading(stated: Option<Reading>) -> Reading {
        stated.unwrap_or(Reading { max_tokens: usize::MAX, stride: None })
    }

    fn hard_target(&self, goal: &Label) -> Vec<f32> {
        (0..self.names.len()).map(|label| f32::from(u8::from(label == goal.label))).collect()
    }

    fn outputs(&self, reader: &Reader, model: &Classifier, inputs: &[Input]) -> Result<Vec<Vec<f32>>> {
        logits_of(reader, model, inputs)
    }

    fn prediction(logits: &Vec<f32>) -> usize {
        argmax(logits)
    }

    fn evaluate(gold: &[GoldRow<Labels>], logits: &[Vec<f32>]) -> Evaluation {
        let labels: Vec<usize> = gold.iter().map(|row| row.gold.label).collect();
        let probabilities: Vec<Vec<f64>> = logits.iter().map(|row| probabilities(row)).collect();
        let right = gold.iter().zip(logits).map(|(row, logits)| f64::from(u8::from(row.accepts(&argmax(logits)))));
        let right = Right::Labels { accuracy: mean(right, gold.len()) };
        Evaluation { log_loss: metrics::log_loss(&probabilities, &labels), right }
    }

    fn lessons(&self, reader: &Reader, rows: &[TrainRow<Vec<f32>>]) -> Result<TokenCache> {
        token_lessons(reader, rows, self.names.len())
    }

    fn pooling(model: &Classifier, means: bool, init_seed: u64) -> Result<Option<Classifier>, ModelError> {
        pooled_by(model, means, init_seed)
    }

    fn start_linear(reader: &Reader, model: &mut Classifier, rows: &[TrainRow<Vec<f32>>], seed: u64) -> Result<f64> {
        if model.is_trained() { Ok(0.0) } else { start::start_linear(reader, model, rows, seed) }
    }

    fn offsets(gold: &[&GoldRow<Labels>], logits: &[&Vec<f32>]) -> Vec<f64> {
        offsets::offsets(logits, &gold.iter().map(|row| row.gold.label).collect::<Vec<_>>())
    }

    fn shift(logits: &mut Vec<f32>, offsets: &[f64]) {
        logits.iter_mut().zip(offsets).for_each(|(x, b)| *x += *b as f32);
    }

    fn add_offsets(model: &mut Classifier, offsets: &[f64]) {
        model.add_offsets(&offsets.iter().map(|&b| b as f32).collect::<Vec<_>>());
    }

    fn cool_model(model: &mut Classifier, temperature: f64) {
        model.scale_logits(1.0 / temperature as f32);
    }

    fn cool(logits: &mut Vec<f32>, temperature: f64) {
        logits.iter_mut().for_each(|logit| *logit /= temperature as f32);
    }

    fn temperature(gold: &[GoldRow<Labels>], logits: &[Vec<f32>]) -> f64 {
        temperature(logits, &gold.iter().map(|row| row.gold.label).collect::<Vec<_>>())
    }
}

/// A classifier's logits about each input. Inputs are sorted by length; each thread runs one batch at a time.
pub(super) fn logits_of(reader: &Reader, model: &Classifier, inputs: &[Input]) -> Result<Vec<Vec<f32>>> {
    let encoded = reader.encode_all(inputs, Labels::reading(reader.stated()).max_tokens)?;
    let mut order: Vec<usize> = (0..inputs.len()).collect();
    order.sort_by_key(|&i| encoded[i].input_ids.len());
    let labels = model.labels().len();
    let work = |forward: &mut Forward, chunk: &[usize]| -> Result<Vec<Vec<f32>>> {
        let batch = PackedBatch::from_rows(&chunk.iter().map(|&i| &encoded[i]).collect::<Vec<_>>());
        let out = model.logits_with(forward, &batch).map_err(|e| Error::Failed(e.to_string()))?;
        Ok(out.chunks_exact(labels).map(<[f32]>::to_vec).collect())
    };
    let parts: Vec<Vec<Vec<f32>>> =
        reader.pool.install(|| order.par_chunks(PREDICT_BATCH).map_init(Forward::default, work).collect::<Result<_>>())?;
    let mut logits = vec![Vec::new(); inputs.len()];
    order.iter().zip(parts.into_iter().flatten()).for_each(|(&i, row)| logits[i] = row);
    Ok(logits)
}

/// Encodes the rows into a temporary token cache, whose file is deleted when it is dropped.
pub(super) fn token_lessons(reader: &Reader, rows: &[TrainRow<Vec<f32>>], labels: usize) -> Result<TokenCache> {
    let folder = std::env::temp_dir();
    let file = tempfile::Builder::new().prefix("lacuna-tokens-").tempfile_in(&folder).map_err(Error::io("write", &folder))?;
    let cache_rows = rows.iter().map(|row| {
        let TrainRow { text, text_pair, target } = row;
        CacheRow { text, text_pair: text_pair.as_deref(), target }
    });
    let max_tokens = reader.max_tokens(Labels::reading(reader.stated()).max_tokens);
    reader.pool.install(|| TokenCache::write(file.path(), &reader.encoder, (rows.len(), labels), cache_rows, max_tokens))?;
    TokenCache::open(file.path())
}

/// As [`SmallHead::pooling`].
pub(super) fn pooled_by(model: &Classifier, means: bool, init_seed: u64) -> Result<Option<Classifier>, ModelError> {
    match means {
        true if model.config().mean_pooling() => Ok(None),
        true => model.reading_means(init_seed).map(Some),
        false => model.reading_first(),
    }
}

impl Lessons<Classifier> for TokenCache {
    fn count(&self) -> usize {
        self.rows()
    }

    fn tokens(&self) -> usize {
        TokenCache::tokens(self)
    }

    fn step(&self, trainer: &mut Trainer, model: &mut Classifier, chosen: &[usize]) -> Result<()> {
        let LabelledBatch { batch, targets } = self.batch(chosen)?;
        trainer.step(model, &batch, &targets, &vec![1.0; chosen.len()]).map(drop).map_err(|e| Error::Failed(format!("training: {e}")))
    }
}

/// Softmax of a row of logits.
pub fn probabilities(logits: &[f32]) -> Vec<f64> {
    softmax(&logits.iter().map(|&x| f64::from(x)).collect::<Vec<_>>())
}
