//! The dimensions of a model: from config.json, or from the names and shapes of its tensors.

use crate::{ModelError, bert, distilbert, layout::Names};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The architectures of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    Bert,
    DistilBert,
}

impl Architecture {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Bert => "BERT",
            Architecture::DistilBert => "DistilBERT",
        }
    }

    pub(crate) fn names(self) -> &'static Names {
        match self {
            Architecture::Bert => &bert::NAMES,
            Architecture::DistilBert => &distilbert::NAMES,
        }
    }
}

/// Dimensions and default dropout rates of an encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub architecture: Architecture,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub intermediate_size: usize,
    /// The longest sequence, in tokens.
    pub max_position_embeddings: usize,
    /// 0 for a model without token types.
    pub type_vocab_size: usize,
    pub layer_norm_eps: f64,
    /// Dropout rates the model was made for.
    pub hidden_dropout: f32,
    pub attention_dropout: f32,
    pub classifier_dropout: f32,
    pub pad_token_id: u32,
}

/// The object of a config.json, read field by field with errors that name file and field.
pub(crate) struct Fields<'a> {
    path: &'a Path,
    map: &'a Map<String, Value>,
}

/// No dimension of a real model is larger; products of two stay far from overflow.
const LARGEST: u64 = 1 << 24;
/// More layers than this are a mistake.
const MOST_LAYERS: usize = 1024;

impl Fields<'_> {
    fn error<T>(&self, reason: String) -> Result<T, ModelError> {
        Err(ModelError::config(self.path, reason))
    }

    /// A dimension: a whole number from 1.
    pub fn size(&self, key: &str) -> Result<usize, ModelError> {
        match self.map.get(key).map(|v| (v, v.as_u64())) {
            None => self.error(format!("`{key}` is missing")),
            Some((_, Some(n))) if (1..=LARGEST).contains(&n) => Ok(n as usize),
            Some((v, _)) => self.error(format!("`{key}` is {v}, not a whole number from 1 to {LARGEST}")),
        }
    }

    /// A number from 0, or what it is when it is not there (or null).
    pub fn number(&self, key: &str, default: f64) -> Result<f64, ModelError> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(v) => match v.as_f64() {
                Some(x) if x >= 0.0 => Ok(x),
                _ => self.error(format!("`{key}` is {v}, not a number from 0")),
            },
        }
    }

    /// A dropout rate in [0, 1).
    pub fn rate(&self, key: &str, default: f32) -> Result<f32, ModelError> {
        match self.number(key, default as f64)? as f32 {
            rate if rate < 1.0 => Ok(rate),
            rate => self.error(format!("`{key}` is {rate}, not a rate below 1")),
        }
    }

    /// A field that may be absent, but has only one value that this crate implements.
    pub fn must_be(&self, key: &str, wanted: impl Into<Value>) -> Result<(), ModelError> {
        let wanted = wanted.into();
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(()),
            Some(v) if *v == wanted => Ok(()),
            Some(v) => self.error(format!("`{key}` is {v}; only {wanted} is supported")),
        }
    }
}

/// What config.json says: dimensions, if it is a transformer's, and the labels of a saved classifier.
pub(crate) struct Read {
    pub config: Option<Config>,
    pub labels: Vec<String>,
}

