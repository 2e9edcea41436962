//! Fine-tune the small model from its pretrained weights, and keep the epoch that *select* likes best.

use std::path::Path;
use std::sync::Mutex;

use lacuna_models::{Classifier, Encoded, Forward, PackedBatch, TextEncoder, TrainConfig, Trainer};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::dataset::Input;
use crate::error::{Error, Result};
use crate::metrics;
use crate::progress::Progress;
use crate::seed;
use crate::soft_targets::{argmax, softmax};
use crate::task::Train;
use crate::threshold;
use crate::token_cache::{CacheRow, LabelledBatch, TokenCache};

/// The pretrained small model that every round starts from, and its tokenizer.
pub struct SmallModel {
    pub base: Classifier,
    pub encoder: TextEncoder,
    pub threads: usize,
}

/// One row to learn from.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainRow {
    pub text: String,
    /// The second text of a pair.
    pub text_pair: Option<String>,
    /// Probabilities of the labels, summing to 1.
    pub target: Vec<f32>,
}

impl TrainRow {
    /// A row whose label is certain.
    pub fn hard(input: Input, label: usize, labels: usize) -> Self {
        let target = (0..labels).map(|l| f32::from(u8::from(l == label))).collect();
        TrainRow { text: input.text.to_string(), text_pair: input.text_pair.map(str::to_string), target }
    }

    pub fn input(&self) -> Input<'_> {
        Input { text: &self.text, text_pair: self.text_pair.as_deref() }
    }
}

/// What a classifier says of some texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    /// `(rows, labels)`
    pub logits: Vec<Vec<f32>>,
}

impl Predictions {
    pub fn labels(&self) -> Vec<usize> {
        self.logits.iter().map(|row| argmax(row)).collect()
    }

    /// `(rows, labels)`, each row summing to 1.
    pub fn probabilities(&self) -> Vec<Vec<f64>> {
        self.logits.iter().map(|row| softmax(&row.iter().map(|&x| f64::from(x)).collect::<Vec<_>>())).collect()
    }

    pub fn score(&self, gold: &[usize]) -> Score {
        Score { accuracy: metrics::accuracy(&self.labels(), gold), log_loss: metrics::log_loss(&self.probabilities(), gold) }
    }
}

/// How good a model is on labelled rows.
///
/// Epochs and rounds are chosen by the log loss: on 50 rows the accuracy moves in steps of two points, and chance picks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    pub accuracy: f64,
    pub log_loss: f64,
}

impl Score {
    pub fn better_than(&self, other: &Score) -> bool {
        self.log_loss < other.log_loss
    }
}

/// A fine-tuned model and how it came about.
pub struct Fitted {
    pub model: Classifier,
    /// The epoch that was kept, from 1.
    pub epoch: usize,
    pub steps: usize,
    /// Score on *select* after each epoch; empty without *select*.
    pub history: Vec<Score>,
    /// What was added to each label's logit, chosen on *select*; empty without *select*.
    pub offsets: Vec<f64>,
}

/// Labelled texts that choose the epoch and the labels' [`threshold`]s.
pub struct Select<'a> {
    pub texts: &'a [Input<'a>],
    pub labels: &'a [usize],
    /// Epochs without a better score before it stops.
    pub patience: usize,
}

/// Texts in one forward pass while predicting.
const PREDICT_BATCH: usize = 32;

impl SmallModel {
    /// Loads a folder with a BERT or DistilBERT.
    ///
    /// # Errors
    /// Missing or damaged files, another architecture.
    pub fn load(folder: &Path, labels: &[String], seed: u64, threads: usize) -> Result<Self> {
        let model_error = |e: lacuna_models::ModelError| Error::Model(e.to_string());
        let base = Classifier::load(folder, labels, seed::derive(seed, "classifier head", 0)).map_err(model_error)?;
        let encoder = TextEncoder::load(folder).map_err(model_error)?;
        Ok(SmallModel { base, encoder, threads })
    }

