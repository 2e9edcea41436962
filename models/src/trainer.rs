//! Fine-tuning: gradients over shards of a batch, one a thread, and AdamW with a linear schedule.

use crate::batch::{PackedBatch, Shard};
use crate::encoder::{self, Encoder, Masks};
use crate::layout::Layout;
use crate::{Classifier, ModelError, head, parallel};
use lacuna_kernels::adamw::{self, AdamW};
use lacuna_kernels::cross_entropy::soft_cross_entropy;
use lacuna_kernels::embedding;

/// How to train.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainConfig {
    /// The highest learning rate.
    pub lr: f32,
    /// Decoupled weight decay; not for biases and LayerNorms.
    pub weight_decay: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub eps: f32,
    /// Part of the steps in which the learning rate rises from 0, rounded up to whole steps.
    pub warmup_ratio: f32,
    /// Gradients of a larger L2 norm are scaled down to it.
    pub max_grad_norm: Option<f32>,
    /// Dropout after the embeddings, the attention output and the feed-forward.
    pub hidden_dropout: f32,
    /// Dropout of attention probabilities.
    pub attention_dropout: f32,
    /// Dropout before the classifier.
    pub classifier_dropout: f32,
    /// The learning rate falls to 0 at this step.
    pub total_steps: usize,
    pub threads: usize,
    /// Seed of the dropout masks.
    pub seed: u64,
}

impl Default for TrainConfig {
    /// Usual numbers for fine-tuning BERT, on one thread.
    fn default() -> Self {
        TrainConfig {
            lr: 5e-5,
            weight_decay: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            warmup_ratio: 0.06,
            max_grad_norm: Some(1.0),
            hidden_dropout: 0.1,
            attention_dropout: 0.1,
            classifier_dropout: 0.1,
            total_steps: 100,
            threads: 1,
            seed: 0,
        }
    }
}

impl TrainConfig {
    /// The learning rate of step `step`, counted from 0: linear from 0 over the warm-up, then linear to 0 at `total_steps`, as
    /// transformers' `get_linear_schedule_with_warmup`.
    pub fn lr_at(&self, step: usize) -> f32 {
        let total = self.total_steps as f64;
        // A ratio like 0.2 is a little more than a fifth in f32; that must not make a step.
        let warmup = (total * self.warmup_ratio as f64 - 1e-4).ceil().max(0.0);
        let step = step as f64;
        let factor = if step < warmup { step / warmup } else { ((total - step) / (total - warmup).max(1.0)).max(0.0) };
        (self.lr as f64 * factor) as f32
    }

    fn check(&self) -> Result<(), ModelError> {
        let rate = |x: f32| (0.0..1.0).contains(&x);
        let from_zero = |x: f32| x >= 0.0 && x.is_finite();
        let checks = [
            ("lr is a finite number from 0", from_zero(self.lr)),
            ("weight_decay is a finite number from 0", from_zero(self.weight_decay)),
            ("beta1 and beta2 are in [0, 1)", rate(self.beta1) && rate(self.beta2)),
            ("eps is above 0", self.eps > 0.0 && self.eps.is_finite()),
            ("warmup_ratio is in [0, 1]", (0.0..=1.0).contains(&self.warmup_ratio)),
            ("max_grad_norm is above 0", self.max_grad_norm.is_none_or(|norm| norm > 0.0)),
            ("dropout rates are in [0, 1)", rate(self.hidden_dropout) && rate(self.attention_dropout) && rate(self.classifier_dropout)),
        ];
        match checks.iter().find(|(_, holds)| !holds) {
            Some((rule, _)) => Err(ModelError::Train(format!("{rule}; the configuration is {self:?}"))),
            None => Ok(()),
        }
    }
}

/// What a training step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    /// Mean over the rows of weight times cross-entropy, before the update.
    pub loss: f32,
    /// L2 norm of all gradients, before clipping.
    pub grad_norm: f32,
    /// The learning rate that was used.
    pub lr: f32,
}

/// Gradients, moments and work buffers of a fit.
pub struct Trainer {
    config: TrainConfig,
    /// Steps done.
    step: usize,
    gradients: Vec<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
    /// Whether a word row ever had a gradient; until then its moments are zero.
    seen: Vec<bool>,
    /// Word rows with a gradient now, in order.
    touched: Vec<u32>,
    work: Vec<ShardWork>,
}

/// What one thread works in.
#[derive(Default)]
struct ShardWork {
    encoder: encoder::Work,
    head: head::Work,
    /// Gradients of the dense part; the first shard writes into the trainer's.
    dense: Vec<f32>,
}

/// A part of the parameters that one update handles alike.
struct Piece<'a> {
    params: &'a mut [f32],
    grads: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
    weight_decay: f32,
    /// Without gradient and moments.
    idle: bool,
}

