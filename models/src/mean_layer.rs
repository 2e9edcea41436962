//! A classifier that begins with the mean of a text's hidden states, in a model that reads `[CLS]` alone: one more layer computes it.
//!
//! A sentence encoder was trained to say what a text means in the mean of its last hidden states; its `[CLS]` says far less, and its
//! pooler was never trained with it. The layer added here attends to all tokens alike and writes their mean over `[CLS]`; its
//! feed-forward adds nothing, and the dense layer behind it passes on what it gets. (MPNet's relative positions, which all layers share,
//! weigh the tokens by their distance from `[CLS]`: there it is a weighted mean. ModernBERT has a setting for means and gets no layer; its
//! dense layer is its own, or drawn.) So any program that knows the architecture can run
//! the model, and training can turn the mean into something better.

use crate::ModelError;
use crate::architectures::Activation;
use crate::classifier::Classifier;
use crate::config::{Architecture, Config};
use crate::config_file::ConfigFile;
use crate::device::Device;
use crate::layout::{Head, Layout};
use crate::network::Network;
use crate::parameters::{Parameters, draw};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::Value;
use std::path::Path;
use std::sync::OnceLock;

/// How many times the mean counts beside `[CLS]`, whose own state the layer adds.
const MEAN: f32 = 10.0;
/// What the dense layer makes of a state, whose numbers have a variance of 1: tanh is nearly straight there.
const DENSE: f32 = 0.5;
/// Added before a ReLU or GELU, so that three standard deviations pass.
const ABOVE_ZERO: f32 = 3.0 * DENSE;

/// Whether the encoder of a folder says what a text means in the mean of its hidden states: a folder of sentence-transformers says so in
/// `1_Pooling/config.json`; of others those do whose config.json names an encoder without any head, as those of sentence encoders do.
///
/// A ModernBERT may say so in its config.json.
///
/// # Errors
/// A file that cannot be read, or is not a JSON object.
pub fn reads_means(folder: &Path) -> Result<bool, ModelError> {
    let pooling = ConfigFile::read(&folder.join("1_Pooling"))?;
    if let Some(means) = pooling.as_ref().and_then(|file| file.get("pooling_mode_mean_tokens")).and_then(Value::as_bool) {
        return Ok(means);
    }
    let bare = |name: &Value| name.as_str().and_then(|name| name.strip_suffix("Model")).is_some_and(Architecture::has_class);
    let file = ConfigFile::read(folder)?;
    if file.as_ref().and_then(|file| file.get("classifier_pooling")).and_then(Value::as_str) == Some("mean") {
        return Ok(true);
    }
    let names = file.and_then(|file| file.get("architectures").and_then(Value::as_array).cloned());
    Ok(names.is_some_and(|names| !names.is_empty() && names.iter().all(bare)))
}

impl Classifier {
    /// This classifier with the layer, and with a dense layer that passes on what it gets. The weights that training could not move from
    /// zero are drawn, seeded by `init_seed`. It is on the device of this one.
    ///
    /// # Errors
    /// A device without room for it.
    pub fn reading_means(&self, init_seed: u64) -> Result<Classifier, ModelError> {
        let old = &self.network;
        if old.params.config.mean_pooling() {
            return Ok(self.clone());
        }
        let mut config = old.params.config.clone();
        match &mut config.modern {
            // It has a setting for that.
            Some(modern) => modern.mean_pooling = true,
            None => config.num_hidden_layers += 1,
        }
        self.with(config, init_seed)
    }

    /// This classifier reading `[CLS]`, where its config.json says that it reads means; `None` where it does not.
    ///
    /// # Errors
    /// A device without room for it.
    pub fn reading_first(&self) -> Result<Option<Classifier>, ModelError> {
        let mut config = self.network.params.config.clone();
        let Some(modern) = config.modern.as_mut().filter(|modern| modern.mean_pooling) else { return Ok(None) };
        modern.mean_pooling = false;
        self.with(config, 0).map(Some)
    }

    /// This classifier's parameters in a model of another configuration, with a layer of means if that has one layer more.
    fn with(&self, config: Config, init_seed: u64) -> Result<Classifier, ModelError> {
        let old = &self.network;
        let layout = Layout::new(&config, Head::Labels(self.labels.len()));
        let mut flat = vec![0.0; layout.len()];
        let values = old.flat()?;
        for from in &old.params.layout.tensors {
            let to = layout.tensors.iter().find(|to| to.name == from.name).expect("every tensor of the smaller model");
            flat[to.range.clone()].copy_from_slice(&values[from.range.clone()]);
        }
        if config.modern.is_none() {
            fill(&config, &layout, &mut flat[layout.words..], init_seed);
        }
        let mut network = Network {
            params: Parameters { config, layout, flat },
            rounded: OnceLock::new(),
            device: Device::Cpu,
            cuda: None,
            ..old.clone()
        };
        network.set_device(old.device)?;
        let Classifier { labels, problem, .. } = self;
        Ok(Classifier { network, labels: labels.clone(), problem: *problem, thresholds: Vec::new(), trained: false })
    }
}

/// Fills the last layer and the dense layer of the head; `dense` is the dense part of the buffer.
fn fill(config: &Config, layout: &Layout, dense: &mut [f32], seed: u64) {
    let hidden = config.hidden_size;
    let layer = layout.layers.last().expect("a layer was added");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Queries and keys that are nearly zero attend to all tokens nearly alike; at zero they would have no gradient.
    let (weight, _) = layer.qkv.parts_mut(dense);
    let (query_key, value) = weight.split_at_mut(2 * hidden * hidden);
    draw(query_key, &mut rng);
    set_diagonal(value, hidden, MEAN);
    set_diagonal(layer.attention_output.parts_mut(dense).0, hidden, 1.0);
    draw(layer.intermediate.parts_mut(dense).0, &mut rng);
    for norm in [&layer.attention_norm, &layer.output_norm] {
        norm.parts_mut(dense).0.fill(1.0);
    }
    let Some(head) = &layout.head.dense else { return };
    let (weight, bias) = head.parts_mut(dense);
    weight.fill(0.0);
    set_diagonal(weight, hidden, DENSE);
    bias.fill(if config.architecture.activation() == Activation::Tanh { 0.0 } else { ABOVE_ZERO });
}

fn set_diagonal(matrix: &mut [f32], width: usize, value: f32) {
    matrix.iter_mut().step_by(width + 1).for_each(|x| *x = value);
}
