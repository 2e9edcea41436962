//! The small model fine-tuned on gold rows: alone, averaged, distilled, and as a teacher of unlabelled texts.

use std::time::Instant;

use lacuna_models::Classifier;

use super::bench::{Bench, Predicted, log_probabilities, train_row};
use super::fitting::{fit, fit_gold};
use super::gold_only::member_seed;
use super::tune::{Tuned, learning_rate};
use crate::data::example::{GoldRow, Input};
use crate::error::Result;
use crate::math::random;
use crate::small::fit::Fitted;
use crate::small::folds::{Folds, at, sides};
use crate::small::head::SmallHead;
use crate::small::labels::probabilities;
use crate::small::plan::FitPlan;
use crate::small::row::TrainRow;
use crate::task::file::TrainKeys;

/// Models in an ensemble, and folds of the teachers that a student is distilled from.
pub(super) const MEMBERS: usize = 5;
/// What a teacher says counts as much as the gold label.
const OF_TEACHER: f32 = 0.5;

/// The students of one bench. The learning rate is chosen once, and a member of the ensemble is trained once, when first needed.
pub struct Students<'a> {
    bench: Bench<'a>,
    /// The unlabelled texts that may be learnt from.
    unlabelled: Vec<Input<'a>>,
    tuned: Option<Tuned>,
    members: Vec<Member>,
}

/// What a model that learnt from all gold rows says.
struct Member {
    /// (test rows, labels), logits
    test: Vec<Vec<f32>>,
    /// (unlabelled texts, labels), logits
    unlabelled: Vec<Vec<f32>>,
    steps: usize,
    flops: f64,
    seconds: f64,
}

impl<'a> Students<'a> {
    pub fn new(bench: Bench<'a>) -> Self {
        Students { bench, unlabelled: bench.some_unlabelled(), tuned: None, members: Vec::new() }
    }

    /// Seconds that went into what is there already of the learning rate and the first `members` models.
    pub fn seconds_of(&self, members: usize) -> f64 {
        let of_members: f64 = self.members.iter().take(members).map(|member| member.seconds).sum();
        self.tuned.as_ref().map_or(0.0, |tuned| tuned.seconds) + of_members
    }

    /// One model that learnt from all gold rows: what [`gold_only`](super::gold_only::gold_only) trains.
    ///
    /// # Errors
    /// As [`SmallModel::fit`](crate::small::model::SmallModel::fit).
    pub fn gold_only(&mut self) -> Result<Predicted> {
        self.averaged(1)
    }

    /// The mean probabilities of five.
    ///
    /// # Errors
    /// As [`Students::gold_only`].
    pub fn ensemble(&mut self) -> Result<Predicted> {
        self.averaged(MEMBERS)
    }

    /// One model whose target for a gold row is the mean of its label and of what a teacher says that learnt from the other folds. A row
    /// that cannot be held out keeps its label.
    ///
    /// # Errors
    /// As [`Students::gold_only`].
    pub fn distilled(&mut self) -> Result<Predicted> {
        let Bench { small, gold, seed, progress, .. } = self.bench;
        let tuned = self.tuned()?;
        let folds = sides(&small.head.held_out(gold, MEMBERS, random::derive(seed, "teachers", 0)));
        let mut rows: Vec<TrainRow<Vec<f32>>> = gold.iter().map(|row| small.gold_row(row)).collect();
        let mut bar = progress.bar("gold only · distilled", "fits", folds.len() + 1, 0);
        let mut flops = tuned.flops;
        for (fold, (learnt, held_out)) in folds.iter().enumerate() {
            let teacher = fit_gold(small, &at(gold, learnt), &tuned.keys, random::derive(seed, "teacher", fold as u64))?;
            let said = small.outputs(&teacher.model, &at(gold, held_out))?;
            held_out.iter().zip(said).for_each(|(&i, logits)| soften(&mut rows[i].target, &logits));
            flops += teacher.flops;
            bar.step(1)?;
        }
        let student = self.student(&rows, &tuned.keys)?;
        bar.step(1)?;
        bar.finish("");
        self.predicted(student, flops)
    }

    /// One model that learns from unlabelled texts with the ensemble's mean probabilities, and from the gold rows, repeated as the task's
    /// `gold_repeat` says.
    ///
    /// # Errors
    /// As [`Students::gold_only`].
    pub fn self_training(&mut self) -> Result<Predicted> {
        let Bench { small, gold, task, progress, .. } = self.bench;
        let tuned = self.tuned()?;
        let members = self.members(MEMBERS)?;
        let targets = mean_probabilities(&members.iter().map(|member| member.unlabelled.as_slice()).collect::<Vec<_>>());
        let flops = tuned.flops + members.iter().map(|member| member.flops).sum::<f64>();
        let target = |p: Vec<f64>| p.into_iter().map(|p| p as f32).collect();
        let mut rows: Vec<_> = self.unlabelled.iter().zip(targets).map(|(&input, p)| train_row(input, target(p))).collect();
        let repeated = std::iter::repeat_n(gold, task.train.gold_repeat.max(1)).flatten();
        rows.extend(repeated.map(|row| small.gold_row(row)));
        let bar = progress.bar("self-training", "fits", 1, 0);
        let keys = TrainKeys { steps: self.bench.steps_with_texts, ..tuned.keys };
        let student = self.student(&rows, &keys)?;
        bar.finish("");
        self.predicted(student, flops)
    }

