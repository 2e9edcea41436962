//! MPNet (Song et al., arXiv 2004.09297): BERT's encoder with a bias on attention by relative position, positions that begin behind the
//! padding's, no token types, and RoBERTa's head.

use crate::ModelError;
use crate::bert;
use crate::config::{Architecture, Config};
use crate::fields::Fields;
use crate::names::Names;
use crate::roberta;
use serde_json::{Map, Value, json};

/// The parameters of `MPNetForSequenceClassification`. (It drops out numbers of `<s>` before its head's dense layer too; we do not.)
pub const NAMES: Names = Names {
    prefix: "mpnet.",
    query: "attention.attn.q",
    key: "attention.attn.k",
    value: "attention.attn.v",
    attention_output: "attention.attn.o",
    attention_norm: "attention.LayerNorm",
    ..roberta::NAMES
};

/// Positions begin behind this one, whatever config.json says of the padding.
const PADDING: u32 = 1;

/// Buckets of relative positions. transformers has a field for their number, but counts with this one.
const BUCKETS: usize = 32;

/// Reads the fields of a config.json.
pub fn read_config(fields: &Fields) -> Result<Config, ModelError> {
    let config = Config { architecture: Architecture::Mpnet, ..bert::read_config_without_types(fields)? };
    fields.must_be("relative_attention_num_buckets", BUCKETS)?;
    let config = Config { pad_token_id: fields.number("pad_token_id", PADDING as f64)? as u32, relative_buckets: BUCKETS, ..config };
    roberta::skip_positions(config, PADDING, fields)
}

/// The fields of config.json that belong to it.
pub fn write_config(config: &Config) -> Map<String, Value> {
    let mut map = bert::write_config(config);
    map.insert("relative_attention_num_buckets".into(), json!(config.relative_buckets));
    map.remove("type_vocab_size");
    map
}
