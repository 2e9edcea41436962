//! ELECTRA (Clark et al., arXiv 2003.10555), its discriminator: BERT's encoder, and a head with GELU.

use crate::ModelError;
use crate::bert;
use crate::config::{Architecture, Config};
use crate::fields::Fields;
use crate::names::Names;
use crate::roberta;
use serde_json::{Map, Value, json};

/// The parameters of `ElectraForSequenceClassification`. (It drops out numbers of `[CLS]` before its head's dense layer too; we do not.)
pub const NAMES: Names = Names { prefix: "electra.", ..roberta::NAMES };

/// Reads the fields of a config.json.
pub fn read_config(fields: &Fields) -> Result<Config, ModelError> {
    let config = Config { architecture: Architecture::Electra, ..bert::read_config(fields)? };
    let embedding_size = fields.size_or("embedding_size", 128)?;
    Ok(Config { embedding_size, ..config })
}

/// The fields of config.json that belong to it.
pub fn write_config(config: &Config) -> Map<String, Value> {
    let mut map = bert::write_config(config);
    map.insert("embedding_size".into(), json!(config.embedding_size));
    map
}
