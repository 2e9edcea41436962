//! The dimensions of a model without a config.json: from the names and shapes of its tensors.

use crate::ModelError;
use crate::config::{Architecture, Config};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Infers the dimensions from tensors: `shapes` by their names without prefix.
///
/// The number of heads cannot be inferred from shapes. The rule: 12 heads of 32 for a hidden size of 384 (MiniLM), heads of 64 from a
/// hidden size of 512; anything else needs a config.json.
pub fn infer(weights: &Path, shapes: &HashMap<String, Vec<usize>>) -> Result<Config, ModelError> {
    let architecture = [Architecture::Bert, Architecture::DistilBert]
        .into_iter()
        .find(|a| shapes.contains_key(&format!("{}.0.{}.weight", a.names().layer, a.names().query)))
        .ok_or_else(|| {
            ModelError::checkpoint(weights, "neither a BERT nor a DistilBERT layer is in the file, and no config.json beside it")
        })?;
    let names = architecture.names();
    let matrix = |name: &str| match shapes.get(name).map(Vec::as_slice) {
        Some(&[rows, columns]) if rows > 0 && columns > 0 => Ok((rows, columns)),
        Some(other) => Err(ModelError::checkpoint(weights, format!("tensor `{name}` has shape {other:?}, not that of a matrix"))),
        None => Err(ModelError::MissingTensor { path: weights.into(), tensor: name.into(), model: architecture.name() }),
    };
    let (vocab_size, hidden_size) = matrix("embeddings.word_embeddings.weight")?;
    let layer = |i: usize| format!("{}.{i}.{}.weight", names.layer, names.query);
    let bert = architecture == Architecture::Bert;
    let config = Config {
        architecture,
        vocab_size,
        hidden_size,
        embedding_size: hidden_size,
        num_hidden_layers: (0..).take_while(|&i| shapes.contains_key(&layer(i))).count(),
        num_attention_heads: heads(hidden_size).ok_or_else(|| ambiguous_heads(weights, hidden_size))?,
        intermediate_size: matrix(&format!("{}.0.{}.weight", names.layer, names.intermediate))?.0,
        max_position_embeddings: matrix("embeddings.position_embeddings.weight")?.0,
        first_position: 0,
        type_vocab_size: if bert { matrix("embeddings.token_type_embeddings.weight")?.0 } else { 0 },
        relative_buckets: 0,
        layer_norm_eps: 1e-12,
        hidden_dropout: 0.1,
        attention_dropout: 0.1,
        classifier_dropout: if bert { 0.1 } else { 0.2 },
        pad_token_id: 0,
        modern: None,
        disentangled: None,
    };
    config.check(weights)?;
    Ok(config)
}

/// The number of heads by the rule of [`infer`].
fn heads(hidden_size: usize) -> Option<usize> {
    match hidden_size {
        384 => Some(12),
        512.. if hidden_size.is_multiple_of(64) => Some(hidden_size / 64),
        _ => None,
    }
}

fn ambiguous_heads(weights: &Path, hidden_size: usize) -> ModelError {
    let path: PathBuf = weights.with_file_name("config.json");
    let reason = format!(
        "the tensors do not tell how many attention heads a hidden size of {hidden_size} has; add the model's config.json \
         (with `model_type` and `num_attention_heads`)"
    );
    ModelError::Config { path, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_by_the_rule() {
        let found = [128, 256, 384, 512, 520, 768, 1024].map(heads);
        assert_eq!(found, [None, None, Some(12), Some(8), None, Some(12), Some(16)]);
    }
}
