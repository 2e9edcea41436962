//! A file that is published in parts: several are downloaded at once and joined in order. What is joined stays when a fetch is
//! interrupted, so that the next one goes on with the part that is missing.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::archive;
use super::error::SourceError;
use super::event::FetchEvent;
use super::receive::{Place, Receiver};
use super::registry::File;
use super::source::Source;
use crate::files::sha256::hasher_of;
use crate::files::whole::{put, rename_whole};

/// How many parts are downloaded at once, and so lie on the disk beside the file.
const AT_ONCE: usize = 4;

/// The parts that are joined already, in a file beside the place of the whole one.
pub struct Joined {
    path: PathBuf,
    record: PathBuf,
    done: Done,
}

/// What the joined file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Done {
    source: String,
    parts: usize,
    bytes: u64,
}

impl Joined {
    /// What an earlier fetch of the file from this source has joined, or nothing.
    pub fn open(folder: &Path, file: &File, source: &Source) -> Joined {
        let name = file.name.replace('/', "-");
        let path = folder.join(format!(".lacuna-parts-{name}"));
        let record = folder.join(format!(".lacuna-parts-{name}.json"));
        let source = source.to_string();
        let read: Option<Done> = fs::read(&record).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let there = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        let done = read.filter(|done| done.source == source && done.bytes <= there);
        Joined { path, record, done: done.unwrap_or(Done { source, parts: 0, bytes: 0 }) }
    }

    /// Downloads the parts that are missing, joins them, and gives the file its name if it is the one that the registry describes.
    ///
    /// # Errors
    /// A part that cannot be had, which leaves those before it joined; a file of another size or SHA-256, which leaves nothing.
    pub fn receive(
        mut self,
        parts: &[Source],
        file: &File,
        scratch: &Path,
        place: &(dyn Fn(&Source, &Path) -> Result<Place, SourceError> + Sync),
        progress: &mut dyn FnMut(FetchEvent),
    ) -> Result<(), SourceError> {
        let of = parts.len();
        let in_part = |part: usize, error: SourceError| SourceError::Part { part: part + 1, of, error: Box::new(error) };
        let threads = rayon::ThreadPoolBuilder::new().num_threads(AT_ONCE).build().map_err(io::Error::other)?;
        let mut receiver = self.receiver(file, progress)?;
        while self.done.parts < of {
            let wave = &parts[self.done.parts..(self.done.parts + AT_ONCE).min(of)];
            let fetched: Vec<Result<(TempDir, Place), SourceError>> = threads.install(|| {
                let fetch = |source: &Source| {
                    let own = tempfile::tempdir_in(scratch)?;
                    let found = place(source, own.path())?;
                    Ok((own, found))
                };
                wave.par_iter().map(fetch).collect()
            });
            for fetched in fetched {
                let part = self.done.parts;
                let (own, Place { path, members }) = fetched.map_err(|error| in_part(part, error))?;
                if let Err(error) = archive::copy(&path, &members, own.path(), &mut receiver) {
                    if receiver.received > file.size {
                        break;
                    }
                    return Err(in_part(part, error));
                }
                receiver.out.sync_data()?;
                (self.done.parts, self.done.bytes) = (part + 1, receiver.received);
                put(&self.record, &serde_json::to_vec(&self.done).map_err(io::Error::other)?)?;
            }
            if receiver.received > file.size {
                break;
            }
        }
        let found = receiver.verify();
        if found.is_ok() {
            let path = self.path.with_file_name(&file.name);
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            rename_whole(&self.path, &path)?;
        }
        self.clear()?;
        found
    }

    /// Writes behind what is joined; reads that once, for its SHA-256.
    fn receiver<'a>(&self, file: &'a File, progress: &'a mut dyn FnMut(FetchEvent)) -> Result<Receiver<'a, fs::File>, SourceError> {
        let mut out = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.path)?;
        out.set_len(self.done.bytes)?;
        let sum = hasher_of(&mut out)?;
        progress(FetchEvent::Bytes { done: self.done.bytes });
        Ok(Receiver { out, sum, received: self.done.bytes, file, progress })
    }

    /// Removes what is joined.
    pub fn clear(&self) -> io::Result<()> {
        for path in [&self.record, &self.path] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}
