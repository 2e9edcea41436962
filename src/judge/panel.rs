//! The judges of all that is asked about: one about which label a text has, or one a label, about whether a text has it.

use rayon::prelude::*;

use super::calibration::Calibration;
use super::judges::{Judges, LearntFrom};
use super::knowledge::Knowledge;
use super::probe::Probe;
use super::reply::Reply;
use crate::math::random;
use crate::math::vectors::softmax;
use crate::task::prompts::PromptHead;

/// A head whose texts the generator can judge.
pub trait JudgedHead: PromptHead {
    /// The right answer to each question of [`PromptHead::asked`]: the label; or for each label 0 for no and 1 for yes.
    fn answers(&self, gold: &Self::Gold) -> Vec<usize>;
}

/// Judges, one for each question of [`PromptHead::asked`].
#[derive(Clone, Debug, PartialEq)]
pub struct Panel(Vec<Judges>);

/// The replies, and the right answers, to one question about each row, of all of them: (rows × questions), and (rows, questions).
pub fn of_question(replies: &[Reply], answers: &[Vec<usize>], question: usize) -> (Vec<Reply>, Vec<usize>) {
    let questions = replies.len() / answers.len().max(1);
    let own = replies.iter().skip(question).step_by(questions.max(1)).cloned();
    (own.collect(), answers.iter().map(|answers| answers[question]).collect())
}

/// The seed of what is drawn for a question: that of all where there is one.
fn seed_of(seed: u64, questions: usize, question: usize) -> u64 {
    if questions == 1 { seed } else { random::derive(seed, "question", question as u64) }
}

impl Panel {
    /// Fits the judges to replies (rows × questions) about the gold rows and to their right answers; the rest as in [`Judges::fit`].
    ///
    /// # Panics
    /// As [`Judges::fit`].
    pub fn fit(replies: &[Reply], answers: &[Vec<usize>], mine: usize, fold: &[Option<usize>], prompts: usize, seed: u64) -> Panel {
        let questions = answers.first().map_or(0, Vec::len);
        let fit = |question: usize| {
            let (replies, gold) = of_question(replies, answers, question);
            Judges::fit(&replies, &gold, mine, fold, prompts, seed_of(seed, questions, question))
        };
        Panel((0..questions).into_par_iter().map(fit).collect())
    }

    /// The judges of a question.
    pub fn of(&self, question: usize) -> &Judges {
        &self.0[question]
    }

    /// Those of all questions, in turn, each with its part of the `answers` about a text.
    pub fn each<'s>(&'s self, answers: &'s [Vec<f32>]) -> impl Iterator<Item = (&'s Judges, &'s [Vec<f32>])> {
        let part = answers.len() / self.0.len().max(1);
        self.0.iter().zip(answers.chunks(part.max(1)))
    }

    /// What one judge of each question goes by of the answers about a text, see [`Judges::answers`]: of all questions, in turn.
    pub fn answers(&self, answers: &[Vec<f32>], learnt: LearntFrom) -> Vec<Vec<f32>> {
        self.each(answers).flat_map(|(judges, answers)| judges.answers(answers, learnt)).collect()
    }

    /// The calibration of the judge of *mine*, for each question.
    pub fn calibrations(&self) -> Vec<Calibration> {
        self.0.iter().map(|judges| judges.calibration().clone()).collect()
    }

    /// The same judges, those of *mine* with other calibrations of the same inputs.
    #[must_use]
    pub fn with_calibrations(self, calibrations: Vec<Calibration>) -> Panel {
        Panel(self.0.into_iter().zip(calibrations).map(|(judges, calibration)| judges.with_calibration(calibration)).collect())
    }

    /// For each question, the heads on hidden states, one a judge.
    pub fn probes(&self) -> Vec<Vec<&Probe>> {
        self.0.iter().map(Judges::probes).collect()
    }

    /// For each question, what a judge that has not learnt a gold row says of it, as probabilities; empty for a row in no fold.
    pub fn of_gold(&self, row: usize) -> Vec<Vec<f64>> {
        let probabilities = |judges: &Judges| softmax(&judges.of_gold(row));
        self.0.iter().map(probabilities).collect()
    }
}

/// How much the judges of all questions know, see [`Knowledge::of_several`].
pub fn knowledge(replies: &[Reply], answers: &[Vec<usize>], seed: u64) -> Knowledge {
    let questions = answers.first().map_or(0, Vec::len);
    let asked = (0..questions).map(|question| of_question(replies, answers, question)).collect::<Vec<_>>();
    Knowledge::of_several(&asked, &|question| seed_of(seed, questions, question))
}
