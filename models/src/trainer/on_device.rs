//! A training step on a device of candle's: gradients by composition, AdamW there, the new parameters copied back.

use super::{Goal, Goals, StepOutcome, Trainer};
use crate::batch::Shard;
use crate::composed::Composed;
use crate::network::Network;
use crate::optimizer::Optimizer;
use crate::placed::Placed;
use crate::{ModelError, span};
use candle_core::{D, Device, Tensor, Var};
use lacuna_kernels::{adamw, cross_entropy};
use std::borrow::Cow;

/// First and second moment of every tensor, on the device.
pub struct Moments(Vec<[Tensor; 2]>);

impl Moments {
    fn upload(optimizer: &Optimizer, model: &Network, device: &Device) -> candle_core::Result<Self> {
        let upload = |values: &[f32], shape: &[usize]| Tensor::from_slice(values, shape, device);
        let of_tensor = |t: &crate::layout::Tensor| -> candle_core::Result<[Tensor; 2]> {
            let Optimizer { m, v, .. } = optimizer;
            Ok([upload(&m[t.range.clone()], &t.shape)?, upload(&v[t.range.clone()], &t.shape)?])
        };
        Ok(Moments(model.layout.tensors.iter().map(of_tensor).collect::<candle_core::Result<_>>()?))
    }

    /// Each moment of all parameters as one flat buffer.
    pub fn flat(&self) -> candle_core::Result<[Cow<'static, [f32]>; 2]> {
        let flat = |which: usize| -> candle_core::Result<Cow<'static, [f32]>> {
            let tensors = self.0.iter().map(|moments| numbers(&moments[which]));
            Ok(tensors.collect::<candle_core::Result<Vec<_>>>()?.concat().into())
        };
        Ok([flat(0)?, flat(1)?])
    }
}

impl Goal<'_> {
    /// [`Goal::loss`] of candle's operations, as a scalar.
    fn composed_loss(&self, shard: &Shard, composed: &Composed, logits: &Tensor, scale: f32) -> candle_core::Result<Tensor> {
        let rows = shard.first_row..shard.first_row + shard.rows();
        match self {
            Goal::Labels(targets, weights) => {
                let labels = logits.dim(1)?;
                let targets = &targets[rows.start * labels..rows.end * labels];
                cross_entropy::composed(logits, targets, &weights[rows], scale)
            }
            Goal::Spans(spans) => span::composed_loss(&composed.padding, logits, &spans[rows], scale),
        }
    }
}

impl Trainer {
    /// [`Trainer::accumulate`] on the model's device; the gradients are copied back.
    pub(super) fn accumulate_on_device(&mut self, model: &Network, placed: &Placed, parts: &[Goals]) -> Result<f32, ModelError> {
        let (loss, gradients) = self.gradients_on_device(model, placed, parts)?;
        for (tensor, gradient) in model.layout.tensors.iter().zip(&gradients) {
            self.gradients[tensor.range.clone()].copy_from_slice(&numbers(gradient)?);
        }
        Ok(loss)
    }

    /// The loss of all parts together, and the gradient of every tensor on the device.
    fn gradients_on_device(&self, model: &Network, placed: &Placed, parts: &[Goals]) -> Result<(f32, Vec<Tensor>), ModelError> {
        self.check(model, parts)?;
        let rows: usize = parts.iter().map(|part| part.batch.rows()).sum();
        let scale = 1.0 / rows as f32;
        let (mut loss, mut first_row, mut sums) = (0.0, 0, Vec::new());
        for part in parts {
            let masks = self.masks(model, first_row);
            for shard in part.batch.shards(placed.pieces(part.batch, &model.config, model.config.num_hidden_layers)) {
                let goal = |composed: &Composed, logits: &Tensor| part.goal.composed_loss(&shard, composed, logits, scale);
                let (shard_loss, gradients) = placed.gradients(model, &shard, masks, goal)?;
                loss += shard_loss as f64;
                sums = add(sums, gradients)?;
            }
            first_row += part.batch.rows();
        }
        Ok((loss as f32, sums))
    }

