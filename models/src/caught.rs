//! Work with a library that panics at damaged input.

use std::panic::{UnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::{Mutex, PoisonError};

/// What `work` returns; `None` if it panics, of which nothing is told. One at a time: the hook that tells of panics is the process's.
pub fn caught<T>(work: impl FnOnce() -> T + UnwindSafe) -> Option<T> {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let told = take_hook();
    set_hook(Box::new(|_| {}));
    let done = catch_unwind(work);
    set_hook(told);
    done.ok()
}

#[cfg(test)]
mod tests {
    use super::caught;

    #[test]
    fn a_panic_is_nothing() {
        assert_eq!((caught(|| 3), caught(|| -> u8 { panic!("damaged") })), (Some(3), None));
    }
}
