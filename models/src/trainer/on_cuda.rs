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
        let (masks, number, columns) = (self.masks(model, 0), self.config.precision.on_cuda(), model.params.config.embedding_size);
        let placed = model.cuda.as_ref().ok_or_else(not_there)?;
        let weights = placed.shared_weights(&model.params)?;
        let (mut gradients, mut touched) = (std::mem::take(&mut self.gradients), std::mem::take(&mut self.touched));
        touched.drain(..).for_each(|id| gradients[id as usize * columns..][..columns].fill(0.0));
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

#[cfg(test)]
#[cfg(feature = "emulated")]
mod tests {
    use super::*;
    use crate::batch::PackedBatch;
    use crate::cuda::Session;
    use crate::targets::Targets;
    use crate::tiny::{LABELS, batch, model};
    use crate::train_config::TrainConfig;

    /// So many times the rows of a batch.
    fn repeated(batch: &PackedBatch, times: usize) -> PackedBatch {
        let mut all = PackedBatch { cu_seqlens: vec![0], ..PackedBatch::default() };
        for _ in 0..times {
            let start = all.tokens() as u32;
            all.input_ids.extend(&batch.input_ids);
            all.token_type_ids.extend(&batch.token_type_ids);
            all.cu_seqlens.extend(batch.cu_seqlens[1..].iter().map(|end| start + end));
        }
        all
    }

    /// The loss of a step, and the most memory that it took at once; `activations` are the bytes that a piece's may take, if not as usual.
    fn step(batches: &[PackedBatch], activations: Option<usize>) -> (f32, usize) {
        let session = Session::new(lacuna_cuda::Device::emulated());
        let mut model = model(2, Some(Placed::new(session.clone())));
        let mut trainer = Trainer::new(&model, TrainConfig { warmup_ratio: 0.0, ..TrainConfig::default() });
        let fit = trainer.fit(&model.network, &Placed::new(session.clone())).unwrap();
        fit.activations = activations.unwrap_or(fit.activations);
        let rows: usize = batches.iter().map(PackedBatch::rows).max().unwrap();
        let (probabilities, weights) = (vec![1.0 / LABELS as f32; rows * LABELS], vec![1.0; rows]);
        let targets = |batch: &PackedBatch| {
            let (probabilities, weights) = (&probabilities[..batch.rows() * LABELS], &weights[..batch.rows()]);
            Targets::Labels { probabilities, weights }
        };
        let parts: Vec<MicroBatch> = batches.iter().map(|batch| MicroBatch { batch, targets: targets(batch) }).collect();
        let outcome = trainer.step_micro_batches(&mut model, &parts).unwrap();
        let peak = session.lock().peak();
        assert!(session.lock().bytes() >= peak);
        drop(trainer);
        assert_eq!(session.lock().bytes(), 0, "a fit leaves its work space");
        (outcome.loss, peak)
    }

    #[test]
    fn parts_and_pieces_bound_the_work_space() {
        let (one, token) = (batch(), 3 * (10 * 64 + 2 * 128) * 2);
        let all = repeated(&one, 8);
        let (_, of_one) = step(std::slice::from_ref(&one), None);
        let (loss, of_all) = step(std::slice::from_ref(&all), None);
        assert!(of_all > 4 * of_one, "{of_all} bytes for a batch eight times as large, {of_one} for one");
        let (of_parts_loss, of_parts) = step(&vec![one.clone(); 8], None);
        let (of_pieces_loss, of_pieces) = step(&[all], Some(one.tokens() * token));
        for (name, found, peak) in [("parts", of_parts_loss, of_parts), ("pieces", of_pieces_loss, of_pieces)] {
            assert!((found - loss).abs() < 1e-2 * loss, "{name}: a loss of {found}, {loss} in one piece");
            assert!(peak < of_one * 3 / 2, "{name}: {peak} bytes, {of_one} for one of eight");
        }
    }
}
