//! The error of this crate.

use std::fmt;

/// What went wrong on a GPU, worded for the person who can change it.
#[derive(Clone, Debug)]
pub struct CudaError(pub String);

impl fmt::Display for CudaError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CudaError {}

/// The error of a call, with what it was to do.
pub(crate) fn failed<E: fmt::Debug>(what: &str) -> impl FnOnce(E) -> CudaError {
    move |error| CudaError(format!("{what}: {error:?}"))
}
