//! Runs a baseline by name.

use std::time::Instant;

use super::baseline::Baseline;
use super::bench::{Bench, Predicted};
use super::judged_texts::JudgedTexts;
use super::student::{MEMBERS, Students};
use super::{linear, prompted, setfit};
use crate::error::{Error, Result};
use crate::generator::Generate;

/// The baselines of one draw. What several of them need is computed once.
pub struct Baselines<'a> {
    bench: Bench<'a>,
    students: Students<'a>,
    judged_texts: JudgedTexts<'a>,
}

impl<'a> Baselines<'a> {
    pub fn new(bench: Bench<'a>) -> Self {
        Baselines { bench, students: Students::new(bench), judged_texts: JudgedTexts::new(bench) }
    }

    /// What a baseline says of the test rows. Steps and operations are counted as if it had been run alone.
    ///
    /// # Errors
    /// No gold rows; a baseline that [does not fit](Baseline::fits) the task, or [asks the generator](Baseline::asks_generator) where none
    /// is given; what fits and generators fail with.
    pub fn predict(&mut self, baseline: Baseline, generator: Option<&mut dyn Generate>) -> Result<Predicted> {
        let refuse = |why: &str| Err(Error::Failed(format!("the baseline {:?} {why}", baseline.name())));
        if baseline.reads_gold() && self.bench.gold.is_empty() {
            return refuse("needs gold rows, and there are none");
        }
        if !baseline.fits(self.bench.task, !self.bench.unlabelled.is_empty()) {
            return refuse("does not fit the task: those of the generator need prompts.judge, self-training needs unlabelled texts");
        }
        let clock = Instant::now();
        let already = match baseline {
            Baseline::GoldOnly => self.students.seconds_of(1),
            Baseline::Ensemble | Baseline::SelfTraining => self.students.seconds_of(MEMBERS),
            Baseline::Distilled => self.students.seconds_of(0),
            _ => 0.0,
        };
        let predicted = match (baseline, generator) {
            (Baseline::GoldOnly, _) => self.students.gold_only(),
            (Baseline::Ensemble, _) => self.students.ensemble(),
            (Baseline::Distilled, _) => self.students.distilled(),
            (Baseline::SelfTraining, _) => self.students.self_training(),
            (Baseline::SetFit, _) => setfit::setfit(&self.bench),
            (Baseline::Embeddings, _) => linear::embeddings(&self.bench),
            (Baseline::Tfidf, _) => Ok(linear::tfidf(&self.bench)),
            (Baseline::ZeroShot, Some(generator)) => prompted::zero_shot(&self.bench, generator),
            (Baseline::Calibrated, Some(generator)) => prompted::calibrated(&self.bench, generator),
            (Baseline::Demonstrations, Some(generator)) => prompted::demonstrations(&self.bench, generator),
            (Baseline::Stacked, Some(generator)) => prompted::stacked(&self.bench, generator),
            (Baseline::Judged, Some(generator)) => self.judged_texts.predict(false, generator),
            (Baseline::JudgedGold, Some(generator)) => self.judged_texts.predict(true, generator),
            (_, None) => refuse("asks the generator, and none was given"),
        }?;
        let seconds = if baseline.asks_generator() { predicted.seconds } else { already + clock.elapsed().as_secs_f64() };
        Ok(Predicted { seconds, ..predicted })
    }
}
