//! Converts a model's weights into another format.

use super::backend::backend;
use crate::files::whole::rename_whole;
use crate::generator::request::GenerateError;
use llama_cpp_sys_2 as sys;
use std::ffi::CString;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// How often a conversion tells its progress.
const OFTEN: Duration = Duration::from_secs(15);

/// Writes a requantised copy of `path` to `target`, atomically. Only one caller at a time; leftovers of a killed one are overwritten.
/// `progress` hears of the bytes written so far, now and then.
pub(super) fn requantise(path: &Path, target: &Path, file_type: sys::llama_ftype, progress: &dyn Fn(u64)) -> Result<(), GenerateError> {
    let fail = |reason: String| GenerateError::Load { path: path.display().to_string(), reason };
    backend().map_err(fail)?;
    tracing::info!("converting {} to {}", path.display(), target.display());
    let partial = target.with_extension("partial");
    let made = std::thread::scope(|scope| {
        let (done, is_done) = channel::<()>();
        let conversion = scope.spawn(|| {
            let made = quantise(path, &partial, file_type);
            drop(done);
            made
        });
        while is_done.recv_timeout(OFTEN) == Err(RecvTimeoutError::Timeout) {
            progress(std::fs::metadata(&partial).map_or(0, |file| file.len()));
        }
        conversion.join().unwrap_or_else(|_| Err("cannot be converted".into()))
    });
    let made = made.and_then(|()| rename_whole(&partial, target).map_err(|error| error.to_string()));
    made.map_err(|reason| {
        // Report the conversion's error, not a failure to clean up.
        let _ = std::fs::remove_file(&partial);
        fail(reason)
    })
}

pub(super) fn quantise(from: &Path, to: &Path, file_type: sys::llama_ftype) -> Result<(), String> {
    let c_path = |path: &Path| path.to_str().and_then(|path| CString::new(path).ok()).ok_or("has a path that llama.cpp cannot open");
    let (from, to) = (c_path(from)?, c_path(to)?);
    // SAFETY: the only precondition is an initialised backend, which the callers ensure.
    let mut params = unsafe { sys::llama_model_quantize_default_params() };
    params.allow_requantize = true;
    params.ftype = file_type;
    // SAFETY: both paths are C strings and `params` is a valid struct; all outlive the call. C++ exceptions are caught inside.
    let status = unsafe { sys::llama_model_quantize(from.as_ptr(), to.as_ptr(), &raw const params) };
    match status {
        0 => Ok(()),
        _ => Err("cannot be converted: it is damaged, or the disk is full; LACUNA_LOG=llama-cpp-2=info shows llama.cpp's messages".into()),
    }
}
