//! An encoder with a head: its parameters, where they are, and the forward pass.

use crate::batch::{PackedBatch, Shard};
use crate::checkpoint;
use crate::config::Config;
use crate::cuda;
use crate::device::Device;
use crate::encoder::{self, Encoder};
use crate::layout::Head;
use crate::parameters::{Loaded, Parameters};
#[cfg(feature = "candle")]
use crate::placed::{Placed, numbers};
use crate::precision::Precision;
use crate::rounded::Rounded;
use crate::spread::spread;
use crate::{ModelError, head};
#[cfg(feature = "candle")]
use candle_core::Var;
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

/// Work space of a forward pass: a call allocates nothing if it is large enough.
#[derive(Default)]
pub struct Forward {
    encoder: encoder::Work,
    head: head::Work,
}

/// A model: parameters, and the device and the precision it runs on. A clone copies the parameters (four bytes each).
#[derive(Clone)]
pub struct Network {
    pub(crate) params: Parameters,
    pub(crate) precision: Precision,
    /// The weights for inference, rounded when first needed.
    pub(crate) rounded: OnceLock<Rounded>,
    pub(crate) device: Device,
    /// The parameters on an NVIDIA GPU.
    pub(crate) cuda: Option<cuda::Placed>,
    /// The parameters on a device of candle's.
    #[cfg(feature = "candle")]
    pub(crate) placed: Option<Placed>,
}

impl Network {
    /// [`Parameters::load`], to run on the CPU; also the saved labels, if the classifier was in the file.
    pub(crate) fn load(folder: &Path, head: Head, init_seed: u64) -> Result<(Self, Option<Vec<String>>), ModelError> {
        let Loaded { params, labels, trained } = Parameters::load(folder, head, init_seed)?;
        let network = Network {
            params,
            precision: Precision::Auto,
            rounded: OnceLock::new(),
            device: Device::Cpu,
            cuda: None,
            #[cfg(feature = "candle")]
            placed: None,
        };
        Ok((network, trained.then_some(labels)))
    }

    /// The dimensions of the encoder.
    pub fn config(&self) -> &Config {
        &self.params.config
    }

