//! The classifier: its parameters in one flat buffer, where they come from, and inference.

use crate::batch::{PackedBatch, Shard};
use crate::checkpoint::{self, Checkpoint, File};
use crate::encoder::{self, Encoder};
use crate::layout::{Layout, Tensor};
use crate::precision::{Precision, Rounded};
use crate::{Config, ModelError, head, parallel};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

/// Standard deviation of the weights that a checkpoint does not have.
const INITIALIZER_RANGE: f64 = 0.02;

/// Work space of a forward pass: a call that finds it large enough allocates nothing.
#[derive(Default)]
pub struct Forward {
    encoder: encoder::Work,
    head: head::Work,
}

/// A BERT or DistilBERT sequence classifier. A clone copies the parameters (four bytes each).
#[derive(Clone)]
pub struct Classifier {
    pub(crate) config: Config,
    pub(crate) labels: Vec<String>,
    pub(crate) layout: Layout,
    pub(crate) params: Vec<f32>,
    pub(crate) precision: Precision,
    /// The weights for inference, made when they are first needed.
    pub(crate) rounded: OnceLock<Rounded>,
}

impl Classifier {
    /// Loads a pretrained encoder, or a classifier that [`Classifier::save`] wrote.
    ///
    /// `folder` holds model.safetensors (f32, f16 or bf16) and config.json; without a transformer's config.json the dimensions are
    /// inferred from the tensors. Parameters of the head that the file does not have in the right shape are drawn from N(0, 0.02²),
    /// seeded by `init_seed`; their biases are zero. If the saved labels are these labels in another order, the rows of the saved
    /// classifier are put into this order.
    ///
    /// # Errors
    /// A missing, damaged or unsupported file; a missing tensor or one of a wrong shape; no labels, or one label twice.
    pub fn load(folder: &Path, labels: &[String], init_seed: u64) -> Result<Self, ModelError> {
        check_labels(labels)?;
        let read = Config::read(folder)?;
        let file = File::read(folder)?;
        let checkpoint = file.open()?;
        let config = read.config.map_or_else(|| checkpoint.infer_config(), Ok)?;
        let layout = Layout::new(&config, labels.len());
        let (encoder, head) = layout.tensors.split_at(layout.tensors.len() - HEAD_TENSORS);
        encoder.iter().try_for_each(|tensor| checkpoint.check(tensor, config.architecture))?;
        let mut params = vec![0.0; layout.len()];
        encoder.iter().for_each(|tensor| checkpoint.copy(&tensor.name, &mut params[tensor.range.clone()]));
        load_head(&checkpoint, &config, head, init_seed, &mut params)?;
        let trained = head[2..].iter().all(|tensor| checkpoint.has(tensor));
        let mut model =
            Classifier { config, labels: labels.to_vec(), layout, params, precision: Precision::Auto, rounded: OnceLock::new() };
        if trained {
            model.reorder_labels(&read.labels);
        }
        Ok(model)
    }

