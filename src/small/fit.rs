//! Fine-tunes the small model from its pretrained weights, and keeps the epoch that does best on *select*.

use lacuna_models::{TrainConfig, Trainer};
use rand::seq::SliceRandom;

use super::checkpoint::{Checkpoints, SoFar};
use super::evaluation::Evaluation;
use super::head::{Lessons, SmallHead};
use super::model::SmallModel;
use super::plan::FitPlan;
use crate::error::Result;
use crate::math::random;
use crate::task::file::TrainKeys;

/// Called after each step with the number of steps done and the total; an error stops the fit.
pub type Shown<'s> = &'s mut dyn FnMut(usize, usize) -> Result<()>;

/// A fine-tuned model and the record of its training.
pub struct Fitted<H: SmallHead> {
    pub model: H::Model,
    /// The epoch that was kept, counted from 1.
    pub epoch: usize,
    pub steps: usize,
    /// Evaluation on *select* after each epoch; empty without *select*.
    pub history: Vec<Evaluation>,
    /// Offsets added to the labels' logits, fitted on *select*; empty without *select*, and for question answering.
    pub offsets: Vec<f64>,
}

impl<H: SmallHead> Fitted<H> {
    /// For progress messages: `epoch 3, select accuracy 0.700`; empty without *select*.
    pub fn in_words(&self) -> String {
        let kept = self.history.get(self.epoch - 1);
        kept.map(|evaluation| format!("epoch {}, select {}", self.epoch, evaluation.in_words())).unwrap_or_default()
    }
}

impl<H: SmallHead> SmallModel<H> {
    /// Fine-tunes a copy of the pretrained model. With `checkpoints`, a fit that resumes after a crash ends with the same bits. `shown` is
    /// called after each step and may stop the fit with an error.
    ///
    /// Sequences are packed without padding, so the cost of a batch is that of its tokens, and length buckets are not needed.
    ///
    /// # Errors
    /// A loss that is not finite; an error of `shown`.
    pub fn fit(&self, plan: &FitPlan<H>, checkpoints: &Checkpoints, shown: Shown) -> Result<Fitted<H>> {
        let lessons = self.head.lessons(&self.reader, plan.rows)?;
        let (epochs, steps_per_epoch) = (plan.epochs(), lessons.count().div_ceil(plan.keys.batch));
        let mut model = self.base.clone();
        model.set_precision(plan.keys.precision);
        let config = self.train_config(plan.keys, epochs * steps_per_epoch, plan.seed);
        let (mut trainer, mut so_far) = match checkpoints.resume(self, plan, &mut model, &config) {
            Some(resumed) => resumed,
            None => (Trainer::new(&model, config), SoFar::default()),
        };
        let mut order: Vec<usize> = (0..lessons.count()).collect();
        for epoch in 1..=epochs {
            order.shuffle(&mut random::rng(plan.seed, "order of rows", epoch as u64));
            if epoch <= so_far.epochs {
                continue;
            }
            let done = trainer.steps().saturating_sub((epoch - 1) * steps_per_epoch);
            for chunk in order.chunks(plan.keys.batch).skip(done) {
                self.reader.pool.install(|| lessons.step(&mut trainer, &mut model, chunk))?;
                checkpoints.after_step(self, plan, &trainer, &model, &so_far);
                shown(trainer.steps(), epochs * steps_per_epoch)?;
            }
            if self.end_epoch(plan, &model, &mut so_far)? {
                break;
            }
        }
        let epoch = so_far.best.as_ref().map_or(epochs, |(epoch, _)| *epoch);
        let mut model = so_far.best.map_or(model, |(_, best)| best);
        let offsets = plan.select.as_ref().map(|select| self.head.move_thresholds(&self.reader, &mut model, select.rows)).transpose()?;
        Ok(Fitted { model, epoch, steps: trainer.steps(), history: so_far.history, offsets: offsets.unwrap_or_default() })
    }

    /// Evaluates on *select* after an epoch; returns whether to stop.
    fn end_epoch(&self, plan: &FitPlan<H>, model: &H::Model, so_far: &mut SoFar<H>) -> Result<bool> {
        so_far.epochs += 1;
        let Some(select) = &plan.select else { return Ok(false) };
        let evaluation = H::evaluate(select.rows, &self.outputs(model, select.rows)?);
        let best = so_far.best.as_ref().map(|(epoch, _)| so_far.history[epoch - 1]);
        so_far.history.push(evaluation);
        if best.is_none_or(|best| evaluation.better_than(&best)) {
            so_far.best = Some((so_far.epochs, model.clone()));
        }
        Ok(so_far.best.as_ref().is_some_and(|(epoch, _)| so_far.epochs - epoch >= select.patience))
    }

    fn train_config(&self, keys: &TrainKeys, total_steps: usize, seed: u64) -> TrainConfig {
        let config = self.base.config();
        TrainConfig {
            lr: keys.learning_rate as f32,
            weight_decay: keys.weight_decay as f32,
            warmup_ratio: keys.warmup_share as f32,
            hidden_dropout: config.hidden_dropout,
            attention_dropout: config.attention_dropout,
            classifier_dropout: config.classifier_dropout,
            total_steps,
            threads: self.reader.threads(),
            precision: keys.precision,
            seed: random::derive(seed, "dropout", 0),
            ..TrainConfig::default()
        }
    }
}
