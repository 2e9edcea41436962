//! A training checkpoint: parameters, moments and step. A resumed run ends with the same bits as an uninterrupted one.

use crate::ModelError;
use crate::device::Device;
use crate::network::Network;
use crate::train_config::TrainConfig;
use crate::trainer::Trainer;
use safetensors::tensor::{Dtype, SafeTensors, View};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

/// A flat buffer to be serialised.
enum Buffer<'a> {
    Floats(&'a [f32], [usize; 1]),
    Bytes(Vec<u8>, [usize; 1]),
}

impl<'a> Buffer<'a> {
    fn floats(values: &'a [f32]) -> Self {
        Buffer::Floats(values, [values.len()])
    }
}

impl View for Buffer<'_> {
    fn dtype(&self) -> Dtype {
        match self {
            Buffer::Floats(..) => Dtype::F32,
            Buffer::Bytes(..) => Dtype::U8,
        }
    }

    fn shape(&self) -> &[usize] {
        match self {
            Buffer::Floats(_, shape) | Buffer::Bytes(_, shape) => shape,
        }
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self {
            Buffer::Floats(values, _) => values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>().into(),
            Buffer::Bytes(bytes, _) => bytes.into(),
        }
    }

    fn data_len(&self) -> usize {
        match self {
            Buffer::Floats(values, _) => values.len() * 4,
            Buffer::Bytes(bytes, _) => bytes.len(),
        }
    }
}

impl Trainer {
    /// All that [`Trainer::resume`] needs, as the bytes of a safetensors file. Who writes them sees to it that the file is whole.
    ///
    /// # Errors
    /// Moments that cannot be fetched from their device; a model that the trainer was not made for, or that is elsewhere by now.
    pub fn checkpoint(&self, model: &Network) -> Result<Vec<u8>, ModelError> {
        self.check_model(model)?;
        let [m, v] = self.moments()?;
        let seen: Vec<u8> = self.optimizer.seen.iter().map(|&seen| seen.into()).collect();
        let shape = [seen.len()];
        let buffers = [
            ("params", Buffer::floats(model.flat()?)),
            ("exp_avg", Buffer::floats(&m)),
            ("exp_avg_sq", Buffer::floats(&v)),
            ("seen", Buffer::Bytes(seen, shape)),
        ];
        let metadata = HashMap::from([("step".to_string(), self.step.to_string()), ("trainer".to_string(), self.identity(model))]);
        let failed =
            |e: safetensors::SafeTensorError| ModelError::checkpoint(Path::new("a training checkpoint"), format!("cannot be made: {e}"));
        safetensors::serialize(buffers, Some(metadata)).map_err(failed)
    }

    /// A trainer as it was at [`Trainer::checkpoint`], and `model` with the parameters it had then.
    ///
    /// # Errors
    /// A missing or damaged file, or one of another model or configuration. The model is then unchanged.
    pub fn resume(model: &mut Network, config: TrainConfig, path: &Path) -> Result<Trainer, ModelError> {
        let bytes = std::fs::read(path).map_err(ModelError::file(path))?;
        let damaged = |reason: String| ModelError::checkpoint(path, format!("not a whole training checkpoint: {reason}"));
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(e.to_string()))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| damaged(e.to_string()))?;
        let metadata = |key: &str| header.metadata().as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default();
        let mut trainer = Trainer::new(model, config);
        if metadata("trainer") != trainer.identity(model) {
            return Err(ModelError::checkpoint(path, "it belongs to another model or training configuration; train anew"));
        }
        let floats = |name: &str, len: usize| -> Result<Vec<f32>, ModelError> {
            let view = file.tensor(name).map_err(|e| damaged(e.to_string()))?;
            let values: Vec<f32> = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            if view.dtype() == Dtype::F32 && values.len() == len { Ok(values) } else { Err(damaged(format!("`{name}` has a wrong size"))) }
        };
        let len = model.params.flat.len();
        let (params, m, v) = (floats("params", len)?, floats("exp_avg", len)?, floats("exp_avg_sq", len)?);
        let seen: Vec<bool> = file.tensor("seen").map_err(|e| damaged(e.to_string()))?.data().iter().map(|&s| s != 0).collect();
        if seen.len() != trainer.optimizer.seen.len() {
            return Err(damaged("`seen` has a wrong size".into()));
        }
        trainer.step = metadata("step").parse().map_err(|_| damaged("it does not say its step".into()))?;
        (trainer.optimizer.m, trainer.optimizer.v, trainer.optimizer.seen) = (m, v, seen);
        model.params.flat = params;
        model.params_changed();
        Ok(trainer)
    }

    /// What must be the same in a checkpoint and in the trainer that resumes from it.
    fn identity(&self, model: &Network) -> String {
        let on_device = if model.device == Device::Cpu { String::new() } else { format!(" on {}", model.device) };
        format!("{:?} {:?} {:?}{on_device}", model.params.config, model.params.layout.head(), self.config)
    }
}
