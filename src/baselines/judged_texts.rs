//! The small model on real texts without labels, as the generator judges them.

use std::time::Instant;

use super::bench::{Bench, Predicted, train_row};
use super::fitting::fit;
use super::prompted::{replies, stack_of};
use crate::data::example::Input;
use crate::error::Result;
use crate::generator::Generate;
use crate::math::random;
use crate::math::vectors::softmax;
use crate::small::head::SmallHead;
use crate::small::plan::FitPlan;
use crate::small::row::TrainRow;
use crate::task::file::TrainKeys;

/// Texts with the stacked judge's probabilities, judged once for all that learn from them.
pub struct JudgedTexts<'a> {
    bench: Bench<'a>,
    known: Option<Known>,
}

/// The judged texts.
struct Known {
    rows: Vec<TrainRow<Vec<f32>>>,
    /// What judging took, the gold rows included.
    computed: u64,
    seconds: f64,
}

impl<'a> JudgedTexts<'a> {
    pub fn new(bench: Bench<'a>) -> Self {
        JudgedTexts { bench, known: None }
    }

    /// A small model that learns from the judged texts, with the gold rows repeated as the task's `gold_repeat` says where `with_gold`. It
    /// is trained with the task's settings.
    ///
    /// # Errors
    /// Those of the generator, and of a fit.
    pub fn predict(&mut self, with_gold: bool, generator: &mut dyn Generate) -> Result<Predicted> {
        if self.known.is_none() {
            self.known = Some(judged(&self.bench, generator)?);
        }
        let Known { rows, computed, seconds } = self.known.as_ref().expect("judged above");
        let Bench { small, gold, task, steps_with_texts: steps, seed, progress, .. } = self.bench;
        let keys = &TrainKeys { steps, ..task.train.clone() };
        let clock = Instant::now();
        let repeated = std::iter::repeat_n(gold, if with_gold { task.train.gold_repeat.max(1) } else { 0 }).flatten();
        let all: Vec<_> = rows.iter().cloned().chain(repeated.map(|row| small.gold_row(row))).collect();
        let bar = progress.bar("judged texts", "fits", 1, 0);
        let student = fit(small, &FitPlan { rows: &all, keys, seed: random::derive(seed, "student of judged texts", 0) })?;
        bar.finish("");
        let logits = small.head.outputs(&small.reader, &student.model, &self.bench.test_inputs())?;
        let seconds = seconds + clock.elapsed().as_secs_f64();
        Ok(Predicted { steps: student.steps, flops: student.flops, computed: *computed, seconds, ..self.bench.without_steps(logits) })
    }
}

fn judged(bench: &Bench, generator: &mut dyn Generate) -> Result<Known> {
    let (clock, before) = (Instant::now(), generator.computed());
    let stack = stack_of(bench, generator)?;
    let inputs: Vec<Input> = bench.some_unlabelled();
    let replies = replies(bench, &inputs, "unlabelled texts", generator)?;
    let target = |logits: Vec<f64>| softmax(&logits).into_iter().map(|p| p as f32).collect();
    let rows = inputs.iter().zip(&replies).map(|(&input, reply)| train_row(input, target(stack.logits(reply)))).collect();
    Ok(Known { rows, computed: generator.computed() - before, seconds: clock.elapsed().as_secs_f64() })
}
