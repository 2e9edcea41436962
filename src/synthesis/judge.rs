//! The judging stages: the generator judges the gold rows for its calibration, and synthetic rows for their soft targets.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::rows::SyntheticRow;
use super::state::{Synthesis, prompt_error};
use crate::data::example::Input;
use crate::data::labels::Labels;
use crate::error::{Error, Result};
use crate::generator::{GenerateError, PosteriorRequest};
use crate::judge::calibration::Calibration;
use crate::judge::posterior::mean_log_probs;
use crate::task::file::JudgePrompt;
use crate::task::words::{self, Fork, forks};

/// One fork of a judge prompt; each text needs a request for every fork.
struct ForkPrompt<'t> {
    judge: &'t JudgePrompt,
    /// Index of the judge prompt.
    prompt: usize,
    fork: Fork,
}

/// A row of a judge journal: the answer to one question about one text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Judged {
    /// `key * forks + fork`; the key is a gold row's line, or a written row's id.
    id: u64,
    /// ln p of each candidate word.
    log_probs: Vec<f32>,
}

impl<'a> Synthesis<'a, Labels> {
    /// Judges the gold rows and fits the calibration to them.
    pub(super) fn calibrate(&mut self) -> Result<()> {
        if self.manifest.calibration.is_some() && !self.manifest.rounds.is_empty() {
            // Rounds have learnt from its targets: another version of the fit must not change them.
            return Ok(());
        }
        let split = self.inputs.split;
        let rows: Vec<_> = split.gold().collect();
        let texts: Vec<(u64, Input)> = rows.iter().map(|row| (row.line as u64, row.input())).collect();
        let gold: Vec<usize> = rows.iter().map(|row| row.gold.label).collect();
        let posteriors = self.posteriors("judge-gold", "judging the gold rows", &texts)?;
        let averaged: Vec<Vec<f32>> = posteriors.iter().map(|of_text| mean_log_probs(of_text)).collect();
        let calibration = Calibration::fit(&averaged, &gold);
        if self.manifest.calibration.as_ref() != Some(&calibration) {
            self.inputs.progress.say(verdict(&calibration));
            self.manifest.calibration = Some(calibration);
        }
        Ok(())
    }

    /// Judges the rows of a round and sets their soft targets.
    pub(super) fn judge(&mut self, round: usize) -> Result<()> {
        let rows: Vec<SyntheticRow<Labels>> = self.rows_of(round).cloned().collect();
        let texts: Vec<(u64, Input)> = rows.iter().map(|row| (row.written.id, row.input())).collect();
        let posteriors = self.posteriors(&format!("judge-{round}"), &format!("round {round} · judging"), &texts)?;
        let calibration = self.manifest.calibration.clone().expect("the gold rows are judged before the first round");
        let intended = self.inputs.task.targets.intended;
        for (row, answers) in self.rows.iter_mut().filter(|row| row.round == round).zip(posteriors) {
            row.target = calibration.target(&mean_log_probs(&answers), row.written.goal.label, intended);
            row.log_probs = answers;
        }
        Ok(())
    }

    /// For each text (with its key) and each judge prompt, ln p of each label's word. Questions that the journal answers are not repeated.
    pub(super) fn posteriors(&mut self, name: &str, title: &str, texts: &[(u64, Input)]) -> Result<Vec<Vec<Vec<f32>>>> {
        let all = self.fork_prompts()?;
        let forks = all.len();
        let (mut journal, judged) = self.run.journal::<Judged>(name)?;
        let mut known: HashMap<u64, Vec<f32>> = judged.into_iter().map(|row| (row.id, row.log_probs)).collect();
        let ids = texts.iter().flat_map(|(key, text)| (0..forks).map(move |fork| (key * forks as u64 + fork as u64, text, fork)));
        let mut requests = Vec::new();
        for (id, text, fork) in ids.filter(|(id, ..)| !known.contains_key(id)) {
            requests.push(self.ask(id, &all[fork], *text)?);
        }
        let total = texts.len() * forks;
        let mut bar = self.inputs.progress.bar(title, "questions", total, total - requests.len());
        self.generator.posteriors(&requests, &mut |posterior| {
            journal.append(&Judged { id: posterior.id, log_probs: posterior.log_probs.clone() })?;
            known.insert(posterior.id, posterior.log_probs);
            bar.step(1);
            Ok(())
        })?;
        journal.sync()?;
        bar.finish("");
        let prompts = self.inputs.task.prompts.judge.len();
        let of = |key: u64| {
            let answers: Vec<Vec<f32>> = (0..forks as u64).map(|fork| known[&(key * forks as u64 + fork)].clone()).collect();
            (0..prompts).map(|prompt| by_label(&all, prompt, &answers)).collect()
        };
        Ok(texts.iter().map(|(key, _)| of(*key)).collect())
    }

