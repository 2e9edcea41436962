//! User-facing errors: each says what is wrong, where, and what to do. Each variant has its exit code.

use std::path::{Path, PathBuf};

/// Everything that can end a command. [`Error::exit_code`] gives the process's exit code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A task file that cannot be read or is invalid.
    #[error("{}{}: {message}", path.display(), line.map(|l| format!(":{l}")).unwrap_or_default())]
    Task { path: PathBuf, line: Option<usize>, message: String },
    /// Invalid gold rows, or invalid input lines of `predict`.
    #[error("{}{}: {message}", path.display(), line.map(|l| format!(":{l}")).unwrap_or_default())]
    Data { path: PathBuf, line: Option<usize>, message: String },
    /// A generator or small model that cannot be loaded, or a name that is not in the cache.
    #[error("{0}")]
    Model(String),
    /// A run folder that is in use, belongs to other inputs, or is damaged.
    #[error("{0}")]
    Run(String),
    /// An I/O error from the operating system.
    #[error("cannot {doing} {}: {source}{}", path.display(), hint(source))]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
    /// Generation or training failed.
    #[error("{0}")]
    Failed(String),
    /// Ctrl-C, or a signal like it.
    #[error("stopped; the same command goes on where it stopped")]
    Stopped { exit_code: u8 },
    /// Several things that are wrong, found in one pass.
    #[error("{} things are wrong:{}", .0.len(), listed(.0))]
    Several(Vec<Error>),
}

/// Each problem on a line of its own; further lines of one are indented.
fn listed(problems: &[Error]) -> String {
    problems.iter().map(|problem| format!("\n  {}", problem.to_string().replace('\n', "\n  "))).collect()
}

/// Advice for the two most common disk errors.
fn hint(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            "; free some space and run the same command again: it resumes where it stopped"
        }
        std::io::ErrorKind::PermissionDenied => "; check who owns it, or choose another folder",
        _ => "",
    }
}

/// The exit code of a model that cannot be used.
pub const MODEL_EXIT_CODE: u8 = 4;

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// 1 generation or training failed, 3 task file or data, 4 model, 5 run folder, 6 reading or writing, 130 stopped by Ctrl-C, 143 by
    /// SIGTERM; of several problems, the first one's. (clap uses 2 for usage errors.)
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Failed(_) => 1,
            Error::Task { .. } | Error::Data { .. } => 3,
            Error::Model(_) => MODEL_EXIT_CODE,
            Error::Run(_) => 5,
            Error::Io { .. } => 6,
            Error::Stopped { exit_code } => *exit_code,
            Error::Several(problems) => problems.first().map_or(1, Error::exit_code),
        }
    }

    /// What was found wrong, as one error; what was found twice is told once.
    ///
    /// # Errors
    /// The only problem, or all of them together.
    pub fn all(mut problems: Vec<Error>) -> Result<()> {
        let mut told = std::collections::HashSet::new();
        problems.retain(|problem| told.insert(problem.to_string()));
        match problems.len() {
            0 => Ok(()),
            1 => Err(problems.remove(0)),
            _ => Err(Error::Several(problems)),
        }
    }

    /// Its problems, one by one.
    pub fn into_problems(self) -> Vec<Error> {
        match self {
            Error::Several(problems) => problems,
            other => vec![other],
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
