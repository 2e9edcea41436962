//! The last stage: the best round's dataset, the delivered model, and the only look at the test rows.

use std::time::Instant;

use serde_json::{Value, json};

use super::next::best_round;
use super::rows::{SyntheticRow, Written};
use super::state::Synthesis;
use crate::data::example::{Answer, Goal, GoldRow, Guess, Input, TaskKind};
use crate::error::{Error, Result};
use crate::files::whole::{replace_folder, write_json, write_json_lines};
use crate::math::random;
use crate::measure::logistic::Logistic;
use crate::measure::metrics;
use crate::run::cost::{Part, Spent};
use crate::run::stage::Stage as RunStage;
use crate::run::summary::{Delivery, Method, MethodResult, SUMMARY};
use crate::small::model::Model;
use crate::small::train::{Stage, TrainRow, epochs};

impl Synthesis<'_> {
    /// Writes `dataset.jsonl` and `model/`, then scores the methods on the test rows and writes `summary.json`.
    pub(super) fn deliver(mut self) -> Result<Delivery> {
        let best = best_round(&self.manifest.rounds);
        let rows = self.rows.iter().filter(|row| row.round <= best);
        write_json_lines(&self.run.join("dataset.jsonl"), rows.clone().map(|row| self.dataset_row(row)))?;
        let dataset_rows = rows.count();

        let methods = self.inputs.methods;
        let delivered = self.delivered();
        let mut results = Vec::new();
        for &method in methods {
            let (predicted, result) = self.predictions_of(method, best, method == delivered)?;
            results.extend(self.inputs.test.map(|test| self.scored(result, &predicted, test)));
        }
        let delivery = Delivery { best_round: best, dataset_rows, delivered, results };
        write_json(&self.run.join(SUMMARY), &delivery)?;
        self.manifest.best_round = Some(best);
        self.manifest.stage = RunStage::Done;
        self.manifest.write(self.run)?;
        Ok(delivery)
    }

    /// The method whose model is delivered: the richest of those that are compared; but where the generator judges hardly better
    /// than chance its rows harm the gold ones, and those learn better alone.
    fn delivered(&self) -> Method {
        let compared = |method: &Method| self.inputs.methods.contains(method);
        let knows_nothing = self.manifest.calibration.as_ref().is_some_and(|calibration| !calibration.better_than_chance());
        let choice = if knows_nothing { [Method::GoldOnly, Method::S3Gold] } else { [Method::S3Gold, Method::S3] };
        choice.into_iter().find(compared).unwrap_or(Method::S3)
    }

    /// What a method says of the test rows, and the numbers of its training; `deliver` keeps its model.
    fn predictions_of(&self, method: Method, best: usize, deliver: bool) -> Result<(Vec<Guess>, MethodResult)> {
        let clock = Instant::now();
        let test = self.inputs.test.unwrap_or_default();
        if method == Method::Embeddings {
            let predicted = self.predict_by_embeddings(test)?;
            Spent::note(self.run, Part::Model(method), clock.elapsed())?;
            return Ok((predicted, MethodResult::new(method, 0, self.gold().count(), 0)));
        }
        let (model, result) = self.model_of(method, best)?;
        Spent::note(self.run, Part::Model(method), clock.elapsed())?;
        if deliver {
            replace_folder(&self.run.join("model"), |new| self.inputs.small.save(&model, new))?;
        }
        let predictions = self.inputs.small.predict_rows(&model, test)?;
        Ok((predictions.guesses(), result))
    }

    /// Logistic regression on features of all gold rows.
    fn predict_by_embeddings(&self, test: &[GoldRow]) -> Result<Vec<Guess>> {
        if self.inputs.task.kind == TaskKind::ExtractiveQa {
            return Err(Error::Failed("a logistic regression on embeddings gives labels; it cannot answer questions".into()));
        }
        let max_tokens = self.inputs.task.train.max_tokens;
        let features = |inputs: &[Input]| self.inputs.small.input_features(inputs, max_tokens);
        let (gold, labels): (Vec<Input>, Vec<usize>) = self.gold().map(|row| (row.input(), row.goal.label())).unzip();
        let fitted = Logistic::fit(&features(&gold)?, &labels, self.labels());
        let inputs: Vec<Input> = test.iter().map(GoldRow::input).collect();
        Ok(features(&inputs)?.iter().map(|row| Guess::Label(fitted.predict(row))).collect())
    }

    fn gold(&self) -> impl Iterator<Item = &GoldRow> {
        self.inputs.split.mine.iter().chain(&self.inputs.split.select)
    }

    fn scored(&self, result: MethodResult, guesses: &[Guess], test: &[GoldRow]) -> MethodResult {
        let correct = test.iter().zip(guesses).map(|(row, guess)| row.accepts(guess)).collect();
        if self.inputs.task.kind == TaskKind::ExtractiveQa {
            return MethodResult { correct, f1: test.iter().zip(guesses).map(|(row, guess)| row.f1(guess)).collect(), ..result };
        }
        let label_of = |guess: &Guess| if let Guess::Label(label) = guess { *label } else { 0 };
        let predicted: Vec<usize> = guesses.iter().map(label_of).collect();
        let gold: Vec<usize> = test.iter().map(|row| row.goal.label()).collect();
        let counts = metrics::counts(&predicted, &gold, self.labels());
        let macro_f1 = metrics::macro_f1(&counts);
        MethodResult { correct, macro_f1, labels: self.inputs.task.label_names().into_iter().zip(counts).collect(), ..result }
    }

    /// Loads or trains the model of a method; it is not scored yet.
    fn model_of(&self, method: Method, best: usize) -> Result<(Model, MethodResult)> {
        let gold_rows = self.gold().count();
        let result = |synthetic_rows, gold_rows, steps| MethodResult::new(method, synthetic_rows, gold_rows, steps);
        let of_round = |round: usize| {
            let record = &self.manifest.rounds[round];
            Ok((self.load_round(round)?, result(record.rows, 0, record.steps)))
        };
        match method {
            Method::Seed => of_round(0),
            Method::S3 => of_round(best),
            Method::LastRound => of_round(self.manifest.rounds.len() - 1),
            Method::Embeddings => Err(Error::Failed("a logistic regression has no small model".into())),
            Method::GoldOnly => self.fit_with_gold(vec![], 1).map(|(model, steps)| (model, result(0, gold_rows, steps))),
            Method::S3Gold => {
                let union = self.union(best);
                let rows = union.len();
                self.fit_with_gold(union, self.inputs.task.train.gold_repeat).map(|(model, steps)| (model, result(rows, gold_rows, steps)))
            }
        }
    }

    /// Trains on `rows` and all gold rows, each `repeat` times; nothing is left to select by, so the last epoch is kept.
    fn fit_with_gold(&self, mut rows: Vec<TrainRow>, repeat: usize) -> Result<(Model, usize)> {
        let (inputs, keys) = (&self.inputs, &self.inputs.task.train);
        let name = if rows.is_empty() { "gold only · training" } else { "best round + gold · training" };
        let gold: Vec<TrainRow> = self.gold().map(|row| TrainRow::of_gold(row, self.labels())).collect();
        for _ in 0..repeat {
            rows.extend(gold.iter().cloned());
        }
        let stage = Stage { name: name.to_string(), progress: inputs.progress };
        let seed = random::derive(inputs.seed, name, 0);
        let fitted = inputs.small.fit(&rows, None, keys, epochs(keys, rows.len()), seed, stage)?;
        Ok((fitted.model, fitted.steps))
    }

    fn load_round(&self, round: usize) -> Result<Model> {
        let folder = self.run.join(format!("rounds/{round}/model"));
        Model::load(&folder, &self.inputs.task.label_names(), 0).map_err(|e| Error::Run(e.to_string()))
    }

    /// A row of `dataset.jsonl`: the text and its label, or in SQuAD's shape a context, a question and its answer; and where it comes
    /// from.
    fn dataset_row(&self, row: &SyntheticRow) -> Value {
        let Written { id, prompt, goal, seed, parent, context, rationales, .. } = &row.written;
        let (mut line, context_name) = match goal {
            Goal::Label(label) => (self.labelled(row, *label), "context"),
            Goal::Answer(answer) => (questioned(row, answer), "context_line"),
        };
        let provenance = json!({"id": format!("{}-{id}", row.round), "round": row.round, "prompt": prompt, "seed": seed, "parent": parent});
        provenance.as_object().into_iter().flatten().for_each(|(name, value)| line[name] = value.clone());
        if let Some(context) = context {
            line[context_name] = json!(context);
        }
        if let Goal::Label(label) = goal {
            line["rationales"] = rationales.iter().map(|&i| self.rationales[*label][i].as_str()).collect();
            line["log_probs"] = row.log_probs.iter().map(|scores| self.by_label(scores)).collect();
        }
        line
    }

    /// A row's text, or pair, and its label.
    fn labelled(&self, row: &SyntheticRow, label: usize) -> Value {
        let mut line = json!({"text": row.text});
        if let Some(text_pair) = &row.text_pair {
            line["text_pair"] = json!(text_pair);
        }
        line["label"] = json!(self.inputs.task.labels[label].name);
        line["target"] = self.by_label(row.target.probabilities());
        line
    }

    /// An object with a number for each label.
    fn by_label(&self, values: &[f32]) -> Value {
        let names = self.inputs.task.label_names();
        names.into_iter().zip(values).map(|(name, &x)| (name, json!(x))).collect()
    }
}

/// A row's question in SQuAD's shape.
fn questioned(row: &SyntheticRow, answer: &Answer) -> Value {
    json!({"context": row.text, "question": row.text_pair, "answers": {"text": [answer.text], "answer_start": [answer.start]}})
}
