//! Fine-tune the small model from its pretrained weights, and keep the epoch that *select* likes best.

use std::path::Path;
use std::sync::Mutex;

use lacuna_models::{Classifier, Encoded, Forward, PackedBatch, Reading, TextEncoder, TrainConfig, Trainer};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::dataset::{Answer, Goal, GoldRow, Guess, Input};
use crate::error::{Error, Result};
use crate::math::vectors::{argmax, softmax};
use crate::metrics;
use crate::progress::Progress;
use crate::seed;
use crate::small_model::{Model, saved_labels};
use crate::task::Train;
use crate::threshold;
use crate::token_cache::{CacheRow, LabelledBatch, TokenCache};
use crate::train_span::{Found, Lesson, QUESTIONS, batch_of};

/// The pretrained small model that every round starts from, and its tokenizer.
pub struct SmallModel {
    pub base: Model,
    pub encoder: TextEncoder,
    pub threads: usize,
}

/// One row to learn from.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainRow {
    pub text: String,
    /// The second text of a pair, or a question.
    pub text_pair: Option<String>,
    pub target: Target,
}

/// What a row teaches.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// Probabilities of the labels, summing to 1.
    Labels(Vec<f32>),
    /// Where the answer stands in the text.
    Answer(Answer),
}

impl Target {
    /// A goal that is certain, with this many labels.
    pub fn hard(goal: &Goal, labels: usize) -> Self {
        match goal {
            Goal::Label(label) => Target::Labels((0..labels).map(|l| f32::from(u8::from(l == *label))).collect()),
            Goal::Answer(answer) => Target::Answer(answer.clone()),
        }
    }

    /// None for an answer.
    pub fn probabilities(&self) -> &[f32] {
        match self {
            Target::Labels(probabilities) => probabilities,
            Target::Answer(_) => &[],
        }
    }

    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Target::Labels(_) => None,
            Target::Answer(answer) => Some(answer),
        }
    }
}

impl TrainRow {
    /// A gold row, with this many labels.
    pub fn of_gold(row: &GoldRow, labels: usize) -> Self {
        TrainRow { text: row.text.clone(), text_pair: row.text_pair.clone(), target: Target::hard(&row.goal, labels) }
    }

    pub fn input(&self) -> Input<'_> {
        Input { text: &self.text, text_pair: self.text_pair.as_deref() }
    }
}

/// What a small model says of some rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Predictions {
    /// Logits `(rows, labels)`.
    Labels(Vec<Vec<f32>>),
    /// `(rows)`
    Answers(Vec<Found>),
}

impl Predictions {
    pub fn guesses(&self) -> Vec<Guess> {
        match self {
            Predictions::Labels(logits) => logits.iter().map(|row| Guess::Label(argmax(row))).collect(),
            Predictions::Answers(found) => found.iter().map(|found| Guess::Answer(found.answer.text.clone())).collect(),
        }
    }

    pub fn score(&self, gold: &[GoldRow]) -> Score {
        let guesses = self.guesses();
        let mean = |of: &dyn Fn(&GoldRow, &Guess) -> f64| {
            gold.iter().zip(&guesses).map(|(row, guess)| of(row, guess)).sum::<f64>() / gold.len().max(1) as f64
        };
        let accuracy = mean(&|row, guess| f64::from(u8::from(row.accepts(guess))));
        match self {
            Predictions::Labels(logits) => {
                let labels: Vec<usize> = gold.iter().map(|row| row.goal.label()).collect();
                let probabilities: Vec<Vec<f64>> = logits.iter().map(|row| probabilities(row)).collect();
                Score { accuracy, log_loss: metrics::log_loss(&probabilities, &labels), f1: None }
            }
            Predictions::Answers(found) => {
                let loss = |(row, found): (&GoldRow, &Found)| row.goal.answer().map_or(0.0, |answer| found.log_loss(&row.text, answer));
                let log_loss = gold.iter().zip(found).map(loss).sum::<f64>() / gold.len().max(1) as f64;
                Score { accuracy, log_loss, f1: Some(mean(&GoldRow::f1)) }
            }
        }
    }
}

/// Of a row of logits.
pub fn probabilities(logits: &[f32]) -> Vec<f64> {
    softmax(logits)
}

