//! Fine-tuning: gradients over the shards of a batch, and AdamW with a linear schedule.

use crate::ModelError;
use crate::batch::{PackedBatch, Shard};
use crate::classifier::Classifier;
use crate::config::Config;
use crate::cuda;
use crate::device::Device;
use crate::encoder::{self, Encoder};
use crate::head;
use crate::layout::Head;
use crate::masks::Masks;
use crate::network::Network;
use crate::optimizer::Optimizer;
#[cfg(feature = "candle")]
use crate::placed::{Placed, numbers};
use crate::rounded::Rounded;
use crate::span::Span;
use crate::span_extractor::SpanExtractor;
use crate::spread::spread;
use crate::targets::{MicroBatch, Targets};
use crate::train_config::TrainConfig;
use lacuna_kernels::adamw::{self, AdamW};
use lacuna_kernels::embedding;
use std::borrow::Cow;

mod on_cuda;
#[cfg(feature = "candle")]
mod on_device;
mod pairs;

/// The result of a training step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    /// Mean over the rows of weight times cross-entropy, or over the pairs of the squared error of their cosine, before the update.
    pub loss: f32,
    /// L2 norm of all gradients, before clipping.
    pub grad_norm: f32,
    /// The learning rate that was used.
    pub lr: f32,
}

/// Gradients, moments and work buffers of a fit.
pub struct Trainer {
    pub(crate) config: TrainConfig,
    /// Configuration, head and device of the model it was made for.
    shape: (Config, Head, Device),
    /// Steps done.
    pub(crate) step: usize,
    gradients: Vec<f32>,
    pub(crate) optimizer: Optimizer,
    /// Gradients and moments once they are on an NVIDIA GPU.
    fit: Option<cuda::Fit>,
    /// The optimiser's moments once they are on a device of candle's.
    #[cfg(feature = "candle")]
    moments: Option<on_device::Moments>,
    /// The model's weights as they were at the last gradients, for fast products.
    rounded: Rounded,
    /// Word rows with a gradient now, in order.
    touched: Vec<u32>,
    work: Vec<ShardWork>,
}

/// Work space of one shard.
#[derive(Default)]
struct ShardWork {
    encoder: encoder::Work,
    head: head::Work,
    /// Gradients of the dense part; the first shard writes into the trainer's.
    dense: Vec<f32>,
    /// (tokens, hidden): the gradient of the last hidden states, where it comes from their means.
    dlast: Vec<f32>,
}

impl Trainer {
    /// Buffers for training a model of this shape, a [`Classifier`] or a [`SpanExtractor`], on the device where it is. On a GPU the
    /// configuration's threads mean nothing.
    pub fn new(model: &Network, config: TrainConfig) -> Self {
        Trainer {
            config,
            shape: (model.params.config.clone(), model.params.layout.head(), model.device),
            step: 0,
            gradients: vec![0.0; model.params.layout.len()],
            optimizer: Optimizer::new(&model.params),
            fit: None,
            #[cfg(feature = "candle")]
            moments: None,
            rounded: Rounded::default(),
            touched: Vec::new(),
            work: Vec::new(),
        }
    }