/// Numbers in a piece: small enough to spread evenly over threads.
const PIECE: usize = 1 << 16;

impl Trainer {
    /// Buffers for training a model of this shape.
    pub fn new(model: &Classifier, config: TrainConfig) -> Self {
        let n = model.layout.len();
        let zeros = || vec![0.0; n];
        let seen = vec![false; model.config.vocab_size];
        Trainer { config, step: 0, gradients: zeros(), m: zeros(), v: zeros(), seen, touched: Vec::new(), work: Vec::new() }
    }

    /// One step: forward, backward and update on one batch.
    ///
    /// `targets` (rows, labels), each row summing to 1; `weights` (rows), from 0. The loss is the mean over the rows of weight times
    /// cross-entropy. After `total_steps` steps the learning rate is 0.
    ///
    /// # Errors
    /// A batch, targets or configuration out of range; a loss or gradient that is not finite (the model is then unchanged).
    pub fn step(
        &mut self,
        model: &mut Classifier,
        batch: &PackedBatch,
        targets: &[f32],
        weights: &[f32],
    ) -> Result<StepOutcome, ModelError> {
        let (loss, _) = self.gradients(model, batch, targets, weights)?;
        let grad_norm = self.squared_norm(model).sqrt();
        if !loss.is_finite() || !grad_norm.is_finite() {
            return Err(ModelError::NotFinite { step: self.step, loss, grad_norm: grad_norm as f32 });
        }
        let lr = self.config.lr_at(self.step);
        self.step += 1;
        self.update(model, lr, self.config.max_grad_norm.map_or(1.0, |max| adamw::clip_scale(grad_norm, max as f64)));
        Ok(StepOutcome { loss, grad_norm: grad_norm as f32, lr })
    }

    /// Steps done.
    pub fn steps(&self) -> usize {
        self.step
    }

    /// The loss and the gradients of all parameters, in the order of [`Classifier::parameters`], without an update.
    pub fn gradients(
        &mut self,
        model: &Classifier,
        batch: &PackedBatch,
        targets: &[f32],
        weights: &[f32],
    ) -> Result<(f32, &[f32]), ModelError> {
        self.config.check()?;
        self.check(model, batch, targets, weights)?;
        let (words, hidden) = (model.layout.words, model.config.hidden_size);
        let shards = batch.shards(self.config.threads);
        self.work.resize_with(shards.len().max(self.work.len()), Default::default);
        self.touched.drain(..).for_each(|id| self.gradients[id as usize * hidden..][..hidden].fill(0.0));

        let loss = self.shard_gradients(model, &shards, targets, weights);
        let (word_gradients, dense) = self.gradients.split_at_mut(words);
        for (shard, work) in shards.iter().zip(&self.work) {
            embedding::backward(shard.input_ids, &work.encoder.dembeddings, hidden, word_gradients);
        }
        add_shards(dense, &self.work[1..shards.len()], self.config.threads);
        self.touched.extend_from_slice(&batch.input_ids);
        self.touched.sort_unstable();
        self.touched.dedup();
        self.touched.iter().for_each(|&id| self.seen[id as usize] = true);
        Ok((loss as f32, &self.gradients))
    }

    fn check(&self, model: &Classifier, batch: &PackedBatch, targets: &[f32], weights: &[f32]) -> Result<(), ModelError> {
        if self.gradients.len() != model.layout.len() || self.seen.len() != model.config.vocab_size {
            return Err(ModelError::Train("the trainer was made for a model of another shape".into()));
        }
        batch.check(&model.config)?;
        let (rows, labels) = (batch.rows(), model.labels.len());
        if weights.len() != rows || targets.len() != rows * labels {
            let found = format!("{} targets and {} weights", targets.len(), weights.len());
            return Err(ModelError::Batch(format!("{rows} rows with {labels} labels, but {found}")));
        }
        if let Some(row) =
            targets.chunks(labels).position(|t| t.iter().any(|&p| p.is_nan() || p < 0.0) || (t.iter().sum::<f32>() - 1.0).abs() > 1e-3)
        {
            return Err(ModelError::Batch(format!(
                "the targets of row {row} are not probabilities: {:?}",
                &targets[row * labels..][..labels]
            )));
        }
        match weights.iter().position(|w| !w.is_finite() || *w < 0.0) {
            Some(row) => Err(ModelError::Batch(format!("the weight of row {row} is {}, not a finite number from 0", weights[row]))),
            None => Ok(()),
        }
    }

