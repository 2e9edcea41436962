//! Tiny models in temporary folders, for the tests.
#![allow(dead_code)] // each test file uses its part

pub mod shapes;

use lacuna_models::{Classifier, MicroBatch, PackedBatch, Precision, Problem, Span, Targets, TrainConfig};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The committed checkpoint of an architecture: hidden 32, 2 layers, 4 heads, vocabulary 40, 12 positions.
pub fn golden(architecture: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(architecture)
}

pub fn labels(names: &[&str]) -> Vec<String> {
    names.iter().map(|s| s.to_string()).collect()
}

pub fn load(folder: &Path) -> Classifier {
    Classifier::load_for(problem(&folder.to_string_lossy()), folder, &labels(&["a", "b", "c"]), 1).unwrap()
}

/// The problem of a golden model, by its name.
pub fn problem(name: &str) -> Problem {
    if name.ends_with("_several") { Problem::MultiLabel } else { Problem::SingleLabel }
}

/// The message of the error of loading a folder.
#[track_caller]
pub fn load_error(folder: &Path) -> String {
    match Classifier::load(folder, &labels(&["a", "b", "c"]), 1) {
        Ok(_) => panic!("{} loaded", folder.display()),
        Err(e) => e.to_string(),
    }
}

/// Values that transformers gave for a committed checkpoint.
pub struct Golden {
    pub folder: PathBuf,
    bytes: Vec<u8>,
}

impl Golden {
    pub fn open(architecture: &str) -> Self {
        Self::file(architecture, "golden.safetensors")
    }

    /// Those of another file in its folder.
    pub fn file(architecture: &str, name: &str) -> Self {
        let folder = golden(architecture);
        let bytes = fs::read(folder.join(name)).unwrap();
        Golden { folder, bytes }
    }

    pub fn floats(&self, name: &str) -> Vec<f32> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        file.tensor(name).unwrap().data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        SafeTensors::deserialize(&self.bytes).unwrap().tensor(name).is_ok()
    }

    pub fn integers(&self, name: &str) -> Vec<u32> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        file.tensor(name).unwrap().data().chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as u32).collect()
    }

    pub fn model(&self) -> Classifier {
        let problem = problem(&self.folder.to_string_lossy());
        let mut model = Classifier::load_for(problem, &self.folder, &labels(&["LABEL_0", "LABEL_1", "LABEL_2"]), 1).unwrap();
        model.set_precision(Precision::F32);
        model
    }

    pub fn batch(&self) -> PackedBatch {
        let [input_ids, token_type_ids, cu_seqlens] = ["input_ids", "token_type_ids", "cu_seqlens"].map(|name| self.integers(name));
        PackedBatch { input_ids, token_type_ids, cu_seqlens }
    }
}

/// The largest difference, relative to the largest expected number.
pub fn distance(actual: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(actual.len(), expected.len());
    let largest = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    actual.iter().zip(expected).fold(0.0, |m: f32, (a, e)| if (a - e).abs() > m || a.is_nan() { (a - e).abs() } else { m }) / largest
}

/// A copy of a committed checkpoint, with a tokenizer, in a folder of its own.
pub fn copy(architecture: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(golden(architecture).join(name), folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("tokenizer.json"), tokenizer_json()).unwrap();
    folder
}

/// A word-piece tokenizer of 40 tokens that pads and truncates, as files from the hub do.
pub fn tokenizer_json() -> String {
    let mut tokens = labels(&["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##b", "good", "bad", "film"]);
    tokens.extend((tokens.len()..40).map(|i| format!("word{i}")));
    let vocab: serde_json::Map<String, serde_json::Value> = tokens.iter().enumerate().map(|(i, t)| (t.clone(), i.into())).collect();
    let special = |i: usize| {
        json!({
            "id": i, "content": tokens[i], "special": true,
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        })
    };
    json!({
        "version": "1.0",
        "truncation": {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {
            "strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]",
        },
        "added_tokens": (0..5).map(special).collect::<Vec<_>>(),
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": null,
        "decoder": null,
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab,
        },
    })
    .to_string()
}