    /// One step: forward, backward and update on one batch.
    ///
    /// `targets` (rows, labels), each row summing to 1; `weights` (rows), from 0. The loss is the mean over the rows of weight times
    /// cross-entropy; with several labels a text, targets are each in [0, 1], and it is the mean of the labels' own. After `total_steps`
    /// steps the learning rate is 0. The shards of the batch are jobs of rayon's pool: the one of the `ThreadPool::install` around the
    /// call, or the global one. A single job runs on the calling thread.
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
        let targets = model.targets(targets, weights);
        self.step_micro_batches(model, &[MicroBatch { batch, targets }])
    }

    /// [`Trainer::step`] for spans: the loss is the mean of the cross-entropies of start and end.
    pub fn step_spans(&mut self, model: &mut SpanExtractor, batch: &PackedBatch, spans: &[Span]) -> Result<StepOutcome, ModelError> {
        self.step_micro_batches(model, &[MicroBatch { batch, targets: Targets::Spans(spans) }])
    }

    /// [`Trainer::step`] on a batch that comes in parts, for less memory: the same masks, loss and (but for rounding) gradients as if
    /// the rows of all parts were one batch.
    pub fn step_micro_batches(&mut self, model: &mut Network, parts: &[MicroBatch]) -> Result<StepOutcome, ModelError> {
        if model.cuda.is_some() {
            return self.step_on_cuda(model, parts);
        }
        #[cfg(feature = "candle")]
        if let Some(placed) = model.placed.clone() {
            return self.step_on_device(model, placed, parts);
        }
        let loss = self.accumulate(model, parts)?;
        let rows = parts.iter().map(|part| part.batch.rows()).max().unwrap_or(1);
        self.update(model, loss, model.params.layout.len(), rows)
    }

    /// Updates the first `trained` parameters of the flat buffer from their gradients. `rows` is the most that a part had.
    fn update(&mut self, model: &mut Network, loss: f32, trained: usize, rows: usize) -> Result<StepOutcome, ModelError> {
        let (adamw, outcome) = self.next_update(loss, self.grad_norm(model))?;
        // As many jobs as the gradients had: no more than rows.
        let threads = self.config.threads.min(rows);
        model.params_changed();
        let gradients = &self.gradients[..trained];
        self.optimizer.update(&mut model.params, &adamw, self.config.weight_decay, gradients, &self.touched, threads);
        Ok(outcome)
    }

    /// The settings of the update for this loss and gradient norm, and the step's outcome. Counts the step.
    fn next_update(&mut self, loss: f32, grad_norm: f64) -> Result<(AdamW, StepOutcome), ModelError> {
        if !loss.is_finite() || !grad_norm.is_finite() {
            return Err(ModelError::NotFinite { step: self.step, loss, grad_norm: grad_norm as f32 });
        }
        let grad_scale = self.config.max_grad_norm.map_or(1.0, |max| adamw::clip_scale(grad_norm, max as f64));
        let adamw = AdamW { grad_scale, ..self.unclipped_update() };
        self.step += 1;
        Ok((adamw, StepOutcome { loss, grad_norm: grad_norm as f32, lr: adamw.lr }))
    }

    /// The settings of the next update, without clipping.
    fn unclipped_update(&self) -> AdamW {
        let TrainConfig { beta1, beta2, eps, .. } = self.config;
        AdamW { lr: self.config.lr_at(self.step), beta1, beta2, eps, step: self.step as u32 + 1, grad_scale: 1.0 }
    }

    /// Steps done.
    pub fn steps(&self) -> usize {
        self.step
    }

    /// First and second moment of all parameters, each in the order of the flat buffer, from where they are.
    pub(crate) fn moments(&self) -> Result<[Cow<'_, [f32]>; 2], ModelError> {
        if let Some(fit) = &self.fit {
            return fit.moments();
        }
        #[cfg(feature = "candle")]
        if let Some(moments) = &self.moments {
            return Ok(moments.flat()?);
        }
        Ok([Cow::from(&self.optimizer.m), Cow::from(&self.optimizer.v)])
    }

    /// The loss and the gradients of all parameters, in the order of [`Network::parameters`], without an update.
    pub fn gradients(
        &mut self,
        model: &Classifier,
        batch: &PackedBatch,
        targets: &[f32],
        weights: &[f32],
    ) -> Result<(f32, &[f32]), ModelError> {
        let loss = self.accumulate(&model.network, &[MicroBatch { batch, targets: model.targets(targets, weights) }])?;
        Ok((loss, &self.gradients))
    }

    /// [`Trainer::gradients`] for spans.
    pub fn span_gradients(&mut self, model: &SpanExtractor, batch: &PackedBatch, spans: &[Span]) -> Result<(f32, &[f32]), ModelError> {
        let loss = self.accumulate(&model.network, &[MicroBatch { batch, targets: Targets::Spans(spans) }])?;
        Ok((loss, &self.gradients))
    }

    /// The loss of all parts together, and their gradients into `self.gradients`.
    fn accumulate(&mut self, model: &Network, parts: &[MicroBatch]) -> Result<f32, ModelError> {
        if model.cuda.is_some() {
            return self.accumulate_on_cuda(model, parts);
        }
        #[cfg(feature = "candle")]
        if let Some(placed) = &model.placed {
            return self.accumulate_on_device(model, placed, parts);
        }
        self.check(model, parts)?;
        self.begin(model);
        let rows: usize = parts.iter().map(|part| part.batch.rows()).sum();
        let (mut loss, mut first_row, scale) = (0.0, 0, 1.0 / rows as f32);
        for part in parts {
            let shards = part.batch.shards(self.config.threads);
            let losses = self.each_shard(model, &shards, first_row, |encoder, work, first| {
                let loss = |logits: &[f32], dlogits: &mut [f32]| part.targets.loss(encoder.shard, logits, scale, dlogits);
                work.forward_backward(encoder, first, loss)
            });
            loss += losses.iter().sum::<f64>();
            self.collect(model, part.batch, &shards);
            first_row += part.batch.rows();
        }
        Ok(loss as f32)
    }

    /// Zero gradients, and the weights as they are now for fast products.
    fn begin(&mut self, model: &Network) {
        let (words, columns) = (model.params.layout.words, model.params.config.embedding_size);
        self.touched.drain(..).for_each(|id| self.gradients[id as usize * columns..][..columns].fill(0.0));
        self.gradients[words..].fill(0.0);
        self.rounded.pack(&model.params.layout, model.params.dense(), self.config.precision.format(), true, self.config.threads);
    }

    /// Runs `job` on every shard of a part, each in its own work space; the results in the order of the shards. The first one is lent the
    /// trainer's gradients of the dense part. `first_row` is the number of rows in the parts before: a row's masks depend on its place
    /// among all.
    fn each_shard<R: Send>(
        &mut self,
        model: &Network,
        shards: &[Shard],
        first_row: usize,
        job: impl Fn(&Encoder, &mut ShardWork, Option<&mut [f32]>) -> R + Sync + Send,
    ) -> Vec<R> {
        self.work.resize_with(shards.len().max(self.work.len()), Default::default);
        let masks = self.masks(model, first_row);
        let (params, rounded) = (&model.params, &self.rounded);
        let mut first = Some(&mut self.gradients[params.layout.words..]);
        let jobs: Vec<_> = shards.iter().zip(&mut self.work).map(|(shard, work)| (shard, work, first.take())).collect();
        spread(jobs, |(shard, work, first)| job(&Encoder { params, rounded, shard, masks: Some(masks) }, work, first))
    }

    /// Adds what the shards of a part have left in their work spaces to the gradients.
    fn collect(&mut self, model: &Network, batch: &PackedBatch, shards: &[Shard]) {
        let (word_gradients, dense) = self.gradients.split_at_mut(model.params.layout.words);
        for (shard, work) in shards.iter().zip(&self.work) {
            embedding::backward(shard.input_ids, &work.encoder.dembeddings, model.params.config.embedding_size, word_gradients);
        }
        add_shards(dense, &self.work[1..shards.len()]);
        self.touched.extend_from_slice(&batch.input_ids);
        self.touched.sort_unstable();
        self.touched.dedup();
    }

    /// Whether the configuration can be used, and the model is one that the trainer was made for.
    pub(crate) fn check_model(&self, model: &Network) -> Result<(), ModelError> {
        self.config.check()?;
        if (&model.params.config, model.params.layout.head(), model.device) != (&self.shape.0, self.shape.1, self.shape.2) {
            return Err(ModelError::Train("the trainer was made for a model of another shape, or on another device".into()));
        }
        Ok(())
    }

    fn check(&self, model: &Network, parts: &[MicroBatch]) -> Result<(), ModelError> {
        self.check_model(model)?;
        if parts.is_empty() {
            return Err(ModelError::Batch("it has no parts".into()));
        }
        parts.iter().try_for_each(|part| {
            part.batch.check(&model.params.config)?;
            part.targets.check(part.batch, model.params.layout.head())
        })
    }

    /// The dropout of this step for a part with `first_row` rows before it.
    fn masks(&self, model: &Network, first_row: usize) -> Masks {
        Masks { first_row, ..self.config.masks(self.step, model.params.config.architecture) }
    }

    /// The L2 norm of all gradients.
    fn grad_norm(&self, model: &Network) -> f64 {
        let (columns, layout) = (model.params.config.embedding_size, &model.params.layout);
        let words = self.touched.iter().map(|&id| adamw::squared_norm(&self.gradients[id as usize * columns..][..columns]));
        (words.sum::<f64>() + adamw::squared_norm(&self.gradients[layout.words..])).sqrt()
    }
}

