//! BERT (Devlin et al., arXiv 1810.04805): its names in config.json and in checkpoints.

use crate::ModelError;
use crate::config::{Architecture, Config};
use crate::fields::{Fields, decimal};
use crate::names::Names;
use serde_json::{Map, Value, json};

/// The parameters of `BertForSequenceClassification`.
pub const NAMES: Names = Names {
    prefix: "bert.",
    words: "embeddings.word_embeddings",
    embedding_norm: "embeddings.LayerNorm",
    layer: "encoder.layer",
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    attention_output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    intermediate: "intermediate.dense",
    output: "output.dense",
    output_norm: "output.LayerNorm",
    head: "bert.pooler.dense",
    classifier: "classifier",
    spans: "qa_outputs",
};

/// Reads the fields of a BERT config.json.
pub fn read_config(fields: &Fields) -> Result<Config, ModelError> {
    Ok(Config { type_vocab_size: fields.size("type_vocab_size")?, ..read_config_without_types(fields)? })
}

/// Reads those that models of its shape without token types have too.
pub fn read_config_without_types(fields: &Fields) -> Result<Config, ModelError> {
    fields.must_be("hidden_act", "gelu")?;
    fields.must_be("position_embedding_type", "absolute")?;
    fields.must_be("is_decoder", false)?;
    let hidden_dropout = fields.rate("hidden_dropout_prob", 0.1)?;
    let hidden_size = fields.size("hidden_size")?;
    Ok(Config {
        architecture: Architecture::Bert,
        vocab_size: fields.size("vocab_size")?,
        hidden_size,
        embedding_size: hidden_size,
        num_hidden_layers: fields.size("num_hidden_layers")?,
        num_attention_heads: fields.size("num_attention_heads")?,
        intermediate_size: fields.size("intermediate_size")?,
        max_position_embeddings: fields.size("max_position_embeddings")?,
        first_position: 0,
        type_vocab_size: 0,
        relative_buckets: 0,
        layer_norm_eps: fields.number("layer_norm_eps", 1e-12)?,
        hidden_dropout,
        attention_dropout: fields.rate("attention_probs_dropout_prob", 0.1)?,
        classifier_dropout: fields.rate("classifier_dropout", hidden_dropout)?,
        pad_token_id: fields.number("pad_token_id", 0.0)? as u32,
        modern: None,
        disentangled: None,
    })
}

/// The fields of config.json that belong to BERT.
pub fn write_config(config: &Config) -> Map<String, Value> {
    let fields = json!({
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "intermediate_size": config.intermediate_size,
        "hidden_act": "gelu",
        "hidden_dropout_prob": decimal(config.hidden_dropout),
        "attention_probs_dropout_prob": decimal(config.attention_dropout),
        "classifier_dropout": decimal(config.classifier_dropout),
        "max_position_embeddings": config.first_position + config.max_position_embeddings,
        "type_vocab_size": config.type_vocab_size,
        "layer_norm_eps": config.layer_norm_eps,
        "initializer_range": 0.02,
        "position_embedding_type": "absolute",
    });
    serde_json::from_value(fields).unwrap_or_default()
}
