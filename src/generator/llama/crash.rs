//! What happens when llama.cpp gives up: a line in words and an exit code, in place of a debugger and a core dump.

use std::ffi::{CStr, CString, c_char, c_int};
use std::path::Path;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use llama_cpp_sys_2 as sys;

use crate::error::MODEL_EXIT_CODE;

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
    say(&[b"lacuna: llama.cpp gave up (", message.to_bytes(), b")", place().to_bytes(), b"\n"]);
    exit();
}

/// What llama.cpp is doing, for a last line: nothing, or a text that begins with a colon.
static DOING: AtomicPtr<c_char> = AtomicPtr::new(null_mut());

fn place() -> &'static CStr {
    let doing = DOING.load(Ordering::Acquire);
    // SAFETY: what was stored is a CString that is never freed.
    if doing.is_null() { c"" } else { unsafe { CStr::from_ptr(doing) } }
}

/// Writes to standard error in one piece, in a way that a signal handler may.
fn say(parts: &[&[u8]]) {
    let mut line = [0u8; 4096];
    let mut length = 0;
    for part in parts {
        let fits = part.len().min(line.len() - length);
        line[length..length + fits].copy_from_slice(&part[..fits]);
        length += fits;
    }
    #[cfg(unix)]
    // SAFETY: the bytes are there; what could not be written is lost.
    unsafe {
        libc::write(2, line.as_ptr().cast(), length);
    }
    #[cfg(not(unix))]
    eprintln!("{}", String::from_utf8_lossy(&line[..length]));
}

fn exit() -> ! {
    #[cfg(unix)]
    // SAFETY: ends the process at once; no destructor runs, as none may here.
    unsafe {
        libc::_exit(c_int::from(MODEL_EXIT_CODE))
    }
    #[cfg(not(unix))]
    std::process::exit(c_int::from(MODEL_EXIT_CODE))
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
            before: SIGNALS.map(|signal| handle(signal, &ours())),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        DOING.store(null_mut(), Ordering::Release);
        #[cfg(unix)]
        SIGNALS.iter().zip(&self.before).for_each(|(signal, before)| {
            handle(*signal, before);
        });
    }
}

/// The handler of crashes, which runs on the stack that Rust gives each thread for that: a stack may have overflowed.
#[cfg(unix)]
fn ours() -> libc::sigaction {
    // SAFETY: all zeros are a valid value of this struct of numbers.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = crashed as *const () as usize;
    action.sa_flags = libc::SA_ONSTACK;
    action
}

#[cfg(unix)]
extern "C" fn crashed(signal: c_int) {
    let what: &[u8] = match signal {
        libc::SIGFPE => b"it divided by zero",
        libc::SIGABRT => b"it aborted",
        _ => b"it crashed",
    };
    say(&[b"lacuna: llama.cpp gave up (", what, b")", place().to_bytes(), b"\n"]);
    exit();
}

/// Sets the handler of a signal; returns the one before.
#[cfg(unix)]
fn handle(signal: c_int, action: &libc::sigaction) -> libc::sigaction {
    // SAFETY: both structs live through the call; all zeros are a valid value.
    unsafe {
        let mut before: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, action, &raw mut before);
        before
    }
}
