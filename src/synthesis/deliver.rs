//! The last stage: the best round's dataset, the delivered model, and the only evaluation on the test rows.

use std::time::Instant;

use serde_json::{Value, json};

use super::next::best_round;
use super::rows::SyntheticRow;
use super::stages::Stages;
use super::state::Synthesis;
use crate::data::example::GoldRow;
use crate::error::{Error, Result};
use crate::files::whole::{replace_folder, write_json, write_json_lines};
use crate::math::random;
use crate::run::cost::{Spent, Work};
use crate::run::stage::Stage;
use crate::run::summary::{Delivery, Method, MethodResult, SUMMARY};
use crate::small::plan::FitPlan;
use crate::small::row::TrainRow;

/// A method's model, and what it was trained on.
struct Trained<M> {
    model: M,
    synthetic_rows: usize,
    gold_rows: usize,
    steps: usize,
}

impl<H: Stages> Synthesis<'_, H> {
    /// Writes `dataset.jsonl` and `model/`, then evaluates the methods on the test rows and writes `summary.json`.
    pub(super) fn deliver(mut self) -> Result<Delivery> {
        let best = best_round(&self.manifest.rounds);
        let rows = self.rows.iter().filter(|row| row.round <= best);
        write_json_lines(&self.run.join("dataset.jsonl"), rows.clone().map(|row| self.dataset_row(row)))?;
        let dataset_rows = rows.count();

        let delivered = self.delivered();
        let mut results = Vec::new();
        for &method in self.inputs.methods {
            results.extend(self.result_of(method, best, method == delivered)?);
        }
        let delivery = Delivery { best_round: best, dataset_rows, delivered, results };
        write_json(&self.run.join(SUMMARY), &delivery)?;
        self.manifest.best_round = Some(best);
        self.manifest.stage = Stage::Done;
        self.manifest.write(self.run)?;
        self.clear_checkpoints();
        Ok(delivery)
    }

    /// The method whose model is delivered: S3 + gold, or S3 if that is not compared. Where the generator's judgement is not told from
    /// chance, its rows harm, and the model trained on the gold rows alone is delivered.
    fn delivered(&self) -> Method {
        let compared = |method: &Method| self.inputs.methods.contains(method);
        let knows_nothing = self.manifest.judge.as_ref().is_some_and(|judge| !judge.better_than_chance());
        let choice = if knows_nothing { [Method::GoldOnly, Method::S3Gold] } else { [Method::S3Gold, Method::S3] };
        choice.into_iter().find(compared).unwrap_or(Method::S3)
    }

    /// A method's results on the test rows, if there are any; with `deliver`, saves its model.
    fn result_of(&self, method: Method, best: usize, deliver: bool) -> Result<Option<MethodResult>> {
        let clock = Instant::now();
        if method == Method::Embeddings {
            let Some(test) = self.inputs.test else { return Ok(None) };
            let predicted = H::predict_by_embeddings(self, test)?;
            Spent::note(self.run, Work::Model(method), clock.elapsed())?;
            let trained = Trained { model: (), synthetic_rows: 0, gold_rows: self.inputs.split.gold().count(), steps: 0 };
            return Ok(Some(self.measured(method, &trained, &predicted, test)));
        }
        let trained = self.model_of(method, best)?;
        Spent::note(self.run, Work::Model(method), clock.elapsed())?;
        if deliver {
            replace_folder(&self.run.join("model"), |new| self.inputs.small.save(&trained.model, new))?;
        }
        let Some(test) = self.inputs.test else { return Ok(None) };
        let outputs = self.inputs.small.outputs(&trained.model, test)?;
        let predicted: Vec<H::Prediction> = outputs.iter().map(H::prediction).collect();
        Ok(Some(self.measured(method, &trained, &predicted, test)))
    }

    fn measured<M>(&self, method: Method, trained: &Trained<M>, predicted: &[H::Prediction], test: &[GoldRow<H>]) -> MethodResult {
        MethodResult {
            method,
            synthetic_rows: trained.synthetic_rows,
            gold_rows: trained.gold_rows,
            steps: trained.steps,
            correct: test.iter().zip(predicted).map(|(row, predicted)| row.accepts(predicted)).collect(),
            measures: self.inputs.small.head.measures(test, predicted),
        }
    }

    /// Loads or trains the model of a method, without evaluating it.
    fn model_of(&self, method: Method, best: usize) -> Result<Trained<H::Model>> {
        match method {
            Method::Seed => self.of_round(0),
            Method::S3 => self.of_round(best),
            Method::LastRound => self.of_round(self.manifest.rounds.len() - 1),
            Method::Embeddings => Err(Error::Failed("logistic regression has no small model".into())),
            Method::GoldOnly => self.fit_with_gold("gold only", vec![], 1),
            Method::S3Gold => self.fit_with_gold("best round + gold", self.union(best), self.inputs.task.train.gold_repeat),
        }
    }

    /// The model that a round trained on synthetic rows alone.
    fn of_round(&self, round: usize) -> Result<Trained<H::Model>> {
        let folder = self.run.join(format!("rounds/{round}/model"));
        let model = self.inputs.small.head.load(&folder, 0).map_err(|e| Error::Run(e.to_string()))?;
        let record = &self.manifest.rounds[round];
        Ok(Trained { model, synthetic_rows: record.rows, gold_rows: 0, steps: record.steps })
    }

    /// Trains on synthetic rows and all gold rows, each gold row `repeat` times. No rows are held out, so the last epoch is kept.
    fn fit_with_gold(&self, name: &str, mut rows: Vec<TrainRow<H::Target>>, repeat: usize) -> Result<Trained<H::Model>> {
        let (small, synthetic_rows) = (self.inputs.small, rows.len());
        let gold: Vec<TrainRow<H::Target>> = self.inputs.split.gold().map(|row| small.gold_row(row)).collect();
        for _ in 0..repeat {
            rows.extend(gold.iter().cloned());
        }
        // This purpose never changes, so that earlier versions' runs have the same seed.
        let seed = random::derive(self.inputs.seed, &format!("{name} · training"), 0);
        let fitted = self.fit(name, &FitPlan { rows: &rows, keys: &self.inputs.task.train, seed })?;
        Ok(Trained { model: fitted.model, synthetic_rows, gold_rows: gold.len(), steps: fitted.steps })
    }

    /// A row of `dataset.jsonl`: the head's fields, then the row's provenance.
    fn dataset_row(&self, row: &SyntheticRow<H>) -> Value {
        let (head, written) = (&self.inputs.small.head, &row.written);
        let mut line = head.dataset_row(row);
        let mut add = |values: Value| values.as_object().into_iter().flatten().for_each(|(name, value)| line[name] = value.clone());
        let (id, round) = (format!("{}-{}", row.round, written.id), row.round);
        add(json!({"id": id, "round": round, "prompt": written.prompt, "seed": written.seed, "parent": written.parent}));
        if let Some(context) = written.context {
            add(json!({(H::CONTEXT_LINE): context}));
        }
        add(head.dataset_reasons(row, &self.rationales));
        line
    }
}
