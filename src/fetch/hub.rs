//! Downloads a file of a Hugging Face repository through `hf-hub`, into the hub's own cache (`HF_HOME`), which resumes.

use std::path::PathBuf;

use hf_hub::api::sync::ApiBuilder;
use hf_hub::{Cache, Repo, RepoType};

use super::error::SourceError;

/// The file at that commit: from the hub's cache, else from the hub unless `offline`. `bytes` is called with the bytes received.
pub fn download(repo: &str, revision: &str, path: &str, offline: bool, bytes: &mut dyn FnMut(u64)) -> Result<PathBuf, SourceError> {
    let repo = Repo::with_revision(repo.to_string(), RepoType::Model, revision.to_string());
    if let Some(here) = Cache::from_env().repo(repo.clone()).get(path) {
        return Ok(here);
    }
    if offline {
        return Err(SourceError::Offline);
    }
    let failed = |error: hf_hub::api::sync::ApiError| SourceError::Hub(error.to_string());
    let api = ApiBuilder::from_env().with_progress(false).build().map_err(failed)?;
    api.repo(repo).download_with_progress(path, Counter { done: 0, bytes }).map_err(failed)
}

struct Counter<'a> {
    done: u64,
    bytes: &'a mut dyn FnMut(u64),
}

impl hf_hub::api::Progress for Counter<'_> {
    fn init(&mut self, _size: usize, _filename: &str) {}

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        (self.bytes)(self.done);
    }

    fn finish(&mut self) {}
}
