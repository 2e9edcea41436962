//! The cache folder: where an entry's files are, and whether they are intact. Stamps avoid hashing unchanged files again.
//!
//! ```text
//! models/NAME/FILE          a generator or a small model
//! data/NAME/FILE            gold data: the published file, gold.jsonl and test.jsonl
//! …/NAME/.stamps.json       size, modification time and sha256 of every file that was checked
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::files::home::home;
use crate::files::sha256::{hex, sha256_of};
use crate::files::whole::{is_unfinished, put, remove_entries};

use super::shared_cache;

use super::registry::{Convert, Entry, EntryKind, File, GOLD, Registry, RegistryError, TEST};

const STAMPS: &str = ".stamps.json";

/// The folder of fetched models and data.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// How a file is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Trusts the stamp of a file whose size and modification time are unchanged.
    Stamp,
    /// Hashes every byte.
    Hash,
}

impl Cache {
    /// A cache in a folder, which need not exist yet.
    pub fn at(root: impl Into<PathBuf>) -> Cache {
        Cache { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `LACUNA_HOME`, or `lacuna` in the platform's cache folder.
    pub fn from_env() -> Result<Cache, RegistryError> {
        home().map(Cache::at).ok_or(RegistryError::NoHome)
    }

    /// The folder of an entry's files.
    pub fn folder(&self, entry: &Entry) -> PathBuf {
        let shelf = if entry.kind == EntryKind::Gold { "data" } else { "models" };
        self.root.join(shelf).join(&entry.name)
    }

    /// The path of an entry, verified by [`Check::Stamp`]: the file of a GGUF, the folder of anything else.
    pub fn locate(&self, entry: &Entry) -> Result<PathBuf, RegistryError> {
        self.check(entry, Check::Stamp)
    }

    /// Verifies every file of an entry; returns the same path as [`Cache::locate`].
    pub fn check(&self, entry: &Entry, check: Check) -> Result<PathBuf, RegistryError> {
        entry.files.iter().try_for_each(|file| self.check_file(entry, file, check))?;
        if let Some(convert) = &entry.convert {
            self.check_converted(entry, convert, check)?;
        }
        let folder = self.folder(entry);
        Ok(if entry.kind == EntryKind::Gguf { folder.join(&entry.files[0].name) } else { folder })
    }

    /// Whether one file exists with the registry's size and SHA-256.
    pub fn check_file(&self, entry: &Entry, file: &File, check: Check) -> Result<(), RegistryError> {
        let folder = self.folder(entry);
        let path = folder.join(&file.name);
        let damaged = |what, expected: String, found: String| {
            Err(RegistryError::Damaged { name: entry.name.clone(), path: path.clone(), what, expected, found })
        };
        let mut stamps = Stamps::read(&folder);
        let now = self.sum(entry, &path, check, &stamps)?;
        if now.size != file.size {
            return damaged("its size", format!("{} bytes", file.size), format!("{} bytes", now.size));
        }
        if now.sha256 != file.sha256 {
            return damaged("its sha256", file.sha256.clone(), now.sha256);
        }
        if stamps.files.insert(file.name.clone(), now.clone()) != Some(now) {
            // A read-only cache still works; the stamp only saves time.
            let _ = stamps.write(&folder);
        }
        Ok(())
    }

    /// Whether the gold data was converted from the published file with this registry's settings, by code that gives the same.
    pub fn check_converted(&self, entry: &Entry, convert: &Convert, check: Check) -> Result<(), RegistryError> {
        let folder = self.folder(entry);
        let stamps = Stamps::read(&folder);
        for name in [GOLD, TEST] {
            let path = folder.join(name);
            let made = stamps.files.get(name).filter(|_| stamps.converted_by == Some(recipe(convert)));
            let Some(made) = made else {
                return Err(RegistryError::NotFetched { name: entry.name.clone(), path });
            };
            let now = self.sum(entry, &path, check, &stamps)?;
            if now.sha256 != made.sha256 {
                let (expected, found) = (made.sha256.clone(), now.sha256);
                return Err(RegistryError::Damaged { name: entry.name.clone(), path, what: "its sha256", expected, found });
            }
        }
        Ok(())
    }

    /// The SHA-256 of a file: from its stamp if [`Check::Stamp`] allows it and the file is unchanged, otherwise by hashing.
    fn sum(&self, entry: &Entry, path: &Path, check: Check, stamps: &Stamps) -> Result<Stamp, RegistryError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => RegistryError::NotFetched { name: entry.name.clone(), path: path.to_path_buf() },
            _ => RegistryError::Io { path: path.to_path_buf(), error },
        };
        let (size, modified) = size_and_time(path).map_err(failed)?;
        let folder = self.folder(entry);
        let name = path.strip_prefix(&folder).unwrap_or(path).to_string_lossy();
        let stamped = stamps.files.get(name.as_ref()).filter(|stamp| stamp.size == size && stamp.modified == modified);
        match (check, stamped) {
            (Check::Stamp, Some(stamp)) => Ok(stamp.clone()),
            _ => Ok(Stamp { size, modified, sha256: sha256_of(path).map_err(failed)? }),
        }
    }