    /// Forward and backward of every shard, each on its thread; the sum of their losses.
    fn shard_gradients(&mut self, model: &Classifier, shards: &[Shard], targets: &[f32], weights: &[f32]) -> f64 {
        let c = &self.config;
        let (hidden, attention, classifier) = (c.hidden_dropout, c.attention_dropout, c.classifier_dropout);
        let masks = Masks { seed: c.seed, step: self.step as u64, hidden, attention, classifier };
        let mut first = Some(&mut self.gradients[model.layout.words..]);
        let jobs: Vec<_> = shards
            .iter()
            .zip(&mut self.work)
            .map(|(shard, ShardWork { encoder, head, dense })| (shard, encoder, head, first.take().unwrap_or_else(|| sized(dense, model))))
            .collect();
        let losses = parallel::run(jobs, |(shard, work, head_work, grads)| {
            let Classifier { config, layout, params, labels } = model;
            let encoder = Encoder { config, layout, params, shard, masks: Some(masks) };
            grads.fill(0.0);
            encoder.forward(work);
            head::forward(&encoder, &work.cls, head_work);
            let (rows, n) = (shard.first_row..shard.first_row + shard.rows(), labels.len());
            head_work.dlogits.resize(head_work.logits.len(), 0.0);
            let targets = &targets[rows.start * n..rows.end * n];
            let scale = 1.0 / weights.len() as f32;
            let loss = soft_cross_entropy(&head_work.logits, targets, &weights[rows], scale, &mut head_work.dlogits);
            head::backward(&encoder, &work.cls, head_work, grads);
            encoder.backward(&head_work.dcls, work, grads);
            loss
        });
        losses.iter().sum()
    }

    fn squared_norm(&self, model: &Classifier) -> f64 {
        let hidden = model.config.hidden_size;
        let words = self.touched.iter().map(|&id| adamw::squared_norm(&self.gradients[id as usize * hidden..][..hidden]));
        words.sum::<f64>() + adamw::squared_norm(&self.gradients[model.layout.words..])
    }

    /// One AdamW step over all parameters, spread over the threads.
    fn update(&mut self, model: &mut Classifier, lr: f32, grad_scale: f32) {
        let TrainConfig { beta1, beta2, eps, weight_decay, threads, .. } = self.config;
        let adamw = AdamW { lr, beta1, beta2, eps, step: self.step as u32, grad_scale };
        let cuts = cuts(&model.layout, &self.seen, model.config.hidden_size);
        let (mut params, mut grads, mut m, mut v) = (&mut model.params[..], &self.gradients[..], &mut self.m[..], &mut self.v[..]);
        let mut jobs: Vec<Vec<Piece>> = Vec::new();
        jobs.resize_with(threads.max(1), Vec::new);
        for (i, (len, decays, idle)) in cuts.into_iter().enumerate() {
            let weight_decay = if decays { weight_decay } else { 0.0 };
            let job = i % jobs.len();
            jobs[job].push(Piece {
                params: params.split_off_mut(..len).unwrap_or_default(),
                grads: grads.split_off(..len).unwrap_or_default(),
                m: m.split_off_mut(..len).unwrap_or_default(),
                v: v.split_off_mut(..len).unwrap_or_default(),
                weight_decay,
                idle,
            });
        }
        parallel::run(jobs, |pieces| {
            for piece in pieces {
                let Piece { params, grads, m, v, weight_decay, idle } = piece;
                if idle {
                    // With zero gradient and moments only the decay is left of the update.
                    let keep = 1.0 - lr * weight_decay;
                    params.iter_mut().for_each(|p| *p *= keep);
                } else {
                    adamw::update(&adamw, weight_decay, params, grads, m, v);
                }
            }
        });
    }
}

/// The gradient buffer of a shard, as long as the dense part.
fn sized<'a>(dense: &'a mut Vec<f32>, model: &Classifier) -> &'a mut [f32] {
    dense.resize(model.layout.len() - model.layout.words, 0.0);
    dense
}

/// `dense` += the gradients of the other shards.
fn add_shards(dense: &mut [f32], others: &[ShardWork], threads: usize) {
    if others.is_empty() {
        return;
    }
    let size = dense.len().div_ceil(threads.max(1));
    parallel::run(dense.chunks_mut(size).enumerate().collect(), |(i, sums)| {
        for other in others {
            sums.iter_mut().zip(&other.dense[i * size..]).for_each(|(sum, g)| *sum += g);
        }
    });
}

/// The buffer in pieces: (length, whether it decays, whether it is idle).
fn cuts(layout: &Layout, seen: &[bool], hidden: usize) -> Vec<(usize, bool, bool)> {
    let rows = seen.chunk_by(|a, b| a == b).map(|run| (run.len() * hidden, true, !run[0]));
    let others = layout.tensors[1..].iter().map(|t| (t.range.len(), t.shape.len() > 1, false));
    let split = |(len, decays, idle): (usize, bool, bool)| (0..len).step_by(PIECE).map(move |start| (PIECE.min(len - start), decays, idle));
    rows.chain(others).flat_map(split).collect()
}
