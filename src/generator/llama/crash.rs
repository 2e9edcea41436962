//! What happens when llama.cpp gives up: a line in words and an exit code, in place of a debugger and a core dump.

#[cfg(unix)]
use std::ffi::c_int;
use std::ffi::{CStr, CString, c_char};
use std::path::Path;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use llama_cpp_sys_2 as sys;

use crate::error::MODEL_EXIT_CODE;
use crate::last_words::end;
#[cfg(unix)]
use crate::last_words::{handle, restore};

/// Lets ggml's failed assertions end the process with a line of ours and exit code 4. Without this ggml starts a debugger on the process.
pub(super) fn catch_aborts() {
    static ONCE: Once = Once::new();
    // SAFETY: the callback lives as long as the process and does not return.
    ONCE.call_once(|| unsafe {
        sys::ggml_set_abort_callback(Some(aborted));
    });
}

unsafe extern "C" fn aborted(message: *const c_char) {
    // SAFETY: ggml passes a text that ends with a zero.
    let message = unsafe { CStr::from_ptr(message) };
    end(&[b"llama.cpp gave up (", message.to_bytes(), b")", place().to_bytes()], MODEL_EXIT_CODE)
}

/// What llama.cpp is doing, for a last line: nothing, or a text that begins with a colon.
static DOING: AtomicPtr<c_char> = AtomicPtr::new(null_mut());

fn place() -> &'static CStr {
    let doing = DOING.load(Ordering::Acquire);
    // SAFETY: what was stored is a CString that is never freed.
    if doing.is_null() { c"" } else { unsafe { CStr::from_ptr(doing) } }
}

/// While it lives, a file is read that may be hostile: a crash of llama.cpp names the file and ends with exit code 4. One lives at a time;
/// another thread's waits.
pub(super) struct Guard {
    _alone: MutexGuard<'static, ()>,
    #[cfg(unix)]
    before: [libc::sigaction; SIGNALS.len()],
}

/// What a crash is, to a process.
#[cfg(unix)]
const SIGNALS: [c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT];

impl Guard {
    pub(super) fn new(path: &Path) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        catch_aborts();
        let doing =
            format!(": {} cannot be loaded: it is damaged, made for another version of llama.cpp, or memory is short", path.display());
        let doing = CString::new(doing.replace('\0', "?")).unwrap_or_default();
        // Never freed: a handler may be reading it. A process loads a few models.
        DOING.store(doing.into_raw(), Ordering::Release);
        Guard {
            _alone: alone,
            #[cfg(unix)]
            before: SIGNALS.map(|signal| handle(signal, crashed)),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        DOING.store(null_mut(), Ordering::Release);
        #[cfg(unix)]
        SIGNALS.iter().zip(&self.before).for_each(|(signal, before)| {
            restore(*signal, before);
        });
    }
}

#[cfg(unix)]
extern "C" fn crashed(signal: c_int) {
    let what: &[u8] = match signal {
        libc::SIGFPE => b"it divided by zero",
        libc::SIGABRT => b"it aborted",
        _ => b"it crashed",
    };
    end(&[b"llama.cpp gave up (", what, b")", place().to_bytes()], MODEL_EXIT_CODE)
}