    /// The training keys with the chosen learning rate.
    fn tuned(&mut self) -> Result<Tuned> {
        if self.tuned.is_none() {
            let Bench { small, gold, task, seed, progress, .. } = self.bench;
            self.tuned = Some(learning_rate(small, gold, &task.train, seed, progress)?);
        }
        Ok(self.tuned.clone().expect("it was chosen above"))
    }

    /// The first `count` models that learnt from all gold rows.
    fn members(&mut self, count: usize) -> Result<&[Member]> {
        let Bench { small, gold, test, seed, progress, .. } = self.bench;
        let keys = self.tuned()?.keys;
        let mut bar = progress.bar("gold only", "fits", count, self.members.len().min(count));
        for member in self.members.len()..count {
            let clock = Instant::now();
            let Fitted { model, steps, flops } = fit_gold(small, gold, &keys, member_seed(seed, member))?;
            let inputs: Vec<Input> = test.iter().map(GoldRow::input).chain(self.unlabelled.iter().copied()).collect();
            let mut test_logits = self.outputs(&model, &inputs)?;
            let unlabelled = test_logits.split_off(test.len());
            let seconds = clock.elapsed().as_secs_f64();
            self.members.push(Member { test: test_logits, unlabelled, steps, flops, seconds });
            bar.step(1)?;
        }
        bar.finish("");
        Ok(&self.members[..count])
    }

    fn averaged(&mut self, count: usize) -> Result<Predicted> {
        let tuning = self.tuned()?.flops;
        let members = self.members(count)?;
        let steps = members.iter().map(|member| member.steps).sum();
        let flops = tuning + members.iter().map(|member| member.flops).sum::<f64>();
        let logits = match members {
            [only] => only.test.clone(),
            all => mean_probabilities(&all.iter().map(|member| member.test.as_slice()).collect::<Vec<_>>())
                .iter()
                .map(|p| log_probabilities(p))
                .collect(),
        };
        Ok(Predicted { logits, steps, flops, ..self.bench.without_steps(vec![]) })
    }

    /// A model that learns from soft targets.
    fn student(&self, rows: &[TrainRow<Vec<f32>>], keys: &TrainKeys) -> Result<Fitted<Classifier>> {
        fit(self.bench.small, &FitPlan { rows, keys, seed: random::derive(self.bench.seed, "student", 0) })
    }

    /// What a student says of the test rows; `flops` are those of the models before it.
    fn predicted(&self, student: Fitted<Classifier>, flops: f64) -> Result<Predicted> {
        let logits = self.outputs(&student.model, &self.bench.test_inputs())?;
        Ok(Predicted { steps: student.steps, flops: flops + student.flops, ..self.bench.without_steps(logits) })
    }

    fn outputs(&self, model: &Classifier, inputs: &[Input]) -> Result<Vec<Vec<f32>>> {
        let small = self.bench.small;
        small.head.outputs(&small.reader, model, inputs)
    }
}

/// Mixes a row's hard target with what its teacher says.
fn soften(target: &mut [f32], logits: &[f32]) {
    let said = probabilities(logits);
    target.iter_mut().zip(said).for_each(|(target, p)| *target += OF_TEACHER * (p as f32 - *target));
}

/// The mean over models of the probabilities (rows, labels), from the logits of each (rows, labels).
fn mean_probabilities(logits: &[&[Vec<f32>]]) -> Vec<Vec<f64>> {
    let rows = logits.first().map_or(0, |of_model| of_model.len());
    let mean = |row: usize| {
        let all: Vec<Vec<f64>> = logits.iter().map(|of_model| probabilities(&of_model[row])).collect();
        (0..all[0].len()).map(|label| all.iter().map(|p| p[label]).sum::<f64>() / all.len() as f64).collect()
    };
    (0..rows).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_and_not_logits_are_averaged() {
        let (sure, unsure) = (vec![vec![8.0f32, -8.0]], vec![vec![0.0f32, 0.0]]);
        let mean = mean_probabilities(&[&sure, &unsure]);
        assert!((mean[0][0] - 0.75).abs() < 1e-6, "{mean:?}");
    }

    #[test]
    fn half_of_a_softened_target_is_the_label() {
        let mut target = [0.0, 1.0];
        soften(&mut target, &[3f32.ln(), 0.0]);
        assert!((target[0] - 0.375).abs() < 1e-6 && (target[1] - 0.625).abs() < 1e-6, "{target:?}");
    }
}
