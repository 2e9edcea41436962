//! The folder of a run: one owner at a time; only files that a run created are ever removed.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::journal::Journal;
use crate::error::{Error, Result};
use crate::files::lock::{Locked, try_lock};
use crate::files::whole::{is_unfinished, remove_entries};

/// A run's folder, locked by this process until it is dropped.
pub struct RunDir {
    path: PathBuf,
    /// The operating system releases the lock when the process ends, even after a crash.
    _lock: File,
    locked: bool,
}

impl RunDir {
    /// Creates the folder if needed and locks it.
    ///
    /// # Errors
    /// A folder with files that no run created; a lock held by another process; an I/O error.
    pub fn open(path: &Path) -> Result<Self> {
        refuse_foreign(path)?;
        std::fs::create_dir_all(path.join("journal")).map_err(Error::io("make the folder", path))?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path).map_err(Error::io("open", &lock_path))?;
        let locked = try_lock(&lock).map_err(Error::io("lock", &lock_path))?;
        if locked == Locked::Busy {
            return Err(Error::Run(format!(
                "{}: another process is using this run folder; wait for it, or choose another folder with --run",
                path.display()
            )));
        }
        std::fs::write(&lock_path, LOCK).map_err(Error::io("write", &lock_path))?;
        remove_leftovers(path)?;
        Ok(RunDir { path: path.to_path_buf(), _lock: lock, locked: locked == Locked::Yes })
    }

    /// Whether other processes are kept out: not on a file system without locks.
    pub fn is_locked(&self) -> bool {
        self.locked
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Opens the journal `name` and returns its existing rows.
    pub fn journal<T: DeserializeOwned>(&self, name: &str) -> Result<(Journal, Vec<T>)> {
        Journal::open(&self.join("journal").join(format!("{name}.jsonl")))
    }
}

/// The folder with the checkpoints of a run's fits.
pub const TRAINING: &str = "training";

/// The folder with what twins say of the gold rows that they have not learnt.
pub const TWINS: &str = "twins";

/// What is known of a run, and what it was begun with.
pub const MANIFEST: &str = "manifest.json";

/// What a lock file says, so that a run's folder is known before it has a manifest.
const LOCK: &str = "This folder belongs to a run of lacuna.\n";

/// Refuses a folder that is neither empty nor a run's: what is in it is somebody else's.
fn refuse_foreign(path: &Path) -> Result<()> {
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        // That there is a file in its place is said where the folder is made.
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => return Ok(()),
        other => other.map_err(Error::io("read", path))?,
    };
    if is_begun(path) {
        return Ok(());
    }
    for entry in entries {
        let found = entry.map_err(Error::io("read", path))?.path();
        if !is_lent(&found)? {
            let (place, name) = (path.display(), name_of(&found));
            return Err(Error::Run(format!("{place}: not a run folder, and not empty (it has {name}); choose another folder with --run")));
        }
    }
    Ok(())
}

/// Whether a run was begun in a folder: its lock or its manifest says so.
fn is_begun(path: &Path) -> bool {
    let manifest = std::fs::read(path.join(MANIFEST)).ok();
    let manifest = manifest.and_then(|content| serde_json::from_slice::<serde_json::Value>(&content).ok());
    let is_ours = manifest.is_some_and(|manifest| manifest.get("lacuna").is_some() && manifest.get("inputs").is_some());
    is_ours || std::fs::read(path.join("lock")).is_ok_and(|content| content == LOCK.as_bytes())
}

/// Whether it may lie in a folder before a run is begun in it: journals that another run lends, and how long they took; an empty lock.
fn is_lent(path: &Path) -> Result<bool> {
    let journals = || {
        Ok(entries(path)?.iter().all(|journal| {
            [".jsonl", ".safetensors"].iter().any(|end| name_of(journal).ends_with(end)) || is_unfinished(&name_of(journal))
        }))
    };
    match name_of(path).as_str() {
        "seconds.jsonl" => Ok(true),
        "journal" => journals(),
        // Made just before a crash or on a full disk: it says nothing yet.
        "lock" => Ok(path.metadata().is_ok_and(|lock| lock.len() == 0) && is_folder(&path.with_file_name("journal"))),
        name => Ok(is_unfinished(name)),
    }
}

/// Removes unfinished files that a crash left in the folders a run writes to, not in their subfolders. Symbolic links are not followed.
fn remove_leftovers(run: &Path) -> Result<()> {
    let rounds = run.join("rounds");
    let mut folders = vec![run.to_path_buf(), run.join("journal"), rounds.clone()];
    folders.extend(folders_in(&rounds)?.into_iter().filter(|round| is_number(round)));
    folders.extend(folders_in(&run.join(TRAINING))?);
    folders.push(run.join(TWINS));
    let plain = folders.iter().filter(|folder| is_folder(folder));
    plain.into_iter().try_for_each(|folder| remove_entries(folder, is_unfinished).map_err(Error::io("remove unfinished files in", folder)))
}

