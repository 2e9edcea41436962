//! The model of several labels a text: a sigmoid for each label, and from which probability on a text has it.

use std::path::Path;

use lacuna_models::{Classifier, ModelError, Problem, Reading, TextEncoder};
use serde::{Deserialize, Serialize};

use super::evaluation::{Evaluation, Right, mean};
use super::head::SmallHead;
use super::labels::{logits_of, pooled_by, token_lessons};
use super::offsets;
use super::reader::Reader;
use super::row::TrainRow;
use super::start::start_linear_for_each;
use super::temperature::temperature;
use super::threshold;
use super::token_cache::TokenCache;
use crate::data::example::{GoldRow, Input, TaskKind};
use crate::data::label_sets::{LabelSet, LabelSets};
use crate::data::labels::Labels;
use crate::error::Result;
use crate::math::vectors::sigmoid;
use crate::measure::metrics::{Counts, counts_of_sets, macro_f1, micro_f1};

/// What the model says of a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// (labels)
    pub logits: Vec<f32>,
    /// (labels): logits above these say that the text has the label.
    pub cuts: Vec<f32>,
}

impl Scores {
    /// The labels that the text has, ascending.
    pub fn labels(&self) -> Vec<usize> {
        (0..self.logits.len()).filter(|&label| self.logits[label] > self.cuts[label]).collect()
    }

    /// Of each label.
    pub fn probabilities(&self) -> Vec<f64> {
        self.logits.iter().map(|&x| sigmoid(f64::from(x))).collect()
    }

    /// Decides by thresholds of the probabilities.
    pub fn decide_by(&mut self, thresholds: &[f64]) {
        self.cuts = thresholds.iter().map(|&p| cut_of(p)).collect();
    }
}

/// The logit of a probability.
fn cut_of(p: f64) -> f32 {
    (p / (1.0 - p)).ln() as f32
}

/// The mean over the rows of the mean over the labels of −ln p, of having a label or of not having it, in nats.
pub fn log_loss(gold: &[&LabelSet], scores: &[Scores]) -> f64 {
    let of_row = |(set, scores): (&&LabelSet, &Scores)| {
        let losses = scores.probabilities().into_iter().enumerate().map(|(label, p)| {
            let p = if set.has(label) { p } else { 1.0 - p };
            -p.max(1e-12).ln()
        });
        losses.sum::<f64>() / scores.logits.len().max(1) as f64
    };
    mean(gold.iter().zip(scores).map(of_row), gold.len())
}

/// Each label's counts.
pub fn counts(gold: &[GoldRow<LabelSets>], scores: &[Scores]) -> Vec<Counts> {
    let labels = scores.first().map_or(0, |scores| scores.logits.len());
    counts_of_sets(scores.iter().map(Scores::labels).zip(gold.iter().map(|row| row.gold.labels.as_slice())), labels)
}

impl SmallHead for LabelSets {
    type Model = Classifier;
    /// The probability of each label, in [0, 1].
    type Target = Vec<f32>;
    type Output = Scores;
    type Lessons = TokenCache;

    fn kind(&self) -> TaskKind {
        TaskKind::MultiLabel
    }

    fn load(&self, folder: &Path, init_seed: u64) -> Result<Classifier, ModelError> {
        Classifier::load_for(Problem::MultiLabel, folder, &self.names, init_seed)
    }

    fn save(model: &Classifier, folder: &Path, encoder: &TextEncoder) -> Result<(), ModelError> {
        model.save(folder, encoder)
    }

    fn reading(stated: Option<Reading>) -> Reading {
        Labels::reading(stated)
    }

    fn hard_target(&self, goal: &LabelSet) -> Vec<f32> {
        (0..self.names.len()).map(|label| f32::from(u8::from(goal.has(label)))).collect()
    }

    fn outputs(&self, reader: &Reader, model: &Classifier, inputs: &[Input]) -> Result<Vec<Scores>> {
        let cuts: Vec<f32> = model.thresholds().into_iter().map(|p| cut_of(f64::from(p))).collect();
        Ok(logits_of(reader, model, inputs)?.into_iter().map(|logits| Scores { logits, cuts: cuts.clone() }).collect())
    }

    fn prediction(scores: &Scores) -> Vec<usize> {
        scores.labels()
    }

    fn evaluate(gold: &[GoldRow<LabelSets>], scores: &[Scores]) -> Evaluation {
        let exact = gold.iter().zip(scores).map(|(row, scores)| f64::from(u8::from(row.accepts(&scores.labels()))));
        let counts = counts(gold, scores);
        let right = Right::LabelSets { exact_match: mean(exact, gold.len()), micro_f1: micro_f1(&counts), macro_f1: macro_f1(&counts) };
        Evaluation { right, log_loss: log_loss(&gold.iter().map(|row| &row.gold).collect::<Vec<_>>(), scores) }
    }

    fn lessons(&self, reader: &Reader, rows: &[TrainRow<Vec<f32>>]) -> Result<TokenCache> {
        token_lessons(reader, rows, self.names.len())
    }

    fn pooling(model: &Classifier, means: bool, init_seed: u64) -> Result<Option<Classifier>, ModelError> {
        pooled_by(model, means, init_seed)
    }

