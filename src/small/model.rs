//! A small model with the head that its task asks for: one that labels, or one that finds answers.

use std::ops::{Deref, DerefMut};
use std::path::Path;

use lacuna_models::{Classifier, ModelError, Network, SpanExtractor, TextEncoder};
use serde_json::Value;

use crate::error::{Error, Result};

/// A BERT or DistilBERT with one of the two heads; a clone copies its parameters.
#[derive(Clone)]
pub enum Model {
    Labels(Classifier),
    Answers(SpanExtractor),
}

impl Deref for Model {
    type Target = Network;

    fn deref(&self) -> &Network {
        match self {
            Model::Labels(model) => model,
            Model::Answers(model) => model,
        }
    }
}

impl DerefMut for Model {
    fn deref_mut(&mut self) -> &mut Network {
        match self {
            Model::Labels(model) => model,
            Model::Answers(model) => model,
        }
    }
}

impl Model {
    /// Loads a pretrained encoder or a saved model for these labels, or, without labels, for answers; a head that is not in the file
    /// is drawn, seeded by `init_seed`.
    ///
    /// # Errors
    /// As for [`Classifier::load`].
    pub fn load(folder: &Path, labels: &[String], init_seed: u64) -> Result<Self, ModelError> {
        if labels.is_empty() {
            return SpanExtractor::load(folder, init_seed).map(Model::Answers);
        }
        Classifier::load(folder, labels, init_seed).map(Model::Labels)
    }

    /// The labels, in the order of the logits; none for a model that finds answers.
    pub fn labels(&self) -> &[String] {
        match self {
            Model::Labels(model) => model.labels(),
            Model::Answers(_) => &[],
        }
    }

    /// Writes a folder that transformers opens.
    pub fn save(&self, folder: &Path, encoder: &TextEncoder) -> Result<(), ModelError> {
        match self {
            Model::Labels(model) => model.save(folder, encoder),
            Model::Answers(model) => model.save(folder, encoder),
        }
    }
}

/// The labels of a saved model, by its config.json; none for one that finds answers.
///
/// # Errors
/// No readable config.json, or neither a classifier's nor an extractor's.
pub fn saved_labels(folder: &Path) -> Result<Vec<String>> {
    let path = folder.join("config.json");
    let content = std::fs::read(&path).map_err(Error::io("read", &path))?;
    let config: Value = serde_json::from_slice(&content).map_err(|e| Error::Model(format!("{}: not JSON: {e}", path.display())))?;
    let mut architectures = config["architectures"].as_array().into_iter().flatten().filter_map(Value::as_str);
    if architectures.any(|name| name.ends_with("ForQuestionAnswering")) {
        return Ok(Vec::new());
    }
    let labels = config["id2label"].as_object().map(|map| {
        let name = |i: usize| map.get(&i.to_string()).and_then(Value::as_str).map(str::to_string);
        (0..map.len()).map_while(name).collect::<Vec<_>>()
    });
    let message = || format!("{}: no id2label with two labels or more; name the model folder of a run", path.display());
    labels.filter(|labels| labels.len() >= 2).ok_or_else(|| Error::Model(message()))
}
