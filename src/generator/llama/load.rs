//! Loads a file into llama.cpp, and says in its words why it cannot be loaded: it tells its log alone.

use std::ffi::{CStr, c_char, c_void};
use std::path::Path;
use std::sync::{Mutex, Once, OnceLock, PoisonError};

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_sys_2 as sys;

/// The last reason that was logged.
static REASON: Mutex<Option<String>> = Mutex::new(None);
/// Where the log went before, and goes on to.
static BEFORE: OnceLock<(sys::ggml_log_callback, usize)> = OnceLock::new();

/// Loads a model. A [`Guard`](super::crash::Guard) must live, as one of its files may be hostile; so there is one load at a time.
///
/// # Errors
/// Why it cannot be loaded, as far as llama.cpp says.
pub(super) fn load(backend: &LlamaBackend, path: &Path, params: &LlamaModelParams) -> Result<LlamaModel, String> {
    listen();
    let reason = || REASON.lock().unwrap_or_else(PoisonError::into_inner).take();
    reason();
    LlamaModel::load_from_file(backend, path, params).map_err(|_| match reason() {
        Some(reason) if reason.contains("unable to allocate") => format!("llama.cpp cannot load it: memory is short ({reason})"),
        Some(reason) => {
            format!("llama.cpp cannot load it: {reason}; it is damaged, or made for another version of llama.cpp than this build has")
        }
        None => "llama.cpp cannot load it: it is truncated or damaged, its architecture is unknown to this build, or memory is short. \
                 Compare its sha256 with the publisher's or fetch it again; LACUNA_LOG=llama-cpp-2=info shows llama.cpp's messages"
            .to_string(),
    })
}

/// Has the log pass through [`hear`].
fn listen() {
    static ONCE: Once = Once::new();
    // SAFETY: both functions take a callback and the data for it; `hear` has none and lives as long as the process.
    ONCE.call_once(|| unsafe {
        let (mut callback, mut data) = (None, std::ptr::null_mut());
        sys::llama_log_get(&raw mut callback, &raw mut data);
        _ = BEFORE.set((callback, data as usize));
        sys::llama_log_set(Some(hear), std::ptr::null_mut());
    });
}

unsafe extern "C" fn hear(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if level == sys::GGML_LOG_LEVEL_ERROR && !text.is_null() {
        // SAFETY: llama.cpp passes a text that ends with a zero.
        let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
        if let Some(reason) = reason_in(&text) {
            *REASON.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
        }
    }
    if let Some((Some(before), data)) = BEFORE.get() {
        // SAFETY: the callback from before, with its own data.
        unsafe { before(level, text, *data as *mut c_void) }
    }
}

/// What follows `error loading model:`, or `error loading model vocabulary:` and the like.
fn reason_in(line: &str) -> Option<String> {
    let (_, rest) = line.rsplit_once("error loading model")?;
    let (_, reason) = rest.split_once(": ")?;
    let reason = reason.trim().trim_end_matches('.');
    (!reason.is_empty()).then(|| reason.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_what_follows_the_colon() {
        for (line, reason) in [
            ("llama_model_load: error loading model: unknown model architecture: 'x'\n", Some("unknown model architecture: 'x'")),
            ("llama_model_load: error loading model vocabulary: cannot find tokenizer merges\n", Some("cannot find tokenizer merges")),
            ("error loading model: error loading model hyperparameters: key not found in model: x.y", Some("key not found in model: x.y")),
            ("llama_model_load_from_file_impl: failed to load model\n", None),
            ("error loading model:", None),
        ] {
            assert_eq!(reason_in(line).as_deref(), reason);
        }
    }
}
