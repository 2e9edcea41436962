//! The results of a finished run: `summary.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::folder::RunDir;
use crate::error::{Error, Result};
use crate::math::vectors::{argmax, softmax};
use crate::measure::interval::{self, Interval};
use crate::measure::metrics::{self, Counts};
use crate::small::evaluation::Evaluation;

/// What the delivered model is worth in human labels, beside the summary, where that is known.
pub const WORTH: &str = "worth.json";

/// The models that a run can measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    /// The gold rows alone.
    #[serde(rename = "gold only")]
    GoldOnly,
    /// The unlabelled texts as the generator judges them, and the gold rows.
    #[serde(rename = "read + gold")]
    ReadGold,
    /// Round 0.
    #[serde(rename = "seed")]
    Seed,
    /// The best round.
    #[serde(rename = "S3")]
    S3,
    /// The best round's union and the gold rows.
    #[serde(rename = "S3 + gold")]
    S3Gold,
}

impl Method {
    pub fn name(self) -> &'static str {
        match self {
            Method::GoldOnly => "gold only",
            Method::ReadGold => "read + gold",
            Method::Seed => "seed",
            Method::S3 => "S3",
            Method::S3Gold => "S3 + gold",
        }
    }
}

/// A method's results on the test rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MethodResult {
    pub method: Method,
    #[serde(flatten)]
    pub measured: Measured,
}

/// What a model was trained on, and its measures on the test rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub synthetic_rows: usize,
    pub gold_rows: usize,
    /// Optimiser steps of the training.
    pub steps: usize,
    /// Whether each test row is predicted correctly, in file order; for questions and several labels, by exact match.
    pub correct: Vec<bool>,
    #[serde(flatten)]
    pub measures: Measures,
}

/// Further measures on the test rows, by the kind of task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Measures {
    LabelSets(OfLabelSets),
    Answers {
        /// SQuAD F1 of each test row.
        f1: Vec<f64>,
    },
    Labels(OfLabels),
}

/// Measures of a classifier.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OfLabels {
    /// Macro-F1, the unweighted mean of the labels' F1.
    pub macro_f1: f64,
    /// The mean of the labels' recalls.
    #[serde(default)]
    pub balanced_accuracy: f64,
    /// Area under the ROC curve; with more than two labels, the mean of each label against the others.
    #[serde(default)]
    pub auroc: f64,
    /// Brier score: the squared error of the probabilities, summed over labels, in [0, 2].
    #[serde(default)]
    pub brier: f64,
    /// Expected calibration error, in [0, 1], over 15 bins of the most probable label's probability.
    #[serde(default)]
    pub calibration_error: f64,
    /// Counts on the test rows, per label.
    pub labels: BTreeMap<String, Counts>,
    /// Rows by their gold label, then by the predicted one; only pairs that there are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub confusion: BTreeMap<String, BTreeMap<String, usize>>,
    /// The bins of `calibration_error`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bins: Vec<Bin>,
}

/// Measures of a classifier of several labels a text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OfLabelSets {
    /// F1 of all rows and labels together.
    pub micro_f1: f64,
    /// The unweighted mean of the labels' F1.
    pub macro_f1: f64,
    /// The mean of the labels' areas under the ROC curve.
    pub auroc: f64,
    /// Expected calibration error, in [0, 1], over 15 bins of the probability of having a label or not, whichever is larger.
    pub calibration_error: f64,
    /// Counts on the test rows, per label.
    pub labels: BTreeMap<String, Counts>,
    /// F1 of each test row: 2 · right / (labels there + labels predicted), 1 where there are none and none are predicted.
    pub f1: Vec<f64>,
}

impl Measures {
    /// Those of a classifier of one label a text; `None` for others.
    pub fn of_labels(&self) -> Option<&OfLabels> {
        if let Measures::Labels(measures) = self { Some(measures) } else { None }
    }

    /// The counts of each label on the test rows; none for question answering.
    pub fn labels(&self) -> Option<&BTreeMap<String, Counts>> {
        match self {
            Measures::Labels(of) => Some(&of.labels),
            Measures::LabelSets(of) => Some(&of.labels),
            Measures::Answers { .. } => None,
        }
    }
}

impl OfLabelSets {
    /// Measures predicted labels, and the probabilities (rows, labels).
    pub fn new(names: &[String], gold: &[&[usize]], predicted: &[Vec<usize>], probabilities: &[Vec<f64>]) -> OfLabelSets {
        let counts = metrics::counts_of_sets(predicted.iter().cloned().zip(gold.iter().copied()), names.len());
        let has = |label: usize| gold.iter().map(|set| usize::from(set.contains(&label))).collect::<Vec<usize>>();
        let of_label = |label: usize| probabilities.iter().map(|p| vec![1.0 - p[label], p[label]]).collect::<Vec<_>>();
        let areas: Vec<f64> = (0..names.len()).filter_map(|label| metrics::auroc(&of_label(label), &has(label))).collect();
        let each = (0..names.len()).flat_map(|label| of_label(label).into_iter().zip(has(label)));
        let (p, truth): (Vec<Vec<f64>>, Vec<usize>) = each.unzip();
        let f1 = |(gold, predicted): (&&[usize], &Vec<usize>)| {
            let right = predicted.iter().filter(|label| gold.contains(label)).count();
            if gold.is_empty() && predicted.is_empty() { 1.0 } else { 2.0 * right as f64 / (gold.len() + predicted.len()) as f64 }
        };
        OfLabelSets {
            micro_f1: metrics::micro_f1(&counts),
            macro_f1: metrics::macro_f1(&counts),
            auroc: if areas.is_empty() { 0.5 } else { areas.iter().sum::<f64>() / areas.len() as f64 },
            calibration_error: metrics::expected_calibration_error(&p, &truth, BINS),
            labels: names.iter().cloned().zip(counts).collect(),
            f1: gold.iter().zip(predicted).map(f1).collect(),
        }
    }
}

