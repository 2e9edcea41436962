//! A training step on a device of candle's: gradients by composition, AdamW there, the new parameters copied back.

use crate::ModelError;
use crate::composed::Composed;
use crate::layout::{Layout, Tensor as Place};
use crate::masks::Masks;
use crate::optimizer::Optimizer;
use crate::parameters::Parameters;
use crate::placed::{Placed, numbers};
use crate::targets::MicroBatch;
use candle_core::{D, Device, Tensor, Var};
use lacuna_kernels::adamw::{self, AdamW};
use std::borrow::Cow;

/// First and second moment of every tensor, on the device.
pub struct Moments(Vec<[Tensor; 2]>);

impl Moments {
    /// Copies the moments to the device.
    pub fn upload(optimizer: &Optimizer, layout: &Layout, device: &Device) -> candle_core::Result<Self> {
        let upload = |values: &[f32], shape: &[usize]| Tensor::from_slice(values, shape, device);
        let of_tensor = |t: &Place| -> candle_core::Result<[Tensor; 2]> {
            let Optimizer { m, v, .. } = optimizer;
            Ok([upload(&m[t.range.clone()], &t.shape)?, upload(&v[t.range.clone()], &t.shape)?])
        };
        Ok(Moments(layout.tensors.iter().map(of_tensor).collect::<candle_core::Result<_>>()?))
    }

    /// One step of AdamW: the parameters after it. Biases and LayerNorms do not decay.
    pub fn update(
        &mut self,
        adamw: &AdamW,
        weight_decay: f32,
        layout: &Layout,
        vars: &[Var],
        gradients: &[Tensor],
    ) -> candle_core::Result<Vec<Var>> {
        let mut updated = Vec::with_capacity(vars.len());
        for ((tensor, var), (gradient, moments)) in layout.tensors.iter().zip(vars).zip(gradients.iter().zip(&mut self.0)) {
            let weight_decay = if tensor.shape.len() > 1 { weight_decay } else { 0.0 };
            let before = [&var.as_detached_tensor(), gradient, &moments[0], &moments[1]];
            let [param, m, v] = adamw::composed(adamw, weight_decay, before)?;
            *moments = [m, v];
            updated.push(Var::from_tensor(&param)?);
        }
        Ok(updated)
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

/// The loss of all parts together, and the gradient of every tensor on the device. `masks` are those of the first part.
pub fn gradients(placed: &Placed, params: &Parameters, masks: Masks, parts: &[MicroBatch]) -> Result<(f32, Vec<Tensor>), ModelError> {
    let rows: usize = parts.iter().map(|part| part.batch.rows()).sum();
    let scale = 1.0 / rows as f32;
    let (mut loss, mut first_row, mut sums) = (0.0, 0, Vec::new());
    for part in parts {
        let masks = Masks { first_row, ..masks };
        for shard in part.batch.shards(placed.pieces(part.batch, &params.config, params.config.num_hidden_layers)) {
            let of_logits = |composed: &Composed, logits: &Tensor| part.targets.composed_loss(&shard, composed, logits, scale);
            let (shard_loss, gradients) = placed.gradients(params, &shard, masks, of_logits)?;
            loss += shard_loss as f64;
            sums = add(sums, gradients)?;
        }
        first_row += part.batch.rows();
    }
    Ok((loss as f32, sums))
}

/// `sums` and `gradients` tensor by tensor; no sums are zero.
fn add(sums: Vec<Tensor>, gradients: Vec<Tensor>) -> candle_core::Result<Vec<Tensor>> {
    if sums.is_empty() { Ok(gradients) } else { sums.iter().zip(&gradients).map(|(sum, gradient)| sum + gradient).collect() }
}

/// The L2 norm of all gradients, with one copy from the device.
pub fn norm(gradients: &[Tensor]) -> candle_core::Result<f64> {
    // Row by row: a single sum in f32 over millions of numbers would lose digits.
    let squares = gradients.iter().map(|gradient| gradient.sqr()?.sum(D::Minus1)?.flatten_all()?.sum(0));
    let squares: Vec<f32> = Tensor::stack(&squares.collect::<candle_core::Result<Vec<_>>>()?, 0)?.to_vec1()?;
    Ok(squares.iter().map(|&square| square as f64).sum::<f64>().sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::Targets;
    use crate::{Classifier, PackedBatch, TrainConfig};
    use std::path::Path;

    /// Small pieces, for little memory, give the same masks, loss, gradients and logits as the whole batch.
    #[test]
    fn pieces_are_the_batch() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/bert");
        let mut model = Classifier::load(&folder, &["a".into(), "b".into(), "c".into()], 1).unwrap();
        model.set_device(crate::Device::CandleCpu).unwrap();
        let cu_seqlens = vec![0, 5, 6, 15, 18, 30];
        let batch = PackedBatch { input_ids: (0..30).map(|i| i * 7 % 40).collect(), token_type_ids: vec![0; 30], cu_seqlens };
        let targets = [0.2, 0.3, 0.5].repeat(5);
        let targets = Targets::Labels { probabilities: &targets, weights: &[1.0, 2.0, 0.0, 0.5, 1.0] };
        let part = MicroBatch { batch: &batch, targets };
        let (params, config) = (&model.params, &model.params.config);
        let masks = TrainConfig::default().masks(0, config.architecture);
        let in_pieces = |wanted: std::ops::RangeInclusive<usize>, activations| {
            let mut placed = Placed::new(Device::Cpu);
            placed.activations = activations;
            assert!(wanted.contains(&batch.shards(placed.pieces(&batch, config, 2)).len()));
            let (loss, gradients) = super::gradients(&placed, params, masks, &[part]).unwrap();
            (loss, gradients.iter().flat_map(|g| numbers(g).unwrap()).collect::<Vec<_>>(), placed.logits(params, &batch).unwrap())
        };
        let (loss, gradients, logits) = in_pieces(1..=1, 1 << 30);
        for (wanted, activations) in [(2..=4, 200_000), (5..=5, 1)] {
            let (other_loss, other_gradients, other_logits) = in_pieces(wanted, activations);
            assert!((loss - other_loss).abs() < 1e-6);
            // candle adds up in an order of its own, with or without fused multiplications.
            let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 2e-6);
            assert!(near(&gradients, &other_gradients) && near(&logits, &other_logits), "{activations} bytes");
        }
    }
}
