//! The stage in which the small model learns the union and errs.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Changes, Synthesis};
use crate::dataset::{Goal, GoldRow, Guess, Input};
use crate::error::{Error, Result};
use crate::manifest::RoundRecord;
use crate::run_dir::{replace_folder, write_json, write_json_lines};
use crate::seed;
use crate::task::Parents;
use crate::train::{Fitted, Predictions, Select, Stage, epochs};
use crate::train_span::Found;

/// A *mine* row that the round's model got wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Misclassified {
    /// In the gold file.
    pub line: usize,
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_pair: Option<String>,
    /// `label` or `answer` in the file.
    #[serde(flatten)]
    pub goal: Goal,
    pub predicted: Guess,
}

impl Misclassified {
    pub fn input(&self) -> Input<'_> {
        Input { text: &self.text, text_pair: self.text_pair.as_deref() }
    }
}

/// Epochs without a better score on *select* before a fit stops.
const EPOCH_PATIENCE: usize = 2;

impl Synthesis<'_> {
    /// Reinitialises the small model, trains it on the union, and records its errors; done already, it does nothing.
    pub(super) fn train(&mut self, round: usize) -> Result<()> {
        if self.manifest.rounds.len() > round {
            return Ok(());
        }
        let (inputs, split) = (&self.inputs, self.inputs.split);
        let union = self.union(round);
        let keys = &inputs.task.train;
        let select = Select { rows: &split.select, patience: EPOCH_PATIENCE };
        let stage = Stage { name: format!("round {round} · training"), progress: inputs.progress };
        let fit_seed = seed::derive(inputs.seed, "training of a round", round as u64);
        let fitted = inputs.small.fit(&union, keys.use_select.then_some(select), keys, epochs(keys, union.len()), fit_seed, stage)?;
        let on_mine = inputs.small.predict_rows(&fitted.model, &split.mine)?;
        let on_select = inputs.small.predict_rows(&fitted.model, &split.select)?;
        let record = self.record(round, union.len(), &fitted, &on_mine, &on_select)?;
        self.save_round(&record, &fitted, &on_mine, &on_select)?;
        inputs.progress.say(line_of(&record));
        self.manifest.rounds.push(record);
        self.manifest.write(self.run)
    }

    fn record(&self, round: usize, rows: usize, fitted: &Fitted, on_mine: &Predictions, on_select: &Predictions) -> Result<RoundRecord> {
        let tally = &self.tallies[round];
        let split = self.inputs.split;
        let wrong: Vec<Misclassified> = errors(&split.mine, on_mine).collect();
        let before = round.checked_sub(1).map(|before| self.misclassified(before)).transpose()?;
        Ok(RoundRecord {
            round,
            written: tally.written,
            accepted: self.rows_of(round).count(),
            labels: (0..self.labels()).map(|label| self.rows_of(round).filter(|row| row.written.goal.label() == label).count()).collect(),
            rejected: tally.rejected.clone(),
            tokens: tally.tokens,
            rows,
            epoch: fitted.epoch,
            steps: fitted.steps,
            errors_before: round.checked_sub(1).map(|before| self.manifest.rounds[before].errors_after),
            errors_after: wrong.len(),
            changes: before.map(|before| Changes::between(&before, &wrong, self.labels())),
            select: on_select.score(&split.select),
            offsets: fitted.offsets.clone(),
        })
    }

    fn save_round(&self, record: &RoundRecord, fitted: &Fitted, on_mine: &Predictions, on_select: &Predictions) -> Result<()> {
        let folder = self.run.join(format!("rounds/{}", record.round));
        let split = self.inputs.split;
        write_json_lines(&folder.join("misclassified.jsonl"), errors(&split.mine, on_mine))?;
        let rows = self.predicted_rows("mine", &split.mine, on_mine).into_iter();
        write_json_lines(&folder.join("predictions.jsonl"), rows.chain(self.predicted_rows("select", &split.select, on_select)))?;
        write_json(
            &folder.join("metrics.json"),
            &json!({"round": record, "select_by_epoch": fitted.history, "synthetic": self.likeness(record.round)?}),
        )?;
        replace_folder(&folder.join("model"), |new| self.inputs.small.save(&fitted.model, new))
    }

    /// Lines of `predictions.jsonl`.
    fn predicted_rows(&self, side: &str, rows: &[GoldRow], predictions: &Predictions) -> Vec<Value> {
        let names = self.inputs.task.label_names();
        match predictions {
            Predictions::Labels(logits) => {
                let line = |(row, logits): (&GoldRow, &Vec<f32>)| {
                    let predicted = &names[crate::math::vectors::argmax(logits)];
                    json!({"split": side, "line": row.line, "label": names[row.goal.label()], "predicted": predicted, "logits": logits})
                };
                rows.iter().zip(logits).map(line).collect()
            }
            Predictions::Answers(found) => {
                let line = |(row, found): (&GoldRow, &Found)| {
                    let (answer, predicted) = (row.goal.answer(), &found.answer);
                    json!({"split": side, "line": row.line, "answer": answer, "predicted": predicted, "score": found.probability})
                };
                rows.iter().zip(found).map(line).collect()
            }
        }
    }

    /// What the round after `round` extrapolates: its errors, or all *mine* rows.
    pub(super) fn parents(&self, round: usize) -> Result<Vec<Misclassified>> {
        let errors = self.misclassified(round)?;
        if self.inputs.task.extrapolate.from == Parents::Errors {
            return Ok(errors);
        }
        let predicted: HashMap<usize, Guess> = errors.into_iter().map(|error| (error.line, error.predicted)).collect();
        let right = |row: &GoldRow| match &row.goal {
            Goal::Label(label) => Guess::Label(*label),
            Goal::Answer(answer) => Guess::Answer(answer.text.clone()),
        };
        let of = |row: &GoldRow| misclassified(row, predicted.get(&row.line).cloned().unwrap_or_else(|| right(row)));
        Ok(self.inputs.split.mine.iter().map(of).collect())
    }

    /// The errors of a finished round.
    pub(super) fn misclassified(&self, round: usize) -> Result<Vec<Misclassified>> {
        let path = self.run.join(format!("rounds/{round}/misclassified.jsonl"));
        let content = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let parse = |(i, line): (usize, &str)| {
            serde_json::from_str(line).map_err(|e| Error::Run(format!("{}:{}: damaged ({e})", path.display(), i + 1)))
        };
        content.lines().enumerate().map(parse).collect()
    }
}

fn errors<'r>(mine: &'r [GoldRow], predictions: &Predictions) -> impl Iterator<Item = Misclassified> + use<'r> {
    let wrong = mine.iter().zip(predictions.guesses()).filter(|(row, guess)| !row.accepts(guess));
    wrong.map(|(row, guess)| misclassified(row, guess))
}

fn misclassified(row: &GoldRow, predicted: Guess) -> Misclassified {
    Misclassified { line: row.line, text: row.text.clone(), text_pair: row.text_pair.clone(), goal: row.goal.clone(), predicted }
}

/// A round in a line.
fn line_of(record: &RoundRecord) -> String {
    let RoundRecord { round, written, accepted, rows, errors_after, select, .. } = record;
    let before = record.errors_before.map(|n| format!("{n} → ")).unwrap_or_default();
    let changes = record.changes.as_ref().map(|changes| format!(" ({})", changes.in_words())).unwrap_or_default();
    format!(
        "round {round}: {accepted} of {written} texts accepted, {rows} rows in all, errors on mine {before}{errors_after}{changes}, select {} (log loss {:.3})",
        select.in_words(),
        select.log_loss
    )
}