#[cfg(feature = "candle")]
impl Trainer {
    /// [`Trainer::accumulate`] on the model's device; the gradients are copied back.
    fn accumulate_on_device(&mut self, model: &Network, placed: &Placed, parts: &[MicroBatch]) -> Result<f32, ModelError> {
        self.check(model, parts)?;
        let (loss, gradients) = on_device::gradients(placed, &model.params, self.masks(model, 0), parts)?;
        for (tensor, gradient) in model.params.layout.tensors.iter().zip(&gradients) {
            self.gradients[tensor.range.clone()].copy_from_slice(&numbers(gradient)?);
        }
        Ok(loss)
    }

    /// [`Trainer::step`] on the model's device. If the device fails on the way, trainer and model are no longer usable.
    fn step_on_device(&mut self, model: &mut Network, placed: Placed, parts: &[MicroBatch]) -> Result<StepOutcome, ModelError> {
        self.check(model, parts)?;
        let (loss, gradients) = on_device::gradients(&placed, &model.params, self.masks(model, 0), parts)?;
        let (adamw, outcome) = self.next_update(loss, on_device::norm(&gradients)?)?;
        parts.iter().flat_map(|part| &part.batch.input_ids).for_each(|&id| self.optimizer.seen[id as usize] = true);
        let moments = match &mut self.moments {
            Some(moments) => moments,
            none => none.insert(on_device::Moments::upload(&self.optimizer, &model.params.layout, &placed.device)?),
        };
        let vars = placed.vars(&model.params)?;
        let updated = moments.update(&adamw, self.config.weight_decay, &model.params.layout, vars, &gradients)?;
        model.take_back(updated)?;
        Ok(outcome)
    }
}

