//! Saves a model as a folder that transformers opens.

use crate::network::Network;
use crate::{Classifier, ModelError, SpanExtractor, TextEncoder};
use std::fs;
use std::io::Write;
use std::path::Path;

impl Classifier {
    /// Writes model.safetensors, config.json and the tokenizer's files into `folder`, which is made if it is not there.
    ///
    /// The files are on the disk when it returns. A crash meanwhile leaves some of them: to replace a model as a whole, save into a new
    /// folder and rename it.
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
    Ok(())
}

/// Writes a file; its bytes are on the disk then.
fn write(path: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    let written = fs::File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(ModelError::file(path))
}