    /// The labels, in the order of the logits.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The dimensions of the encoder.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Sets what the products of [`Classifier::logits`] multiply; [`Precision::Auto`] at first. Training has its own, in its configuration.
    pub fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
        self.rounded.take();
    }

    /// The logits (rows, labels) of a batch, without dropout; its rows are spread over `threads` threads.
    ///
    /// # Errors
    /// [`ModelError::Batch`] for a batch that [`PackedBatch::check`] refuses.
    pub fn logits(&self, batch: &PackedBatch, threads: usize) -> Result<Vec<f32>, ModelError> {
        batch.check(&self.config)?;
        let rounded = self.rounded(threads);
        let logits = parallel::run(batch.shards(threads), |shard| self.forward(&mut Forward::default(), &shard, rounded).to_vec());
        Ok(logits.concat())
    }

    /// [`Classifier::logits`] on this thread, in work space that is kept between calls.
    pub fn logits_with<'a>(&self, forward: &'a mut Forward, batch: &PackedBatch) -> Result<&'a [f32], ModelError> {
        batch.check(&self.config)?;
        let shards = batch.shards(1);
        Ok(self.forward(forward, &shards[0], self.rounded(1)))
    }

    fn forward<'a>(&self, forward: &'a mut Forward, shard: &Shard, rounded: &Rounded) -> &'a [f32] {
        let Classifier { config, layout, params, .. } = self;
        let encoder = Encoder { config, layout, params, rounded, shard, masks: None };
        encoder.forward(&mut forward.encoder);
        head::forward(&encoder, &forward.encoder.hidden_states, &mut forward.head);
        &forward.head.logits
    }

    /// The weights for inference.
    fn rounded(&self, threads: usize) -> &Rounded {
        self.rounded.get_or_init(|| {
            let mut rounded = Rounded::default();
            rounded.pack(&self.layout, &self.params[self.layout.words..], self.precision.format(), false, threads);
            rounded
        })
    }

    /// The parameters as a safetensors file with the names of transformers.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, ModelError> {
        checkpoint::to_bytes(&self.layout.tensors, &self.params)
    }

    /// A config.json for `AutoModelForSequenceClassification`.
    pub fn config_json(&self) -> String {
        self.config.to_json(&self.labels)
    }

    /// Name, place in the flat buffer and shape of every parameter, in the order of the buffer. Biases and LayerNorms are those with
    /// one dimension.
    pub fn parameters(&self) -> impl Iterator<Item = (String, Range<usize>, Vec<usize>)> {
        self.layout.tensors.iter().map(|t| (t.name.clone(), t.range.clone(), t.shape.clone()))
    }

    /// The flat buffer that [`Classifier::parameters`] describes.
    pub fn flat(&self) -> &[f32] {
        &self.params
    }

    /// Moves the rows of a saved classifier from the order of its labels to the order of these.
    fn reorder_labels(&mut self, saved: &[String]) {
        let Some(from) = self.labels.iter().map(|label| saved.iter().position(|s| s == label)).collect::<Option<Vec<_>>>() else {
            return;
        };
        if saved.len() != self.labels.len() {
            return;
        }
        let dense = &mut self.params[self.layout.words..];
        let (weight, bias) = self.layout.classifier.parts_mut(dense);
        let (old_weight, old_bias, hidden) = (weight.to_vec(), bias.to_vec(), self.config.hidden_size);
        for (to, from) in from.into_iter().enumerate() {
            weight[to * hidden..][..hidden].copy_from_slice(&old_weight[from * hidden..][..hidden]);
            bias[to] = old_bias[from];
        }
    }
}

/// Weight and bias of the dense layer and of the classifier: the last tensors of a layout.
const HEAD_TENSORS: usize = 4;

fn check_labels(labels: &[String]) -> Result<(), ModelError> {
    if labels.is_empty() {
        return Err(ModelError::Labels("a classifier needs at least one".into()));
    }
    let mut seen = HashSet::new();
    match labels.iter().find(|label| !seen.insert(*label)) {
        Some(twice) => Err(ModelError::Labels(format!("`{twice}` is there twice"))),
        None => Ok(()),
    }
}

/// Fills each layer of the head from the file, or draws it anew if the file has not both its tensors in its shape.
fn load_head(checkpoint: &Checkpoint, config: &Config, head: &[Tensor], seed: u64, params: &mut [f32]) -> Result<(), ModelError> {
    for (stream, pair) in head.chunks(2).enumerate() {
        if pair.iter().all(|tensor| checkpoint.has(tensor)) {
            for tensor in pair {
                checkpoint.check(tensor, config.architecture)?;
                checkpoint.copy(&tensor.name, &mut params[tensor.range.clone()]);
            }
        } else {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(stream as u64);
            params[pair[0].range.clone()].iter_mut().for_each(|x| *x = (INITIALIZER_RANGE * normal(&mut rng)) as f32);
        }
    }
    Ok(())
}

/// A standard normal number by Box and Muller's method.
fn normal(rng: &mut impl Rng) -> f64 {
    let mut uniform = || (rng.next_u32() as f64 + 0.5) / 4_294_967_296.0;
    let (radius, angle) = ((-2.0 * uniform().ln()).sqrt(), std::f64::consts::TAU * uniform());
    radius * angle.cos()
}
