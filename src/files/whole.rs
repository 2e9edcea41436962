//! Files and folders that are whole or absent: written under a temporary name, synced, then renamed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::{NamedTempFile, TempDir};

use super::lock::has_none;
use crate::error::{Error, Result};

/// How the name of a file or folder begins that is not whole yet. A crash may leave one; nobody else calls a file so.
const UNFINISHED: &str = ".lacuna-unfinished-";

/// Whether a file or folder of this name was left by a process that ended before it was whole.
pub fn is_unfinished(name: &str) -> bool {
    name.starts_with(UNFINISHED)
}

/// Removes the entries of a folder whose names are `ours`; a link goes, not what it leads to. Nothing to do where there is no folder.
pub fn remove_entries(folder: &Path, ours: impl Fn(&str) -> bool) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if ours(&entry.file_name().to_string_lossy()) {
            let is_folder = entry.file_type()?.is_dir();
            if is_folder { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
        }
    }
    Ok(())
}

/// A new file in the folder, which goes away unless it is [kept](keep).
pub fn unfinished(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(UNFINISHED);
    // Others may read it, as any other file: the umask decides.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

/// A new folder in the folder, which goes away when it is dropped.
pub fn unfinished_folder(folder: &Path) -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(UNFINISHED);
    // As for any other folder: the umask decides.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    builder.tempdir_in(folder)
}

/// Gives a finished file its name, in one step, after its bytes are on the disk.
pub fn keep(mut file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.flush()?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    sync_folder(folder_of(path))
}

/// Gives a finished file that others wrote, beside its place, its name in one step, after its bytes are on the disk.
pub fn rename_whole(from: &Path, to: &Path) -> io::Result<()> {
    File::open(from)?.sync_all()?;
    fs::rename(from, to)?;
    sync_folder(folder_of(to))
}

/// Writes a file, and its folder if it is missing: the file is there whole, or as it was before.
pub fn put(path: &Path, content: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder_of(path))?;
    let mut file = unfinished(folder_of(path))?;
    file.write_all(content)?;
    keep(file, path)
}

/// What a JSON file holds; if it is not there, `make` makes it, and it is kept there.
///
/// # Errors
/// A file that cannot be read or written, or is damaged; those of `make`.
pub fn once<T: Serialize + DeserializeOwned>(path: &Path, make: impl FnOnce() -> Result<T>) -> Result<T> {
    match fs::read(path) {
        Ok(content) => serde_json::from_slice(&content)
            .map_err(|e| Error::Run(format!("{}: damaged ({e}); remove the file, and it is made again", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = make()?;
            write_json(path, &made)?;
            Ok(made)
        }
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

/// As [`put`], with an error that names the file.
pub fn write(path: &Path, content: &[u8]) -> Result<()> {
    put(path, content).map_err(Error::io("write", path))
}

/// As [`write()`], pretty JSON.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).map_err(|e| Error::Failed(format!("{}: {e}", path.display())))?;
    text.push('\n');
    write(path, text.as_bytes())
}

/// As [`write()`], one JSON object a line.
pub fn write_json_lines(path: &Path, rows: impl IntoIterator<Item = impl Serialize>) -> Result<()> {
    let mut content = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut content, &row).map_err(|e| Error::Failed(format!("{}: {e}", path.display())))?;
        content.push(b'\n');
    }
    write(path, &content)
}

/// Fills a folder under a temporary name beside `path`, then puts it in the place of what was there.
pub fn replace_folder(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let parent = folder_of(path);
    fs::create_dir_all(parent).map_err(Error::io("make the folder", parent))?;
    let new = unfinished_folder(parent).map_err(Error::io("write in", parent))?;
    fill(new.path())?;
    sync_folder(new.path()).map_err(Error::io("sync", new.path()))?;
    if path.exists() {
        fs::remove_dir_all(path).map_err(Error::io("replace", path))?;
    }
    fs::rename(new.keep(), path).map_err(Error::io("write", path))?;
    sync_folder(parent).map_err(Error::io("sync", parent))
}

pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A rename is on the disk when its folder is. Some file systems cannot write a folder out; there a rename is as safe as they make it.
fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        Err(error) if has_none(&error) || error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_replaced_whole() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("model");
        for name in ["a", "b"] {
            replace_folder(&path, |new| write(&new.join(name), name.as_bytes())).unwrap();
        }
        let failed = replace_folder(&path, |new| {
            write(&new.join("c"), b"c")?;
            Err(Error::Failed("no".into()))
        });
        assert!(failed.is_err());
        let names = |p: &Path| std::fs::read_dir(p).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
        assert_eq!(names(&path), ["b"]);
        assert_eq!(names(parent.path()), ["model"]);
    }
}
