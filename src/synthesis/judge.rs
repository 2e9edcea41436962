//! The judging stages: the generator judges the gold rows for its calibration, and synthetic rows for their soft targets.

use super::head_with_labels::HeadWithLabels;
use super::rows::SyntheticRow;
use super::state::Synthesis;
use crate::data::example::Input;
use crate::error::{Error, Result};
use crate::generator::Generate;
use crate::judge::kept::{keep, read};
use crate::judge::knowledge::Knowledge;
use crate::judge::panel::{Panel, knowledge};
use crate::judge::posterior::mean_log_probs;
use crate::judge::questions::{Judged, Questions};
use crate::judge::reply::{Reply, layers};
use crate::run::cost::Work;
use crate::run::folder::RunDir;
use crate::run::progress::Progress;
use crate::task::file::JudgeKind;
use crate::task::prompts::PromptHead;
use serde::{Deserialize, Serialize};

impl<H: HeadWithLabels> Synthesis<'_, H> {
    /// Judges the gold rows, fits the judges and measures one, cross-fitted, on all of them. *Select* takes no part in the targets of
    /// rounds, so that it can choose among the models that learn from them.
    pub(super) fn calibrate(&mut self) -> Result<()> {
        let split = self.inputs.split;
        let rows: Vec<_> = split.gold().collect();
        let texts: Vec<(u64, Input)> = rows.iter().map(|row| (row.line as u64, row.input())).collect();
        let head = &self.inputs.small.head;
        let answers: Vec<Vec<usize>> = rows.iter().map(|row| head.answers(&row.gold)).collect();
        let questions = self.inputs.prompts.asked().len();
        let words = self.words_about(&texts)?;
        let states = self.states_of(&texts)?;
        let inputs = texts.iter().flat_map(|(_, input)| std::iter::repeat_n(*input, questions));
        let replies = words.into_iter().zip(states).zip(inputs);
        let replies: Vec<Reply> =
            replies.map(|((log_probs, states), input)| Reply { log_probs, states, group: Reply::group_of(input) }).collect();
        let (mine, prompts, seed) = (split.mine.len(), self.inputs.task.prompts.judge.len(), self.inputs.seed);
        let fold = self.folds();
        let (judges, knowledge) = self.inputs.small.reader.pool.install(|| {
            let judges = Panel::fit(&replies, &answers, mine, &fold, prompts, seed);
            (judges, self.manifest.judge.clone().unwrap_or_else(|| knowledge(&replies, &answers, seed)))
        });
        if self.manifest.judge.as_ref() != Some(&knowledge) {
            self.inputs.progress.say(verdict(&knowledge, questions));
        }
        // Rounds have learnt from the targets of the calibration that the manifest has: another version of the fit must not change it.
        let kept = self.manifest.calibrations.clone();
        let keeps = !self.manifest.rounds.is_empty() && kept.len() == questions;
        let judges = if keeps { judges.with_calibrations(kept) } else { judges };
        self.manifest.calibrations = judges.calibrations();
        self.manifest.judge = Some(knowledge);
        self.judges = Some(judges);
        Ok(())
    }

    /// ln p of the answers' words for each of these gold rows and each question, (texts × questions, answers); zeros where the judge goes
    /// by states alone.
    fn words_about(&mut self, texts: &[(u64, Input)]) -> Result<Vec<Vec<f32>>> {
        let (questions, answers) = (self.inputs.prompts.asked().len(), self.inputs.task.judges_answers().len());
        if self.inputs.task.judge_kind() == JudgeKind::States {
            return Ok(vec![vec![0.0; answers]; texts.len() * questions]);
        }
        let posteriors = self.posteriors("judge-gold", "judging the gold rows", texts)?;
        let prompts = self.inputs.task.prompts.judge.len();
        Ok(posteriors.iter().flat_map(|of_text| of_text.chunks(prompts).map(mean_log_probs)).collect())
    }

    /// The hidden states with which the generator reads these gold rows, (texts × questions, layers, hidden), kept in the run's folder;
    /// no layers if the task's judge does not learn from them, or the generator shows none.
    ///
    /// # Errors
    /// A judge by states alone, of a generator that shows none.
    fn states_of(&mut self, texts: &[(u64, Input)]) -> Result<Vec<Vec<Vec<f32>>>> {
        let (layers, rows) = (self.layers()?, texts.len() * self.inputs.prompts.asked().len());
        if layers.is_empty() {
            return Ok(vec![Vec::new(); rows]);
        }
        let path = self.run.join("journal/states-gold.safetensors");
        let (mut journal, known) = self.run.journal::<Computed>("states-gold")?;
        let questions = Questions::of_judge(self.inputs.task, self.inputs.prompts)?;
        let mark = questions.mark_of_texts(texts);
        if !path.exists() || known.last().is_none_or(|known| known.mark != mark) {
            let inputs: Vec<Input> = texts.iter().map(|(_, input)| *input).collect();
            let mut bar = self.inputs.progress.bar("reading the gold rows", "questions", rows, 0);
            let before = self.generator.computed();
            let replies = questions.states(self.generator, &inputs, &layers, &mut || bar.step(1))?;
            // The cost first: after a crash between the two it is paid again, and both count.
            journal.append(&Computed { id: 0, computed: self.generator.computed() - before, mark })?;
            journal.sync()?;
            keep(&path, &replies)?;
            bar.finish("");
        }
        let kept = read(&path)?;
        if kept.len() != rows {
            let (path, kept) = (path.display(), kept.len());
            return Err(Error::Run(format!("{path}: {kept} replies, and {rows} are needed; remove the file, and it is made again")));
        }
        Ok(kept.into_iter().map(|reply| reply.states).collect())
    }

    /// The layers whose states the task's judge reads.
    fn layers(&self) -> Result<Vec<usize>> {
        let task = self.inputs.task;
        layers(self.generator, task.judge_kind(), task.judge_depth())
    }

    /// Judges the rows of a round.
    pub(super) fn judge(&mut self, round: usize) -> Result<()> {
        let rows: Vec<SyntheticRow<H>> = self.rows_of(round).cloned().collect();
        let texts: Vec<(u64, Input)> = rows.iter().map(|row| (row.written.id, row.input())).collect();
        let (journal, title) = (format!("judge-{round}"), Work::Judged(round).in_words());
        let answers = self.judged(&journal, &title, &texts)?;
        self.rows.iter_mut().filter(|row| row.round == round).zip(answers).for_each(|(row, answers)| row.answers = answers);
        Ok(())
    }

    /// What the judges go by of texts, see [`Questions::posteriors`], kept in a journal.
    pub(super) fn judged(&mut self, journal: &str, title: &str, texts: &[(u64, Input)]) -> Result<Vec<Vec<Vec<f32>>>> {
        let judges = self.judges.as_ref().expect("the gold rows are judged before any other text");
        let questions = Questions::of_judge(self.inputs.task, self.inputs.prompts)?;
        let questions = questions.with_probes(judges.probes(), self.layers()?);
        ask(&questions, self.generator, texts, (self.run, journal), (self.inputs.progress, title))
    }

    /// [`ask`], with the run's journals.
    pub(super) fn posteriors(&mut self, name: &str, title: &str, texts: &[(u64, Input)]) -> Result<Vec<Vec<Vec<f32>>>> {
        let questions = Questions::of(self.inputs.task, self.inputs.prompts)?;
        ask(&questions, self.generator, texts, (self.run, name), (self.inputs.progress, title))
    }

    /// Asks every question once, about a gold row, before hours of writing.
    pub(super) fn try_the_judge(&mut self) -> Result<()> {
        let Some(row) = self.inputs.split.mine.first() else { return Ok(()) };
        Questions::of_judge(self.inputs.task, self.inputs.prompts)?.try_on(self.generator, row.input())
    }
}

