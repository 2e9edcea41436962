//! ModernBERT (Warner et al., arXiv 2412.13663): its names in config.json and in checkpoints. Its layers are in `pre_norm.rs`.

use crate::ModelError;
use crate::config::{Architecture, Config, Modern};
use crate::fields::{Fields, decimal};
use crate::names::Names;
use serde_json::{Map, Value, json};

/// The parameters of `ModernBertForSequenceClassification`: query, key and value are one matrix, and nothing but the classifier has a bias.
pub const NAMES: Names = Names {
    prefix: "model.",
    words: "embeddings.tok_embeddings",
    embedding_norm: "embeddings.norm",
    layer: "layers",
    query: "attn.Wqkv",
    key: "",
    value: "",
    attention_output: "attn.Wo",
    attention_norm: "attn_norm",
    intermediate: "mlp.Wi",
    output: "mlp.Wo",
    output_norm: "mlp_norm",
    head: "head.dense",
    classifier: "classifier",
    spans: "classifier",
};

/// What `layer_types` calls layers that attend to all tokens, and those that attend to neighbours.
const KINDS: [&str; 2] = ["full_attention", "sliding_attention"];
/// What older files call the bases of their rotary positions, and what those are by default.
const THETAS: [(&str, f64); 2] = [("global_rope_theta", 160_000.0), ("local_rope_theta", 10_000.0)];

/// Reads the fields of a config.json.
pub fn read_config(fields: &Fields) -> Result<Config, ModelError> {
    fields.must_be("hidden_activation", "gelu")?;
    fields.must_be("classifier_activation", "gelu")?;
    fields.must_be("rope_scaling", Value::Null)?;
    ["norm_bias", "attention_bias", "mlp_bias", "classifier_bias"].iter().try_for_each(|bias| fields.must_be(bias, false))?;
    let (hidden_size, num_hidden_layers) = (fields.size("hidden_size")?, fields.size("num_hidden_layers")?);
    let mean_pooling = match fields.get("classifier_pooling").and_then(Value::as_str) {
        None | Some("cls") => false,
        Some("mean") => true,
        Some(other) => return fields.error(format!("`classifier_pooling` is \"{other}\"; it must be \"cls\" or \"mean\"")),
    };
    let modern = Modern {
        thetas: [theta(fields, 0)?, theta(fields, 1)?],
        local_attention: fields.size_or("local_attention", 128)?,
        full: full(fields, num_hidden_layers)?,
        mean_pooling,
    };
    Ok(Config {
        architecture: Architecture::ModernBert,
        vocab_size: fields.size("vocab_size")?,
        hidden_size,
        embedding_size: hidden_size,
        num_hidden_layers,
        num_attention_heads: fields.size("num_attention_heads")?,
        intermediate_size: fields.size("intermediate_size")?,
        max_position_embeddings: fields.size("max_position_embeddings")?,
        first_position: 0,
        type_vocab_size: 0,
        relative_buckets: 0,
        layer_norm_eps: fields.number("norm_eps", 1e-5)?,
        // One rate for the embeddings and the feed-forward.
        hidden_dropout: fields.rate("mlp_dropout", 0.0)?,
        attention_dropout: fields.rate("attention_dropout", 0.0)?,
        classifier_dropout: fields.rate("classifier_dropout", 0.0)?,
        pad_token_id: fields.number("pad_token_id", 50283.0)? as u32,
        modern: Some(modern),
        disentangled: None,
    })
}

/// The base of the rotary positions in layers of a kind. Older files say `null` where all layers have the global one.
fn theta(fields: &Fields, kind: usize) -> Result<f64, ModelError> {
    let (old, default) = match fields.get(THETAS[kind].0) {
        Some(Value::Null) => (THETAS[0].0, THETAS[0].1),
        _ => THETAS[kind],
    };
    let Some(parameters) = fields.get("rope_parameters").and_then(|all| all.get(KINDS[kind])).filter(|of| !of.is_null()) else {
        return fields.number(old, default);
    };
    match (parameters.get("rope_type").and_then(Value::as_str), parameters.get("rope_theta")) {
        (None | Some("default"), None) => fields.number(old, default),
        (None | Some("default"), Some(theta)) if theta.as_f64().is_some_and(|theta| theta > 0.0) => Ok(theta.as_f64().unwrap_or(default)),
        _ => fields.error(format!(
            "`rope_parameters` of {} is {parameters}; only the type \"default\" with a `rope_theta` is supported",
            KINDS[kind]
        )),
    }
}

/// For each layer, whether it attends to all tokens.
fn full(fields: &Fields, layers: usize) -> Result<Vec<bool>, ModelError> {
    let Some(kinds) = fields.get("layer_types").filter(|kinds| !kinds.is_null()) else {
        let every = fields.size_or("global_attn_every_n_layers", 3)?;
        return Ok((0..layers).map(|layer| layer.is_multiple_of(every)).collect());
    };
    let known = |kind: &Value| KINDS.iter().position(|known| kind.as_str() == Some(known)).map(|kind| kind == 0);
    let full: Option<Vec<bool>> = kinds.as_array().and_then(|kinds| kinds.iter().map(known).collect());
    match full {
        Some(full) if full.len() == layers => Ok(full),
        _ => fields.error(format!("`layer_types` is {kinds}; it must name each of the {layers} layers {} or {}", KINDS[0], KINDS[1])),
    }
}

/// The fields of config.json that belong to it, those of older versions of transformers too.
pub fn write_config(config: &Config, modern: &Modern) -> Map<String, Value> {
    let kinds: Vec<&str> = modern.full.iter().map(|&full| KINDS[if full { 0 } else { 1 }]).collect();
    let of = |kind: usize| json!({"rope_type": "default", "rope_theta": modern.thetas[kind]});
    let mut fields = json!({
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "intermediate_size": config.intermediate_size,
        "hidden_activation": "gelu",
        "max_position_embeddings": config.max_position_embeddings,
        "norm_eps": config.layer_norm_eps,
        "norm_bias": false,
        "attention_bias": false,
        "mlp_bias": false,
        "embedding_dropout": decimal(config.hidden_dropout),
        "mlp_dropout": decimal(config.hidden_dropout),
        "attention_dropout": decimal(config.attention_dropout),
        "classifier_dropout": decimal(config.classifier_dropout),
        "classifier_pooling": if modern.mean_pooling { "mean" } else { "cls" },
        "classifier_bias": false,
        "classifier_activation": "gelu",
        "local_attention": modern.local_attention,
        "layer_types": kinds,
        "rope_parameters": {KINDS[0]: of(0), KINDS[1]: of(1)},
        "global_rope_theta": modern.thetas[0],
        "local_rope_theta": modern.thetas[1],
        "initializer_range": 0.02,
    });
    let regular = |every: usize| modern.full.iter().enumerate().all(|(layer, &full)| full == layer.is_multiple_of(every));
    if let Some(every) = (1..=modern.full.len()).find(|&every| regular(every)) {
        fields["global_attn_every_n_layers"] = json!(every);
    }
    serde_json::from_value(fields).unwrap_or_default()
}
