//! The results of a finished run: `summary.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::folder::RunDir;
use crate::error::{Error, Result};
use crate::measure::interval::{self, Interval};
use crate::measure::metrics::Counts;

/// The methods that a run can compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    /// The gold rows alone.
    #[serde(rename = "gold only")]
    GoldOnly,
    /// Logistic regression on the gold rows, on features of the pretrained small model.
    #[serde(rename = "embeddings + logistic regression")]
    Embeddings,
    /// Round 0.
    #[serde(rename = "seed")]
    Seed,
    /// The best round.
    #[serde(rename = "S3")]
    S3,
    /// The last round, even if it is not the best.
    #[serde(rename = "last round")]
    LastRound,
    /// The best round's union and the gold rows.
    #[serde(rename = "S3 + gold")]
    S3Gold,
}

impl Method {
    pub fn name(self) -> &'static str {
        match self {
            Method::GoldOnly => "gold only",
            Method::Embeddings => "embeddings + logistic regression",
            Method::Seed => "seed",
            Method::S3 => "S3",
            Method::LastRound => "last round",
            Method::S3Gold => "S3 + gold",
        }
    }
}

/// A method's results on the test rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MethodResult {
    pub method: Method,
    pub synthetic_rows: usize,
    pub gold_rows: usize,
    /// Optimiser steps of the training.
    pub steps: usize,
    /// Whether each test row is predicted correctly, in file order; for questions, by exact match.
    pub correct: Vec<bool>,
    #[serde(flatten)]
    pub measures: Measures,
}

/// Further measures on the test rows, by the kind of task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Measures {
    Answers {
        /// SQuAD F1 of each test row.
        f1: Vec<f64>,
    },
    Labels {
        /// Macro-F1, the unweighted mean of the labels' F1.
        macro_f1: f64,
        /// Counts on the test rows, per label.
        labels: BTreeMap<String, Counts>,
    },
}

impl MethodResult {
    /// Whether there are more than two labels, so that macro-F1 is reported too.
    pub fn many_labels(&self) -> bool {
        matches!(&self.measures, Measures::Labels { labels, .. } if labels.len() > 2)
    }

    /// Macro-F1; `None` for question answering.
    pub fn macro_f1(&self) -> Option<f64> {
        match &self.measures {
            Measures::Labels { macro_f1, .. } => Some(*macro_f1),
            Measures::Answers { .. } => None,
        }
    }

    /// SQuAD F1 of each test row; `None` for classification.
    pub fn answer_f1(&self) -> Option<&[f64]> {
        match &self.measures {
            Measures::Labels { .. } => None,
            Measures::Answers { f1 } => Some(f1),
        }
    }

    /// 1 for each correct test row, 0 for the others.
    pub fn right(&self) -> Vec<f64> {
        self.correct.iter().map(|&c| f64::from(u8::from(c))).collect()
    }

    /// Accuracy (for questions, exact match) on the test rows, with its 95 % interval over them.
    pub fn accuracy(&self) -> Interval {
        interval::share(&[self.right()])
    }
}

/// The results of a finished run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    pub best_round: usize,
    pub dataset_rows: usize,
    /// The method whose model is in `model/`.
    pub delivered: Method,
    /// Empty when the task has no test rows.
    pub results: Vec<MethodResult>,
}

pub const SUMMARY: &str = "summary.json";

impl Delivery {
    /// Reads the results of a finished run.
    pub fn read(run: &RunDir) -> Result<Delivery> {
        let path = run.join(SUMMARY);
        let content = std::fs::read(&path).map_err(Error::io("read", &path))?;
        serde_json::from_slice(&content).map_err(|e| Error::Run(format!("{}: damaged ({e})", path.display())))
    }
}
