//! The last stage: the best round's dataset, the delivered model, and the only look at the test rows.

use lacuna_models::Classifier;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Stage as RunStage, Synthesis, SyntheticRow, best_round};
use crate::error::{Error, Result};
use crate::metrics::{Interval, bootstrap};
use crate::run_dir::{RunDir, replace_folder, write_json, write_json_lines};
use crate::seed;
use crate::train::{Stage, TrainRow, epochs};

/// A way to a trained small model, as a run can compare them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    /// The gold rows alone.
    #[serde(rename = "gold only")]
    GoldOnly,
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
            Method::Seed => "seed",
            Method::S3 => "S3",
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
    /// For each test row, in the order of the file.
    pub correct: Vec<bool>,
}

impl MethodResult {
    /// Accuracy on the test rows, with a 95 % bootstrap interval over them.
    pub fn accuracy(&self) -> Interval {
        bootstrap(&[self.correct.iter().map(|&c| f64::from(u8::from(c))).collect()])
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

const SUMMARY: &str = "summary.json";

impl Delivery {
    /// What a finished run handed over.
    pub fn read(run: &RunDir) -> Result<Delivery> {
        let path = run.join(SUMMARY);
        let content = std::fs::read(&path).map_err(Error::io("read", &path))?;
        serde_json::from_slice(&content).map_err(|e| Error::Run(format!("{}: damaged ({e})", path.display())))
    }
}

impl Synthesis<'_> {
    /// Writes `dataset.jsonl` and `model/`, then scores the methods on the test rows and writes `summary.json`.
    pub(super) fn deliver(mut self) -> Result<Delivery> {
        let best = best_round(&self.manifest.rounds);
        let rows = self.rows.iter().filter(|row| row.round <= best);
        write_json_lines(&self.run.join("dataset.jsonl"), rows.clone().map(|row| self.dataset_row(row)))?;
        let dataset_rows = rows.count();

        let methods = self.inputs.methods;
        let delivered = if methods.contains(&Method::S3Gold) { Method::S3Gold } else { Method::S3 };
        let mut results = Vec::new();
        for &method in methods {
            let (model, mut result) = self.model_of(method, best)?;
            if method == delivered {
                replace_folder(&self.run.join("model"), |new| self.inputs.small.save(&model, new))?;
            }
            if let Some(test) = self.inputs.test {
                let texts: Vec<&str> = test.iter().map(|row| row.text.as_str()).collect();
                let predicted = self.inputs.small.predict(&model, &texts, self.inputs.task.train.max_tokens)?.labels();
                result.correct = predicted.iter().zip(test).map(|(p, row)| *p == row.label).collect();
                results.push(result);
            }
        }
        let delivery = Delivery { best_round: best, dataset_rows, delivered, results };
        write_json(&self.run.join(SUMMARY), &delivery)?;
        self.manifest.best_round = Some(best);
        self.manifest.stage = RunStage::Done;
        self.manifest.write(self.run)?;
        Ok(delivery)
    }

    /// Loads or trains the model of a method; `correct` is still empty.
    fn model_of(&self, method: Method, best: usize) -> Result<(Classifier, MethodResult)> {
        let gold_rows = self.inputs.split.mine.len() + self.inputs.split.select.len();
        let result = |synthetic_rows, gold_rows, steps| MethodResult { method, synthetic_rows, gold_rows, steps, correct: vec![] };
        let of_round = |round: usize| {
            let record = &self.manifest.rounds[round];
            Ok((self.load_round(round)?, result(record.rows, 0, record.steps)))
        };
        match method {
            Method::Seed => of_round(0),
            Method::S3 => of_round(best),
            Method::GoldOnly => self.fit_with_gold(vec![], 1).map(|(model, steps)| (model, result(0, gold_rows, steps))),
            Method::S3Gold => {
                let union = self.union(best);
                let rows = union.len();
                self.fit_with_gold(union, self.inputs.task.train.gold_repeat).map(|(model, steps)| (model, result(rows, gold_rows, steps)))
            }
        }
    }

    /// Trains on `rows` and all gold rows, each `repeat` times; nothing is left to select by, so the last epoch is kept.
    fn fit_with_gold(&self, mut rows: Vec<TrainRow>, repeat: usize) -> Result<(Classifier, usize)> {
        let (inputs, keys) = (&self.inputs, &self.inputs.task.train);
        let name = if rows.is_empty() { "gold only · training" } else { "best round + gold · training" };
        let gold = inputs.split.mine.iter().chain(&inputs.split.select);
        let gold: Vec<TrainRow> = gold.map(|row| TrainRow::hard(&row.text, row.label, self.labels())).collect();
        for _ in 0..repeat {
            rows.extend(gold.iter().cloned());
        }
        let stage = Stage { name: name.to_string(), progress: inputs.progress };
        let seed = seed::derive(inputs.seed, name, 0);
        let fitted = inputs.small.fit(&rows, None, keys, epochs(keys, rows.len()), seed, stage)?;
        Ok((fitted.model, fitted.steps))
    }

    fn load_round(&self, round: usize) -> Result<Classifier> {
        let folder = self.run.join(format!("rounds/{round}/model"));
        Classifier::load(&folder, &self.inputs.task.label_names(), 0).map_err(|e| Error::Run(e.to_string()))
    }

    /// A row of `dataset.jsonl`: the text, its label and where it comes from.
    fn dataset_row(&self, row: &SyntheticRow) -> Value {
        let names = self.inputs.task.label_names();
        let written = &row.written;
        let rationales: Vec<&str> = written.rationales.iter().map(|&i| self.rationales[written.label][i].as_str()).collect();
        let by_label = |values: &[f32]| names.iter().cloned().zip(values.iter().map(|&x| json!(x))).collect::<serde_json::Map<_, _>>();
        json!({
            "text": row.text,
            "label": names[written.label],
            "target": by_label(&row.target),
            "id": format!("{}-{}", row.round, written.id),
            "round": row.round,
            "prompt": written.prompt,
            "seed": written.seed,
            "parent": written.parent,
            "rationales": rationales,
            "log_probs": row.log_probs.iter().map(|scores| by_label(scores)).collect::<Vec<_>>(),
        })
    }
}
