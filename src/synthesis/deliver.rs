//! The last stage: the best round's dataset, the delivered model, and the only evaluation on the test rows.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::next::best_round;
use super::rows::{ReadRow, Reviewed, SyntheticRow};
use super::stages::Stages;
use super::state::Synthesis;
use super::union::Chosen;
use crate::data::example::GoldRow;
use crate::error::{Error, Result};
use crate::files::whole::{replace_folder, write_json, write_json_lines};
use crate::judge::judges::LearntFrom;
use crate::math::random;
use crate::run::cost::Work;
use crate::run::stage::Stage;
use crate::run::summary::{Delivery, Measured, Measures, Method, MethodResult, SUMMARY, Scaled};
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
        self.heed_decisions();
        let (all, found) = (self.inputs.decisions.len(), self.decisions_about_rows());
        if all > 0 {
            let others = if found < all { "; the others are about texts that it has no more" } else { "" };
            self.inputs.progress.say(format!("{found} of {all} decisions are about rows of this run{others}"));
        }
        let best = best_round(&self.manifest.rounds);
        let written = self.rows.iter().filter(|row| row.round <= best && row.reviewed != Reviewed::Rejected);
        let written = written.map(|row| self.dataset_row(row));
        let read = self.read.iter().filter(|row| row.reviewed != Reviewed::Rejected).map(|row| self.read_row(row));
        let rows: Vec<Value> = written.chain(read).collect();
        write_json_lines(&self.run.join("dataset.jsonl"), &rows)?;
        self.draw_map(&rows)?;
        let dataset_rows = rows.len();

        let begun = self.begins(Work::Choice);
        let choice = if self.inputs.chooses { H::choose(&self)? } else { None };
        self.ended(Work::Choice, begun)?;
        let delivered = choice.as_ref().map_or_else(|| self.delivered(), |choice| choice.method);
        let (mut results, mut scaled, mut as_delivered) = (Vec::new(), choice.as_ref().map(|choice| choice.scaled), None);
        let thresholds = choice.as_ref().map(|choice| choice.thresholds.clone()).unwrap_or_default();
        for &method in self.inputs.methods {
            let begun = self.begins(Work::Model(method));
            let mut trained = self.model_of(method)?;
            self.ended(Work::Model(method), begun)?;
            let measured = self.measured(&trained)?;
            if method == delivered {
                as_delivered = self.deliver_model(&mut trained, measured.as_ref(), scaled.as_mut(), &thresholds)?;
            }
            results.extend(measured.map(|measured| MethodResult { method, measured }));
        }
        let rounds = self.manifest.rounds.iter().map(|record| record.accepted).collect();
        let candidates = choice.map(|choice| choice.candidates).unwrap_or_default();
        let named = self.inputs.task.labels.iter().map(|label| label.name.clone());
        let thresholds = named.zip(thresholds).collect();
        let delivery =
            Delivery { best_round: best, dataset_rows, rounds, delivered, candidates, scaled, thresholds, as_delivered, results };
        write_json(&self.run.join(SUMMARY), &delivery)?;
        self.manifest.best_round = Some(best);
        self.manifest.stage = Stage::Done;
        self.manifest.write(self.run)?;
        self.clear_checkpoints();
        Ok(delivery)
    }

    /// Scales the model's logits by its temperature, if it has one, gives it its thresholds, and saves it. `before` is what it made of the
    /// test rows; returns what it makes of them then.
    fn deliver_model(
        &self,
        trained: &mut Trained<H::Model>,
        before: Option<&Measured>,
        scaled: Option<&mut Scaled>,
        thresholds: &[f64],
    ) -> Result<Option<Measures>> {
        let mut measured = before.cloned();
        if let Some(scaled) = scaled {
            H::cool_model(&mut trained.model, scaled.temperature);
            H::set_thresholds(&mut trained.model, thresholds);
            let after = self.measured(trained)?;
            let both = |of: fn(&Measured) -> Option<f64>| Some([of(before?)?, of(after.as_ref()?)?]);
            (scaled.calibration_error, scaled.brier) = (both(Measured::calibration_error), both(|of| Some(of.of_labels()?.brier)));
            measured = after;
        }
        replace_folder(&self.run.join("model"), |new| self.inputs.small.save(&trained.model, new))?;
        Ok(measured.map(|measured| measured.measures).filter(|measures| !matches!(measures, Measures::Answers { .. })))
    }

    /// The method whose model is delivered where there is no choice: S3 + gold, or S3 if that is not compared; the gold rows alone where
    /// the generator's judgement is not told from chance.
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
            Method::ReadGold => {
                let read = Chosen { written: None, read: usize::MAX, learnt: LearntFrom::All, without: HashSet::new() };
                self.fit_with_gold("read + gold", Some(&read), &gold, seed("read + gold"))
            }
            Method::S3Gold => {
                let best = Chosen { written: Some(self.best_round()), read: usize::MAX, learnt: LearntFrom::All, without: HashSet::new() };
                self.fit_with_gold(method.name(), Some(&best), &gold, seed("best round + gold"))
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

    /// Trains on the chosen synthetic rows, if there are any, and on gold rows, beside synthetic ones `train.gold_repeat` times each.
    pub(super) fn fit_with_gold(&self, name: &str, chosen: Option<&Chosen>, gold: &[&GoldRow<H>], seed: u64) -> Result<Trained<H::Model>> {
        let (small, keys) = (self.inputs.small, &self.inputs.task.train);
        let mut rows: Vec<TrainRow<H::Target>> = chosen.map(|chosen| self.union(chosen)).unwrap_or_default();
        let synthetic_rows = rows.len();
        for _ in 0..if chosen.is_some() { keys.gold_repeat } else { 1 } {
            rows.extend(gold.iter().map(|row| small.gold_row(row)));
        }
        let fitted = self.fit(name, &FitPlan { rows: &rows, keys, seed })?;
        Ok(Trained { model: fitted.model, synthetic_rows, gold_rows: gold.len(), steps: fitted.steps })
    }

    /// A row of `dataset.jsonl`: the head's fields, then the row's provenance.
    fn dataset_row(&self, row: &SyntheticRow<H>) -> Value {
        let (head, written) = (&self.inputs.small.head, &row.written);
        let mut line = head.dataset_row(row, &self.target(row, LearntFrom::All));
        let mut add = |values: Value| values.as_object().into_iter().flatten().for_each(|(name, value)| line[name] = value.clone());
        let (id, round) = (row.id(), row.round);
        add(
            json!({"id": id, "origin": "written", "round": round, "prompt": written.prompt, "seed": written.seed, "parent": written.parent}),
        );
        if let Some(context) = written.context {
            add(json!({(H::CONTEXT_LINE): context}));
        }
        let answers = self.judges.as_ref().filter(|_| !row.answers.is_empty()).map(|judges| judges.answers(&row.answers, LearntFrom::All));
        add(head.dataset_reasons(row, &self.rationales, &answers.unwrap_or_default()));
        row.reviewed.in_json().into_iter().for_each(add);
        line
    }

    /// A row of `dataset.jsonl` about a text that was read, or continues a list.
    fn read_row(&self, row: &ReadRow) -> Value {
        let mut line = H::read_row(self, row);
        let provenance = match row.is_real() {
            true => json!({"id": row.id(), "origin": "read", "round": row.round, "line": row.text.line}),
            false => json!({"id": row.id(), "origin": "listed", "round": row.round, "shown": row.shown}),
        };
        let reviewed = row.reviewed.in_json().unwrap_or_default();
        let added = [&provenance, &reviewed].into_iter().filter_map(Value::as_object).flatten();
        added.for_each(|(name, value)| line[name] = value.clone());
        line
    }
}
