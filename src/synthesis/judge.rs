//! Stages in which the generator judges: gold rows, to calibrate it; its own rows, for their soft targets.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{Synthesis, prompt_error};
use crate::error::Result;
use crate::generator::ScoreRequest;
use crate::soft_targets::Calibration;

/// A row of a judging journal: one question about one text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Judged {
    /// `key * questions + question`; the key is a gold row's line, or a written row's id.
    id: u64,
    /// ln p of each label's word.
    log_probs: Vec<f32>,
}

impl Synthesis<'_> {
    /// Scores the gold rows and fits the calibration to them.
    pub(super) fn calibrate(&mut self) -> Result<()> {
        let split = self.inputs.split;
        let rows: Vec<_> = split.mine.iter().chain(&split.select).collect();
        let texts: Vec<(u64, String)> = rows.iter().map(|row| (row.line as u64, row.text.clone())).collect();
        let gold: Vec<usize> = rows.iter().map(|row| row.label).collect();
        let scores = self.score("judge-gold", "judging the gold rows", &texts)?;
        let averaged: Vec<Vec<f32>> = scores.iter().map(|questions| average(questions)).collect();
        let calibration = Calibration::fit(&averaged, &gold);
        if self.manifest.calibration.as_ref() != Some(&calibration) {
            let agreement = calibration.accuracy;
            self.inputs.progress.say(format!("the generator, calibrated, judges {:.1} % of the gold rows right", agreement * 100.0));
            self.manifest.calibration = Some(calibration);
        }
        Ok(())
    }

    /// Scores the rows of a round and gives them their soft targets.
    pub(super) fn judge(&mut self, round: usize) -> Result<()> {
        let texts: Vec<(u64, String)> = self.rows_of(round).map(|row| (row.written.id, row.text.clone())).collect();
        let scores = self.score(&format!("judge-{round}"), &format!("round {round} · judging"), &texts)?;
        let calibration = self.manifest.calibration.clone().expect("the gold rows are judged before the first round");
        let intended = self.inputs.task.targets.intended;
        for (row, questions) in self.rows.iter_mut().filter(|row| row.round == round).zip(scores) {
            row.target = calibration.target(&average(&questions), row.written.label, intended);
            row.log_probs = questions;
        }
        Ok(())
    }

    /// For each text (under its key) and each judge prompt, ln p of each label's word; what the journal holds is not asked again.
    pub(super) fn score(&mut self, name: &str, title: &str, texts: &[(u64, String)]) -> Result<Vec<Vec<Vec<f32>>>> {
        let task = self.inputs.task;
        let questions = task.prompts.judge.len();
        let (mut journal, judged) = self.run.journal::<Judged>(name)?;
        let mut scores: HashMap<u64, Vec<f32>> = judged.into_iter().map(|row| (row.id, row.log_probs)).collect();
        let ids = texts
            .iter()
            .flat_map(|(key, text)| (0..questions).map(move |question| (key * questions as u64 + question as u64, text, question)));
        let mut requests = Vec::new();
        for (id, text, question) in ids.filter(|(id, ..)| !scores.contains_key(id)) {
            let judge = &task.prompts.judge[question];
            let prompt = self.inputs.prompts.judge(judge, text).map_err(prompt_error)?;
            let words = task.labels.iter().map(|label| judge.words[&label.name].clone()).collect();
            requests.push(ScoreRequest { id, prompt, words });
        }
        let total = texts.len() * questions;
        let mut bar = self.inputs.progress.stage(title, "questions", total, total - requests.len());
        self.generator.score(&requests, &mut |score| {
            journal.append(&Judged { id: score.id, log_probs: score.log_probs.clone() })?;
            scores.insert(score.id, score.log_probs);
            bar.step(1);
            Ok(())
        })?;
        journal.sync()?;
        bar.finish("");
        let of = |key: u64| (0..questions as u64).map(|question| scores[&(key * questions as u64 + question)].clone()).collect();
        Ok(texts.iter().map(|(key, _)| of(*key)).collect())
    }
}

/// The mean of the questions' log-probabilities.
pub(super) fn average(questions: &[Vec<f32>]) -> Vec<f32> {
    let labels = questions.first().map_or(0, Vec::len);
    (0..labels).map(|label| questions.iter().map(|q| q[label]).sum::<f32>() / questions.len() as f32).collect()
}