    /// Waits for other processes that fetch the same entry, creates its folder and removes the leftovers of an interrupted fetch. The lock
    /// is held until the returned file is dropped.
    pub fn lock(&self, entry: &Entry) -> io::Result<fs::File> {
        let folder = self.folder(entry);
        fs::create_dir_all(&folder)?;
        let lock = fs::File::create(folder.with_file_name(format!(".{}.lock", entry.name)))?;
        crate::files::lock::lock(&lock)?;
        remove_entries(&folder, is_unfinished)?;
        Ok(lock)
    }

    /// Records how the two files of gold data were made, for [`Cache::check_converted`].
    pub fn stamp_converted(&self, entry: &Entry, convert: &Convert) -> io::Result<()> {
        let folder = self.folder(entry);
        let mut stamps = Stamps::read(&folder);
        for name in [GOLD, TEST] {
            let path = folder.join(name);
            let (size, modified) = size_and_time(&path)?;
            stamps.files.insert(name.to_string(), Stamp { size, modified, sha256: sha256_of(&path)? });
        }
        stamps.converted_by = Some(recipe(convert));
        stamps.write(&folder)
    }
}

/// The version of lacuna that last changed what a conversion gives: data that an earlier one converted are converted anew.
const CONVERSION: &str = "0.1.0";

/// What a conversion's result depends on: its settings and the code.
fn recipe(convert: &Convert) -> String {
    let settings = serde_json::to_string(convert).unwrap_or_default();
    hex(Sha256::digest(format!("{CONVERSION} {settings}")))
}

/// A file's state when it was hashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    size: u64,
    /// Nanoseconds since 1970.
    modified: u64,
    sha256: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Stamps {
    files: BTreeMap<String, Stamp>,
    #[serde(default)]
    converted_by: Option<String>,
}

impl Stamps {
    /// Missing or unreadable stamps count as none: the files are hashed.
    fn read(folder: &Path) -> Stamps {
        fs::read(folder.join(STAMPS)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    fn write(&self, folder: &Path) -> io::Result<()> {
        put(&folder.join(STAMPS), &serde_json::to_vec_pretty(self)?)
    }
}

/// The local path of a model or data set, without the network: an existing path is returned as it is, a known name must be in the
/// cache.
///
/// An [`EntryKind::Gguf`] is a file; an [`EntryKind::Encoder`] and an [`EntryKind::Gold`] are folders.
pub fn locate(name_or_path: &str) -> Result<PathBuf, RegistryError> {
    let path = shared_cache::meant(Path::new(name_or_path));
    if path.exists() {
        return Ok(path);
    }
    let unknown = match Registry::built_in().entry(name_or_path) {
        Ok(entry) => return Cache::from_env()?.locate(entry),
        Err(unknown) => unknown,
    };
    let Some(cache) = shared_cache::folder().filter(|_| name_or_path.contains('/') && !name_or_path.starts_with(['~', '/', '.'])) else {
        return Err(unknown);
    };
    let found = shared_cache::find(name_or_path, &cache).map_err(RegistryError::Several)?;
    found.ok_or_else(|| RegistryError::NotInSharedCache { unknown: Box::new(unknown), cache })
}

fn size_and_time(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(path)?;
    let since_1970 = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok((metadata.len(), since_1970.as_nanos() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_refused_with_the_known_names() {
        let error = locate("all-minilm-l6").unwrap_err().to_string();
        assert!(error.contains("did you mean all-minilm-l6-v2?") && error.contains("movie-snippets"), "{error}");
        let error = locate("nothing/like.it").unwrap_err().to_string();
        assert!(!error.contains("did you mean"), "{error}");
    }

    #[test]
    fn an_existing_path_is_taken_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        assert_eq!(locate(path).unwrap(), folder.path());
    }
}
