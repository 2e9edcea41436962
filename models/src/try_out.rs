//! The device to use, and the test that an NVIDIA GPU has to pass first: gradients and a step of tiny models as on the CPU.

use crate::classifier::Classifier;
use crate::cuda::{Placed, Session};
use crate::device::Device;
use crate::precision::Precision;
use crate::tiny::{LENGTHS, batch, model};
use crate::train_config::TrainConfig;
use crate::trainer::Trainer;
use crate::{ModelError, StepOutcome};
use std::sync::{Arc, Mutex, PoisonError};

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
    let before = here.flat()?.to_vec();
    let (expected_loss, expected, expected_outcome) = train(&mut here, Precision::F32)?;
    let (loss, found, outcome) = train(&mut there, precision)?;
    let apart = norm(found.iter().zip(&expected).map(|(a, b)| a - b)) / norm(expected.iter().copied());
    let near = |a: f32, b: f32| (a - b).abs() <= most * b.abs();
    // What rounding leaves of a gradient of 0 makes a whole step: only the lengths of the steps are compared.
    let moved = |flat: &[f32]| norm(flat.iter().zip(&before).map(|(a, b)| a - b));
    let (far, expected_far) = (moved(there.flat()?), moved(here.flat()?));
    if apart <= most
        && near(loss, expected_loss)
        && near(outcome.grad_norm, expected_outcome.grad_norm)
        && (far - expected_far).abs() <= 0.1 * expected_far
    {
        return Ok(());
    }
    Err(ModelError::Device(format!(
        "its results are not those of the CPU: in {precision:?} with heads of {}, the loss is {loss} instead of {expected_loss}, the \
         gradients are apart by {apart} of their length, and a step goes {far} instead of {expected_far}; use the CPU, and report this",
        64 / heads
    )))
}