/// The rows whose most probable label has about the same probability.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    pub rows: usize,
    /// The mean of that probability.
    pub confidence: f64,
    /// The share of rows that are right.
    pub right: f64,
}

impl OfLabels {
    /// Measures predictions from their logits (rows, labels).
    pub fn new(names: &[String], gold: &[usize], logits: &[Vec<f32>]) -> OfLabels {
        let predicted: Vec<usize> = logits.iter().map(|row| argmax(row)).collect();
        let probabilities: Vec<Vec<f64>> = logits.iter().map(|row| softmax(row)).collect();
        let counts = metrics::counts(&predicted, gold, names.len());
        OfLabels {
            macro_f1: metrics::macro_f1(&counts),
            balanced_accuracy: metrics::balanced_accuracy(&counts),
            auroc: metrics::auroc(&probabilities, gold).unwrap_or(0.5),
            brier: metrics::brier(&probabilities, gold),
            calibration_error: metrics::expected_calibration_error(&probabilities, gold, BINS),
            labels: names.iter().cloned().zip(counts).collect(),
            confusion: confusion(names, gold, &predicted),
            bins: bins(gold, &predicted, &probabilities),
        }
    }

    /// Whether the labels are so unequal that accuracy says little: the most frequent has twice as many rows as the rarest, or more.
    pub fn unequal(&self) -> bool {
        let rows = || self.labels.values().map(|counts| counts.gold);
        rows().max().unwrap_or(0) >= 2 * rows().min().unwrap_or(0).max(1)
    }
}

fn confusion(names: &[String], gold: &[usize], predicted: &[usize]) -> BTreeMap<String, BTreeMap<String, usize>> {
    let mut rows: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for (&gold, &predicted) in gold.iter().zip(predicted) {
        *rows.entry(names[gold].clone()).or_default().entry(names[predicted].clone()).or_default() += 1;
    }
    rows
}

fn bins(gold: &[usize], predicted: &[usize], probabilities: &[Vec<f64>]) -> Vec<Bin> {
    let mut bins = vec![Bin { rows: 0, confidence: 0.0, right: 0.0 }; BINS];
    for ((&gold, &predicted), p) in gold.iter().zip(predicted).zip(probabilities) {
        let bin = &mut bins[metrics::bin_of(p[predicted], BINS)];
        bin.rows += 1;
        bin.confidence += p[predicted];
        bin.right += f64::from(u8::from(gold == predicted));
    }
    for bin in bins.iter_mut().filter(|bin| bin.rows > 0) {
        bin.confidence /= bin.rows as f64;
        bin.right /= bin.rows as f64;
    }
    bins
}

/// Bins of the expected calibration error (Guo et al. 2017, arXiv 1706.04599).
const BINS: usize = 15;

impl Measured {
    /// Measures of a classifier of one label a text; `None` for others.
    pub fn of_labels(&self) -> Option<&OfLabels> {
        self.measures.of_labels()
    }

    /// Whether [`Measured::measure`] says too little, so that [`Measured::details`] are shown too: more than two labels, unequal ones, or
    /// several a text.
    pub fn needs_more_than_accuracy(&self) -> bool {
        match &self.measures {
            Measures::Labels(measures) => measures.labels.len() > 2 || measures.unequal(),
            Measures::LabelSets(_) => true,
            Measures::Answers { .. } => false,
        }
    }

    /// Measures of a classifier of several labels a text; `None` for others.
    pub fn of_label_sets(&self) -> Option<&OfLabelSets> {
        match &self.measures {
            Measures::LabelSets(measures) => Some(measures),
            Measures::Answers { .. } | Measures::Labels(_) => None,
        }
    }

    /// SQuAD F1 of each test row; `None` for classification.
    pub fn answer_f1(&self) -> Option<&[f64]> {
        match &self.measures {
            Measures::Labels(_) | Measures::LabelSets(_) => None,
            Measures::Answers { f1 } => Some(f1),
        }
    }

