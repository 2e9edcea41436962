//! Models that other programs have put on this machine: Hugging Face's cache, which is read and never written.
//!
//! ```text
//! models--ORG--NAME/refs/main               the name of a snapshot
//! models--ORG--NAME/snapshots/REVISION/…    the files, as links into blobs/
//! ```

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// A path as it was meant: `~/` is the home folder, and a repository of the cache its current snapshot.
pub fn meant(path: &Path) -> PathBuf {
    let path = match (path.strip_prefix("~"), env::var_os("HOME")) {
        (Ok(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => path.to_path_buf(),
    };
    snapshot(&path).unwrap_or(path)
}

/// The folders that may be Hugging Face's cache here, as its own library looks for it; the first that is set counts.
pub fn folder() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("HF_HUB_CACHE")
        .or_else(|| Some(set("HF_HOME")?.join("hub")))
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("huggingface/hub")))
        .or_else(|| Some(set("HOME")?.join(".cache/huggingface/hub")))
}

/// What the cache has of `org/name`, or of a file of it, `org/name/file.gguf`; `None` if the name is no such name, or the cache has nothing
/// of it. A repository that has GGUF files and no model of its own is its only GGUF file.
///
/// # Errors
/// Several GGUF files of which one must be named.
pub fn find(named: &str, cache: &Path) -> Result<Option<PathBuf>, String> {
    let mut parts = named.splitn(3, '/');
    let (Some(org), Some(name), file) = (parts.next(), parts.next(), parts.next()) else { return Ok(None) };
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && part != "~";
    if !plain(org) || !plain(name) {
        return Ok(None);
    }
    let Some(snapshot) = snapshot(&cache.join(format!("models--{org}--{name}"))) else { return Ok(None) };
    if let Some(file) = file {
        return Ok(Some(snapshot.join(file)).filter(|path| path.exists()));
    }
    let weights = ["model.safetensors", "model.safetensors.index.json"];
    if snapshot.join("config.json").exists() && weights.iter().any(|name| snapshot.join(name).exists()) {
        return Ok(Some(snapshot));
    }
    match &gguf_files(&snapshot)[..] {
        [] => Ok(Some(snapshot)),
        [only] => Ok(Some(snapshot.join(only))),
        several => {
            Err(format!("{} has several GGUF files; name one, as in {named}/{}: {}", snapshot.display(), several[0], several.join(", ")))
        }
    }
}

/// The current snapshot of a repository's folder; `None` for any other folder.
fn snapshot(repository: &Path) -> Option<PathBuf> {
    let snapshots = repository.join("snapshots");
    if repository.join("config.json").exists() || !snapshots.is_dir() {
        return None;
    }
    let current = fs::read_to_string(repository.join("refs/main")).ok().map(|name| snapshots.join(name.trim()));
    let only = || {
        let mut all = fs::read_dir(&snapshots).ok()?.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir());
        all.next().filter(|_| all.next().is_none())
    };
    current.filter(|path| path.is_dir()).or_else(only)
}

/// Names of a folder's GGUF files, of split models the first parts.
fn gguf_files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let first = |name: &String| !name.contains("-of-") || name.contains("-00001-of-");
    let mut names: Vec<String> = entries.filter(|name| Path::new(name).extension() == Some(OsStr::new("gguf"))).filter(first).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache that has these files of `lab/tiny`, in one snapshot that is current, beside an old one.
    fn cache(files: &[&str]) -> (tempfile::TempDir, PathBuf) {
        let cache = tempfile::tempdir().unwrap();
        let top = cache.path().join("models--lab--tiny");
        let snapshot = top.join("snapshots/new");
        for folder in [&snapshot, &top.join("snapshots/old"), &top.join("refs")] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(top.join("refs/main"), "new\n").unwrap();
        files.iter().for_each(|file| fs::write(snapshot.join(file), "").unwrap());
        (cache, snapshot)
    }

    #[test]
    fn a_repository_is_its_current_snapshot() {
        let (cache, snapshot) = cache(&["config.json", "model.safetensors"]);
        assert_eq!(find("lab/tiny", cache.path()), Ok(Some(snapshot.clone())));
        assert_eq!(meant(&cache.path().join("models--lab--tiny")), snapshot);
        assert_eq!(meant(&snapshot), snapshot);
        for other in ["lab/other", "tiny", "", "../tiny", "lab/", "~/tiny"] {
            assert_eq!(find(other, cache.path()), Ok(None), "{other}");
        }
    }

    #[test]
    fn a_repository_of_one_gguf_is_that_file() {
        let (one, snapshot) = cache(&["tiny-Q4-00001-of-00002.gguf", "tiny-Q4-00002-of-00002.gguf", "README.md"]);
        assert_eq!(find("lab/tiny", one.path()), Ok(Some(snapshot.join("tiny-Q4-00001-of-00002.gguf"))));
        let (several, snapshot) = cache(&["a.gguf", "b.gguf"]);
        assert!(find("lab/tiny", several.path()).unwrap_err().contains("lab/tiny/a.gguf: a.gguf, b.gguf"));
        assert_eq!(find("lab/tiny/b.gguf", several.path()), Ok(Some(snapshot.join("b.gguf"))));
        assert_eq!(find("lab/tiny/c.gguf", several.path()), Ok(None));
    }
}