impl Config {
    /// Reads `folder`/config.json. No `config` if the file is absent or says nothing about a transformer (a pooling config).
    pub(crate) fn read(folder: &Path) -> Result<Read, ModelError> {
        let path = folder.join("config.json");
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Read { config: None, labels: Vec::new() }),
            Err(e) => return Err(ModelError::file(&path)(e)),
        };
        let map: Map<String, Value> =
            serde_json::from_slice(&text).map_err(|e| ModelError::config(&path, format!("not a JSON object: {e}")))?;
        let fields = Fields { path: &path, map: &map };
        let config = match map.get("model_type").map(|v| v.as_str().unwrap_or_default()) {
            Some("bert") => Some(bert::read_config(&fields)?),
            Some("distilbert") => Some(distilbert::read_config(&fields)?),
            Some(other) => {
                return fields.error(format!("`model_type` is \"{other}\"; only bert and distilbert are supported"));
            }
            None if map.contains_key("hidden_size") => Some(bert::read_config(&fields)?),
            None if map.contains_key("dim") => Some(distilbert::read_config(&fields)?),
            None => None,
        };
        config.as_ref().map_or(Ok(()), |config| config.check(&path))?;
        Ok(Read { config, labels: labels(&map) })
    }

    fn check(&self, path: &Path) -> Result<(), ModelError> {
        let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
        if !hidden.is_multiple_of(heads) {
            return Err(ModelError::config(path, format!("a hidden size of {hidden} cannot be split into {heads} heads")));
        }
        if self.num_hidden_layers > MOST_LAYERS {
            return Err(ModelError::config(path, format!("{} layers are more than {MOST_LAYERS}", self.num_hidden_layers)));
        }
        Ok(())
    }

    /// Infers the dimensions from tensors: `shapes` by their names without prefix.
    ///
    /// The number of heads shows in no shape. The rule: 12 heads of 32 for a hidden size of 384 (MiniLM), heads of 64 from a hidden
    /// size of 512; anything else needs a config.json.
    pub(crate) fn infer(weights: &Path, shapes: &HashMap<String, Vec<usize>>) -> Result<Config, ModelError> {
        let architecture = [Architecture::Bert, Architecture::DistilBert]
            .into_iter()
            .find(|a| shapes.contains_key(&format!("{}.0.{}.weight", a.names().layer, a.names().query)))
            .ok_or_else(|| ModelError::checkpoint(weights, "neither a BERT nor a DistilBERT layer is in the file"))?;
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
            num_hidden_layers: (0..).take_while(|&i| shapes.contains_key(&layer(i))).count(),
            num_attention_heads: heads(hidden_size).ok_or_else(|| ambiguous_heads(weights, hidden_size))?,
            intermediate_size: matrix(&format!("{}.0.{}.weight", names.layer, names.intermediate))?.0,
            max_position_embeddings: matrix("embeddings.position_embeddings.weight")?.0,
            type_vocab_size: if bert { matrix("embeddings.token_type_embeddings.weight")?.0 } else { 0 },
            layer_norm_eps: 1e-12,
            hidden_dropout: 0.1,
            attention_dropout: 0.1,
            classifier_dropout: if bert { 0.1 } else { 0.2 },
            pad_token_id: 0,
        };
        config.check(weights)?;
        Ok(config)
    }

    /// Width of an attention head.
    pub fn head_size(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// The fields that every head has.
    fn to_map(&self) -> Map<String, Value> {
        let mut map = match self.architecture {
            Architecture::Bert => bert::write_config(self),
            Architecture::DistilBert => distilbert::write_config(self),
        };
        map.insert("pad_token_id".into(), json!(self.pad_token_id));
        map.insert("torch_dtype".into(), json!("float32"));
        map
    }

    /// A config.json that `AutoModelForQuestionAnswering` reads.
    pub(crate) fn to_span_json(&self) -> String {
        let mut map = self.to_map();
        let class = match self.architecture {
            Architecture::Bert => "BertForQuestionAnswering",
            Architecture::DistilBert => "DistilBertForQuestionAnswering",
        };
        map.insert("architectures".into(), json!([class]));
        format!("{:#}\n", Value::Object(map))
    }

    /// A config.json that `AutoModelForSequenceClassification` reads.
    pub(crate) fn to_json(&self, labels: &[String]) -> String {
        let mut map = self.to_map();
        let id2label: Map<String, Value> = labels.iter().enumerate().map(|(i, l)| (i.to_string(), json!(l))).collect();
        let label2id: Map<String, Value> = labels.iter().enumerate().map(|(i, l)| (l.clone(), json!(i))).collect();
        map.insert("id2label".into(), Value::Object(id2label));
        map.insert("label2id".into(), Value::Object(label2id));
        map.insert("problem_type".into(), json!("single_label_classification"));
        format!("{:#}\n", Value::Object(map))
    }
}

/// A rate as the decimal number that people write: 0.1, not the f32 next to it.
pub(crate) fn decimal(rate: f32) -> Value {
    rate.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

/// The labels in the order of `id2label`; none if there are gaps.
fn labels(map: &Map<String, Value>) -> Vec<String> {
    let Some(id2label) = map.get("id2label").and_then(Value::as_object) else { return Vec::new() };
    let label = |i: usize| id2label.get(&i.to_string()).and_then(Value::as_str).map(String::from);
    (0..id2label.len()).map(label).collect::<Option<_>>().unwrap_or_default()
}

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

    #[test]
    fn labels_in_the_order_of_their_ids() {
        let read = |text: &str| labels(&serde_json::from_str(text).unwrap());
        assert_eq!(read(r#"{"id2label": {"1": "b", "0": "a"}}"#), ["a", "b"]);
        assert!(read(r#"{"id2label": {"2": "b", "0": "a"}}"#).is_empty() && read("{}").is_empty());
    }

    #[test]
    fn rates_as_people_write_them() {
        assert_eq!(decimal(0.1).to_string(), "0.1");
    }
}
