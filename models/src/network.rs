//! An encoder with a head: parameters in one flat buffer, where they come from, and the forward pass.

use crate::batch::{PackedBatch, Shard};
use crate::checkpoint::{self, Checkpoint, File};
use crate::encoder::{self, Encoder};
use crate::layout::{Layout, Question, Tensor};
use crate::precision::{Precision, Rounded};
use crate::spread::spread;
use crate::{Config, Device, ModelError, head};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

/// Standard deviation of the weights that a checkpoint does not have.
const INITIALIZER_RANGE: f64 = 0.02;

/// Work space of a forward pass: a call that finds it large enough allocates nothing.
#[derive(Default)]
pub struct Forward {
    encoder: encoder::Work,
    head: head::Work,
}

/// A model's parameters and what they mean. A clone copies them (four bytes each).
#[derive(Clone)]
pub struct Network {
    pub(crate) config: Config,
    pub(crate) layout: Layout,
    pub(crate) params: Vec<f32>,
    pub(crate) precision: Precision,
    /// The weights for inference, made when they are first needed.
    pub(crate) rounded: OnceLock<Rounded>,
    pub(crate) device: Device,
    /// The parameters on a device other than [`Device::Cpu`].
    #[cfg(feature = "candle")]
    pub(crate) placed: Option<crate::placed::Placed>,
}

/// What was read beside the parameters.
pub(crate) struct Loaded {
    pub network: Network,
    /// The labels in config.json.
    pub labels: Vec<String>,
    /// Whether the last layer of the head was in the file.
    pub trained: bool,
}

impl Network {
    /// Loads the encoder of `folder`, and its head where the file has it in the right shape; else the head is drawn.
    pub(crate) fn load(folder: &Path, question: Question, init_seed: u64) -> Result<Loaded, ModelError> {
        let read = Config::read(folder)?;
        let file = File::read(folder)?;
        let checkpoint = file.open()?;
        let config = read.config.map_or_else(|| checkpoint.infer_config(), Ok)?;
        let layout = Layout::new(&config, question);
        let (encoder, head) = layout.parts();
        encoder.iter().try_for_each(|tensor| checkpoint.check(tensor, config.architecture))?;
        let mut params = vec![0.0; layout.len()];
        encoder.iter().for_each(|tensor| checkpoint.copy(&tensor.name, &mut params[tensor.range.clone()]));
        load_head(&checkpoint, &config, head, init_seed, &mut params)?;
        let trained = head[head.len() - 2..].iter().all(|tensor| checkpoint.has(tensor));
        let network = Network {
            config,
            layout,
            params,
            precision: Precision::Auto,
            rounded: OnceLock::new(),
            device: Device::Cpu,
            #[cfg(feature = "candle")]
            placed: None,
        };
        Ok(Loaded { network, labels: read.labels, trained })
    }

    /// The dimensions of the encoder.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Sets what the products of inference multiply; [`Precision::Auto`] at first. Training has its own, in its configuration.
    pub fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
        self.rounded.take();
    }

    /// Forgets all copies of the parameters in other forms and places: they have changed.
    pub(crate) fn params_changed(&mut self) {
        self.rounded.take();
        #[cfg(feature = "candle")]
        if let Some(placed) = &mut self.placed {
            placed.forget();
        }
    }

    /// The logits of a batch, without dropout; its rows are spread over `threads` threads.
    pub(crate) fn logits(&self, batch: &PackedBatch, threads: usize) -> Result<Vec<f32>, ModelError> {
        batch.check(&self.config)?;
        #[cfg(feature = "candle")]
        if let Some(placed) = &self.placed {
            return placed.logits(self, batch);
        }
        let rounded = self.rounded(threads);
        let logits = spread(batch.shards(threads), |shard| self.forward(&mut Forward::default(), &shard, rounded).to_vec());
        Ok(logits.concat())
    }

    /// [`Network::logits`] on this thread, in work space that is kept between calls.
    pub(crate) fn logits_with<'a>(&self, forward: &'a mut Forward, batch: &PackedBatch) -> Result<&'a [f32], ModelError> {
        batch.check(&self.config)?;
        #[cfg(feature = "candle")]
        if let Some(placed) = &self.placed {
            forward.head.logits = placed.logits(self, batch)?;
            return Ok(&forward.head.logits);
        }
        let shards = batch.shards(1);
        Ok(self.forward(forward, &shards[0], self.rounded(1)))
    }

    fn forward<'a>(&self, forward: &'a mut Forward, shard: &Shard, rounded: &Rounded) -> &'a [f32] {
        let Network { config, layout, params, .. } = self;
        let encoder = Encoder { config, layout, params, rounded, shard, masks: None };
        encoder.forward(&mut forward.encoder);
        head::forward(&encoder, &forward.encoder.hidden_states, &mut forward.head);
        &forward.head.logits
    }

    /// The weights for inference.
    pub(crate) fn rounded(&self, threads: usize) -> &Rounded {
        self.rounded.get_or_init(|| {
            let mut rounded = Rounded::default();
            rounded.pack(&self.layout, &self.params[self.layout.words..], self.precision.format(), false, threads);
            rounded
        })
    }

    /// The parameters as a safetensors file with the names of transformers.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, ModelError> {
        checkpoint::to_bytes(&self.layout.tensors, &self.params)
    }

    /// Name, place in the flat buffer and shape of every parameter, in the order of the buffer. Biases and LayerNorms are those with
    /// one dimension.
    pub fn parameters(&self) -> impl Iterator<Item = (String, Range<usize>, Vec<usize>)> {
        self.layout.tensors.iter().map(|t| (t.name.clone(), t.range.clone(), t.shape.clone()))
    }

    /// The flat buffer that [`Network::parameters`] describes.
    pub fn flat(&self) -> &[f32] {
        &self.params
    }
}

/// Fills each layer of the head from the file, or draws it anew if the file has not both its tensors in its shape.
fn load_head(checkpoint: &Checkpoint, config: &Config, head: &[Tensor], seed: u64, params: &mut [f32]) -> Result<(), ModelError> {
    for (stream, pair) in head.chunks(2).enumerate() {
        if pair.iter().all(|tensor| checkpoint.has(tensor)) {
            for tensor in pair {
                checkpoint.check(tensor, config.architecture)?;
                checkpoint.copy(&tensor.name, &mut params[tensor.range.clone()]);
            }
        } else {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(stream as u64);
            params[pair[0].range.clone()].iter_mut().for_each(|x| *x = (INITIALIZER_RANGE * normal(&mut rng)) as f32);
        }
    }
    Ok(())
}

/// A standard normal number by Box and Muller's method.
fn normal(rng: &mut impl Rng) -> f64 {
    let mut uniform = || (rng.next_u32() as f64 + 0.5) / 4_294_967_296.0;
    let (radius, angle) = ((-2.0 * uniform().ln()).sqrt(), std::f64::consts::TAU * uniform());
    radius * angle.cos()
}