    /// The forks of all judge prompts, in order.
    fn fork_prompts(&self) -> Result<Vec<ForkPrompt<'a>>> {
        let task = self.inputs.task;
        let mut prompts = Vec::new();
        for (prompt, judge) in task.prompts.judge.iter().enumerate() {
            let words: Vec<&str> = task.labels.iter().map(|label| judge.words[&label.name].as_str()).collect();
            let forks = forks(&words).map_err(|message| Error::Failed(format!("prompts.judge: {message}")))?;
            prompts.extend(forks.into_iter().map(|fork| ForkPrompt { judge, prompt, fork }));
        }
        Ok(prompts)
    }

    fn ask(&self, id: u64, question: &ForkPrompt, input: Input) -> Result<PosteriorRequest> {
        let mut prompt = self.inputs.prompts.judge(question.judge, input).map_err(prompt_error)?;
        prompt.answer_start += &question.fork.said;
        Ok(PosteriorRequest { id, prompt, words: question.fork.next.clone() })
    }

    /// Asks every question once, about a gold row, before hours of writing: label words that the generator cannot tell apart are refused,
    /// with the labels' names.
    pub(super) fn try_the_judge(&mut self) -> Result<()> {
        let (task, split) = (self.inputs.task, self.inputs.split);
        let Some(row) = split.mine.first() else { return Ok(()) };
        for question in self.fork_prompts()? {
            let request = self.ask(0, &question, row.input())?;
            let refused = match self.generator.posteriors(&[request], &mut |_| Ok(())) {
                Err(GenerateError::Request { reason, .. }) => reason,
                other => {
                    other?;
                    continue;
                }
            };
            let Fork { next, branch, .. } = &question.fork;
            let named = |label: &usize| branch[*label].is_some_and(|word| refused.contains(&format!("{:?}", next[word])));
            let names: Vec<String> = (0..task.labels.len()).filter(named).map(|label| format!("{:?}", task.labels[label].name)).collect();
            let message = format!("prompts.judge {}, labels {}: {refused}", question.prompt + 1, names.join(", "));
            return Err(Error::Failed(message));
        }
        Ok(())
    }
}

/// How well the generator judges, and the consequences if it knows nothing about the task.
fn verdict(calibration: &Calibration) -> String {
    let verdict = format!("the calibrated judge is right on {:.1} % of the gold rows", calibration.accuracy * 100.0);
    if calibration.better_than_chance() {
        return verdict;
    }
    format!(
        "{verdict} (always the most frequent label: {:.1} %), McFadden's R² {:.3}: hardly better than chance. Its synthetic rows are \
         unlikely to help, so model/ will be trained on the gold rows alone. Try another generator, or other words in prompts.judge",
        calibration.chance * 100.0,
        calibration.r_squared.max(0.0)
    )
}

/// ln p of each label's word from one judge prompt, given the answers to all questions.
fn by_label(questions: &[ForkPrompt], prompt: usize, answers: &[Vec<f32>]) -> Vec<f32> {
    let own = questions.iter().zip(answers).filter(|(question, _)| question.prompt == prompt);
    let (forks, answers): (Vec<Fork>, Vec<Vec<f32>>) = own.map(|(question, answer)| (question.fork.clone(), answer.clone())).unzip();
    words::log_probs(&forks, &answers)
}
