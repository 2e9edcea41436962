//! Reads and writes safetensors files.

use crate::ModelError;
use crate::config::{Architecture, Config};
use crate::infer::infer;
use crate::layout::Tensor;
use crate::roberta;
use crate::weight_files::weight_files;
use lacuna_kernels::half;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, View};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The bytes of a model's weight files.
pub struct Files(Vec<(PathBuf, Vec<u8>)>);

/// The tensors of weight files by their names without prefix.
pub struct Checkpoint<'a> {
    /// The first file.
    path: &'a Path,
    tensors: HashMap<String, TensorView<'a>>,
    /// Whether their names begin as RoBERTa's do, whose shapes are BERT's.
    of_roberta: bool,
}

impl Files {
    /// Reads the [`weight_files`] of a folder.
    pub fn read(folder: &Path) -> Result<Self, ModelError> {
        let read = |path: PathBuf| {
            let bytes = std::fs::read(&path).map_err(ModelError::file(&path))?;
            Ok((path, bytes))
        };
        weight_files(folder)?.into_iter().map(read).collect::<Result<_, _>>().map(Files)
    }

    /// Opens the tensors.
    pub fn open(&self) -> Result<Checkpoint<'_>, ModelError> {
        let (mut tensors, mut of_roberta) = (HashMap::new(), false);
        for (path, bytes) in &self.0 {
            let damaged = |e| ModelError::checkpoint(path, format!("not a complete safetensors file: {e}; fetch it again"));
            let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
            of_roberta |= file.iter().any(|(name, _)| name.starts_with(roberta::NAMES.prefix));
            tensors.extend(file.tensors().into_iter().map(|(name, view)| (plain_name(&name), view)));
        }
        Ok(Checkpoint { path: &self.0[0].0, tensors, of_roberta })
    }
}

/// The name without the prefix of the model, and LayerNorm's `gamma` and `beta` of old checkpoints as `weight` and `bias`.
fn plain_name(name: &str) -> String {
    let mut prefixes = Architecture::all().map(|architecture| architecture.names().prefix);
    let name = prefixes.find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    match (name.strip_suffix(".gamma"), name.strip_suffix(".beta")) {
        (Some(norm), _) => format!("{norm}.weight"),
        (_, Some(norm)) => format!("{norm}.bias"),
        _ => name.into(),
    }
}

impl Checkpoint<'_> {
    /// The dimensions inferred from the tensors; see [`infer`].
    pub fn infer_config(&self) -> Result<Config, ModelError> {
        if self.of_roberta {
            let reason = "a RoBERTa without its config.json, which says where its positions begin; copy it from where the model came from";
            return Err(ModelError::checkpoint(self.path, reason));
        }
        let shapes = self.tensors.iter().map(|(name, view)| (name.clone(), view.shape().to_vec())).collect();
        infer(self.path, &shapes)
    }

    /// Whether the file has the tensor in this shape.
    pub fn has(&self, tensor: &Tensor) -> bool {
        self.tensors.get(&plain_name(&tensor.name)).is_some_and(|view| view.shape() == tensor.shape)
    }

    /// Checks that the file has the tensor in this shape and in a supported type.
    pub fn check(&self, tensor: &Tensor, architecture: Architecture) -> Result<(), ModelError> {
        let path = || self.path.to_path_buf();
        let Some(view) = self.tensors.get(&plain_name(&tensor.name)) else {
            return Err(ModelError::MissingTensor { path: path(), tensor: tensor.name.clone(), model: architecture.name() });
        };
        if view.shape() != tensor.shape {
            let (found, expected) = (view.shape().to_vec(), tensor.shape.clone());
            return Err(ModelError::TensorShape { path: path(), tensor: tensor.name.clone(), found, expected });
        }
        if !matches!(view.dtype(), Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            let reason = format!("tensor `{}` has type {:?}; F32, F16 and BF16 are read", tensor.name, view.dtype());
            return Err(ModelError::checkpoint(self.path, reason));
        }
        Ok(())
    }

    /// Copies a checked tensor into `out`, as f32.
    pub fn copy(&self, name: &str, out: &mut [f32]) {
        let Some(view) = self.tensors.get(&plain_name(name)) else { return };
        let data = view.data();
        let halves = data.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
        match view.dtype() {
            Dtype::F16 => out.iter_mut().zip(halves).for_each(|(o, bits)| *o = half::to_f32(bits)),
            Dtype::BF16 => out.iter_mut().zip(halves).for_each(|(o, bits)| *o = f32::from_bits((bits as u32) << 16)),
            _ => {
                let words = data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                out.iter_mut().zip(words).for_each(|(o, x)| *o = x);
            }
        }
    }
}

/// A parameter to be serialised.
struct Parameter<'a> {
    shape: &'a [usize],
    data: &'a [f32],
}

impl View for Parameter<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.data.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>().into()
    }

    fn data_len(&self) -> usize {
        self.data.len() * 4
    }
}

/// A safetensors file of the parameters, f32, with the metadata that transformers asks for.
pub fn to_bytes(tensors: &[Tensor], params: &[f32]) -> Result<Vec<u8>, ModelError> {
    let views = tensors.iter().map(|t| (t.name.as_str(), Parameter { shape: &t.shape, data: &params[t.range.clone()] }));
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    safetensors::serialize(views, Some(metadata)).map_err(|e| ModelError::checkpoint(Path::new("model.safetensors"), e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(plain_name("bert.embeddings.LayerNorm.gamma"), "embeddings.LayerNorm.weight");
        assert_eq!(plain_name("distilbert.transformer.layer.0.sa_layer_norm.beta"), "transformer.layer.0.sa_layer_norm.bias");
        assert_eq!(plain_name("pre_classifier.bias"), "pre_classifier.bias");
        assert_eq!(plain_name("roberta.encoder.layer.0.output.dense.bias"), "encoder.layer.0.output.dense.bias");
    }
}
