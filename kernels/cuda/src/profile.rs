//! The times of kernels and products, for benchmarks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

static ON: AtomicBool = AtomicBool::new(false);
static TIMES: Mutex<Vec<(String, f64)>> = Mutex::new(Vec::new());

/// From now on every launch is waited for and timed.
pub fn start() {
    TIMES.lock().unwrap_or_else(PoisonError::into_inner).clear();
    ON.store(true, Ordering::Relaxed);
}

/// Names and milliseconds of the launches since [`start`].
pub fn stop() -> Vec<(String, f64)> {
    ON.store(false, Ordering::Relaxed);
    std::mem::take(&mut TIMES.lock().unwrap_or_else(PoisonError::into_inner))
}

pub(crate) fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

pub(crate) fn add(name: String, ms: f64) {
    TIMES.lock().unwrap_or_else(PoisonError::into_inner).push((name, ms));
}
