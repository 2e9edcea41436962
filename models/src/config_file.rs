//! config.json: reading the dimensions and the head, and writing it for a model that is saved.

use crate::ModelError;
use crate::bert;
use crate::config::{Architecture, Config};
use crate::fields::Fields;
use crate::problem::Problem;
use crate::roberta;
use crate::weight_files::weight_files;
use serde_json::{Map, Value, json};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// The config.json of a folder.
pub struct ConfigFile {
    path: PathBuf,
    map: Map<String, Value>,
}

/// The head of a saved model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SavedHead {
    /// Classification; two or more labels in the order of the logits.
    Labels(Vec<String>),
    /// Classification with any number of labels a text.
    LabelSets(Vec<String>),
    /// Question answering.
    Span,
}

/// The head of the model saved in `folder`, by its config.json.
///
/// # Errors
/// A config.json that is missing or not a JSON object; a model that neither has two labels or more nor answers questions.
pub fn saved_head(folder: &Path) -> Result<SavedHead, ModelError> {
    let path = folder.join("config.json");
    let file = ConfigFile::read(folder)?.ok_or_else(|| ModelError::file(&path)(ErrorKind::NotFound.into()))?;
    if file.answers_questions() {
        return Ok(SavedHead::Span);
    }
    let several = file.problem() == Some(Problem::MultiLabel);
    match file.labels() {
        Some(labels) if several && !labels.is_empty() => Ok(SavedHead::LabelSets(labels)),
        Some(labels) if labels.len() >= 2 => Ok(SavedHead::Labels(labels)),
        // transformers leaves out labels that have no names of their own.
        None if !file.map.contains_key("id2label") => match rows_of_classifier(folder)? {
            Some(rows) if rows >= 2 => {
                let labels = (0..rows).map(|i| format!("LABEL_{i}")).collect();
                Ok(if several { SavedHead::LabelSets(labels) } else { SavedHead::Labels(labels) })
            }
            _ => Err(ModelError::config(
                &path,
                "`id2label` is missing, and no classifier of two labels or more is in model.safetensors; is it the folder of a trained model?",
            )),
        },
        _ => Err(ModelError::config(&path, "`id2label` does not name two labels or more; is it the folder of a trained model?")),
    }
}

/// Number of rows of the last layer in a folder's weight files, from their headers alone; `None` if there is no such layer or file.
fn rows_of_classifier(folder: &Path) -> Result<Option<usize>, ModelError> {
    for path in weight_files(folder)? {
        if let Some(rows) = rows_in(&path)? {
            return Ok(Some(rows));
        }
    }
    Ok(None)
}

fn rows_in(path: &Path) -> Result<Option<usize>, ModelError> {
    let file = match std::fs::File::open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(ModelError::file(path))?,
    };
    let mut header = Vec::new();
    let mut length = [0; 8];
    let read = (&file).read_exact(&mut length).and_then(|()| (&file).take(u64::from_le_bytes(length)).read_to_end(&mut header));
    read.map_err(ModelError::file(path))?;
    let header: Value = serde_json::from_slice(&header).map_err(|_| ModelError::config(path, "not a whole safetensors file"))?;
    let rows = |name: &str| header[name]["shape"][0].as_u64().and_then(|rows| usize::try_from(rows).ok());
    Ok([bert::NAMES.classifier, roberta::NAMES.classifier].iter().find_map(|layer| rows(&format!("{layer}.weight"))))
}