/// Rows of these lengths with token ids that differ.
pub fn batch(lengths: &[u32]) -> PackedBatch {
    let tokens: u32 = lengths.iter().sum();
    let mut cu_seqlens = vec![0];
    lengths.iter().for_each(|n| cu_seqlens.push(cu_seqlens[cu_seqlens.len() - 1] + n));
    PackedBatch { input_ids: (0..tokens).map(|i| (i * 7 + 5) % 40).collect(), token_type_ids: vec![0; tokens as usize], cu_seqlens }
}

/// Rewrites every tensor of a folder's weight file: name, shape and f32 data; `None` drops it.
pub fn rewrite(folder: &Path, change: impl Fn(&str, &[usize], Vec<f32>) -> Option<(String, Vec<usize>, Vec<f32>)>) {
    let model = load(folder);
    let bytes = model.to_safetensors().unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let changed: HashMap<String, (Vec<usize>, Vec<u8>)> = file
        .iter()
        .filter_map(|(name, view)| {
            let data = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
            change(name, view.shape(), data)
        })
        .map(|(name, shape, data)| (name, (shape, data.iter().flat_map(|x| x.to_le_bytes()).collect())))
        .collect();
    let views = changed.iter().map(|(name, (shape, data))| (name, TensorView::new(Dtype::F32, shape.clone(), data).unwrap()));
    fs::write(folder.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Changes fields of a folder's config.json; null removes one.
pub fn configure(folder: &Path, changes: serde_json::Value) {
    let path = folder.join("config.json");
    let mut config: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (key, value) in changes.as_object().unwrap() {
        if value.is_null() {
            config.remove(key);
        } else {
            config.insert(key.clone(), value.clone());
        }
    }
    fs::write(path, serde_json::to_string(&config).unwrap()).unwrap();
}

/// A copy of a model with one tensor moved along `direction` (the flat gradients).
pub fn copy_moved(from: &Path, to: &Path, wanted: &str, direction: &[f32], step: f32) {
    for name in ["config.json", "model.safetensors"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
    let places: HashMap<_, _> = load(from).parameters().map(|(name, range, _)| (name, range)).collect();
    rewrite(to, |name, shape, mut data| {
        if name == wanted {
            data.iter_mut().zip(&direction[places[name].clone()]).for_each(|(x, d)| *x += step * d);
        }
        Some((name.into(), shape.to_vec(), data))
    });
}

/// Eight steps of training with this dropout.
pub fn rates(rate: f32) -> TrainConfig {
    TrainConfig {
        lr: 1e-2,
        weight_decay: 0.1,
        warmup_ratio: 0.2,
        max_grad_norm: Some(0.5),
        hidden_dropout: rate,
        attention_dropout: rate,
        classifier_dropout: rate,
        total_steps: 8,
        precision: Precision::F32,
        seed: 11,
        ..TrainConfig::default()
    }
}

/// Two token types, soft targets and a row that does not count.
pub fn labelled(lengths: &[u32]) -> (PackedBatch, Vec<f32>, Vec<f32>) {
    let mut batch = batch(lengths);
    batch.token_type_ids.iter_mut().enumerate().for_each(|(i, id)| *id = (i % 3 == 1) as u32);
    let rows = lengths.len();
    let targets = (0..rows).flat_map(|i| (0..3).map(move |l| if i % 3 == l { 0.8 } else { 0.1 })).collect();
    let weights = (0..rows).map(|i| if i == 1 { 0.0 } else { 0.5 + i as f32 }).collect();
    (batch, targets, weights)
}

/// A span in each row.
pub fn spans(lengths: &[u32]) -> Vec<Span> {
    lengths.iter().map(|&n| Span { start: n as usize / 3, end: n as usize / 2 }).collect()
}

pub fn micro_batch<'a>(batch: &'a PackedBatch, probabilities: &'a [f32], weights: &'a [f32]) -> MicroBatch<'a> {
    MicroBatch { batch, targets: Targets::Labels { probabilities, weights } }
}

/// The first row of a batch of 4, 2 and 6 tokens, and the others.
pub fn parts(all: &PackedBatch) -> [PackedBatch; 2] {
    let [first, second] = [0..4, 4..12].map(|tokens| PackedBatch {
        input_ids: all.input_ids[tokens.clone()].to_vec(),
        token_type_ids: all.token_type_ids[tokens].to_vec(),
        ..PackedBatch::default()
    });
    let first = PackedBatch { cu_seqlens: vec![0, 4], ..first };
    let second = PackedBatch { cu_seqlens: vec![0, 2, 8], ..second };
    [first, second]
}
