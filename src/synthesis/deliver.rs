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
use crate::run::summary::{Delivery, Measured, Method, MethodResult, OfLabels, SUMMARY, Scaled};
use crate::small::plan::FitPlan;
use crate::small::row::TrainRow;

/// A method's model, and what it was trained on.
pub(super) struct Trained<M> {
    pub(super) model: M,
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
        let (mut results, mut scaled) = (Vec::new(), None);
        for &method in self.inputs.methods {
            let clock = Instant::now();
            let mut trained = self.model_of(method)?;
            Spent::note(self.run, Work::Model(method), clock.elapsed().as_secs_f64(), self.learnt.take())?;
            results.extend(self.measured(&trained)?.map(|measured| MethodResult { method, measured }));
            if method == delivered {
                let clock = Instant::now();
                scaled = self.deliver_model(method, &mut trained)?;
                Spent::note(self.run, Work::Temperature, clock.elapsed().as_secs_f64(), self.learnt.take())?;
            }
        }
        let rounds = self.manifest.rounds.iter().map(|record| record.accepted).collect();
        let delivery = Delivery { best_round: best, dataset_rows, rounds, delivered, scaled, results };
        write_json(&self.run.join(SUMMARY), &delivery)?;
        self.manifest.best_round = Some(best);
        self.manifest.stage = Stage::Done;
        self.manifest.write(self.run)?;
        self.clear_checkpoints();
        Ok(delivery)
    }

    /// Scales the model's logits by its temperature, unless the run only compares, and saves it.
    fn deliver_model(&self, method: Method, trained: &mut Trained<H::Model>) -> Result<Option<Scaled>> {
        let mut scaled = if self.inputs.temperature { self.temperature_of(method)? } else { None };
        if let Some(scaled) = &mut scaled {
            let before = self.measured(trained)?;
            H::cool_model(&mut trained.model, scaled.temperature);
            let after = self.measured(trained)?;
            let both = |of: fn(&OfLabels) -> f64| Some([of(before.as_ref()?.of_labels()?), of(after.as_ref()?.of_labels()?)]);
            (scaled.calibration_error, scaled.brier) = (both(|of| of.calibration_error), both(|of| of.brier));
        }
        replace_folder(&self.run.join("model"), |new| self.inputs.small.save(&trained.model, new))?;
        Ok(scaled)
    }

    /// The method whose model is delivered: S3 + gold, or S3 if that is not compared. Where the generator's judgement is not told from
    /// chance, its rows harm, and the model trained on the gold rows alone is delivered.
    fn delivered(&self) -> Method {
        let compared = |method: &Method| self.inputs.methods.contains(method);
        let knows_nothing = self.manifest.judge.as_ref().is_some_and(|judge| !judge.better_than_chance());
        let choice = if knows_nothing { [Method::GoldOnly, Method::S3Gold] } else { [Method::S3Gold, Method::S3] };
        choice.into_iter().find(compared).unwrap_or(Method::S3)
    }

    /// A model's measures on the test rows, if there are any.
    fn measured(&self, trained: &Trained<H::Model>) -> Result<Option<Measured>> {
        let Some(test) = self.inputs.test else { return Ok(None) };
        let outputs = self.inputs.small.outputs(&trained.model, test)?;
        let Trained { synthetic_rows, gold_rows, steps, .. } = *trained;
        Ok(Some(self.inputs.small.head.measured(test, &outputs, [synthetic_rows, gold_rows, steps])))
    }

    /// Loads or trains the model of a method, without evaluating it.
    fn model_of(&self, method: Method) -> Result<Trained<H::Model>> {
        let gold: Vec<&GoldRow<H>> = self.inputs.split.gold().collect();
        // This purpose never changes, so that earlier versions' runs have the same seed.
        let seed = |name: &str| random::derive(self.inputs.seed, &format!("{name} · training"), 0);
        match method {
            Method::Seed => self.of_round(0),
            Method::S3 => self.of_round(self.best_round()),
            Method::GoldOnly => self.fit_with_gold("gold only", None, &gold, seed("gold only")),
            Method::S3Gold => {
                let name = "best round + gold";
                self.fit_with_gold(name, Some(self.best_round()), &gold, seed(name))
            }
        }
    }

    /// The best round on *select*.
    pub(super) fn best_round(&self) -> usize {
        best_round(&self.manifest.rounds)
    }

    /// The model that a round trained on synthetic rows alone.
    fn of_round(&self, round: usize) -> Result<Trained<H::Model>> {
        let record = &self.manifest.rounds[round];
        Ok(Trained { model: self.load_round(round)?, synthetic_rows: record.rows, gold_rows: 0, steps: record.steps })
    }

    /// A round's model, on the device and with the precision of the others.
    pub(super) fn load_round(&self, round: usize) -> Result<H::Model> {
        let folder = self.run.join(format!("rounds/{round}/model"));
        let mut model = self.inputs.small.head.load(&folder, 0).map_err(|e| Error::Run(e.to_string()))?;
        model.set_device(self.inputs.small.base.device()).map_err(|e| Error::Failed(e.to_string()))?;
        model.set_precision(self.inputs.task.train.precision);
        Ok(model)
    }

    /// Trains on the synthetic rows up to a round, if there is one, and on gold rows, beside synthetic ones `train.gold_repeat` times each.
    pub(super) fn fit_with_gold(&self, name: &str, round: Option<usize>, gold: &[&GoldRow<H>], seed: u64) -> Result<Trained<H::Model>> {
        let (small, keys) = (self.inputs.small, &self.inputs.task.train);
        let mut rows: Vec<TrainRow<H::Target>> = round.map(|round| self.union(round)).unwrap_or_default();
        let synthetic_rows = rows.len();
        for _ in 0..if round.is_some() { keys.gold_repeat } else { 1 } {
            rows.extend(gold.iter().map(|row| small.gold_row(row)));
        }
        let fitted = self.fit(name, &FitPlan { rows: &rows, keys, seed })?;
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
