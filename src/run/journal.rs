//! Journals: JSON lines that survive a crash.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// JSON lines, appended one by one and synced in blocks. A line torn by a crash is cut off when the journal is next opened.
pub struct Journal {
    path: PathBuf,
    file: File,
    unsynced: usize,
    synced_at: Instant,
}

/// A block is synced after this many rows or this much time: the most that a power cut (not a crash) can lose.
const SYNC_ROWS: usize = 64;
const SYNC_EVERY: Duration = Duration::from_secs(2);

impl Journal {
    /// Opens or creates a journal; returns its existing rows.
    ///
    /// # Errors
    /// A damaged row that is not the last one; an I/O error.
    pub fn open<T: DeserializeOwned>(path: &Path) -> Result<(Self, Vec<T>)> {
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path).map_err(Error::io("open", path))?;
        let (rows, whole) = read_whole_lines(&mut file, path)?;
        file.set_len(whole).map_err(Error::io("truncate", path))?;
        file.seek(SeekFrom::Start(whole)).map_err(Error::io("seek in", path))?;
        Ok((Journal { path: path.to_path_buf(), file, unsynced: 0, synced_at: Instant::now() }, rows))
    }

    /// Appends a row with one write, so that a crash can only tear the last line.
    pub fn append(&mut self, row: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(row).map_err(|e| Error::Failed(format!("a journal row cannot be written as JSON: {e}")))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(Error::io("append to", &self.path))?;
        self.unsynced += 1;
        if self.unsynced >= SYNC_ROWS || self.synced_at.elapsed() >= SYNC_EVERY {
            self.sync()?;
        }
        Ok(())
    }

    /// Syncs all rows to disk.
    pub fn sync(&mut self) -> Result<()> {
        self.file.sync_data().map_err(Error::io("sync", &self.path))?;
        (self.unsynced, self.synced_at) = (0, Instant::now());
        Ok(())
    }
}

/// The rows before the torn last line, if there is one, and their length in bytes.
///
/// A bad line followed by complete lines cannot come from a crash: the journal is damaged and is refused.
fn read_whole_lines<T: DeserializeOwned>(file: &mut File, path: &Path) -> Result<(Vec<T>, u64)> {
    let mut reader = BufReader::new(file);
    let (mut rows, mut whole, mut line) = (Vec::new(), 0, Vec::new());
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(Error::io("read", path))?;
        if read == 0 || line.last() != Some(&b'\n') {
            return Ok((rows, whole));
        }
        match serde_json::from_slice(&line) {
            Ok(row) => rows.push(row),
            Err(_) if reader.fill_buf().map_err(Error::io("read", path))?.is_empty() => return Ok((rows, whole)),
            Err(error) => {
                let message = format!(
                    "{}:{}: damaged journal row ({error}); remove the file to write this stage again",
                    path.display(),
                    rows.len() + 1
                );
                return Err(Error::Run(message));
            }
        }
        whole += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_damaged_row_in_the_middle_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        std::fs::write(&path, "1\nx\n3\n").unwrap();
        let error = Journal::open::<u32>(&path).err().unwrap().to_string();
        assert!(error.contains("a.jsonl:2: damaged journal row"), "{error}");
    }

    proptest! {
        /// Cut at any byte, a journal keeps the rows before the cut, and rows appended later follow them.
        #[test]
        fn a_torn_journal_loses_only_the_torn_row(rows in proptest::collection::vec("\\PC{0,8}", 1..12), part in 0.0f64..=1.0) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.jsonl");
            let (mut journal, before) = Journal::open::<String>(&path).unwrap();
            prop_assert!(before.is_empty());
            for row in &rows {
                journal.append(row).unwrap();
            }
            drop(journal);
            let content = std::fs::read(&path).unwrap();
            let cut = (content.len() as f64 * part) as usize;
            std::fs::write(&path, &content[..cut]).unwrap();
            let whole = content[..cut].iter().filter(|&&b| b == b'\n').count();

            let (mut journal, before) = Journal::open::<String>(&path).unwrap();
            prop_assert_eq!(&before[..], &rows[..whole]);
            journal.append(&"new".to_string()).unwrap();
            drop(journal);
            let (_, after) = Journal::open::<String>(&path).unwrap();
            prop_assert_eq!(after.len(), whole + 1);
            prop_assert_eq!(after.last().map(String::as_str), Some("new"));
        }
    }
}