    /// Sets the number format of matrix products in inference; [`Precision::Auto`] by default. Training has its own setting.
    pub fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
        self.rounded.take();
    }

    /// See [`Network::set_precision`].
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Where [`logits`](crate::Classifier::logits) are computed and a [`Trainer`](crate::Trainer) runs; the CPU by default. Set it before
    /// a trainer is made. A clone stays on the device.
    ///
    /// # Errors
    /// [`ModelError::Device`] for a device that this build cannot use or that is not there; the model then stays where it is.
    pub fn set_device(&mut self, device: Device) -> Result<(), ModelError> {
        #[cfg(not(feature = "candle"))]
        if matches!(device, Device::Metal(_)) {
            return Err(ModelError::Device(format!("{device} cannot be used: build with the feature `metal`")));
        }
        self.host_flat()?;
        let cuda = cuda::Placed::open(device, &self.params)?;
        #[cfg(feature = "candle")]
        {
            self.placed = device.open()?.map(Placed::new);
        }
        self.cuda = cuda;
        self.device = device;
        Ok(())
    }

    /// The device on which logits are computed and a trainer runs.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The host's parameters, after those of an NVIDIA GPU were copied back if they are newer. Whoever changes them calls
    /// [`Network::params_changed`] then.
    pub(crate) fn host_flat(&mut self) -> Result<&mut [f32], ModelError> {
        if let Some(newer) = self.cuda.as_mut().map_or(Ok(None), cuda::Placed::take_newer)? {
            self.params.flat = newer;
        }
        Ok(&mut self.params.flat)
    }

    /// Drops all rounded and device copies of the parameters: the host's parameters have changed.
    pub(crate) fn params_changed(&mut self) {
        self.rounded.take();
        if let Some(cuda) = &mut self.cuda {
            cuda.forget();
        }
        #[cfg(feature = "candle")]
        if let Some(placed) = &mut self.placed {
            placed.forget();
        }
    }

    /// Copies new parameters from the device; they stay there too.
    #[cfg(feature = "candle")]
    pub(crate) fn take_back(&mut self, params: Vec<Var>) -> candle_core::Result<()> {
        for (tensor, param) in self.params.layout.tensors.iter().zip(&params) {
            self.params.flat[tensor.range.clone()].copy_from_slice(&numbers(param)?);
        }
        self.params_changed();
        if let Some(placed) = &mut self.placed {
            placed.replace(params);
        }
        Ok(())
    }

    /// The logits of a batch, without dropout; its rows go in `threads` jobs to the caller's rayon pool.
    pub(crate) fn logits(&self, batch: &PackedBatch, threads: usize) -> Result<Vec<f32>, ModelError> {
        batch.check(&self.params.config)?;
        if let Some(cuda) = &self.cuda {
            return cuda.logits(&self.params, batch, self.precision.on_cuda());
        }
        #[cfg(feature = "candle")]
        if let Some(placed) = &self.placed {
            return placed.logits(&self.params, batch);
        }
        let rounded = self.rounded(threads);
        let logits = spread(batch.shards(threads), |shard| self.forward(&mut Forward::default(), &shard, rounded).to_vec());
        Ok(logits.concat())
    }

    /// [`Network::logits`] on this thread, in work space that is kept between calls.
    pub(crate) fn logits_with<'a>(&self, forward: &'a mut Forward, batch: &PackedBatch) -> Result<&'a [f32], ModelError> {
        batch.check(&self.params.config)?;
        if let Some(cuda) = &self.cuda {
            forward.head.logits = cuda.logits(&self.params, batch, self.precision.on_cuda())?;
            return Ok(&forward.head.logits);
        }
        #[cfg(feature = "candle")]
        if let Some(placed) = &self.placed {
            forward.head.logits = placed.logits(&self.params, batch)?;
            return Ok(&forward.head.logits);
        }
        let shards = batch.shards(1);
        Ok(self.forward(forward, &shards[0], self.rounded(1)))
    }

    fn forward<'a>(&self, forward: &'a mut Forward, shard: &Shard, rounded: &Rounded) -> &'a [f32] {
        let encoder = Encoder { params: &self.params, rounded, shard, masks: None };
        encoder.forward(&mut forward.encoder);
        head::forward(&encoder, &forward.encoder.hidden_states, &mut forward.head);
        &forward.head.logits
    }

    /// The weights for inference, made in `threads` jobs if they are not there.
    pub(crate) fn rounded(&self, threads: usize) -> &Rounded {
        let made = || {
            let mut rounded = Rounded::default();
            rounded.pack(&self.params.layout, self.params.dense(), self.precision.format(), false, threads);
            rounded
        };
        if threads <= 1 {
            return self.rounded.get_or_init(made);
        }
        // Not while holding the lock: a pool worker that waits for these jobs may run another job that needs the same weights.
        self.rounded.get().unwrap_or_else(|| {
            let rounded = made();
            self.rounded.get_or_init(|| rounded)
        })
    }

    /// The parameters as a safetensors file with the names of transformers.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, ModelError> {
        checkpoint::to_bytes(&self.params.layout.tensors, self.flat()?)
    }

    /// Name, place in the flat buffer and shape of every parameter, in the order of the buffer. Biases and LayerNorms are those with
    /// one dimension.
    pub fn parameters(&self) -> impl Iterator<Item = (String, Range<usize>, Vec<usize>)> {
        self.params.layout.tensors.iter().map(|t| (t.name.clone(), t.range.clone(), t.shape.clone()))
    }

    /// Number of parameters without the word embeddings: those that every token is multiplied with.
    pub fn dense_parameters(&self) -> usize {
        self.params.layout.len() - self.params.layout.words
    }

    /// The flat buffer that [`Network::parameters`] describes, as it is now, wherever it is.
    ///
    /// # Errors
    /// [`ModelError::Device`] if the GPU that has it fails.
    pub fn flat(&self) -> Result<&[f32], ModelError> {
        self.cuda.as_ref().map_or(Ok(&self.params.flat), |cuda| cuda.newest(&self.params.flat))
    }
}