/// How good a model is on gold rows.
///
/// Epochs and rounds are chosen by the log loss: on 50 rows the accuracy moves in steps of two points, and chance picks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The share that is right; of questions, the share of exact matches.
    pub accuracy: f64,
    /// Mean −ln p of the label, or of the first and last token of the answer ([`Found::log_loss`]).
    pub log_loss: f64,
    /// SQuAD's F1, of questions alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub f1: Option<f64>,
}

impl Score {
    pub fn better_than(&self, other: &Score) -> bool {
        self.log_loss < other.log_loss
    }

    /// `accuracy 0.700`, or of questions `EM 0.100, F1 0.200`.
    pub fn in_words(&self) -> String {
        match self.f1 {
            None => format!("accuracy {:.3}", self.accuracy),
            Some(f1) => format!("EM {:.3}, F1 {f1:.3}", self.accuracy),
        }
    }
}

/// A fine-tuned model and how it came about.
pub struct Fitted {
    pub model: Model,
    /// The epoch that was kept, from 1.
    pub epoch: usize,
    pub steps: usize,
    /// Score on *select* after each epoch; empty without *select*.
    pub history: Vec<Score>,
    /// What was added to each label's logit, chosen on *select*; empty without *select*, and for questions.
    pub offsets: Vec<f64>,
}

/// Gold rows that choose the epoch and the labels' [`threshold`]s.
pub struct Select<'a> {
    pub rows: &'a [GoldRow],
    /// Epochs without a better score before it stops.
    pub patience: usize,
}

/// Texts in one forward pass while predicting.
const PREDICT_BATCH: usize = 32;

impl SmallModel {
    /// Loads a folder with a BERT or DistilBERT; without labels it is to find answers.
    ///
    /// # Errors
    /// Missing or damaged files, another architecture.
    pub fn load(folder: &Path, labels: &[String], seed: u64, threads: usize) -> Result<Self> {
        let model_error = |e: lacuna_models::ModelError| Error::Model(e.to_string());
        let base = Model::load(folder, labels, seed::derive(seed, "classifier head", 0)).map_err(model_error)?;
        let encoder = TextEncoder::load(folder).map_err(model_error)?;
        Ok(SmallModel { base, encoder, threads })
    }

    /// Loads a model that a run saved, with its own labels.
    pub fn load_trained(folder: &Path, threads: usize) -> Result<Self> {
        SmallModel::load(folder, &saved_labels(folder)?, 0, threads)
    }

    /// How texts are read, in training and in prediction: as the task or the saved model says, or else as is usual.
    pub fn reading(&self) -> Reading {
        let stated = self.encoder.reading();
        match self.base {
            Model::Labels(_) => stated.unwrap_or(Reading { max_tokens: usize::MAX, stride: None }),
            Model::Answers(_) => stated.filter(|reading| reading.stride.is_some()).unwrap_or(QUESTIONS),
        }
    }

    pub(crate) fn max_tokens(&self, wanted: usize) -> usize {
        wanted.min(self.base.config().max_position_embeddings)
    }

    /// Runs `model` on texts, pairs or questions.
    ///
    /// # Errors
    /// A text that cannot be encoded, such as a question that leaves no room for its context.
    pub fn predict(&self, model: &Model, inputs: &[Input]) -> Result<Predictions> {
        match model {
            Model::Labels(model) => self.label(model, inputs).map(Predictions::Labels),
            Model::Answers(model) => self.find_answers(model, inputs).map(Predictions::Answers),
        }
    }

    /// As [`SmallModel::predict`], on gold rows.
    pub fn predict_rows(&self, model: &Model, rows: &[GoldRow]) -> Result<Predictions> {
        self.predict(model, &rows.iter().map(GoldRow::input).collect::<Vec<_>>())
    }