/// The entries of a folder; empty if it does not exist or is a symbolic link.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    if !is_folder(folder) {
        return Ok(Vec::new());
    }
    let paths = std::fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    paths.map_err(Error::io("read", folder))
}

fn folders_in(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(entries(folder)?.into_iter().filter(|path| is_folder(path)).collect())
}

/// Whether the path is a folder, not a symbolic link to one.
fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
}

fn is_number(path: &Path) -> bool {
    name_of(path).parse::<usize>().is_ok()
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_refused_and_the_lock_ends_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let first = RunDir::open(folder.path()).unwrap();
        let error = RunDir::open(folder.path()).err().unwrap();
        assert!(error.to_string().contains("another process is using this run folder"));
        assert_eq!(error.exit_code(), 5);
        drop(first);
        RunDir::open(folder.path()).unwrap();
    }

    /// Foreign files, including links, stay as they are; only a run's own leftovers are removed.
    #[test]
    fn only_a_runs_own_leftovers_are_removed() {
        let outside = tempfile::tempdir().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        drop(RunDir::open(&run).unwrap());
        std::fs::write(run.join("manifest.json"), "{}").unwrap();
        std::fs::create_dir_all(run.join("rounds/0/model")).unwrap();
        let kept = [".tmp", ".tmpA", ".new-x", "journal/.new-y", "rounds/0/.tmpB", "rounds/0/model/.lacuna-unfinished-mine"];
        let gone = [".lacuna-unfinished-a", "journal/.lacuna-unfinished-b", "rounds/0/.lacuna-unfinished-c"];
        kept.iter().chain(&gone).for_each(|name| std::fs::write(run.join(name), name).unwrap());
        std::fs::create_dir(run.join(".lacuna-unfinished-folder")).unwrap();
        let theirs = outside.path().join(".lacuna-unfinished-theirs");
        std::fs::write(&theirs, "kept").unwrap();
        std::os::unix::fs::symlink(outside.path(), run.join("rounds/1")).unwrap();
        std::os::unix::fs::symlink(outside.path(), run.join(".lacuna-unfinished-link")).unwrap();
        std::os::unix::fs::symlink(&run, run.join("rounds/2")).unwrap();
        drop(RunDir::open(&run).unwrap());
        assert!(kept.iter().all(|name| run.join(name).exists()) && theirs.exists());
        assert!(gone.iter().all(|name| !run.join(name).exists()) && !run.join(".lacuna-unfinished-folder").exists());
        assert!(run.join(".lacuna-unfinished-link").symlink_metadata().is_err(), "the link is removed, not its target");
    }

    /// A copy, or a person who clears away a lock that looks stale.
    #[test]
    fn a_run_without_its_lock_is_a_run() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("manifest.json"), r#"{"lacuna": "0.1.0", "inputs": {}, "stage": "done"}"#).unwrap();
        std::fs::write(folder.path().join("dataset.jsonl"), "").unwrap();
        RunDir::open(folder.path()).unwrap();
    }

    #[test]
    fn a_folder_that_is_neither_empty_nor_a_run_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("thesis.tex"), "years").unwrap();
        std::fs::create_dir(folder.path().join(".tmp")).unwrap();
        let error = RunDir::open(folder.path()).err().unwrap();
        assert!(error.to_string().contains("not a run folder, and not empty"), "{error}");
        assert_eq!(error.exit_code(), 5);
        let names: std::collections::BTreeSet<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), [".tmp", "thesis.tex"], "nothing was created or removed");
    }

    /// Its first process may end between making the lock and writing into it.
    #[test]
    fn a_run_whose_lock_is_still_empty_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("journal")).unwrap();
        std::fs::write(folder.path().join("lock"), "").unwrap();
        RunDir::open(folder.path()).unwrap();
    }

    /// Names that a run's folder has too, with contents that no run wrote.
    #[test]
    fn a_folder_that_only_looks_like_a_runs_is_refused() {
        let looks: [&[(&str, &str)]; 3] = [
            &[("lock", ""), ("journal/round-0.jsonl", ""), ("model/extra.bin", "theirs"), ("dataset.jsonl", "theirs")],
            &[("journal/2024.txt", "dear diary")],
            &[("manifest.json", r#"{"name": "an app"}"#)],
        ];
        for files in looks {
            let folder = tempfile::tempdir().unwrap();
            for (name, content) in files {
                let path = folder.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, content).unwrap();
            }
            assert_eq!(RunDir::open(folder.path()).err().map(|error| error.exit_code()), Some(5), "{files:?}");
            assert!(files.iter().all(|(name, content)| std::fs::read_to_string(folder.path().join(name)).unwrap() == *content));
        }
    }
}
