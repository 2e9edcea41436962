//! Copies of a model in other formats: their names in the cache, and the lock of whoever makes them.

use crate::files::kept_sum::kept_sum;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The copies of one model in a folder, named by the model's SHA-256.
pub(super) struct Copies<'p> {
    pub(super) folder: &'p Path,
    pub(super) stem: String,
}

impl<'p> Copies<'p> {
    pub(super) fn of(path: &Path, folder: &'p Path) -> std::io::Result<Self> {
        let sum = kept_sum(path, &|_| ())?;
        Ok(Copies { folder, stem: format!("{}.{}", path.file_stem().unwrap_or_default().to_string_lossy(), &sum[..16]) })
    }

    pub(super) fn path(&self, format: &str) -> PathBuf {
        self.folder.join(format!("{}.{format}.gguf", self.stem))
    }

    /// A lock, so that two processes neither measure at once nor remove each other's copies. It is held until the file is closed; the
    /// operating system releases it when the process ends.
    pub(super) fn lock(&self) -> std::io::Result<File> {
        std::fs::create_dir_all(self.folder)?;
        let file = File::create(self.folder.join(format!("{}.lock", self.stem)))?;
        crate::files::lock::lock(&file)?;
        Ok(file)
    }
}
