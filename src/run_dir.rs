//! The folder of a run: one owner at a time, journals that survive a crash, files that are whole or absent.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// A run's folder, held by this process until it is dropped.
pub struct RunDir {
    path: PathBuf,
    /// The operating system lets go of the lock when the process ends, however it ends.
    _lock: File,
}

impl RunDir {
    /// Makes the folder if need be and locks it.
    ///
    /// # Errors
    /// A folder with files that no run made; another process holds it; the system refuses.
    pub fn open(path: &Path) -> Result<Self> {
        refuse_foreign(path)?;
        std::fs::create_dir_all(path.join("journal")).map_err(Error::io("make the folder", path))?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path).map_err(Error::io("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {
                remove_leftovers(path)?;
                Ok(RunDir { path: path.to_path_buf(), _lock: lock })
            }
            Err(std::fs::TryLockError::WouldBlock) => Err(Error::Run(format!(
                "{}: another process works on this run; wait for it, or choose another folder with --run",
                path.display()
            ))),
            Err(std::fs::TryLockError::Error(source)) => Err(Error::Io { doing: "lock", path: lock_path, source }),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Opens the journal `name` and returns the rows that are already in it.
    pub fn journal<T: DeserializeOwned>(&self, name: &str) -> Result<(Journal, Vec<T>)> {
        Journal::open(&self.join("journal").join(format!("{name}.jsonl")))
    }
}

/// JSON lines, appended one by one and synced in blocks; a line torn by a crash is cut off at the next opening.
pub struct Journal {
    path: PathBuf,
    file: File,
    unsynced: usize,
    synced_at: Instant,
}

/// Rows, and time, after which a block is synced: what a power cut (not a crash) may cost.
const SYNC_ROWS: usize = 64;
const SYNC_EVERY: Duration = Duration::from_secs(2);

impl Journal {
    fn open<T: DeserializeOwned>(path: &Path) -> Result<(Self, Vec<T>)> {
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path).map_err(Error::io("open", path))?;
        let (rows, whole) = read_whole_lines(&mut file, path)?;
        file.set_len(whole).map_err(Error::io("truncate", path))?;
        file.seek(SeekFrom::Start(whole)).map_err(Error::io("seek in", path))?;
        Ok((Journal { path: path.to_path_buf(), file, unsynced: 0, synced_at: Instant::now() }, rows))
    }

    /// Adds a row with one write, so that a crash leaves it whole or torn at the very end.
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

    /// Makes sure that all rows are on the disk.
    pub fn sync(&mut self) -> Result<()> {
        self.file.sync_data().map_err(Error::io("sync", &self.path))?;
        (self.unsynced, self.synced_at) = (0, Instant::now());
        Ok(())
    }
}

/// The rows up to the first torn line, and how many bytes they take.
///
/// A bad line that whole lines follow is not the work of a crash: the journal was damaged, and is refused.
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
                    "{}:{}: a damaged journal row ({error}); take the file away to write this stage again",
                    path.display(),
                    rows.len() + 1
                );
                return Err(Error::Run(message));
            }
        }
        whole += read as u64;
    }
}

/// Writes a file through a temporary one: it is there whole, or as it was before.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(Error::io("make the folder", folder))?;
    let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder).map_err(Error::io("write in", folder))?;
    file.write_all(content).and_then(|()| file.as_file().sync_all()).map_err(Error::io("write", path))?;
    file.persist(path).map_err(|e| Error::Io { doing: "write", path: path.to_path_buf(), source: e.error })?;
    sync_folder(folder)
}

/// As [`write_atomically`], pretty JSON.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).map_err(|e| Error::Failed(format!("{}: {e}", path.display())))?;
    text.push('\n');
    write_atomically(path, text.as_bytes())
}

/// As [`write_atomically`], one JSON object a line.
pub fn write_json_lines(path: &Path, rows: impl IntoIterator<Item = impl Serialize>) -> Result<()> {
    let mut content = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut content, &row).map_err(|e| Error::Failed(format!("{}: {e}", path.display())))?;
        content.push(b'\n');
    }
    write_atomically(path, &content)
}

/// How the name of a file or folder begins that is not whole yet. A crash may leave one; nobody else calls a file so.
const UNFINISHED: &str = ".lacuna-unfinished-";

/// What lies in a run's folder before its manifest does.
const BEFORE_MANIFEST: [&str; 3] = ["lock", "journal", "seconds.jsonl"];

/// Refuses a folder that is neither empty nor a run's: what is in it is somebody else's.
fn refuse_foreign(path: &Path) -> Result<()> {
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(Error::io("read", path))?,
    };
    if ["manifest.json", "lock", "journal"].iter().all(|name| path.join(name).exists()) {
        return Ok(());
    }
    for entry in entries {
        let name = entry.map_err(Error::io("read", path))?.file_name().to_string_lossy().into_owned();
        if !BEFORE_MANIFEST.contains(&name.as_str()) && !name.starts_with(UNFINISHED) {
            let place = path.display();
            return Err(Error::Run(format!("{place}: not a run's folder, and not empty ({name} is in it); choose another with --run")));
        }
    }
    Ok(())
}

