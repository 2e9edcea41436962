//! The errors of this crate, worded for the person who can fix them.

use std::path::{Path, PathBuf};

/// An error of this crate: what is wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    /// config.json cannot be used.
    #[error("{path}: {reason}")]
    Config { path: PathBuf, reason: String },
    /// A weight file is damaged or is not of the expected kind.
    #[error("{path}: {reason}")]
    Checkpoint { path: PathBuf, reason: String },
    /// A tensor that the model needs is not in the file.
    #[error("{path}: tensor `{tensor}` is missing; is this a {model} checkpoint?")]
    MissingTensor { path: PathBuf, tensor: String, model: &'static str },
    /// A tensor has another shape than the configuration says.
    #[error("{path}: tensor `{tensor}` has shape {found:?}, but the configuration asks for {expected:?}")]
    TensorShape { path: PathBuf, tensor: String, found: Vec<usize>, expected: Vec<usize> },
    /// The tokenizer cannot be used.
    #[error("{path}: {reason}")]
    Tokenizer { path: PathBuf, reason: String },
    /// A classifier without labels, or with duplicate labels.
    #[error("labels: {0}")]
    Labels(String),
    /// A batch that the model cannot run.
    #[error("batch: {0}")]
    Batch(String),
    /// A training configuration out of range.
    #[error("training: {0}")]
    Train(String),
    /// A device that cannot be used, or that failed.
    #[error("device: {0}")]
    Device(String),
    /// The loss or a gradient is not a finite number; the parameters are as they were before the step.
    #[error("step {step}: loss {loss}, gradient norm {grad_norm}: training has diverged; lower the learning rate or clip the gradients")]
    NotFinite { step: usize, loss: f32, grad_norm: f32 },
}

#[cfg(feature = "candle")]
impl From<candle_core::Error> for ModelError {
    fn from(error: candle_core::Error) -> Self {
        ModelError::Device(error.to_string())
    }
}

impl From<lacuna_cuda::CudaError> for ModelError {
    fn from(error: lacuna_cuda::CudaError) -> Self {
        ModelError::Device(error.to_string())
    }
}

impl ModelError {
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| ModelError::File { path, source }
    }

    pub(crate) fn config(path: &Path, reason: impl Into<String>) -> Self {
        ModelError::Config { path: path.to_path_buf(), reason: reason.into() }
    }

    pub(crate) fn checkpoint(path: &Path, reason: impl Into<String>) -> Self {
        ModelError::Checkpoint { path: path.to_path_buf(), reason: reason.into() }
    }

    pub(crate) fn tokenizer(path: &Path, reason: impl ToString) -> Self {
        ModelError::Tokenizer { path: path.to_path_buf(), reason: reason.to_string() }
    }
}
