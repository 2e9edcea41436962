//! Converts a model's weights into another format.

use crate::generator::GenerateError;
use crate::sha256::sha256_of;
use llama_cpp_sys_2 as sys;
use std::ffi::CString;
use std::fs::File;
use std::path::Path;

/// Puts a copy of `path` with other weights at `target`, unless there is one; it appears whole or not at all.
pub(super) fn requantise_to(path: &Path, target: &Path, file_type: sys::llama_ftype) -> Result<(), GenerateError> {
    let fail = |reason: String| GenerateError::Load { path: path.display().to_string(), reason };
    if target.is_file() {
        return Ok(());
    }
    super::backend().map_err(fail)?;
    let folder = target.parent().unwrap_or(Path::new("."));
    let unusable = |error: std::io::Error| fail(format!("no copy can be made in {}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(unusable)?;
    tracing::info!("converting {} to {}", path.display(), target.display());
    let partial = tempfile::Builder::new().prefix("requantise-").suffix(".gguf").tempfile_in(folder).map_err(unusable)?;
    quantise(path, partial.path(), file_type).map_err(fail)?;
    File::open(partial.path()).and_then(|file| file.sync_all()).map_err(unusable)?;
    partial.persist(target).map_err(|error| unusable(error.error))?;
    Ok(())
}

/// The first 16 hexadecimal digits of a file's sha256: copies are named by their source.
pub(super) fn source_sum(path: &Path) -> std::io::Result<String> {
    let mut sum = sha256_of(path)?;
    sum.truncate(16);
    Ok(sum)
}

pub(super) fn quantise(from: &Path, to: &Path, file_type: sys::llama_ftype) -> Result<(), String> {
    let c_path = |path: &Path| path.to_str().and_then(|path| CString::new(path).ok()).ok_or("has a path that llama.cpp cannot open");
    let (from, to) = (c_path(from)?, c_path(to)?);
    // SAFETY: the function has no precondition but an initialised backend, which the callers see to.
    let mut params = unsafe { sys::llama_model_quantize_default_params() };
    params.allow_requantize = true;
    params.ftype = file_type;
    // SAFETY: both paths are C strings and `params` is a valid struct; all outlive the call. C++ exceptions are caught inside.
    let status = unsafe { sys::llama_model_quantize(from.as_ptr(), to.as_ptr(), &raw const params) };
    match status {
        0 => Ok(()),
        _ => Err("cannot be converted: it is damaged, or the disk is full; LACUNA_LOG=llama-cpp-2=info shows llama.cpp's words".into()),
    }
}
