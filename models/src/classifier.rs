//! The sequence classifier.

use crate::ModelError;
use crate::batch::PackedBatch;
use crate::config_file::ConfigFile;
use crate::layout::Head;
use crate::network::{Forward, Network};
use crate::parameters::Parameters;
use crate::problem::Problem;
use crate::targets::Targets;
use std::collections::HashSet;
use std::ops::{Deref, DerefMut};
use std::path::Path;

/// A sequence classifier: an encoder with a dense layer and a classifier on its first token, or on the mean of all.
#[derive(Clone)]
pub struct Classifier {
    pub(crate) network: Network,
    pub(crate) labels: Vec<String>,
    pub(crate) problem: Problem,
    /// Of several labels a text, from which probability on it has each; empty for 0.5.
    pub(crate) thresholds: Vec<f32>,
    /// Whether its last layer is that of a saved classifier, not drawn.
    pub(crate) trained: bool,
}

impl Deref for Classifier {
    type Target = Network;

    fn deref(&self) -> &Network {
        &self.network
    }
}

impl DerefMut for Classifier {
    fn deref_mut(&mut self) -> &mut Network {
        &mut self.network
    }
}

impl Classifier {
    /// Loads a pretrained encoder, or a classifier that [`Classifier::save`] wrote.
    ///
    /// `folder` holds model.safetensors (f32, f16 or bf16) and config.json; without a transformer's config.json the dimensions are
    /// inferred from the tensors. Parameters of the head that the file does not have in the right shape are drawn from N(0, 0.02²),
    /// seeded by `init_seed`; their biases are zero. If the saved labels are these labels in another order, the rows of the saved
    /// classifier are put into this order.
    ///
    /// # Errors
    /// A missing, damaged or unsupported file; a missing tensor or one of a wrong shape; no labels, or one label twice.
    pub fn load(folder: &Path, labels: &[String], init_seed: u64) -> Result<Self, ModelError> {
        Classifier::load_for(Problem::SingleLabel, folder, labels, init_seed)
    }

    /// [`Classifier::load`] for either problem. The last layer of a classifier that was saved for the other one is a start alone, as one
    /// that is drawn; its thresholds are not taken.
    ///
    /// # Errors
    /// As [`Classifier::load`].
    pub fn load_for(problem: Problem, folder: &Path, labels: &[String], init_seed: u64) -> Result<Self, ModelError> {
        check_labels(labels)?;
        let (network, saved) = Network::load(folder, Head::Labels(labels.len()), init_seed)?;
        let file = ConfigFile::read(folder)?;
        let same = file.as_ref().and_then(ConfigFile::problem).is_none_or(|of_file| of_file == problem);
        let mut model = Classifier { network, labels: labels.to_vec(), problem, thresholds: Vec::new(), trained: saved.is_some() && same };
        if let Some(saved) = saved {
            model.thresholds = file.filter(|_| same).map(|file| file.thresholds(saved.len())).unwrap_or_default();
            model.reorder_labels(&saved);
        }
        Ok(model)
    }

    /// How many labels a text has.
    pub fn problem(&self) -> Problem {
        self.problem
    }

    /// From which probability on a text has each label, where it may have several.
    pub fn thresholds(&self) -> Vec<f32> {
        if self.thresholds.is_empty() { vec![0.5; self.labels.len()] } else { self.thresholds.clone() }
    }

    /// Sets [`Classifier::thresholds`], none for 0.5; they are saved with the model.
    ///
    /// # Panics
    /// For another number of them than of labels.
    pub fn set_thresholds(&mut self, thresholds: &[f32]) {
        assert!(thresholds.is_empty() || thresholds.len() == self.labels.len(), "one threshold a label");
        self.thresholds = thresholds.to_vec();
    }

    /// The targets of a batch's rows, by the problem.
    pub(crate) fn targets<'t>(&self, probabilities: &'t [f32], weights: &'t [f32]) -> Targets<'t> {
        match self.problem {
            Problem::SingleLabel => Targets::Labels { probabilities, weights },
            Problem::MultiLabel => Targets::LabelSets { probabilities, weights },
        }
    }

