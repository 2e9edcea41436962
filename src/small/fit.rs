//! Fine-tunes the small model from its pretrained weights.

use lacuna_models::{TrainConfig, Trainer};
use rand::seq::SliceRandom;

use super::checkpoint::Checkpoints;
use super::head::{Lessons, SmallHead};
use super::model::SmallModel;
use super::plan::FitPlan;
use crate::error::Result;
use crate::math::random;
use crate::task::file::TrainKeys;

/// Called after each step with the number of steps done and the total; an error stops the fit.
pub type Shown<'s> = &'s mut dyn FnMut(usize, usize) -> Result<()>;

/// A fine-tuned model.
pub struct Fitted<M> {
    pub model: M,
    /// Optimiser steps.
    pub steps: usize,
    /// Floating-point operations: 6 for each parameter, without word embeddings, and token; 2 where a token is only looked at.
    pub flops: f64,
}

impl<H: SmallHead> SmallModel<H> {
    /// Fine-tunes a copy of [`SmallModel::start`] for [`TrainKeys::steps_for`] steps; the last epoch may be cut short. With `checkpoints`,
    /// a fit that resumes after a crash ends with the same bits. `shown` is called after each step and may stop the fit with an error.
    ///
    /// Sequences are packed without padding, so the cost of a batch is that of its tokens, and length buckets are not needed.
    ///
    /// # Errors
    /// A loss that is not finite; an error of `shown`.
    pub fn fit(&self, plan: &FitPlan<H>, checkpoints: &Checkpoints, shown: Shown) -> Result<Fitted<H::Model>> {
        let lessons = self.head.lessons(&self.reader, plan.rows)?;
        let steps_per_epoch = lessons.count().div_ceil(plan.keys.batch);
        let steps = if lessons.count() == 0 { 0 } else { plan.keys.steps_for(lessons.count()) };
        let mut model = self.start().clone();
        model.set_precision(plan.keys.precision);
        // Those of a model that was trained before are not this one's.
        H::set_thresholds(&mut model, &[]);
        // Before a checkpoint takes its place too, so that the operations are counted alike.
        let mut flops = 0.0;
        if plan.keys.linear_start && steps > 0 {
            flops += H::start_linear(&self.reader, &mut model, plan.rows, plan.seed)?;
        }
        let config = self.train_config(plan.keys, steps, plan.seed);
        let resumed = checkpoints.resume(plan, &mut model, &config);
        let mut trainer = resumed.unwrap_or_else(|| Trainer::new(&model, config));
        let mut order: Vec<usize> = (0..lessons.count()).collect();
        for epoch in 0.. {
            if trainer.steps() >= steps {
                break;
            }
            order.shuffle(&mut random::rng(plan.seed, "order of rows", epoch as u64 + 1));
            let (first, done) = (epoch * steps_per_epoch, trainer.steps());
            if done >= first + steps_per_epoch {
                continue;
            }
            for chunk in order.chunks(plan.keys.batch).take(steps - first).skip(done - first) {
                self.reader.pool.install(|| lessons.step(&mut trainer, &mut model, chunk))?;
                checkpoints.after_step(plan, &trainer, &model);
                shown(trainer.steps(), steps).inspect_err(|_| checkpoints.now(plan, &trainer, &model))?;
            }
        }
        checkpoints.after_fit(plan, &trainer, &model);
        let epochs = steps as f64 / steps_per_epoch.max(1) as f64;
        flops += 6.0 * model.dense_parameters() as f64 * lessons.tokens() as f64 * epochs;
        Ok(Fitted { model, steps, flops })
    }

    /// The trainer's configuration, from the task's keys and the model's own dropout.
    pub(super) fn train_config(&self, keys: &TrainKeys, total_steps: usize, seed: u64) -> TrainConfig {
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