    /// What [`Measured::right`] is the mean of, in tables.
    pub fn measure(&self) -> &'static str {
        match &self.measures {
            Measures::Labels(_) => "accuracy",
            Measures::Answers { .. } => "EM",
            Measures::LabelSets(_) => "F1 of rows",
        }
    }

    /// Further measures of a classifier, by their names in tables.
    pub fn details(&self) -> Vec<(&'static str, f64)> {
        match &self.measures {
            Measures::Labels(of) => vec![("macro-F1", of.macro_f1), ("balanced accuracy", of.balanced_accuracy), ("AUROC", of.auroc)],
            Measures::LabelSets(of) => {
                let exact = self.correct.iter().filter(|correct| **correct).count() as f64 / self.correct.len().max(1) as f64;
                vec![("micro-F1", of.micro_f1), ("macro-F1", of.macro_f1), ("exact match", exact), ("AUROC", of.auroc)]
            }
            Measures::Answers { .. } => Vec::new(),
        }
    }

    /// The expected calibration error of a classifier.
    pub fn calibration_error(&self) -> Option<f64> {
        match &self.measures {
            Measures::Labels(of) => Some(of.calibration_error),
            Measures::LabelSets(of) => Some(of.calibration_error),
            Measures::Answers { .. } => None,
        }
    }

    /// 1 for each correct test row, 0 for the others; of several labels, the row's F1.
    pub fn right(&self) -> Vec<f64> {
        match &self.measures {
            Measures::LabelSets(of) => of.f1.clone(),
            _ => self.correct.iter().map(|&c| f64::from(u8::from(c))).collect(),
        }
    }

    /// The mean of [`Measured::right`], accuracy for most, with its 95 % interval over the test rows.
    pub fn accuracy(&self) -> Interval {
        interval::share(&[self.right()])
    }
}

/// How the probabilities of the delivered model were made to say how often it is right.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaled {
    /// Its logits are divided by this; found on gold rows that the models of other folds had not learnt.
    pub temperature: f64,
    /// Log loss, in nats, on those rows before, and with temperatures of the other folds.
    pub log_loss: [f64; 2],
    /// Expected calibration error on the test rows before and after.
    pub calibration_error: Option<[f64; 2]>,
    /// Brier score on the test rows before and after.
    pub brier: Option<[f64; 2]>,
}

impl Scaled {
    /// A temperature, and the log loss before and after.
    pub fn new(temperature: f64, log_loss: [f64; 2]) -> Scaled {
        Scaled { temperature, log_loss, calibration_error: None, brier: None }
    }
}

/// A model that might have been delivered.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    pub method: Method,
    /// On gold rows that neither taught nor chose the models asked, with temperatures (and of several labels, thresholds) of other folds.
    pub out_of_fold: Evaluation,
}

/// The model to deliver, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    pub method: Method,
    pub scaled: Scaled,
    /// Of several labels a text, from which probability on it has each.
    pub thresholds: Vec<f64>,
    pub candidates: Vec<Candidate>,
}

/// The results of a finished run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    pub best_round: usize,
    pub dataset_rows: usize,
    /// Accepted rows of each round.
    #[serde(default)]
    pub rounds: Vec<usize>,
    /// The method whose model is in `model/`.
    pub delivered: Method,
    /// What it was chosen from; empty if there was no choice.
    #[serde(default)]
    pub candidates: Vec<Candidate>,
    /// None for question answering.
    #[serde(default)]
    pub scaled: Option<Scaled>,
    /// Of several labels a text, from which probability on the delivered model says that it has each: for the best F1 on gold rows out of
    /// fold.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub thresholds: BTreeMap<String, f64>,
    /// What the delivered model makes of the test rows with its temperature and thresholds; none for questions, and without test rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_delivered: Option<Measures>,
    /// Empty when the task has no test rows.
    pub results: Vec<MethodResult>,
}

pub const SUMMARY: &str = "summary.json";

impl Delivery {
    /// Reads the results of a finished run.
    pub fn read(run: &RunDir) -> Result<Delivery> {
        Delivery::read_in(run.path())
    }

    /// Reads the results of the finished run in a folder, without locking it.
    pub fn read_in(folder: &Path) -> Result<Delivery> {
        let path = folder.join(SUMMARY);
        let content = std::fs::read(&path).map_err(Error::io("read", &path))?;
        serde_json::from_slice(&content).map_err(|e| Error::Run(format!("{}: damaged ({e})", path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Always the frequent label: accuracy looks good, the other measures say what it is worth.
    #[test]
    fn rare_labels_show_more_than_accuracy() {
        let gold: Vec<usize> = (0..100).map(|i| usize::from(i % 20 == 0)).collect();
        let names = ["common".to_string(), "rare".to_string()];
        let measures = |gold: &[usize]| Measures::Labels(OfLabels::new(&names, gold, &vec![vec![1.0, 0.0]; gold.len()]));
        let measured = |gold: &[usize]| Measured {
            synthetic_rows: 0,
            gold_rows: 0,
            steps: 0,
            correct: gold.iter().map(|&label| label == 0).collect(),
            measures: measures(gold),
        };
        let rare = measured(&gold);
        let of = rare.of_labels().unwrap();
        assert_eq!((rare.accuracy().mean, of.balanced_accuracy, of.auroc), (0.95, 0.5, 0.5));
        assert!(rare.needs_more_than_accuracy() && of.macro_f1 < 0.5);
        assert!(!measured(&[0, 1, 0, 1]).needs_more_than_accuracy());
    }
}