    /// The labels, in the order of the logits.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Whether it was loaded with a last layer that had learnt these labels.
    pub fn is_trained(&self) -> bool {
        self.trained
    }

    /// The logits (rows, labels) of a batch, without dropout. Its rows are split into `threads` jobs, which run in rayon's pool: the one of
    /// the `ThreadPool::install` around the call, or the global one. A single job runs on the calling thread.
    ///
    /// # Errors
    /// [`ModelError::Batch`] for a batch that [`PackedBatch::check`] refuses.
    pub fn logits(&self, batch: &PackedBatch, threads: usize) -> Result<Vec<f32>, ModelError> {
        self.network.logits(batch, threads)
    }

    /// Adds `offsets` (one for each label) to the bias of the classifier, and so to all logits.
    pub fn add_offsets(&mut self, offsets: &[f32]) {
        self.change_last_layer(|_, bias| bias.iter_mut().zip(offsets).for_each(|(bias, offset)| *bias += offset));
    }

    /// Multiplies the classifier's weights and biases, and so all logits, by `factor`.
    pub fn scale_logits(&mut self, factor: f32) {
        self.change_last_layer(|weight, bias| weight.iter_mut().chain(bias).for_each(|x| *x *= factor));
    }

    /// Replaces the last layer by `weights` (labels, hidden) and a bias for each label.
    ///
    /// # Panics
    /// For another shape.
    pub fn set_last_layer(&mut self, weights: &[f32], biases: &[f32]) {
        self.change_last_layer(|weight, bias| {
            weight.copy_from_slice(weights);
            bias.copy_from_slice(biases);
        });
    }

    /// Lets `change` see weights and biases of the last layer.
    fn change_last_layer(&mut self, change: impl FnOnce(&mut [f32], &mut [f32])) {
        // A GPU that has newer parameters and fails now fails again at the model's next use, with an error there.
        let Ok(_) = self.network.host_flat() else { return };
        let Parameters { layout, flat, .. } = &mut self.network.params;
        let (weight, bias) = layout.head.outputs.parts_mut(&mut flat[layout.words..]);
        change(weight, bias);
        self.network.params_changed();
    }

    /// [`Classifier::logits`] on this thread, in work space that is kept between calls.
    pub fn logits_with<'a>(&self, forward: &'a mut Forward, batch: &PackedBatch) -> Result<&'a [f32], ModelError> {
        self.network.logits_with(forward, batch)
    }

    /// A config.json for `AutoModelForSequenceClassification`.
    pub fn config_json(&self) -> String {
        self.config().to_json(&self.labels, self.problem, &self.thresholds)
    }

    /// Moves the rows of a saved classifier from the order of its labels to the order of these.
    fn reorder_labels(&mut self, saved: &[String]) {
        let Some(from) = self.labels.iter().map(|label| saved.iter().position(|s| s == label)).collect::<Option<Vec<_>>>() else {
            return;
        };
        if saved.len() != self.labels.len() {
            return;
        }
        let Parameters { config, layout, flat } = &mut self.network.params;
        let (weight, bias) = layout.head.outputs.parts_mut(&mut flat[layout.words..]);
        let (old_weight, old_bias, hidden) = (weight.to_vec(), bias.to_vec(), config.hidden_size);
        let old_thresholds = self.thresholds.clone();
        for (to, from) in from.into_iter().enumerate() {
            weight[to * hidden..][..hidden].copy_from_slice(&old_weight[from * hidden..][..hidden]);
            bias[to] = old_bias[from];
            if let Some(threshold) = old_thresholds.get(from) {
                self.thresholds[to] = *threshold;
            }
        }
    }
}

fn check_labels(labels: &[String]) -> Result<(), ModelError> {
    if labels.is_empty() {
        return Err(ModelError::Labels("a classifier needs at least one".into()));
    }
    let mut seen = HashSet::new();
    match labels.iter().find(|label| !seen.insert(*label)) {
        Some(label) => Err(ModelError::Labels(format!("duplicate label `{label}`"))),
        None => Ok(()),
    }
}
