//! The parameters of an encoder with a head in one flat buffer: their layout and loading.

use crate::ModelError;
use crate::checkpoint::{Checkpoint, Files};
use crate::config::Config;
use crate::config_file::ConfigFile;
use crate::layout::{Head, Layout, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::path::Path;

/// Standard deviation of the initialisation of weights that a checkpoint does not have.
const INITIALIZER_RANGE: f64 = 0.02;

/// A model's parameters. A clone copies them (four bytes each).
#[derive(Clone)]
pub struct Parameters {
    pub config: Config,
    pub layout: Layout,
    /// The flat buffer.
    pub flat: Vec<f32>,
}

/// Loaded parameters, and further information from the files.
pub struct Loaded {
    pub params: Parameters,
    /// The labels in config.json.
    pub labels: Vec<String>,
    /// Whether the last layer of the head was in the file.
    pub trained: bool,
}

impl Parameters {
    /// Loads the encoder of `folder`, and its head where the file has it in the right shape; else the head is drawn.
    pub fn load(folder: &Path, head: Head, init_seed: u64) -> Result<Loaded, ModelError> {
        let config_file = ConfigFile::read(folder)?;
        let stated = config_file.as_ref().map_or(Ok(None), ConfigFile::config)?;
        let files = Files::read(folder)?;
        let checkpoint = files.open()?;
        let config = stated.map_or_else(|| checkpoint.infer_config(), Ok)?;
        let layout = Layout::new(&config, head);
        let (encoder, head) = layout.parts();
        encoder.iter().try_for_each(|tensor| checkpoint.check(tensor, config.architecture))?;
        let mut flat = vec![0.0; layout.len()];
        encoder.iter().for_each(|tensor| checkpoint.copy(&tensor.name, &mut flat[tensor.range.clone()]));
        // Where both heads have one name, config.json says whose the last layer is.
        let names = config.architecture.names();
        let answers = config_file.as_ref().is_some_and(ConfigFile::answers_questions);
        let of_another = names.spans == names.classifier && answers != (layout.head() == Head::Span);
        let known = if of_another { head.len() - 2 } else { head.len() };
        load_head(&checkpoint, &config, head, known, init_seed, &mut flat)?;
        let trained = !of_another && head[head.len() - 2..].iter().all(|tensor| checkpoint.has(tensor));
        let labels = config_file.and_then(|file| file.labels()).unwrap_or_default();
        Ok(Loaded { params: Parameters { config, layout, flat }, labels, trained })
    }

    /// The dense part of the buffer, behind the word embeddings.
    pub fn dense(&self) -> &[f32] {
        &self.flat[self.layout.words..]
    }
}

/// Fills each layer of the head from the file, or draws it anew if the file has not all its tensors in their shapes, or if it is not among
/// the first `known` tensors.
fn load_head(
    checkpoint: &Checkpoint,
    config: &Config,
    head: &[Tensor],
    known: usize,
    seed: u64,
    flat: &mut [f32],
) -> Result<(), ModelError> {
    let known = head[..known].last().map_or(0, |tensor| tensor.range.end);
    let layer = |tensor: &Tensor| tensor.name.rsplit_once('.').map(|(layer, _)| layer.to_string());
    for (stream, layer) in head.chunk_by(|a, b| layer(a) == layer(b)).enumerate() {
        if layer.iter().all(|tensor| checkpoint.has(tensor) && tensor.range.end <= known) {
            for tensor in layer {
                checkpoint.check(tensor, config.architecture)?;
                checkpoint.copy(&tensor.name, &mut flat[tensor.range.clone()]);
            }
        } else {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(stream as u64);
            let weight = &mut flat[layer[0].range.clone()];
            // That of a norm is a vector.
            if layer[0].shape.len() == 1 { weight.fill(1.0) } else { draw(weight, &mut rng) }
        }
    }
    Ok(())
}

/// Draws weights that no checkpoint has.
pub fn draw(weights: &mut [f32], rng: &mut impl Rng) {
    weights.iter_mut().for_each(|x| *x = (INITIALIZER_RANGE * normal(rng)) as f32);
}

/// A standard normal number by Box and Muller's method.
fn normal(rng: &mut impl Rng) -> f64 {
    let mut uniform = || (rng.next_u32() as f64 + 0.5) / 4_294_967_296.0;
    let (radius, angle) = ((-2.0 * uniform().ln()).sqrt(), std::f64::consts::TAU * uniform());
    radius * angle.cos()
}