    /// Logits `(texts, labels)`: neighbours in length together, a batch a thread at a time.
    fn label(&self, model: &Classifier, texts: &[Input]) -> Result<Vec<Vec<f32>>> {
        let encoded = self.encode_all(texts, self.reading().max_tokens)?;
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&i| encoded[i].input_ids.len());
        let labels = model.labels().len();
        let (mut logits, batches) = (vec![Vec::new(); texts.len()], Mutex::new(order.chunks(PREDICT_BATCH)));
        let next = || batches.lock().unwrap_or_else(|e| e.into_inner()).next();
        let work = || -> Result<Vec<(usize, Vec<f32>)>> {
            let (mut forward, mut found) = (Forward::default(), Vec::new());
            while let Some(chunk) = next() {
                let batch = PackedBatch::from_rows(&chunk.iter().map(|&i| &encoded[i]).collect::<Vec<_>>());
                let out = model.logits_with(&mut forward, &batch).map_err(|e| Error::Failed(e.to_string()))?;
                found.extend(chunk.iter().copied().zip(out.chunks_exact(labels).map(<[f32]>::to_vec)));
            }
            Ok(found)
        };
        let threads = self.threads.min(texts.len().div_ceil(PREDICT_BATCH)).max(1);
        for part in on_threads(vec![(); threads], |()| work()) {
            part?.into_iter().for_each(|(i, row)| logits[i] = row);
        }
        Ok(logits)
    }

    /// Every text's tokens, at most so many of each; neighbours on one thread.
    pub(crate) fn encode_all<'t, I: Into<Input<'t>> + Copy + Sync>(&self, texts: &[I], max_tokens: usize) -> Result<Vec<Encoded>> {
        let max_tokens = self.max_tokens(max_tokens);
        let parts: Vec<&[I]> = texts.chunks(texts.len().div_ceil(self.threads.max(1)).max(PREDICT_BATCH)).collect();
        let one = |&text: &I| {
            let Input { text, text_pair } = text.into();
            self.encoder.encode(text, text_pair, max_tokens).map_err(|e| Error::Failed(e.to_string()))
        };
        let parts = on_threads(parts, |part| part.iter().map(one).collect::<Result<Vec<_>>>());
        Ok(parts.into_iter().collect::<Result<Vec<_>>>()?.concat())
    }

    /// Encodes the rows into a temporary token cache; the file is gone as soon as nobody holds it.
    fn cache(&self, rows: &[TrainRow]) -> Result<TokenCache> {
        let folder = std::env::temp_dir();
        let file = tempfile::Builder::new().prefix("lacuna-tokens-").tempfile_in(&folder).map_err(Error::io("write", &folder))?;
        let labels = self.base.labels().len();
        let cache_rows = rows.iter().map(|TrainRow { text, text_pair, target }| {
            let (text_pair, target) = (text_pair.as_deref(), target.probabilities());
            CacheRow { text, text_pair, target, weight: 1.0 }
        });
        let max_tokens = self.max_tokens(self.reading().max_tokens);
        TokenCache::write(file.path(), &self.encoder, (rows.len(), labels), cache_rows, max_tokens, self.threads)?;
        TokenCache::open(file.path())
    }

    /// Fine-tunes a copy of the pretrained model on `rows`; with `select`, returns its best epoch with the labels' thresholds
    /// moved, otherwise the last as it is.
    ///
    /// Sequences are packed without padding, so a batch costs what its tokens cost and needs no length buckets.
    ///
    /// # Errors
    /// A loss that is not finite.
    pub fn fit(&self, rows: &[TrainRow], select: Option<Select>, keys: &Train, epochs: usize, seed: u64, stage: Stage) -> Result<Fitted> {
        let lessons = self.study(rows)?;
        let steps_per_epoch = lessons.len().div_ceil(keys.batch);
        let mut model = self.base.clone();
        model.set_precision(keys.precision);
        let config = self.train_config(keys, epochs * steps_per_epoch, seed);
        let mut trainer = Trainer::new(&model, config);
        let mut best: Option<(Score, usize, Model)> = None;
        let mut history = Vec::new();
        let mut bar = stage.progress.stage(stage.name, "steps", epochs * steps_per_epoch, 0);
        let mut order: Vec<usize> = (0..lessons.len()).collect();
        for epoch in 1..=epochs {
            order.shuffle(&mut seed::rng(seed, "order of rows", epoch as u64));
            for chunk in order.chunks(keys.batch) {
                lessons.step(&mut trainer, &mut model, chunk)?;
                bar.step(1);
            }
            let Some(select) = &select else { continue };
            let score = self.predict_rows(&model, select.rows)?.score(select.rows);
            history.push(score);
            if best.as_ref().is_none_or(|(so_far, ..)| score.better_than(so_far)) {
                best = Some((score, epoch, model.clone()));
            }
            if best.as_ref().is_some_and(|(_, kept, _)| epoch - kept >= select.patience) {
                break;
            }
        }
        let steps = history.len().max(epochs * usize::from(history.is_empty())) * steps_per_epoch;
        let outcome = best.as_ref().map(|(score, epoch, _)| format!("epoch {epoch}, select {}", score.in_words()));
        bar.finish(&outcome.unwrap_or_default());
        let (mut model, epoch) = best.map_or((model, epochs), |(_, epoch, kept)| (kept, epoch));
        let offsets = match (&mut model, &select) {
            (Model::Labels(model), Some(select)) => self.move_thresholds(model, select.rows)?,
            _ => Vec::new(),
        };
        Ok(Fitted { model, epoch, steps, history, offsets })
    }

    /// What the rows' batches are drawn from: encoded labels in a temporary file, or windows of questions in memory.
    fn study(&self, rows: &[TrainRow]) -> Result<Lessons> {
        match &self.base {
            Model::Labels(_) => self.cache(rows).map(Lessons::Labels),
            Model::Answers(_) => self.lessons(rows).map(Lessons::Answers),
        }
    }

    /// Adds to each label's logit what *select* asks for; returns it.
    fn move_thresholds(&self, model: &mut Classifier, select: &[GoldRow]) -> Result<Vec<f64>> {
        let inputs: Vec<Input> = select.iter().map(GoldRow::input).collect();
        let labels: Vec<usize> = select.iter().map(|row| row.goal.label()).collect();
        let offsets = threshold::offsets(&self.label(model, &inputs)?, &labels);
        model.add_offsets(&offsets.iter().map(|&b| b as f32).collect::<Vec<_>>());
        Ok(offsets)
    }

    /// Saves `model` with this tokenizer into `folder`, as transformers opens it.
    pub fn save(&self, model: &Model, folder: &Path) -> Result<()> {
        model.save(folder, &self.encoder).map_err(|error| match error {
            lacuna_models::ModelError::File { path, source } => Error::Io { doing: "write", path, source },
            other => Error::Failed(other.to_string()),
        })
    }

    fn train_config(&self, keys: &Train, total_steps: usize, seed: u64) -> TrainConfig {
        let config = self.base.config();
        TrainConfig {
            lr: keys.learning_rate as f32,
            weight_decay: keys.weight_decay as f32,
            warmup_ratio: keys.warmup_share as f32,
            hidden_dropout: config.hidden_dropout,
            attention_dropout: config.attention_dropout,
            classifier_dropout: config.classifier_dropout,
            total_steps,
            threads: self.threads,
            precision: keys.precision,
            seed: seed::derive(seed, "dropout", 0),
            ..TrainConfig::default()
        }
    }
}

