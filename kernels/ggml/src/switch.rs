//! Turns our kernels on and off, for the process and for a thread.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

static ENABLED: AtomicBool = AtomicBool::new(true);

/// Turns our kernels on or off in the whole process, for models that are loaded and attention that is computed from now on. Weights
/// that were packed stay packed. It may be called at any time.
pub fn set_enabled(on: bool) {
    ENABLED.store(on, Ordering::Relaxed);
}

/// The last value of [`set_enabled`]; true by default.
pub fn is_enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

thread_local! {
    static BYPASSED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is inside of [`bypass`].
pub(crate) fn is_bypassed() -> bool {
    BYPASSED.get()
}

/// Runs `f` with ggml's own kernels for what this thread computes on plain tensors.
pub(crate) fn bypass<T>(f: impl FnOnce() -> T) -> T {
    let before = BYPASSED.replace(true);
    let result = f();
    BYPASSED.set(before);
    result
}
