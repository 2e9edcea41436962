//! Which files of a folder hold a model's weights: model.safetensors, or the shards that an index names.

use crate::ModelError;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// Where a model's weights may be in place of safetensors files.
const OTHER_WEIGHTS: [&str; 7] = [
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "tf_model.h5",
    "flax_model.msgpack",
    "adapter_model.safetensors",
    "onnx/model.onnx",
    "model.onnx",
];

/// `folder`/model.safetensors, or the files that `folder`/model.safetensors.index.json names, in the order of their names.
///
/// # Errors
/// Neither is there; an index that cannot be read, or names a file elsewhere or none.
pub fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let (whole, index) = (folder.join("model.safetensors"), folder.join("model.safetensors.index.json"));
    if whole.exists() || !index.exists() {
        let other = OTHER_WEIGHTS.iter().find(|other| !whole.exists() && folder.join(other).exists());
        return match other {
            Some(other) => {
                let again = "load the model with transformers and save it again, with safe_serialization=True";
                Err(ModelError::checkpoint(&whole, format!("is missing, and {other} is not read: {again}")))
            }
            None => Ok(vec![whole]),
        };
    }
    let wrong = |reason: &str| ModelError::checkpoint(&index, reason.to_string());
    let content = std::fs::read(&index).map_err(ModelError::file(&index))?;
    let content: Value = serde_json::from_slice(&content).map_err(|error| wrong(&format!("not an index of weights: {error}")))?;
    let map = content["weight_map"].as_object().ok_or_else(|| wrong("not an index of weights: it has no `weight_map`"))?;
    let names: Option<BTreeSet<&str>> = map.values().map(Value::as_str).collect();
    let names = names.filter(|names| !names.is_empty()).ok_or_else(|| wrong("its `weight_map` does not name files"))?;
    let plain = |name: &str| matches!(Path::new(name).components().collect::<Vec<_>>()[..], [Component::Normal(_)]);
    match names.iter().find(|name| !plain(name)) {
        Some(name) => Err(wrong(&format!("it names {name:?}, which is no file of its folder"))),
        None => Ok(names.into_iter().map(|name| folder.join(name)).collect()),
    }
}
