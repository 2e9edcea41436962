//! What a finished run hands over: `summary.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::folder::RunDir;
use crate::error::{Error, Result};
use crate::measure::metrics::{Counts, Interval, bootstrap};

/// A way to a trained small model, as a run can compare them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    /// The gold rows alone.
    #[serde(rename = "gold only")]
    GoldOnly,
    /// Logistic regression on the pretrained small model's features of the gold rows.
    #[serde(rename = "embeddings + logistic regression")]
    Embeddings,
    /// Round 0.
    #[serde(rename = "seed")]
    Seed,
    /// The best round.
    #[serde(rename = "S3")]
    S3,
    /// The last round, however well it did.
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

/// How one method's model does on the test rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MethodResult {
    pub method: Method,
    pub synthetic_rows: usize,
    pub gold_rows: usize,
    /// Optimiser steps of its training.
    pub steps: usize,
    /// For each test row, in the order of the file; for questions, by exact match.
    pub correct: Vec<bool>,
    #[serde(flatten)]
    pub measures: Measures,
}

/// What is said of the test rows besides which are right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Measures {
    Answers {
        /// For each test row SQuAD's F1.
        f1: Vec<f64>,
    },
    Labels {
        /// The unweighted mean of the labels' F1.
        macro_f1: f64,
        /// Counts on the test rows, by label.
        labels: BTreeMap<String, Counts>,
    },
}

impl MethodResult {
    /// Whether there are more than two labels, so that accuracy says little of the rare ones.
    pub fn many_labels(&self) -> bool {
        matches!(&self.measures, Measures::Labels { labels, .. } if labels.len() > 2)
    }

    /// The unweighted mean of the labels' F1; none for answers.
    pub fn macro_f1(&self) -> Option<f64> {
        match &self.measures {
            Measures::Labels { macro_f1, .. } => Some(*macro_f1),
            Measures::Answers { .. } => None,
        }
    }

    /// SQuAD's F1 of each test row; none for labels.
    pub fn answer_f1(&self) -> Option<&[f64]> {
        match &self.measures {
            Measures::Labels { .. } => None,
            Measures::Answers { f1 } => Some(f1),
        }
    }

    /// 1 for each test row that is right, 0 for the others.
    pub fn right(&self) -> Vec<f64> {
        self.correct.iter().map(|&c| f64::from(u8::from(c))).collect()
    }

    /// Accuracy (for questions, exact match) on the test rows, with a 95 % bootstrap interval over them.
    pub fn accuracy(&self) -> Interval {
        bootstrap(&[self.right()])
    }
}

/// What a finished run hands over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    pub best_round: usize,
    pub dataset_rows: usize,
    /// The method whose model lies in `model/`.
    pub delivered: Method,
    /// Empty when the task has no test rows.
    pub results: Vec<MethodResult>,
}

pub const SUMMARY: &str = "summary.json";

impl Delivery {
    /// What a finished run handed over.
    pub fn read(run: &RunDir) -> Result<Delivery> {
        let path = run.join(SUMMARY);
        let content = std::fs::read(&path).map_err(Error::io("read", &path))?;
        serde_json::from_slice(&content).map_err(|e| Error::Run(format!("{}: damaged ({e})", path.display())))
    }
}
