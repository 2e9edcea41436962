//! What a saved model says of itself beside transformers' files: what it reads, and the arithmetic in which it was measured.

use std::path::Path;

use lacuna_models::Precision;
use serde::{Deserialize, Serialize};

use crate::data::example::TaskKind;
use crate::error::{Error, Result};
use crate::files::whole::write_json;

/// Its name in the model's folder.
const NAME: &str = "lacuna.json";

/// `lacuna.json` in a model's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// What an example is: a text, a pair of texts, or a question and its context.
    pub kind: TaskKind,
    /// Number format of the matrix products.
    pub precision: Precision,
}

impl Card {
    /// The card of a saved model; `None` for a folder that another program wrote.
    ///
    /// # Errors
    /// A damaged file.
    pub fn read(folder: &Path) -> Result<Option<Card>> {
        let path = folder.join(NAME);
        match std::fs::read(&path) {
            Ok(content) => {
                serde_json::from_slice(&content).map(Some).map_err(|e| Error::Model(format!("{}: damaged ({e})", path.display())))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    }

    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        write_json(&folder.join(NAME), self)
    }
}
