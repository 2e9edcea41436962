//! RoBERTa (Liu et al., arXiv 1907.11692) and the models that share its shape: XLM-RoBERTa (which multilingual E5 and BGE-M3 are) and
//! CamemBERT. BERT's encoder, with positions that begin behind the padding's and a head of its own.

use crate::ModelError;
use crate::bert;
use crate::config::{Architecture, Config};
use crate::family::Family;
use crate::fields::Fields;
use crate::names::Names;
use serde_json::{Map, Value, json};

/// The parameters of `RobertaForSequenceClassification`. (It drops out numbers of `<s>` before its head's dense layer too; we do not.)
pub const NAMES: Names = Names { prefix: "roberta.", head: "classifier.dense", classifier: "classifier.out_proj", ..bert::NAMES };

/// Reads the fields of a config.json.
pub fn read_config(fields: &Fields, family: Family) -> Result<Config, ModelError> {
    let config = Config { architecture: Architecture::Roberta(family), ..bert::read_config(fields)? };
    let pad_token_id = fields.number("pad_token_id", 1.0)? as u32;
    // The table's first rows are the padding's and those before it.
    let skipped = pad_token_id as usize + 1;
    if config.max_position_embeddings <= skipped {
        return fields.error(format!("`max_position_embeddings` is {}, with padding {pad_token_id}", config.max_position_embeddings));
    }
    Ok(Config { pad_token_id, first_position: skipped, max_position_embeddings: config.max_position_embeddings - skipped, ..config })
}

/// The fields of config.json that belong to it.
pub fn write_config(config: &Config, family: Family) -> Map<String, Value> {
    let mut map = bert::write_config(config);
    map.insert("architectures".into(), json!([format!("{}ForSequenceClassification", family.class())]));
    map.insert("model_type".into(), json!(family.model_type()));
    map.insert("max_position_embeddings".into(), json!(config.first_position + config.max_position_embeddings));
    map
}