impl ConfigFile {
    /// Reads `folder`/config.json; none if there is no such file.
    pub fn read(folder: &Path) -> Result<Option<Self>, ModelError> {
        let path = folder.join("config.json");
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(ModelError::file(&path)(e)),
        };
        let map = serde_json::from_slice(&text).map_err(|e| ModelError::config(&path, format!("not a JSON object: {e}")))?;
        Ok(Some(ConfigFile { path, map }))
    }

    /// The dimensions; `None` if the file does not describe a transformer (such as a pooling config).
    pub fn config(&self) -> Result<Option<Config>, ModelError> {
        let fields = Fields::new(&self.path, &self.map);
        let architecture = match self.map.get("model_type").map(|v| v.as_str().unwrap_or_default()) {
            Some(named) => match Architecture::of_type(named) {
                Some(architecture) => architecture,
                None => {
                    let known: Vec<&str> = Architecture::all().map(Architecture::model_type).collect();
                    return fields.error(format!("`model_type` is \"{named}\"; supported are {}", known.join(", ")));
                }
            },
            None if self.map.contains_key("hidden_size") => Architecture::Bert,
            None if self.map.contains_key("dim") => Architecture::DistilBert,
            None => return Ok(None),
        };
        let config = architecture.read_config(&fields)?;
        config.check(&self.path)?;
        Ok(Some(config))
    }

    /// A field.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.map.get(name)
    }

    /// The labels in the order of their ids; none if there is no `id2label` or an id from 0 on is missing.
    pub fn labels(&self) -> Option<Vec<String>> {
        let id2label = self.map.get("id2label")?.as_object()?;
        (0..id2label.len()).map(|i| id2label.get(&i.to_string())?.as_str().map(String::from)).collect()
    }

    /// How many labels a text has, if it says so.
    pub(crate) fn problem(&self) -> Option<Problem> {
        Problem::named(self.map.get("problem_type")?.as_str()?)
    }

    /// From which probability on a text has each of so many labels; empty if there is not one for each.
    pub(crate) fn thresholds(&self, labels: usize) -> Vec<f32> {
        let stated = self.map.get("thresholds").and_then(Value::as_array);
        let thresholds: Vec<f32> = stated.into_iter().flatten().filter_map(|x| Some(x.as_f64()? as f32)).collect();
        if thresholds.len() == labels { thresholds } else { Vec::new() }
    }

    /// Whether it belongs to a model with a span head.
    pub(crate) fn answers_questions(&self) -> bool {
        let mut architectures = self.map.get("architectures").and_then(Value::as_array).into_iter().flatten();
        architectures.any(|name| name.as_str().is_some_and(|name| name.ends_with("ForQuestionAnswering")))
    }
}

impl Config {
    /// The fields that every head has, for a model of transformers whose class ends so.
    fn to_map(&self, class: &str) -> Map<String, Value> {
        let mut map = self.fields();
        map.insert("model_type".into(), json!(self.architecture.model_type()));
        map.insert("architectures".into(), json!([format!("{}For{class}", self.architecture.class())]));
        map.insert("pad_token_id".into(), json!(self.pad_token_id));
        map.insert("torch_dtype".into(), json!("float32"));
        map
    }

    /// A config.json that `AutoModelForQuestionAnswering` reads.
    pub(crate) fn to_span_json(&self) -> String {
        format!("{:#}\n", Value::Object(self.to_map("QuestionAnswering")))
    }

    /// A config.json that `AutoModelForSequenceClassification` reads.
    pub(crate) fn to_json(&self, labels: &[String], problem: Problem, thresholds: &[f32]) -> String {
        let mut map = self.to_map("SequenceClassification");
        let id2label: Map<String, Value> = labels.iter().enumerate().map(|(i, l)| (i.to_string(), json!(l))).collect();
        let label2id: Map<String, Value> = labels.iter().enumerate().map(|(i, l)| (l.clone(), json!(i))).collect();
        map.insert("id2label".into(), Value::Object(id2label));
        map.insert("label2id".into(), Value::Object(label2id));
        map.insert("problem_type".into(), json!(problem.name()));
        if !thresholds.is_empty() {
            map.insert("thresholds".into(), json!(thresholds));
        }
        format!("{:#}\n", Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> ConfigFile {
        ConfigFile { path: PathBuf::new(), map: serde_json::from_str(text).unwrap() }
    }

    #[test]
    fn labels_in_the_order_of_their_ids() {
        assert_eq!(file(r#"{"id2label": {"1": "b", "0": "a"}}"#).labels().unwrap(), ["a", "b"]);
        assert!(file(r#"{"id2label": {"2": "b", "0": "a"}}"#).labels().is_none() && file("{}").labels().is_none());
    }

    #[test]
    fn heads_of_saved_models() {
        let folder = tempfile::tempdir().unwrap();
        let head = |text: &str| {
            std::fs::write(folder.path().join("config.json"), text).unwrap();
            saved_head(folder.path()).map_err(|e| e.to_string())
        };
        assert_eq!(head(r#"{"id2label": {"1": "b", "0": "a"}}"#), Ok(SavedHead::Labels(vec!["a".into(), "b".into()])));
        assert_eq!(head(r#"{"architectures": ["BertForQuestionAnswering"], "id2label": {"0": "x"}}"#), Ok(SavedHead::Span));
        for (text, words) in [("{}", "`id2label` is missing"), (r#"{"id2label": {"0": "a"}}"#, "two labels or more"), ("[]", "not a JSON")]
        {
            let error = head(text).unwrap_err();
            assert!(error.contains("config.json") && error.contains(words), "{error}");
        }
        let header = br#"{"classifier.weight":{"dtype":"F32","shape":[3,4],"data_offsets":[0,48]}}"#;
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header].concat();
        std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
        assert_eq!(head("{}"), Ok(SavedHead::Labels(vec!["LABEL_0".into(), "LABEL_1".into(), "LABEL_2".into()])));
        let error = saved_head(&folder.path().join("nothing")).unwrap_err();
        assert!(matches!(error, ModelError::File { .. }), "{error}");
    }
}