impl ShardWork {
    /// Adds the gradients of one shard to `first`, or leaves them in its own buffer; returns its part of the loss. `loss` takes the logits
    /// and leaves their gradient.
    fn forward_backward(&mut self, encoder: &Encoder, first: Option<&mut [f32]>, loss: impl FnOnce(&[f32], &mut [f32]) -> f64) -> f64 {
        let ShardWork { encoder: work, head, dense, .. } = self;
        let grads = own_or_first(dense, first, encoder);
        encoder.forward(work);
        head::forward(encoder, &work.hidden_states, head);
        head.dlogits.resize(head.logits.len(), 0.0);
        let loss = loss(&head.logits, &mut head.dlogits);
        head::backward(encoder, &work.hidden_states, head, grads);
        encoder.backward(&head.dlast, work, grads);
        loss
    }
}

/// Where a shard adds its gradients of the dense part: to `first` if it is the first one, else to its `own` buffer, which begins at zero.
fn own_or_first<'a>(own: &'a mut Vec<f32>, first: Option<&'a mut [f32]>, encoder: &Encoder) -> &'a mut [f32] {
    first.unwrap_or_else(|| {
        own.clear();
        own.resize(encoder.params.layout.len() - encoder.params.layout.words, 0.0);
        own
    })
}

/// `dense` += the gradients of the other shards.
fn add_shards(dense: &mut [f32], others: &[ShardWork]) {
    if others.is_empty() {
        return;
    }
    let size = dense.len().div_ceil(others.len() + 1);
    spread(dense.chunks_mut(size).enumerate().collect(), |(i, sums)| {
        for other in others {
            sums.iter_mut().zip(&other.dense[i * size..]).for_each(|(sum, g)| *sum += g);
        }
    });
}
