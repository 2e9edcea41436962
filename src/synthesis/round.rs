//! The training stage: trains the small model on the union and records its errors.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::head::LoopHead;
use super::rows::Reviewed;
use super::stages::Stages;
use super::state::Synthesis;
use super::union::Chosen;
use crate::data::example::{GoldRow, Input};
use crate::error::{Error, Result};
use crate::files::sha256::mark_of;
use crate::files::whole::{remove_entries, replace_folder, write_json, write_json_lines};
use crate::judge::judges::LearntFrom;
use crate::judge::panel::Panel;
use crate::math::random;
use crate::run::folder::TWINS;
use crate::run::live;
use crate::run::misclassified::{Changes, Misclassified};
use crate::run::round::RoundRecord;
use crate::small::fit::Fitted;
use crate::small::offsets::cross_fit;
use crate::small::plan::FitPlan;

/// A round model's outputs on the gold rows.
struct OnGold<H: LoopHead> {
    mine: Vec<H::Output>,
    /// With offsets of the other folds of *select*.
    select: Vec<H::Output>,
    /// The model's offsets, from all of *select*.
    offsets: Vec<f64>,
}

impl<H: Stages> Synthesis<'_, H> {
    /// Reinitialises the small model, trains it on the union and records its errors; does nothing if the round was trained before on the
    /// same rows.
    pub(super) fn train(&mut self, round: usize) -> Result<()> {
        let made_from = self.mark_of_rows(round);
        match self.manifest.rounds.get(round) {
            Some(record) if record.made_from == made_from && self.is_kept(round) => return Ok(()),
            Some(_) => self.forget_rounds(round)?,
            None => {}
        }
        let keys = &self.inputs.task.train;
        let union = self.union(&Chosen { written: Some(round), read: round, learnt: LearntFrom::Mine, without: HashSet::new() });
        let seed = random::derive(self.inputs.seed, "training of a round", round as u64);
        let name = if round == 0 { "seed".to_string() } else { format!("round {round}") };
        let mut fitted = self.fit(&name, &FitPlan { rows: &union, keys, seed })?;
        let on_gold = self.move_offsets(&mut fitted.model)?;
        let record = self.record(round, (union.len(), made_from), &fitted, &on_gold)?;
        self.save_round(&record, &fitted, &on_gold)?;
        self.inputs.progress.say(line_of(&record));
        live::tell("round", &json!(record));
        self.manifest.rounds.push(record);
        self.manifest.write(self.run)?;
        self.clear_checkpoints();
        Ok(())
    }

    /// A mark of what a round's model learns from: texts, what they were written for, what the generator said of them, and how that is
    /// calibrated.
    fn mark_of_rows(&self, round: usize) -> String {
        let pair = |input: Input| [input.text.to_string(), input.text_pair.unwrap_or_default().to_string()];
        let said = |reviewed: &Reviewed| match reviewed {
            Reviewed::Relabelled(label) => format!(" relabelled {label}"),
            _ => String::new(),
        };
        let written = self.rows.iter().filter(|row| row.round <= round && row.reviewed != Reviewed::Rejected);
        let written = written.flat_map(|row| {
            [&pair(row.input())[..], &[format!("{:?} {:?}{}", row.written.goal, row.answers, said(&row.reviewed))]].concat()
        });
        let read = self.read.iter().filter(|row| row.round <= round && row.reviewed != Reviewed::Rejected);
        let read = read.flat_map(|row| [&pair(row.text.input())[..], &[format!("{:?}{}", row.answers, said(&row.reviewed))]].concat());
        let calibration = self.judges.iter().flat_map(Panel::calibrations).map(|calibration| format!("{calibration:?}"));
        let all: Vec<String> = written.chain(read).chain(calibration).collect();
        mark_of(all.iter().map(String::as_str))
    }

    /// Whether a round's model and errors are where they were saved.
    fn is_kept(&self, round: usize) -> bool {
        let folder = self.run.join(format!("rounds/{round}"));
        folder.join("misclassified.jsonl").exists() && folder.join("model/model.safetensors").exists()
    }

    /// Takes a round and those after it out of the manifest, with what follows from them: the texts that later rounds read, and the twins.
    fn forget_rounds(&mut self, round: usize) -> Result<()> {
        self.inputs
            .progress
            .say(format!("round {round}: its rows are not those that its model was trained on, or the model is gone; it is trained anew"));
        self.manifest.rounds.truncate(round);
        self.manifest.best_round = None;
        self.manifest.write(self.run)?;
        let later = |name: &str| {
            let number = name.strip_prefix("texts-").and_then(|name| name.strip_suffix(".json")).and_then(|n| n.parse::<usize>().ok());
            number.is_some_and(|number| number > round)
        };
        let journal = self.run.join("journal");
        remove_entries(&journal, later).map_err(Error::io("remove old choices in", &journal))?;
        let twins = self.run.join(TWINS);
        remove_entries(&twins, |name| name.ends_with(".json")).map_err(Error::io("remove old twins in", &twins))?;
        self.clear_checkpoints();
        Ok(())
    }

    /// Moves the labels' offsets to what *select* says, unless the task does without; runs the model on the gold rows.
    fn move_offsets(&self, model: &mut H::Model) -> Result<OnGold<H>> {
        let (small, split) = (self.inputs.small, self.inputs.split);
        let mut select = small.outputs(model, &split.select)?;
        let mut offsets = Vec::new();
        if self.inputs.task.train.use_select {
            offsets = H::offsets(&split.select.iter().collect::<Vec<_>>(), &select.iter().collect::<Vec<_>>());
            cross_fit(&split.select, &mut select);
            H::add_offsets(model, &offsets);
        }
        Ok(OnGold { mine: small.outputs(model, &split.mine)?, select, offsets })
    }

    fn record(
        &self,
        round: usize,
        (rows, made_from): (usize, String),
        fitted: &Fitted<H::Model>,
        on_gold: &OnGold<H>,
    ) -> Result<RoundRecord> {
        let tally = &self.tallies[round];
        let split = self.inputs.split;
        let wrong = errors(&split.mine, &on_gold.mine);
        let before = round.checked_sub(1).map(|before| self.misclassified(before)).transpose()?;
        let accepted_of = |stratum| self.rows_of(round).filter(|row| H::strata_of(&row.written.goal).contains(&stratum)).count();
        Ok(RoundRecord {
            round,
            read: self.read.iter().filter(|row| row.round == round && row.is_real()).count(),
            listed: self.read.iter().filter(|row| row.round == round && !row.is_real()).count(),
            written: tally.written,
            accepted: self.rows_of(round).count(),
            spare: tally.accepted() - self.rows_of(round).count(),
            labels: (0..self.strata()).map(accepted_of).collect(),
            rejected: tally.rejected.clone(),
            tokens: tally.tokens,
            rows,
            made_from,
            steps: fitted.steps,
            errors_before: round.checked_sub(1).map(|before| self.manifest.rounds[before].errors_after),
            errors_after: wrong.len(),
            changes: before.map(|before| Changes::between(&before, &wrong, self.strata())),
            select: H::evaluate(&split.select, &on_gold.select),
            offsets: on_gold.offsets.clone(),
        })
    }

    fn save_round(&self, record: &RoundRecord, fitted: &Fitted<H::Model>, on_gold: &OnGold<H>) -> Result<()> {
        let folder = self.run.join(format!("rounds/{}", record.round));
        let split = self.inputs.split;
        write_json_lines(&folder.join("misclassified.jsonl"), errors(&split.mine, &on_gold.mine))?;
        let rows = self.prediction_rows("mine", &split.mine, &on_gold.mine);
        let rows = rows.chain(self.prediction_rows("select", &split.select, &on_gold.select));
        write_json_lines(&folder.join("predictions.jsonl"), rows)?;
        let synthetic = self.likeness(record.round)?;
        write_json(&folder.join("metrics.json"), &json!({"round": record, "synthetic": synthetic}))?;
        replace_folder(&folder.join("model"), |new| self.inputs.small.save(&fitted.model, new))
    }

    /// Lines of `predictions.jsonl`.
    fn prediction_rows(&self, side: &'static str, rows: &[GoldRow<H>], outputs: &[H::Output]) -> impl Iterator<Item = Value> {
        let line = move |(row, output): (&GoldRow<H>, &H::Output)| {
            let mut line = json!({"split": side, "line": row.line});
            let said = self.inputs.small.head.prediction_row(&row.gold, output);
            said.as_object().into_iter().flatten().for_each(|(name, value)| line[name] = value.clone());
            line
        };
        rows.iter().zip(outputs).map(line).collect::<Vec<_>>().into_iter()
    }
}

/// The rows that a model got wrong.
fn errors<H: LoopHead>(rows: &[GoldRow<H>], outputs: &[H::Output]) -> Vec<Misclassified<H>> {
    let predicted = rows.iter().zip(outputs.iter().map(H::prediction));
    predicted.filter(|(row, predicted)| !row.accepts(predicted)).map(|(row, predicted)| Misclassified::new(row, predicted)).collect()
}

/// A one-line summary of a round.
fn line_of(record: &RoundRecord) -> String {
    let RoundRecord { round, read, listed, written, accepted, rows, errors_after, select, .. } = record;
    let some = |count: usize, what: &str| if count > 0 { format!("{count} texts {what}, ") } else { String::new() };
    let read = some(*read, "read") + &some(*listed, "listed");
    let before = record.errors_before.map(|n| format!("{n} → ")).unwrap_or_default();
    let changes = record.changes.as_ref().map(|changes| format!(" ({})", changes.in_words())).unwrap_or_default();
    format!(
        "round {round}: {read}{accepted} of {written} texts accepted, {rows} rows in total, errors on mine {before}{errors_after}{changes}, select {} (log loss {:.3})",
        select.in_words(),
        select.log_loss
    )
}
