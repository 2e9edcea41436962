//! Converts weights once into a format that has a fast matrix product on a CPU.

use super::gguf;
use crate::generator::GenerateError;
use crate::sha256::sha256_of;
use llama_cpp_2::gguf::GgufContext;
use llama_cpp_sys_2 as sys;
use std::ffi::CString;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A model that is as fast as its bits allow: the file itself, or a copy of it in `cache_dir` with other weights.
///
/// llama.cpp has no packed matrix product for F16, F32, Q4_1, Q5_0 and Q5_1 on a CPU. Q4_1 becomes Q4_0, the others Q8_0. The
/// copy is named by the sha256 of its source and made once, in seconds to minutes; it appears whole or not at all.
/// Q4_0 is a little coarser than Q4_1: a run must name the file that it used.
pub fn requantise(path: &Path, cache_dir: &Path) -> Result<PathBuf, GenerateError> {
    let fail = |reason: String| GenerateError::Load { path: path.display().to_string(), reason };
    gguf::check_file(path).map_err(fail)?;
    super::backend().map_err(fail)?;
    let Some((file_type, name)) = faster_format(path).map_err(fail)? else { return Ok(path.to_owned()) };
    let unusable = |error: std::io::Error| fail(format!("no faster copy can be made in {}: {error}", cache_dir.display()));
    let target = cache_dir.join(cached_name(path, name).map_err(unusable)?);
    if target.is_file() {
        return Ok(target);
    }
    std::fs::create_dir_all(cache_dir).map_err(unusable)?;
    tracing::info!("converting {} to {name} once, because it is faster: {}", path.display(), target.display());
    let partial = tempfile::Builder::new().prefix("requantise-").suffix(".gguf").tempfile_in(cache_dir).map_err(unusable)?;
    quantise(path, partial.path(), file_type).map_err(fail)?;
    File::open(partial.path()).and_then(|file| file.sync_all()).map_err(unusable)?;
    partial.persist(&target).map_err(|error| unusable(error.error))?;
    Ok(target)
}

/// The format to convert to; `None` if the file is fast as it is.
fn faster_format(path: &Path) -> Result<Option<(sys::llama_ftype, &'static str)>, String> {
    let unreadable = "is damaged: its header cannot be read. Compare its sha256 with the publisher's or fetch it again";
    let header = GgufContext::from_file(path).ok_or(unreadable)?;
    let key = header.find_key("general.file_type");
    // llama.cpp aborts when a value is read as another type than it has.
    if key < 0 || header.kv_type(key) != sys::GGUF_TYPE_UINT32 {
        return Ok(None);
    }
    let format = gguf::quantisation_name(&header.val_u32(key).to_string());
    Ok(match format.as_str() {
        "Q4_1" => Some((sys::LLAMA_FTYPE_MOSTLY_Q4_0, "Q4_0")),
        "F32" | "F16" | "Q5_0" | "Q5_1" => Some((sys::LLAMA_FTYPE_MOSTLY_Q8_0, "Q8_0")),
        _ => None,
    })
}

/// For example `model.1f0c…9a.Q4_0.gguf`, with the first 16 hex digits of the source's sha256.
fn cached_name(path: &Path, format: &str) -> std::io::Result<String> {
    let sum = sha256_of(path)?;
    let digits = &sum[..16];
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    Ok(format!("{stem}.{digits}.{format}.gguf"))
}

pub(super) fn quantise(from: &Path, to: &Path, file_type: sys::llama_ftype) -> Result<(), String> {
    let c_path = |path: &Path| path.to_str().and_then(|path| CString::new(path).ok()).ok_or("has a path that llama.cpp cannot open");
    let (from, to) = (c_path(from)?, c_path(to)?);
    // SAFETY: the function has no precondition but an initialised backend, which `requantise` sees to.
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
