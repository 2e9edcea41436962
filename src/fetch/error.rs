//! Errors of fetching.

use std::path::PathBuf;

use super::convert::ConvertError;
use super::registry::RegistryError;
use super::source::Source;

/// Why an entry was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("{file}: no source has it{}", listed(.failures))]
    NoSource { file: String, failures: Vec<(Source, SourceError)> },
    #[error("{} cannot be made into gold data: {error}", .path.display())]
    Convert { path: PathBuf, error: ConvertError },
    #[error("{}: {error}", .path.display())]
    Io { path: PathBuf, error: std::io::Error },
    #[error("{file} is missing, and this lacuna was built without the feature `hub`, so it cannot fetch: put it at {}", .path.display())]
    NoHub { file: String, path: PathBuf },
}

fn listed(failures: &[(Source, SourceError)]) -> String {
    failures.iter().map(|(source, error)| format!("\n  {source}\n    {}", error.to_string().replace('\n', "\n    "))).collect()
}

/// Why one source did not give the file.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("sha256 is {found}, expected {expected}: not the file that the registry describes")]
    Sum { expected: String, found: String },
    #[error("{found} bytes, expected {expected}")]
    Size { expected: u64, found: u64 },
    #[error("part {part} of {of}: {error}")]
    Part { part: usize, of: usize, error: Box<SourceError> },
    #[error("HF_HUB_OFFLINE is set and the file is not in the hub's cache")]
    Offline,
    #[error("the Hugging Face hub: {0}")]
    Hub(String),
    #[error(
        "`{0}` was not found: install Python with pip (Debian: apt install python3-pip; Fedora: dnf install python3-pip; macOS: \
         brew install python), or name one in LACUNA_PYTHON"
    )]
    NoPython(String),
    #[error("`{command}` failed:\n{stderr}")]
    Pip { command: String, stderr: String },
    #[error("`{0}` has no pip: install it (Debian: apt install python3-pip; elsewhere: {0} -m ensurepip)")]
    NoPip(String),
    #[error("{archive}: {reason}")]
    Archive { archive: String, reason: String },
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
