//! Training on an NVIDIA GPU.

use super::{StepOutcome, Trainer};
use crate::ModelError;
use crate::cuda::{Fit, Placed, Step};
use crate::network::Network;
use crate::targets::MicroBatch;

impl Trainer {
    /// Gradients and moments on the model's GPU, made when first needed.
    fn fit(&mut self, model: &Network, placed: &Placed) -> Result<&mut Fit, ModelError> {
        if self.fit.is_none() {
            self.fit = Some(Fit::new(&placed.session, &model.params, &self.optimizer)?);
        }
        self.fit.as_mut().ok_or_else(|| ModelError::Device("there is no fit".into()))
    }

    /// [`Trainer::step`] on the model's GPU. If the GPU fails on the way, trainer and model are no longer usable.
    pub(super) fn step_on_cuda(&mut self, model: &mut Network, parts: &[MicroBatch]) -> Result<StepOutcome, ModelError> {
        self.check(model, parts)?;
        let (masks, adamw, number) = (self.masks(model, 0), self.unclipped_update(), self.config.precision.on_cuda());
        let (decay, clip) = (self.config.weight_decay, self.config.max_grad_norm);
        let Network { params, cuda: Some(placed), .. } = model else { return Err(not_there()) };
        let weights = placed.own_weights(params)?;
        let placed_now = placed.clone();
        let fit = self.fit(model, &placed_now)?;
        drop(placed_now);
        let step = Step { params: &model.params, weights: &weights, number, masks };
        let (loss, grad_norm) = fit.step(step, parts, &adamw, decay, clip)?;
        let (_, outcome) = self.next_update(loss, grad_norm)?;
        parts.iter().flat_map(|part| &part.batch.input_ids).for_each(|&id| self.optimizer.seen[id as usize] = true);
        model.cuda.as_mut().ok_or_else(not_there)?.changed_there();
        model.rounded.take();
        Ok(outcome)
    }

    /// [`Trainer::accumulate`] on the model's GPU; the gradients are copied back.
    pub(super) fn accumulate_on_cuda(&mut self, model: &Network, parts: &[MicroBatch]) -> Result<f32, ModelError> {
        self.check(model, parts)?;
        let (masks, number, hidden) = (self.masks(model, 0), self.config.precision.on_cuda(), model.params.config.hidden_size);
        let placed = model.cuda.as_ref().ok_or_else(not_there)?;
        let weights = placed.shared_weights(&model.params)?;
        let (mut gradients, mut touched) = (std::mem::take(&mut self.gradients), std::mem::take(&mut self.touched));
        touched.drain(..).for_each(|id| gradients[id as usize * hidden..][..hidden].fill(0.0));
        let step = Step { params: &model.params, weights: &weights, number, masks };
        let fit = self.fit(model, placed)?;
        let loss = fit.gradients(step, parts, &mut gradients)?;
        touched.extend_from_slice(&fit.touched);
        (self.gradients, self.touched) = (gradients, touched);
        Ok(loss)
    }
}

fn not_there() -> ModelError {
    ModelError::Device("the model is not on an NVIDIA GPU".into())
}
