//! DistilBERT (Sanh et al., arXiv 1910.01108): its names in config.json and in checkpoints.

use crate::ModelError;
use crate::config::{Architecture, Config};
use crate::fields::{Fields, decimal};
use crate::names::Names;
use serde_json::{Map, Value, json};

/// The parameters of `DistilBertForSequenceClassification`.
pub const NAMES: Names = Names {
    prefix: "distilbert.",
    words: "embeddings.word_embeddings",
    embedding_norm: "embeddings.LayerNorm",
    layer: "transformer.layer",
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    attention_output: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    intermediate: "ffn.lin1",
    output: "ffn.lin2",
    output_norm: "output_layer_norm",
    head: "pre_classifier",
    classifier: "classifier",
    spans: "qa_outputs",
};

/// The eps of its LayerNorms, which config.json does not say.
const LAYER_NORM_EPS: f64 = 1e-12;

/// Reads the fields of a DistilBERT config.json. Sinusoidal positions are an initialisation: the checkpoint holds them as a table.
pub fn read_config(fields: &Fields) -> Result<Config, ModelError> {
    fields.must_be("activation", "gelu")?;
    let hidden_size = fields.size("dim")?;
    Ok(Config {
        architecture: Architecture::DistilBert,
        vocab_size: fields.size("vocab_size")?,
        hidden_size,
        embedding_size: hidden_size,
        num_hidden_layers: fields.size("n_layers")?,
        num_attention_heads: fields.size("n_heads")?,
        intermediate_size: fields.size("hidden_dim")?,
        max_position_embeddings: fields.size("max_position_embeddings")?,
        first_position: 0,
        type_vocab_size: 0,
        relative_buckets: 0,
        layer_norm_eps: LAYER_NORM_EPS,
        hidden_dropout: fields.rate("dropout", 0.1)?,
        attention_dropout: fields.rate("attention_dropout", 0.1)?,
        classifier_dropout: fields.rate("seq_classif_dropout", 0.2)?,
        pad_token_id: fields.number("pad_token_id", 0.0)? as u32,
        modern: None,
        disentangled: None,
    })
}

/// The fields of config.json that belong to DistilBERT.
pub fn write_config(config: &Config) -> Map<String, Value> {
    let fields = json!({
        "vocab_size": config.vocab_size,
        "dim": config.hidden_size,
        "n_layers": config.num_hidden_layers,
        "n_heads": config.num_attention_heads,
        "hidden_dim": config.intermediate_size,
        "activation": "gelu",
        "dropout": decimal(config.hidden_dropout),
        "attention_dropout": decimal(config.attention_dropout),
        "seq_classif_dropout": decimal(config.classifier_dropout),
        "max_position_embeddings": config.max_position_embeddings,
        "initializer_range": 0.02,
        "sinusoidal_pos_embds": false,
    });
    serde_json::from_value(fields).unwrap_or_default()
}
