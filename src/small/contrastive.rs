//! Trains the encoder on pairs of texts, which are to be alike if they have one label: SetFit's first stage (arXiv 2209.11055).

use lacuna_models::{Device, Encoded, PackedBatch, Pair, TrainConfig, Trainer};
use rand::RngExt;
use rand::seq::IndexedRandom;

use super::fit::{Fitted, Shown};
use super::head::SmallHead;
use super::model::SmallModel;
use crate::data::example::Input;
use crate::error::{Error, Result};
use crate::math::random;
use crate::task::file::TrainKeys;

/// Pairs of a step: half of them of one label, half of two.
const PAIRS: usize = 16;
/// SetFit's peak learning rate.
const LEARNING_RATE: f32 = 2e-5;
/// The share of the steps in which the learning rate rises, as in SetFit.
const WARMUP: f32 = 0.1;

/// What a contrastive fit learns from, and for how long.
pub struct PairPlan<'a> {
    pub inputs: &'a [Input<'a>],
    /// The label of each input.
    pub labels: &'a [usize],
    /// Weight decay, length of texts and precision are taken from them.
    pub keys: &'a TrainKeys,
    pub steps: usize,
    pub seed: u64,
}

impl<H: SmallHead> SmallModel<H> {
    /// Trains a copy of the pretrained encoder, on the CPU, on pairs that are drawn anew for each step. The head stays as it is. Inputs
    /// that make no pair, because there is only one, leave the encoder as it is. `shown` may stop the fit with an error.
    ///
    /// # Errors
    /// A text that cannot be encoded; a loss that is not finite; an error of `shown`.
    pub fn fit_pairs(&self, plan: &PairPlan, shown: Shown) -> Result<Fitted<H::Model>> {
        let encoded = self.reader.encode_all(plan.inputs, plan.keys.max_tokens)?;
        let steps = if encoded.len() > 1 { plan.steps } else { 0 };
        let failed = |e: lacuna_models::ModelError| Error::Failed(format!("contrastive training: {e}"));
        let mut model = self.base.clone();
        model.set_device(Device::Cpu).map_err(failed)?;
        model.set_precision(plan.keys.precision);
        let config = TrainConfig { lr: LEARNING_RATE, warmup_ratio: WARMUP, ..self.train_config(plan.keys, steps, plan.seed) };
        let mut trainer = Trainer::new(&model, config);
        let drawing = Drawing::of(plan.labels);
        let mut rng = random::rng(plan.seed, "pairs", 0);
        for step in 0..steps {
            let drawn = drawing.draw(PAIRS, &mut rng);
            // A text in several pairs is there as often, so that it has several dropout masks.
            let rows: Vec<&Encoded> = drawn.iter().flat_map(|&(one, other)| [&encoded[one], &encoded[other]]).collect();
            let similarity = |&(one, other): &(usize, usize)| f32::from(u8::from(plan.labels[one] == plan.labels[other]));
            let pair = |(i, pair)| Pair { first: 2 * i, second: 2 * i + 1, similarity: similarity(pair) };
            let pairs: Vec<Pair> = drawn.iter().enumerate().map(pair).collect();
            let batch = PackedBatch::from_rows(&rows);
            self.reader.pool.install(|| trainer.step_pairs(&mut model, &batch, &pairs)).map_err(failed)?;
            shown(step + 1, steps)?;
        }
        let tokens: usize = encoded.iter().map(|row| row.input_ids.len()).sum();
        let of_a_step = 2 * PAIRS * tokens / encoded.len().max(1);
        let flops = 6.0 * model.dense_parameters() as f64 * (of_a_step * steps) as f64;
        Ok(Fitted { model, steps, flops })
    }
}

/// How pairs of rows are drawn.
struct Drawing<'l> {
    labels: &'l [usize],
    /// Rows whose label another row has too.
    with_like: Vec<usize>,
    /// Whether there is more than one label.
    several: bool,
}

impl<'l> Drawing<'l> {
    fn of(labels: &'l [usize]) -> Self {
        let has_like = |&row: &usize| labels.iter().enumerate().any(|(other, &label)| other != row && label == labels[row]);
        let several = labels.iter().any(|label| *label != labels[0]);
        Drawing { labels, with_like: (0..labels.len()).filter(has_like).collect(), several }
    }

    /// `count` pairs of two rows each, the first one uniformly drawn. Every other pair is of one label, unless there are only pairs of
    /// one label, or none. There must be two rows at least.
    fn draw(&self, count: usize, rng: &mut impl RngExt) -> Vec<(usize, usize)> {
        let one = |i: usize| {
            let alike = !self.several || (i.is_multiple_of(2) && !self.with_like.is_empty());
            let first =
                if alike { *self.with_like.choose(rng).expect("two rows have a label") } else { rng.random_range(0..self.labels.len()) };
            let fits = |other: &usize| *other != first && (self.labels[*other] == self.labels[first]) == alike;
            let others: Vec<usize> = (0..self.labels.len()).filter(fits).collect();
            (first, *others.choose(rng).expect("there is such a pair"))
        };
        (0..count).map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_pairs_are_of_one_label_and_none_is_of_one_row() {
        let labels = [0, 0, 0, 1, 1, 2];
        let pairs = Drawing::of(&labels).draw(2000, &mut random::rng(1, "test", 0));
        assert!(pairs.iter().all(|(one, other)| one != other));
        let alike = pairs.iter().filter(|&&(one, other)| labels[one] == labels[other]).count();
        assert_eq!(alike, 1000);
        for row in 0..6 {
            assert!(pairs.iter().filter(|&&(one, other)| one == row || other == row).count() > 100, "row {row}");
        }
    }

    #[test]
    fn there_are_pairs_of_one_label_alone_and_of_rows_of_their_own_labels() {
        let mut rng = random::rng(1, "test", 0);
        assert!(Drawing::of(&[3, 3]).draw(9, &mut rng).iter().all(|&(one, other)| one + other == 1));
        let labels = [0, 1, 2];
        assert!(Drawing::of(&labels).draw(9, &mut rng).iter().all(|&(one, other)| one != other));
    }
}