    fn start_linear(reader: &Reader, model: &mut Classifier, rows: &[TrainRow<Vec<f32>>], seed: u64) -> Result<f64> {
        if model.is_trained() { Ok(0.0) } else { start_linear_for_each(reader, model, rows, seed) }
    }

    fn offsets(gold: &[&GoldRow<LabelSets>], scores: &[&Scores]) -> Vec<f64> {
        let labels = scores.first().map_or(0, |scores| scores.logits.len());
        let of = |label: usize| {
            let rows: Vec<(f64, bool)> =
                gold.iter().zip(scores).map(|(row, scores)| (f64::from(scores.logits[label]), row.gold.has(label))).collect();
            offsets::offset_of_one(&rows)
        };
        (0..labels).map(of).collect()
    }

    fn shift(scores: &mut Scores, offsets: &[f64]) {
        scores.logits.iter_mut().zip(offsets).for_each(|(x, b)| *x += *b as f32);
    }

    fn add_offsets(model: &mut Classifier, offsets: &[f64]) {
        Labels::add_offsets(model, offsets);
    }

    fn cool_model(model: &mut Classifier, temperature: f64) {
        Labels::cool_model(model, temperature);
    }

    fn cool(scores: &mut Scores, temperature: f64) {
        scores.logits.iter_mut().for_each(|logit| *logit /= temperature as f32);
    }

    /// One for all labels: each label of each row counts, as one of two answers.
    fn temperature(gold: &[GoldRow<LabelSets>], scores: &[Scores]) -> f64 {
        let each = gold.iter().zip(scores).flat_map(|(row, scores)| {
            scores.logits.iter().enumerate().map(|(label, &logit)| (vec![0.0, logit], usize::from(row.gold.has(label))))
        });
        let (logits, answers): (Vec<Vec<f32>>, Vec<usize>) = each.unzip();
        temperature(&logits, &answers)
    }

    fn thresholds(gold: &[GoldRow<LabelSets>], scores: &[Scores]) -> Vec<f64> {
        let labels = scores.first().map_or(0, |scores| scores.logits.len());
        let of = |label: usize| {
            let rows = gold.iter().zip(scores).map(|(row, scores)| (scores.probabilities()[label], row.gold.has(label)));
            threshold::of_best_f1(rows.collect())
        };
        (0..labels).map(of).collect()
    }

    fn decide_by(scores: &mut Scores, thresholds: &[f64]) {
        scores.decide_by(thresholds);
    }

    fn set_thresholds(model: &mut Classifier, thresholds: &[f64]) {
        model.set_thresholds(&thresholds.iter().map(|&p| p as f32).collect::<Vec<_>>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> LabelSets {
        LabelSets { names: ["a", "b"].map(String::from).to_vec() }
    }

    fn row(labels: &[usize]) -> GoldRow<LabelSets> {
        GoldRow { line: 1, text: String::new(), text_pair: None, gold: head().set(labels.iter().copied()) }
    }

    fn scores(logits: [f32; 2]) -> Scores {
        Scores { logits: logits.to_vec(), cuts: vec![0.0; 2] }
    }

    #[test]
    fn a_text_has_the_labels_above_their_thresholds() {
        let mut said = scores([-1.0, 0.5]);
        assert_eq!(said.labels(), [1]);
        said.decide_by(&[0.2, 0.7]);
        assert_eq!(said.labels(), [0]);
        assert_eq!(scores([-1.0, -2.0]).labels(), Vec::<usize>::new());
    }

    #[test]
    fn evaluation_of_a_known_case() {
        let gold = [row(&[0]), row(&[]), row(&[0, 1]), row(&[1])];
        let said = [scores([2.0, -2.0]), scores([2.0, -2.0]), scores([2.0, -2.0]), scores([-2.0, 2.0])];
        let found = LabelSets::evaluate(&gold, &said);
        // Label a: 2 of 3 predicted and 2 there; label b: 1 of 1 predicted and 2 there.
        let Right::LabelSets { exact_match, micro_f1, macro_f1 } = found.right else { panic!("{found:?}") };
        assert_eq!((exact_match, micro_f1), (0.5, 6.0 / 8.0));
        assert!((macro_f1 - (4.0 / 5.0 + 2.0 / 3.0) / 2.0).abs() < 1e-12);
        let (right, wrong) = ((1.0 + (-2.0f64).exp()).ln(), (1.0 + 2.0f64.exp()).ln());
        assert!((found.log_loss - (6.0 * right + 2.0 * wrong) / 8.0).abs() < 1e-9);
    }

    #[test]
    fn offsets_remove_a_bias_of_one_label_alone() {
        let gold: Vec<GoldRow<LabelSets>> = (0..400).map(|i| if i % 2 == 0 { row(&[0]) } else { row(&[1]) }).collect();
        let said: Vec<Scores> = (0..400)
            .map(|i| {
                let right = if i % 8 < 6 { 1.0 } else { -1.0 };
                if i % 2 == 0 { scores([right + 1.5, -right]) } else { scores([1.5 - right, right]) }
            })
            .collect();
        let found = LabelSets::offsets(&gold.iter().collect::<Vec<_>>(), &said.iter().collect::<Vec<_>>());
        assert!((found[0] + 1.5).abs() < 0.15 && found[1].abs() < 0.05, "{found:?}");
    }
}