    /// [`Trainer::step`] on the model's device. If the device fails in the middle, trainer and model are of no use any more.
    pub(super) fn step_on_device(&mut self, model: &mut Network, placed: Placed, parts: &[Goals]) -> Result<StepOutcome, ModelError> {
        let (loss, gradients) = self.gradients_on_device(model, &placed, parts)?;
        let (adamw, outcome) = self.next_update(loss, norm(&gradients)?)?;
        parts.iter().flat_map(|part| &part.batch.input_ids).for_each(|&id| self.optimizer.seen[id as usize] = true);
        let moments = match &mut self.moments {
            Some(moments) => moments,
            none => none.insert(Moments::upload(&self.optimizer, model, &placed.device)?),
        };
        let mut params = Vec::with_capacity(gradients.len());
        let tensors = model.layout.tensors.iter().zip(placed.params(model)?);
        for ((tensor, var), (gradient, moments)) in tensors.zip(gradients.iter().zip(&mut moments.0)) {
            let weight_decay = if tensor.shape.len() > 1 { self.config.weight_decay } else { 0.0 };
            let before = [&var.as_detached_tensor(), gradient, &moments[0], &moments[1]];
            let [param, m, v] = adamw::composed(&adamw, weight_decay, before)?;
            *moments = [m, v];
            params.push(Var::from_tensor(&param)?);
        }
        model.take_back(params)?;
        Ok(outcome)
    }
}

impl Network {
    /// Copies new parameters from the device; they stay there too.
    fn take_back(&mut self, params: Vec<Var>) -> candle_core::Result<()> {
        for (tensor, param) in self.layout.tensors.iter().zip(&params) {
            self.params[tensor.range.clone()].copy_from_slice(&numbers(param)?);
        }
        self.params_changed();
        if let Some(placed) = &mut self.placed {
            placed.replace(params);
        }
        Ok(())
    }
}

/// A tensor's numbers on the CPU.
fn numbers(tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

/// `sums` and `gradients` tensor by tensor; no sums are zero.
fn add(sums: Vec<Tensor>, gradients: Vec<Tensor>) -> candle_core::Result<Vec<Tensor>> {
    if sums.is_empty() { Ok(gradients) } else { sums.iter().zip(&gradients).map(|(sum, gradient)| sum + gradient).collect() }
}

/// The L2 norm of all gradients, with one copy from the device.
fn norm(gradients: &[Tensor]) -> candle_core::Result<f64> {
    // Row by row: a single sum in f32 over millions of numbers would lose digits.
    let squares = gradients.iter().map(|gradient| gradient.sqr()?.sum(D::Minus1)?.flatten_all()?.sum(0));
    let squares: Vec<f32> = Tensor::stack(&squares.collect::<candle_core::Result<Vec<_>>>()?, 0)?.to_vec1()?;
    Ok(squares.iter().map(|&square| square as f64).sum::<f64>().sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Classifier, PackedBatch, Part, TrainConfig};
    use std::path::Path;

    /// Pieces that fit into little memory: the same masks, loss and gradients as the whole batch, and the same logits.
    #[test]
    fn pieces_are_the_batch() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/bert");
        let mut model = Classifier::load(&folder, &["a".into(), "b".into(), "c".into()], 1).unwrap();
        model.set_device(crate::Device::CandleCpu).unwrap();
        let cu_seqlens = vec![0, 5, 6, 15, 18, 30];
        let batch = PackedBatch { input_ids: (0..30).map(|i| i * 7 % 40).collect(), token_type_ids: vec![0; 30], cu_seqlens };
        let targets = [0.2, 0.3, 0.5].repeat(5);
        let part = Part { batch: &batch, targets: &targets, weights: &[1.0, 2.0, 0.0, 0.5, 1.0] };
        let trainer = Trainer::new(&model, TrainConfig::default());
        let in_pieces = |wanted: std::ops::RangeInclusive<usize>, activations| {
            let mut placed = Placed::new(Device::Cpu);
            placed.activations = activations;
            assert!(wanted.contains(&batch.shards(placed.pieces(&batch, &model.config, 2)).len()));
            let (loss, gradients) = trainer.gradients_on_device(&model, &placed, &[Goals::from(&part)]).unwrap();
            (loss, gradients.iter().flat_map(|g| numbers(g).unwrap()).collect::<Vec<_>>(), placed.logits(&model, &batch).unwrap())
        };
        let (loss, gradients, logits) = in_pieces(1..=1, 1 << 30);
        for (wanted, activations) in [(2..=4, 200_000), (5..=5, 1)] {
            let (other_loss, other_gradients, other_logits) = in_pieces(wanted, activations);
            assert!((loss - other_loss).abs() < 1e-6);
            let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
            assert!(near(&gradients, &other_gradients) && near(&logits, &other_logits), "{activations} bytes");
        }
    }
}