    /// Loads a model that a run saved, with its own labels.
    pub fn load_trained(folder: &Path, threads: usize) -> Result<Self> {
        let path = folder.join("config.json");
        let content = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let config: serde_json::Value =
            serde_json::from_slice(&content).map_err(|e| Error::Model(format!("{}: not JSON: {e}", path.display())))?;
        let labels = config["id2label"].as_object().map(|map| {
            let name = |i: usize| map.get(&i.to_string()).and_then(|name| name.as_str()).map(str::to_string);
            (0..map.len()).map_while(name).collect::<Vec<_>>()
        });
        match labels {
            Some(labels) if labels.len() >= 2 => SmallModel::load(folder, &labels, 0, threads),
            _ => Err(Error::Model(format!("{}: no id2label with two labels or more; name the model folder of a run", path.display()))),
        }
    }

    fn max_tokens(&self, wanted: usize) -> usize {
        wanted.min(self.base.config().max_position_embeddings)
    }

    /// Runs `model` on `texts`, neighbours in length together, a batch a thread at a time.
    pub fn predict<'t, I: Into<Input<'t>> + Copy + Sync>(&self, model: &Classifier, texts: &[I], max_tokens: usize) -> Result<Predictions> {
        let encoded = self.encode_all(texts, max_tokens)?;
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
        Ok(Predictions { logits })
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
    fn cache(&self, rows: &[TrainRow], max_tokens: usize) -> Result<TokenCache> {
        let folder = std::env::temp_dir();
        let file = tempfile::Builder::new().prefix("lacuna-tokens-").tempfile_in(&folder).map_err(Error::io("write", &folder))?;
        let labels = self.base.labels().len();
        let cache_rows =
            rows.iter().map(|TrainRow { text, text_pair, target }| CacheRow { text, text_pair: text_pair.as_deref(), target, weight: 1.0 });
        TokenCache::write(file.path(), &self.encoder, (rows.len(), labels), cache_rows, self.max_tokens(max_tokens), self.threads)?;
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
        let failed = |e: lacuna_models::ModelError| Error::Failed(format!("training: {e}"));
        let cache = self.cache(rows, keys.max_tokens)?;
        let steps_per_epoch = rows.len().div_ceil(keys.batch);
        let mut model = self.base.clone();
        model.set_precision(keys.precision);
        let config = self.train_config(keys, epochs * steps_per_epoch, seed);
        let mut trainer = Trainer::new(&model, config);
        let mut best: Option<(Score, usize, Classifier)> = None;
        let mut history = Vec::new();
        let mut bar = stage.progress.stage(stage.name, "steps", epochs * steps_per_epoch, 0);
        let mut order: Vec<usize> = (0..rows.len()).collect();
        for epoch in 1..=epochs {
            order.shuffle(&mut seed::rng(seed, "order of rows", epoch as u64));
            for chunk in order.chunks(keys.batch) {
                let LabelledBatch { batch, targets, weights } = cache.batch(chunk)?;
                trainer.step(&mut model, &batch, &targets, &weights).map_err(failed)?;
                bar.step(1);
            }
            let Some(select) = &select else { continue };
            let score = self.predict(&model, select.texts, keys.max_tokens)?.score(select.labels);
            history.push(score);
            if best.as_ref().is_none_or(|(so_far, ..)| score.better_than(so_far)) {
                best = Some((score, epoch, model.clone()));
            }
            if best.as_ref().is_some_and(|(_, kept, _)| epoch - kept >= select.patience) {
                break;
            }
        }
        let steps = history.len().max(epochs * usize::from(history.is_empty())) * steps_per_epoch;
        let outcome = best.as_ref().map(|(score, epoch, _)| format!("epoch {epoch}, select accuracy {:.3}", score.accuracy));
        bar.finish(&outcome.unwrap_or_default());
        let (mut model, epoch) = best.map_or((model, epochs), |(_, epoch, kept)| (kept, epoch));
        let offsets = match &select {
            Some(select) => threshold::offsets(&self.predict(&model, select.texts, keys.max_tokens)?.logits, select.labels),
            None => Vec::new(),
        };
        model.add_offsets(&offsets.iter().map(|&b| b as f32).collect::<Vec<_>>());
        Ok(Fitted { model, epoch, steps, history, offsets })
    }

    /// Saves `model` with this tokenizer into `folder`, as transformers opens it.
    pub fn save(&self, model: &Classifier, folder: &Path) -> Result<()> {
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

/// Runs every job on a thread of its own; results in their order.
fn on_threads<T: Send, R: Send>(jobs: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
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
