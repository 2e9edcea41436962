//! DeBERTa-v2 and v3 (He et al., arXiv 2006.03654 and 2111.09543): BERT's encoder without a table of positions, whose attention meets
//! relative positions; a head with GELU.

use crate::ModelError;
use crate::bert;
use crate::config::{Architecture, Config, Distances};
use crate::fields::Fields;
use crate::names::Names;
use serde_json::{Map, Value, json};

/// The parameters of `DebertaV2ForSequenceClassification`. (It drops out numbers of relative positions in each layer too; we do not.)
pub const NAMES: Names = Names {
    prefix: "deberta.",
    query: "attention.self.query_proj",
    key: "attention.self.key_proj",
    value: "attention.self.value_proj",
    head: "pooler.dense",
    ..bert::NAMES
};

/// Reads the fields of a config.json, whose defaults are those of no published model: what decides the shape must be there.
pub fn read_config(fields: &Fields) -> Result<Config, ModelError> {
    for (field, wanted) in [("relative_attention", json!(true)), ("position_biased_input", json!(false)), ("share_att_key", json!(true))] {
        fields.must_be_there(field, wanted)?;
    }
    fields.must_be_there("norm_rel_ebd", "layer_norm")?;
    fields.must_be("pooler_hidden_act", "gelu")?;
    fields.must_be("conv_kernel_size", 0)?;
    let config = bert::read_config_without_types(fields)?;
    fields.must_be("embedding_size", config.hidden_size)?;
    fields.must_be("pooler_hidden_size", config.hidden_size)?;
    both_ways(fields)?;
    let type_vocab_size = match fields.get("type_vocab_size").and_then(Value::as_u64) {
        None | Some(0) => 0,
        Some(_) => fields.size("type_vocab_size")?,
    };
    let buckets = fields.size("position_buckets")?;
    // A number below 1 stands for that of the positions.
    let farthest = fields.get("max_relative_positions").and_then(Value::as_u64).filter(|&farthest| farthest > 0);
    let farthest = farthest.map_or(config.max_position_embeddings, |farthest| farthest as usize);
    if buckets < 4 || farthest <= buckets / 2 + 1 {
        return fields.error(format!("{buckets} `position_buckets` up to a distance of {farthest}"));
    }
    Ok(Config {
        architecture: Architecture::Deberta,
        type_vocab_size,
        layer_norm_eps: fields.number("layer_norm_eps", 1e-7)?,
        classifier_dropout: fields.rate("cls_dropout", config.hidden_dropout)?,
        disentangled: Some(Distances { buckets, farthest }),
        ..config
    })
}

/// Whether queries meet the positions of keys and keys those of queries: `pos_att_type` is a list, or words with bars between.
fn both_ways(fields: &Fields) -> Result<(), ModelError> {
    let kinds = fields.get("pos_att_type").cloned().unwrap_or_default();
    let words: Vec<&str> = match &kinds {
        Value::String(words) => words.split('|').map(str::trim).collect(),
        Value::Array(words) => words.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let known = words.len() == 2 && ["c2p", "p2c"].iter().all(|kind| words.contains(kind));
    if known { Ok(()) } else { fields.error(format!("`pos_att_type` is {kinds}; only \"p2c|c2p\" is supported")) }
}

/// The fields of config.json that belong to it.
pub fn write_config(config: &Config, distances: &Distances) -> Map<String, Value> {
    let mut map = bert::write_config(config);
    map.remove("position_embedding_type");
    map.remove("classifier_dropout");
    let further = json!({
        "relative_attention": true,
        "position_biased_input": false,
        "share_att_key": true,
        "norm_rel_ebd": "layer_norm",
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": distances.buckets,
        "max_relative_positions": distances.farthest,
        "cls_dropout": crate::fields::decimal(config.classifier_dropout),
        "pooler_dropout": 0,
        "pooler_hidden_act": "gelu",
        "pooler_hidden_size": config.hidden_size,
    });
    map.extend(further.as_object().cloned().unwrap_or_default());
    map
}
