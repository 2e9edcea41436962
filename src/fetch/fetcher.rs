//! Fetches registry entries into the cache; every file is verified by size and SHA-256.

use std::ffi::OsString;
use std::path::PathBuf;

use super::cache::{Cache, Check};
use super::convert;
use super::error::FetchError;
use super::event::FetchEvent;
use super::registry::{Entry, RegistryError};

/// Fetches entries into a cache.
#[derive(Clone, Debug)]
pub struct Fetcher {
    pub cache: Cache,
    /// The Python whose pip is asked for packages.
    pub python: OsString,
    /// Whether the Hugging Face hub must not be contacted; its cache is still used.
    pub hub_offline: bool,
}

impl Fetcher {
    /// The cache, Python (`LACUNA_PYTHON`) and hub (`HF_HUB_OFFLINE`) that the environment names.
    pub fn from_env() -> Result<Fetcher, RegistryError> {
        let python = std::env::var_os("LACUNA_PYTHON").filter(|value| !value.is_empty()).unwrap_or_else(|| "python3".into());
        let offline = std::env::var("HF_HUB_OFFLINE").unwrap_or_default().to_ascii_lowercase();
        let hub_offline = ["1", "on", "yes", "true"].contains(&offline.as_str());
        Ok(Fetcher { cache: Cache::from_env()?, python, hub_offline })
    }

    /// Fetches missing or damaged files and verifies the others; returns the file of a GGUF, the folder of anything else.
    ///
    /// Safe to interrupt and to run concurrently: a file gets its final name only when it is complete, and one process at a time works on
    /// an entry.
    pub fn fetch(&self, entry: &Entry, check: Check, progress: &mut dyn FnMut(FetchEvent)) -> Result<PathBuf, FetchError> {
        let folder = self.cache.folder(entry);
        let _lock = self.cache.lock(entry).map_err(|error| FetchError::Io { path: folder.clone(), error })?;
        self.fetch_files(entry, check, progress)?;
        if let Some(convert) = &entry.convert
            && self.cache.check_converted(entry, convert, check).is_err()
        {
            let converted = convert::convert(&folder, convert).map_err(|error| FetchError::Convert { path: folder.clone(), error })?;
            self.cache.stamp_converted(entry, convert).map_err(|error| FetchError::Io { path: folder, error })?;
            progress(FetchEvent::Converted(&converted));
        }
        Ok(self.cache.locate(entry)?)
    }

    #[cfg(feature = "hub")]
    fn fetch_files(&self, entry: &Entry, check: Check, progress: &mut dyn FnMut(FetchEvent)) -> Result<(), FetchError> {
        let folder = self.cache.folder(entry);
        let mut bring = super::bring::Bring::new(self.python.clone(), self.hub_offline, &folder, &entry.archives)
            .map_err(|error| FetchError::Io { path: folder.clone(), error })?;
        for file in &entry.files {
            if self.cache.check_file(entry, file, check).is_ok() {
                progress(FetchEvent::Here { file: &file.name });
                continue;
            }
            bring.file(file, progress)?;
            self.cache.check_file(entry, file, Check::Stamp)?;
            progress(FetchEvent::Fetched { file: &file.name });
        }
        bring.forget_archives()
    }

    #[cfg(not(feature = "hub"))]
    fn fetch_files(&self, entry: &Entry, check: Check, progress: &mut dyn FnMut(FetchEvent)) -> Result<(), FetchError> {
        for file in &entry.files {
            match self.cache.check_file(entry, file, check) {
                Ok(()) => progress(FetchEvent::Here { file: &file.name }),
                Err(RegistryError::NotFetched { path, .. }) => return Err(FetchError::NoHub { file: file.name.clone(), path }),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