/// A journal row that says what reading hidden states took.
#[derive(Serialize, Deserialize)]
struct Computed {
    id: u64,
    computed: u64,
    /// Of the texts and the question.
    #[serde(default)]
    mark: String,
}

/// [`Questions::posteriors`] with a journal of `run`, by name, and a progress bar, by title.
///
/// # Errors
/// As [`Questions::posteriors`]; a journal that cannot be read or written.
pub fn ask<H: PromptHead>(
    questions: &Questions<H>,
    generator: &mut dyn Generate,
    texts: &[(u64, Input)],
    (run, journal): (&RunDir, &str),
    (progress, title): (Progress, &str),
) -> Result<Vec<Vec<Vec<f32>>>> {
    let (mut journal, known) = run.journal::<Judged>(journal)?;
    let mut bar = progress.bar(title, "questions", texts.len() * questions.for_each_text(), known.len());
    let posteriors = questions.posteriors(generator, texts, known, &mut |judged| {
        journal.append(judged)?;
        bar.step(1)
    })?;
    journal.sync()?;
    bar.finish("");
    Ok(posteriors)
}

/// How well the generator judges, which was asked so many questions about each gold row, and the consequences if it knows nothing about the
/// task.
pub fn verdict(judge: &Knowledge, questions: usize) -> String {
    let (of, most) = if questions > 1 { ("answers about the gold rows", "answer") } else { ("gold rows", "label") };
    let right = format!("the calibrated judge is right on {:.1} % of the {of} (out of fold)", judge.accuracy * 100.0);
    if judge.better_than_chance() {
        let chance = format!("{right}; always the most frequent answer: {:.1} %", judge.chance * 100.0);
        return if questions > 1 { chance } else { right };
    }
    format!(
        "{right} (always the most frequent {most}: {:.1} %), McFadden's R² {:.3}, a gain of {:.1} standard errors: it is not told \
         from chance. Its synthetic rows are unlikely to help, so where gold only is among the methods, model/ will be trained on the gold \
         rows alone. Try another generator, or other words in prompts.judge",
        judge.chance * 100.0,
        judge.r_squared,
        judge.gain
    )
}
