//! Errors for people: each says what is wrong, where, and what to do; each kind has its exit code.

use std::path::{Path, PathBuf};

/// Everything that can end a command. [`Error::exit_code`] gives the process's exit code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A task file that cannot be read or makes no sense.
    #[error("{}{}: {message}", path.display(), line.map(|l| format!(":{l}")).unwrap_or_default())]
    Task { path: PathBuf, line: Option<usize>, message: String },
    /// Gold rows, or lines given to `predict`, that are not what they should be.
    #[error("{}{}: {message}", path.display(), line.map(|l| format!(":{l}")).unwrap_or_default())]
    Data { path: PathBuf, line: Option<usize>, message: String },
    /// A generator or a small model that cannot be loaded, or a name that is not in the cache.
    #[error("{0}")]
    Model(String),
    /// A run folder that is in use, belongs to other inputs, or is damaged.
    #[error("{0}")]
    Run(String),
    /// The system refused to read or write.
    #[error("cannot {doing} {}: {source}{}", path.display(), hint(source))]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
    /// The generator or the training failed on the way.
    #[error("{0}")]
    Failed(String),
}

/// What a person can do about the two most common failures of a disk.
fn hint(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            "; free some space and give the same command again: it goes on where it stopped"
        }
        std::io::ErrorKind::PermissionDenied => "; check who owns it, or choose another folder",
        _ => "",
    }
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// 1 failed on the way, 3 task file or data, 4 model, 5 run folder, 6 reading or writing. (2 is the command line's.)
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Failed(_) => 1,
            Error::Task { .. } | Error::Data { .. } => 3,
            Error::Model(_) => 4,
            Error::Run(_) => 5,
            Error::Io { .. } => 6,
        }
    }

    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { doing, path, source }
    }

    pub(crate) fn data(path: &Path, line: usize, message: impl Into<String>) -> Error {
        Error::Data { path: path.to_path_buf(), line: Some(line), message: message.into() }
    }
}
