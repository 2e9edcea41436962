//! Ctrl-C, and the signal with which job schedulers announce an end. While work goes on whose steps are kept one by one, the first asks it
//! to stop after its step, and the second ends the process at once. At other times the first does.

use std::io::Write;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::exit;

use crate::error::{Error, Result};

/// The signal that asked for an end; 0 for none.
static ASKED: AtomicI32 = AtomicI32::new(0);
/// How many pieces of work go on that will [`check`] after their next step.
static CHECKED: AtomicUsize = AtomicUsize::new(0);

/// Work that is checked after each step, until this is dropped.
pub struct Steps(());

impl Steps {
    pub fn begin() -> Self {
        CHECKED.fetch_add(1, Ordering::Relaxed);
        Steps(())
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        CHECKED.fetch_sub(1, Ordering::Relaxed);
    }
}

/// From here on signals are heard. For commands whose work is kept step by step: others end at once.
///
/// # Errors
/// The system lends no thread, or no handler.
pub fn listen() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| Error::Failed(format!("signals cannot be handled: {error}")))?;
    let hear = move || {
        for signal in signals.forever() {
            let again = ASKED.swap(signal, Ordering::Relaxed) != 0;
            if again || CHECKED.load(Ordering::Relaxed) == 0 {
                // On a terminal, ^C stands at the beginning of the line.
                let _ = writeln!(std::io::stderr(), "\nlacuna: stopped; what was finished is kept");
                exit(exit_code(signal).into());
            }
            let _ = writeln!(std::io::stderr(), "\nstopping after this step; Ctrl-C again ends it at once");
        }
    };
    let started = std::thread::Builder::new().name("signals".into()).spawn(hear);
    started.map(|_| ()).map_err(|error| Error::Failed(format!("no thread for signals: {error}")))
}

/// # Errors
/// A signal has asked for an end.
pub fn check() -> Result<()> {
    match ASKED.load(Ordering::Relaxed) {
        0 => Ok(()),
        signal => Err(Error::Stopped { exit_code: exit_code(signal) }),
    }
}

/// As shells have it: 130 for Ctrl-C, 143 for SIGTERM.
fn exit_code(signal: i32) -> u8 {
    128 + signal as u8
}