/// Removes what a crash left half written, in the folders that a run writes to and nowhere below them. Links are not followed.
fn remove_leftovers(run: &Path) -> Result<()> {
    let rounds = run.join("rounds");
    let mut folders = vec![run.to_path_buf(), run.join("journal"), rounds.clone()];
    folders.extend(folders_in(&rounds)?.into_iter().filter(|round| is_number(round)));
    for folder in folders {
        for path in entries(&folder)?.into_iter().filter(|path| name_of(path).starts_with(UNFINISHED)) {
            let removed = if is_folder(&path) { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

/// What lies in a folder; nothing in one that is not there, or is a link.
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

/// A folder itself, not a link to one.
fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
}

fn is_number(path: &Path) -> bool {
    name_of(path).parse::<usize>().is_ok()
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Fills a folder under a temporary name beside `path`, then puts it in the place of what was there.
pub fn replace_folder(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(Error::io("make the folder", parent))?;
    let new = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(parent).map_err(Error::io("write in", parent))?;
    fill(new.path())?;
    let mut permissions = std::fs::metadata(new.path()).map_err(Error::io("read", new.path()))?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    std::fs::set_permissions(new.path(), permissions).map_err(Error::io("change", new.path()))?;
    if path.exists() {
        std::fs::remove_dir_all(path).map_err(Error::io("replace", path))?;
    }
    std::fs::rename(new.keep(), path).map_err(Error::io("write", path))?;
    sync_folder(parent)
}

fn sync_folder(folder: &Path) -> Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io("sync", folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_second_owner_is_refused_and_the_lock_ends_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let first = RunDir::open(folder.path()).unwrap();
        let error = RunDir::open(folder.path()).err().unwrap();
        assert!(error.to_string().contains("another process works on this run"));
        assert_eq!(error.exit_code(), 5);
        drop(first);
        RunDir::open(folder.path()).unwrap();
    }

    #[test]
    fn a_damaged_row_in_the_middle_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::open(folder.path()).unwrap();
        std::fs::write(run.join("journal/a.jsonl"), "1\nx\n3\n").unwrap();
        let error = run.journal::<u32>("a").err().unwrap().to_string();
        assert!(error.contains("a.jsonl:2: a damaged journal row"), "{error}");
    }

    /// A folder full of other people's files, links among them, comes out as it went in; only our own leftovers go.
    #[test]
    fn nothing_is_removed_that_a_run_did_not_make() {
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
        assert!(run.join(".lacuna-unfinished-link").symlink_metadata().is_err(), "the link goes, not what it leads to");
    }

    #[test]
    fn a_folder_that_is_neither_empty_nor_a_run_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("thesis.tex"), "years").unwrap();
        std::fs::create_dir(folder.path().join(".tmp")).unwrap();
        let error = RunDir::open(folder.path()).err().unwrap();
        assert!(error.to_string().contains("not a run's folder, and not empty"), "{error}");
        assert_eq!(error.exit_code(), 5);
        let names: std::collections::BTreeSet<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), [".tmp", "thesis.tex"], "nothing was made or removed");
    }

    #[test]
    fn a_folder_is_replaced_whole() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("model");
        for name in ["a", "b"] {
            replace_folder(&path, |new| write_atomically(&new.join(name), name.as_bytes())).unwrap();
        }
        let failed = replace_folder(&path, |new| {
            write_atomically(&new.join("c"), b"c")?;
            Err(Error::Failed("no".into()))
        });
        assert!(failed.is_err());
        let names = |p: &Path| std::fs::read_dir(p).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
        assert_eq!(names(&path), ["b"]);
        assert_eq!(names(parent.path()), ["model"]);
    }

    proptest! {
        /// Cut a journal at any byte: the rows before the cut are back, and what is appended then follows them.
        #[test]
        fn a_torn_journal_loses_only_the_torn_row(rows in proptest::collection::vec("\\PC{0,8}", 1..12), part in 0.0f64..=1.0) {
            let folder = tempfile::tempdir().unwrap();
            let run = RunDir::open(folder.path()).unwrap();
            let (mut journal, before) = run.journal::<String>("a").unwrap();
            prop_assert!(before.is_empty());
            for row in &rows {
                journal.append(row).unwrap();
            }
            drop(journal);
            let path = run.join("journal/a.jsonl");
            let content = std::fs::read(&path).unwrap();
            let cut = (content.len() as f64 * part) as usize;
            std::fs::write(&path, &content[..cut]).unwrap();
            let whole = content[..cut].iter().filter(|&&b| b == b'\n').count();

            let (mut journal, before) = run.journal::<String>("a").unwrap();
            prop_assert_eq!(&before[..], &rows[..whole]);
            journal.append(&"new".to_string()).unwrap();
            drop(journal);
            let (_, after) = run.journal::<String>("a").unwrap();
            prop_assert_eq!(after.len(), whole + 1);
            prop_assert_eq!(after.last().map(String::as_str), Some("new"));
        }
    }
}
