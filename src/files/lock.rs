//! Locks of the operating system on files. They die with their owner; some file systems (Lustre without `flock`, some NFS) have none, which
//! is said and is no reason to stop.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};

/// Whether a lock was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locked {
    Yes,
    /// Another process has it.
    Busy,
    /// The file system has no locks.
    Impossible,
}

/// Takes the lock of a file, if nobody has it.
///
/// # Errors
/// Those of the operating system, but for a file system without locks.
pub fn try_lock(file: &File) -> io::Result<Locked> {
    match file.try_lock() {
        Ok(()) => Ok(Locked::Yes),
        Err(TryLockError::WouldBlock) => Ok(Locked::Busy),
        Err(TryLockError::Error(error)) if has_none(&error) => Ok(Locked::Impossible),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Waits for the lock of a file; where the file system has none, it does not wait.
///
/// # Errors
/// As [`try_lock`].
pub fn lock(file: &File) -> io::Result<()> {
    match file.lock() {
        Err(error) if !has_none(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Whether an error says that a file system cannot do what was asked: no locks left or none at all, or no such call.
pub fn has_none(error: &io::Error) -> bool {
    #[cfg(unix)]
    let told = matches!(error.raw_os_error(), Some(libc::ENOLCK | libc::ENOSYS | libc::EOPNOTSUPP));
    #[cfg(not(unix))]
    let told = false;
    told || error.kind() == ErrorKind::Unsupported
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_taken_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (one, other) = (file.reopen().unwrap(), file.reopen().unwrap());
        assert_eq!((try_lock(&one).unwrap(), try_lock(&other).unwrap()), (Locked::Yes, Locked::Busy));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_system_without_locks_is_told_from_other_errors() {
        let error = io::Error::from_raw_os_error;
        assert!([libc::ENOLCK, libc::ENOSYS, libc::EOPNOTSUPP].into_iter().all(|code| has_none(&error(code))));
        assert!([libc::EACCES, libc::EBADF, libc::EIO].into_iter().all(|code| !has_none(&error(code))));
    }
}
