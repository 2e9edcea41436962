//! The device to use, and the test that an NVIDIA GPU has to pass first: gradients and a step of tiny models as on the CPU.

use crate::batch::PackedBatch;
use crate::classifier::Classifier;
use crate::config::{Architecture, Config};
use crate::cuda::{Placed, Session};
use crate::device::Device;
use crate::layout::{Head, Layout};
use crate::network::Network;
use crate::parameters::Parameters;
use crate::precision::Precision;
use crate::train_config::TrainConfig;
use crate::trainer::Trainer;
use crate::{ModelError, StepOutcome};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Tokens of the rows: one, a tile of attention, and more.
const LENGTHS: [u32; 4] = [1, 64, 70, 5];
const LABELS: usize = 3;

/// What the devices that were tried said.
static TRIED: Mutex<Vec<(Device, Result<(), String>)>> = Mutex::new(Vec::new());

/// The first GPU that this build supports and the machine has, and that passes its test, else the CPU.
pub fn detect() -> Device {
    if try_out(Device::Cuda(0)).is_ok() {
        return Device::Cuda(0);
    }
    #[cfg(feature = "candle")]
    if Device::Metal(0).open().is_ok() {
        return Device::Metal(0);
    }
    Device::Cpu
}

/// Tests an NVIDIA GPU, once per process; other devices need no test.
///
/// # Errors
/// A device that cannot be opened or fails, or whose results are not those of the CPU.
pub fn try_out(device: Device) -> Result<(), ModelError> {
    let Some(session) = Session::open(device) else { return Ok(()) };
    let session = session?;
    let mut tried = TRIED.lock().unwrap_or_else(PoisonError::into_inner);
    let known = tried.iter().find(|(known, _)| *known == device).map(|(_, said)| said.clone());
    let said = known.unwrap_or_else(|| {
        let said = compare_all(&session).map_err(|e| e.to_string());
        tried.push((device, said.clone()));
        said
    });
    said.map_err(|reason| ModelError::Device(format!("{device} cannot be used: {reason}")))
}

fn compare_all(session: &Arc<Session>) -> Result<(), ModelError> {
    for heads in [1, 2] {
        for (precision, most) in [(Precision::F32, 1e-4), (Precision::Bf16, 0.1)] {
            compare(session, heads, precision, most)?;
        }
    }
    Ok(())
}

/// Small numbers that differ.
fn numbers(n: usize) -> Vec<f32> {
    (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 25) as f32 - 0.25).collect()
}

fn model(heads: usize, cuda: Option<Placed>) -> Classifier {
    let config = Config {
        architecture: Architecture::Bert,
        vocab_size: 40,
        hidden_size: 64,
        num_hidden_layers: 2,
        num_attention_heads: heads,
        intermediate_size: 128,
        max_position_embeddings: 80,
        type_vocab_size: 2,
        layer_norm_eps: 1e-12,
        hidden_dropout: 0.1,
        attention_dropout: 0.1,
        classifier_dropout: 0.1,
        pad_token_id: 0,
    };
    let layout = Layout::new(&config, Head::Labels(LABELS));
    let mut flat = numbers(layout.len());
    let norms = layout.tensors.iter().filter(|tensor| tensor.name.ends_with("LayerNorm.weight"));
    norms.for_each(|tensor| flat[tensor.range.clone()].iter_mut().for_each(|x| *x += 1.0));
    let network = Network {
        params: Parameters { config, layout, flat },
        precision: Precision::F32,
        rounded: OnceLock::new(),
        device: Device::Cpu,
        cuda,
        #[cfg(feature = "candle")]
        placed: None,
    };
    Classifier { network, labels: (0..LABELS).map(|label| label.to_string()).collect() }
}

fn batch() -> PackedBatch {
    let tokens = LENGTHS.iter().sum();
    let mut cu_seqlens = vec![0];
    cu_seqlens.extend(LENGTHS.iter().scan(0, |end, n| {
        *end += n;
        Some(*end)
    }));
    PackedBatch { input_ids: (0..tokens).map(|i| i * 7 % 37).collect(), token_type_ids: (0..tokens).map(|i| i % 2).collect(), cu_seqlens }
}

/// Loss, gradients, and what a step gave.
fn train(model: &mut Classifier, precision: Precision) -> Result<(f32, Vec<f32>, StepOutcome), ModelError> {
    let (batch, targets, weights) = (batch(), [0.2, 0.5, 0.3].repeat(LENGTHS.len()), [1.0, 0.5, 2.0, 1.0]);
    let config = TrainConfig { warmup_ratio: 0.0, precision, ..TrainConfig::default() };
    let mut trainer = Trainer::new(model, config);
    let (loss, gradients) = trainer.gradients(model, &batch, &targets, &weights)?;
    let gradients = gradients.to_vec();
    let outcome = trainer.step(model, &batch, &targets, &weights)?;
    Ok((loss, gradients, outcome))
}

fn norm(x: impl Iterator<Item = f32>) -> f32 {
    x.map(|x| x * x).sum::<f32>().sqrt()
}

/// Compares loss, gradients and the parameters after a step; they may be apart by `most`.
fn compare(session: &Arc<Session>, heads: usize, precision: Precision, most: f32) -> Result<(), ModelError> {
    let (mut here, mut there) = (model(heads, None), model(heads, Some(Placed::new(session.clone()))));
    let before = here.flat().to_vec();
    let (expected_loss, expected, expected_outcome) = train(&mut here, Precision::F32)?;
    let (loss, found, outcome) = train(&mut there, precision)?;
    let apart = norm(found.iter().zip(&expected).map(|(a, b)| a - b)) / norm(expected.iter().copied());
    let near = |a: f32, b: f32| (a - b).abs() <= most * b.abs();
    // What rounding leaves of a gradient of 0 makes a whole step: only the lengths of the steps are compared.
    let moved = |model: &Classifier| norm(model.flat().iter().zip(&before).map(|(a, b)| a - b));
    let (far, expected_far) = (moved(&there), moved(&here));
    if apart <= most
        && near(loss, expected_loss)
        && near(outcome.grad_norm, expected_outcome.grad_norm)
        && (far - expected_far).abs() <= 0.1 * expected_far
    {
        return Ok(());
    }
    Err(ModelError::Device(format!(
        "its results are not those of the CPU: in {precision:?} with heads of {}, the loss is {loss} instead of {expected_loss}, the gradients \
         are apart by {apart} of their length, and a step goes {far} instead of {expected_far}; use the CPU, and report this",
        64 / heads
    )))
}
