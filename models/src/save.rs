//! Saves a model as a folder that transformers opens.

use crate::network::Network;
use crate::{Classifier, ModelError, SpanExtractor, TextEncoder};
use std::fs;
use std::io::Write;
use std::path::Path;

impl Classifier {
    /// Writes model.safetensors, config.json and the tokenizer's files into `folder`, which is made if it is not there.
    ///
    /// Each file appears whole or not at all: it is written beside its place, synced and renamed.
    pub fn save(&self, folder: &Path, encoder: &TextEncoder) -> Result<(), ModelError> {
        save(&self.network, &self.config_json(), folder, encoder)
    }
}

impl SpanExtractor {
    /// As [`Classifier::save`].
    pub fn save(&self, folder: &Path, encoder: &TextEncoder) -> Result<(), ModelError> {
        save(&self.network, &self.config_json(), folder, encoder)
    }
}

fn save(network: &Network, config_json: &str, folder: &Path, encoder: &TextEncoder) -> Result<(), ModelError> {
    fs::create_dir_all(folder).map_err(ModelError::file(folder))?;
    write(&folder.join("model.safetensors"), &network.to_safetensors()?)?;
    write(&folder.join("config.json"), config_json.as_bytes())?;
    for (name, bytes) in encoder.files(network.config())? {
        write(&folder.join(name), &bytes)?;
    }
    sync_folder(folder)
}

/// Writes a file that appears whole or not at all: beside its place, synced and renamed.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.tmp", std::process::id()));
    let beside = Path::new(&beside);
    let written = fs::File::create(beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| fs::rename(beside, path));
    renamed.map_err(|e| {
        // The half-written file is removed; if that fails, the first error is the one to report.
        let _ = fs::remove_file(beside);
        ModelError::file(path)(e)
    })
}

/// Makes the renames last. Only Unix lets a folder be opened for it.
fn sync_folder(folder: &Path) -> Result<(), ModelError> {
    if cfg!(unix) {
        fs::File::open(folder).and_then(|f| f.sync_all()).map_err(ModelError::file(folder))?;
    }
    Ok(())
}
