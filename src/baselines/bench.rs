//! What baselines are given, one draw of gold rows, and what each hands back.

use rand::seq::SliceRandom;

use crate::data::example::{GoldRow, Input};
use crate::data::labels::Labels;
use crate::math::random;
use crate::measure::logistic::Shape;
use crate::run::progress::Progress;
use crate::small::model::SmallModel;
use crate::small::row::TrainRow;
use crate::task::file::Task;
use crate::task::prompts::Prompts;

/// What the baselines of one draw share.
#[derive(Clone, Copy)]
pub struct Bench<'a> {
    pub task: &'a Task,
    pub prompts: &'a Prompts<'a, Labels>,
    /// All rows whose labels a baseline may use.
    pub gold: &'a [GoldRow<Labels>],
    /// Texts without labels, for self-training; none of them a test row.
    pub unlabelled: &'a [Input<'a>],
    /// Rows to predict. Their labels are not looked at.
    pub test: &'a [GoldRow<Labels>],
    /// The judge's answers about the test rows without demonstrations, (rows, judge prompts, labels), where they are known: they are the
    /// same for every draw. See [`judge_rows`](super::prompted::judge_rows).
    pub judged_test: Option<&'a [Vec<Vec<f32>>]>,
    pub small: &'a SmallModel<Labels>,
    /// Optimiser steps of what learns from unlabelled texts; none for the task's epochs.
    pub steps_with_texts: Option<usize>,
    /// All that is drawn at random follows from it.
    pub seed: u64,
    pub progress: Progress,
}

/// What a baseline says of the test rows, and what it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Predicted {
    /// (test rows, labels), in nats: ln p, or ln p less some constant of the row.
    pub logits: Vec<Vec<f32>>,
    /// Rows learnt from that a generator wrote: none, so far.
    pub synthetic_rows: usize,
    /// Gold rows that were learnt from, demonstrations included.
    pub gold_rows: usize,
    /// Optimiser steps of the small models that predict; those of tuning and of teachers are not among them.
    pub steps: usize,
    /// Floating-point operations of all fits of the small model, tuning and teachers included.
    pub flops: f64,
    /// Tokens that the generator computed before the test rows.
    pub computed: u64,
    /// Seconds, as if it had been run alone; without the generator's judging the test rows.
    pub seconds: f64,
}

impl<'a> Bench<'a> {
    /// Number of labels.
    pub(super) fn labels(&self) -> usize {
        self.small.head.names.len()
    }

    /// The label of each gold row.
    pub(super) fn gold_labels(&self) -> Vec<usize> {
        self.gold.iter().map(|row| row.gold.label).collect()
    }

    pub(super) fn gold_inputs(&self) -> Vec<Input<'a>> {
        self.gold.iter().map(GoldRow::input).collect()
    }

    pub(super) fn test_inputs(&self) -> Vec<Input<'a>> {
        self.test.iter().map(GoldRow::input).collect()
    }

    /// The unlabelled texts that may be learnt from: all, or as many drawn as the task reads.
    pub(super) fn some_unlabelled(&self) -> Vec<Input<'a>> {
        let mut unlabelled = self.unlabelled.to_vec();
        unlabelled.shuffle(&mut random::rng(self.seed, "unlabelled texts", 0));
        unlabelled.truncate(self.task.read.rows);
        unlabelled
    }

    /// The shape of a linear classifier on features of this width.
    pub(super) fn shape(&self, width: usize) -> Shape {
        Shape { labels: self.labels(), width }
    }

    /// What a baseline that takes no step of the small model hands back.
    pub(super) fn without_steps(&self, logits: Vec<Vec<f32>>) -> Predicted {
        Predicted { logits, synthetic_rows: 0, gold_rows: self.gold.len(), steps: 0, flops: 0.0, computed: 0, seconds: 0.0 }
    }
}

/// A text or pair as a training row with these probabilities of the labels.
pub(super) fn train_row(input: Input, target: Vec<f32>) -> TrainRow<Vec<f32>> {
    TrainRow { text: input.text.to_string(), text_pair: input.text_pair.map(str::to_string), target }
}

/// Probabilities as logits, ln p; one that is 0 counts as 1e-30.
pub(super) fn log_probabilities(p: &[f64]) -> Vec<f32> {
    p.iter().map(|p| p.max(1e-30).ln() as f32).collect()
}
