//! A line and an exit code in place of a core dump, when the process cannot go on.

use std::ffi::c_int;

/// Writes a line of these parts to standard error and ends the process. It allocates nothing: a signal handler may call it.
pub(crate) fn end(parts: &[&[u8]], exit_code: u8) -> ! {
    let mut line = [0u8; 4096];
    let mut length = 0;
    for part in [b"lacuna: ".as_slice()].iter().chain(parts).chain([&b"\n".as_slice()]) {
        let fits = part.len().min(line.len() - length);
        line[length..length + fits].copy_from_slice(&part[..fits]);
        length += fits;
    }
    #[cfg(unix)]
    // SAFETY: the bytes are there; what could not be written is lost. No destructor runs, as none may here.
    unsafe {
        libc::write(2, line.as_ptr().cast(), length);
        libc::_exit(c_int::from(exit_code))
    }
    #[cfg(not(unix))]
    {
        eprint!("{}", String::from_utf8_lossy(&line[..length]));
        std::process::exit(c_int::from(exit_code))
    }
}

/// Lets an abort end the process with a line and exit code 1. Rust and C++ abort when they get no memory, and say so before.
pub fn catch_aborts() {
    #[cfg(unix)]
    handle(libc::SIGABRT, aborted);
}

#[cfg(unix)]
extern "C" fn aborted(_: c_int) {
    let advice =
        b"the process gave up; the line above says why. If memory is short (ulimit -v and a container's limit count), give it more, \
        or use fewer --threads; the same command goes on where it stopped";
    end(&[advice], 1)
}

/// Sets the handler of a signal, which runs on the stack that Rust gives each thread for that; returns the one before.
#[cfg(unix)]
pub(crate) fn handle(signal: c_int, handler: extern "C" fn(c_int)) -> libc::sigaction {
    // SAFETY: all zeros are a valid value of this struct of numbers.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_ONSTACK;
    restore(signal, &action)
}

/// Gives a signal a handler from before; returns the one that it had.
#[cfg(unix)]
pub(crate) fn restore(signal: c_int, action: &libc::sigaction) -> libc::sigaction {
    // SAFETY: both structs live through the call; all zeros are a valid value.
    unsafe {
        let mut before: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, action, &raw mut before);
        before
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::catch_aborts;

    /// The line ends the process, so this test runs itself in another one.
    #[test]
    fn an_abort_ends_with_a_line_and_an_exit_code() {
        const CHILD: &str = "LACUNA_TEST_ABORTS";
        if std::env::var_os(CHILD).is_some() {
            catch_aborts();
            // More than an address space holds: Rust says so and aborts.
            std::hint::black_box(Vec::<u8>::with_capacity(isize::MAX as usize / 2));
        }
        let mut child = std::process::Command::new(std::env::current_exe().expect("a test's own path"));
        let name = "last_words::tests::an_abort_ends_with_a_line_and_an_exit_code";
        let output = child.args([name, "--exact", "--nocapture"]).env(CHILD, "1").output().expect("it can be run");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("memory allocation of") && told.contains("lacuna: the process gave up"), "{told}");
    }
}