/// What a fit draws its batches from.
enum Lessons {
    Labels(TokenCache),
    Answers(Vec<Lesson>),
}

impl Lessons {
    fn len(&self) -> usize {
        match self {
            Lessons::Labels(cache) => cache.rows(),
            Lessons::Answers(lessons) => lessons.len(),
        }
    }

    /// One step on some of them.
    fn step(&self, trainer: &mut Trainer, model: &mut Model, chunk: &[usize]) -> Result<()> {
        let outcome = match (self, model) {
            (Lessons::Labels(cache), Model::Labels(model)) => {
                let LabelledBatch { batch, targets, weights } = cache.batch(chunk)?;
                trainer.step(model, &batch, &targets, &weights)
            }
            (Lessons::Answers(lessons), Model::Answers(model)) => {
                let (batch, spans) = batch_of(lessons, chunk);
                trainer.step_spans(model, &batch, &spans)
            }
            _ => return Err(Error::Failed("training: labels for a model that finds answers, or answers for a classifier".to_string())),
        };
        outcome.map(drop).map_err(|e| Error::Failed(format!("training: {e}")))
    }
}

/// Runs every job on a thread of its own; results in their order.
pub(crate) fn on_threads<T: Send, R: Send>(jobs: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = jobs.into_iter().map(|job| scope.spawn(move || work(job))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// How a fit is shown.
pub struct Stage {
    pub name: String,
    pub progress: Progress,
}

/// Epochs over `rows` rows: those of the task, or more where a small set would see fewer than `min_steps` steps.
pub fn epochs(keys: &Train, rows: usize) -> usize {
    let steps_per_epoch = rows.div_ceil(keys.batch).max(1);
    keys.epochs.max(keys.min_steps.div_ceil(steps_per_epoch))
}
