//! How much a calibrated judge knows about the task, measured out of fold on gold rows.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::reply::{Reply, held_out};
use super::stack::Stack;
use crate::math::random::derive;
use crate::math::vectors::{argmax, softmax};
use crate::measure::folds::dealt;

/// What is known of a judge; each row is judged with the calibration of the other folds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Knowledge {
    /// Accuracy of the calibrated judge.
    pub accuracy: f64,
    /// The share of the most frequent label: the accuracy of always predicting it.
    pub chance: f64,
    /// McFadden's R², `1 - log loss / log loss of the labels' frequencies`: 0 for a judge that knows nothing (out of fold it may be
    /// less), 1 for one that is always right and certain. Unlike accuracy, it is comparable between balanced and imbalanced labels.
    pub r_squared: f64,
    /// The mean gain in log loss over the labels' frequencies, in its standard errors over the gold rows.
    pub gain: f64,
}

/// Folds of the gold rows.
const FOLDS: usize = 5;

/// Gains below this many standard errors are not told from nothing: the usual two-sided level of 5 %. It is not tuned on any data.
const LEAST_GAIN: f64 = 2.0;

impl Knowledge {
    /// Measures the judge on replies about gold rows and their labels, by fitting it anew without each of five folds.
    pub fn of(replies: &[Reply], gold: &[usize], seed: u64) -> Knowledge {
        Knowledge::from(&[Gains::of(replies, gold, seed)], gold.len())
    }

    /// The same of the judges of several questions about the same rows: shares are means over questions, gains sums over them.
    pub fn of_several(asked: &[(Vec<Reply>, Vec<usize>)], seed: &(dyn Fn(usize) -> u64 + Sync)) -> Knowledge {
        let of = |(question, (replies, gold)): (usize, &(Vec<Reply>, Vec<usize>))| Gains::of(replies, gold, seed(question));
        let gains: Vec<Gains> = asked.par_iter().enumerate().map(of).collect();
        Knowledge::from(&gains, asked.first().map_or(0, |(_, gold)| gold.len()))
    }

    fn from(questions: &[Gains], rows: usize) -> Knowledge {
        let n = rows.max(1) as f64;
        // The answers about one row are no independent ones: a row's gain is that of all of them.
        let gains: Vec<f64> = (0..rows).map(|row| questions.iter().map(|of| of.of_rows[row]).sum()).collect();
        let total: f64 = gains.iter().sum();
        let without: f64 = questions.iter().map(|of| of.without).sum();
        let variance = gains.iter().map(|gain| (gain - total / n).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        let mean =
            |of: fn(&Gains) -> usize| questions.iter().map(|of_one| of(of_one) as f64 / n).sum::<f64>() / questions.len().max(1) as f64;
        Knowledge {
            accuracy: mean(|of| of.right),
            chance: mean(|of| of.most),
            r_squared: if without > 0.0 { total / without } else { 0.0 },
            gain: if variance > 0.0 { total / n / (variance / n).sqrt() } else { 0.0 },
        }
    }

    /// Whether the judge knows anything about the task, as far as the gold rows can tell.
    pub fn better_than_chance(&self) -> bool {
        self.gain >= LEAST_GAIN
    }
}

/// What the judge of one question gains.
struct Gains {
    /// For each row, how much less its loss is than by the labels' frequencies.
    of_rows: Vec<f64>,
    /// The loss by the frequencies, of all rows.
    without: f64,
    /// Rows that are judged right, and those of the most frequent label.
    right: usize,
    most: usize,
}

impl Gains {
    fn of(replies: &[Reply], gold: &[usize], seed: u64) -> Gains {
        let labels = replies.first().map_or(0, |reply| reply.log_probs.len());
        let grouped = replies.iter().any(|reply| reply.group.is_some()).then(|| held_out(replies, gold, labels, FOLDS, seed));
        let dealt = || dealt(gold.len(), FOLDS, "folds of the gold rows").into_iter().map(Some).collect();
        let fold: Vec<Option<usize>> = grouped.unwrap_or_else(dealt);
        let (mut gains, mut without, mut right) = (vec![0.0; gold.len()], 0.0, 0);
        for own in 0..FOLDS {
            let (rows, of_rows): (Vec<_>, Vec<_>) =
                (0..gold.len()).filter(|&i| fold[i] != Some(own)).map(|i| (replies[i].clone(), gold[i])).unzip();
            let judge = (!rows.is_empty()).then(|| Stack::fit(&rows, &of_rows, derive(seed, "judge of a fold", own as u64)));
            let shares: Vec<f64> = frequencies(&of_rows, labels);
            for i in (0..gold.len()).filter(|&i| fold[i] == Some(own)) {
                let logits = judge.as_ref().map_or_else(|| vec![0.0; labels], |judge| judge.logits(&replies[i]));
                let (judged, frequent) = (softmax(&logits)[gold[i]].max(1e-12).ln(), shares[gold[i]].ln());
                gains[i] = judged - frequent;
                without -= frequent;
                right += usize::from(argmax(&logits) == gold[i]);
            }
        }
        let most = (0..labels).map(|label| gold.iter().filter(|&&l| l == label).count()).max().unwrap_or(0);
        Gains { of_rows: gains, without, right, most }
    }
}

/// The share of each label, each counted once more.
fn frequencies(gold: &[usize], labels: usize) -> Vec<f64> {
    let count = |label| gold.iter().filter(|&&l| l == label).count() + 1;
    (0..labels).map(|label| count(label) as f64 / (gold.len() + labels) as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::random;
    use rand::RngExt;

    /// Replies without hidden states.
    fn of_words(log_probs: Vec<Vec<f32>>) -> Vec<Reply> {
        log_probs.into_iter().map(|log_probs| Reply { log_probs, ..Reply::default() }).collect()
    }

    #[test]
    fn a_constant_judge_knows_nothing() {
        let gold = [vec![0; 100], vec![1; 300]].concat();
        let found = Knowledge::of(&of_words(vec![vec![-1.0, -1.0]; 400]), &gold, 0);
        assert_eq!((found.accuracy, found.chance), (0.75, 0.75));
        assert!(found.r_squared.abs() < 5e-3 && !found.better_than_chance(), "{found:?}");
    }

    /// With a rare label, accuracy is no better than chance although the judge is informative.
    #[test]
    fn the_judge_of_a_rare_label_is_informative() {
        let row = |i: usize| vec![0.0, if i % 10 < 2 { 2.0 } else { -2.0 }];
        let gold: Vec<usize> = (0..500usize).map(|i| usize::from(i.is_multiple_of(20))).collect();
        let found = Knowledge::of(&of_words((0..500).map(row).collect()), &gold, 0);
        assert_eq!((found.accuracy, found.chance), (0.95, 0.95));
        assert!(found.better_than_chance(), "{found:?}");
    }

    /// Log-probabilities that say nothing of the labels pass for knowledge in few of a hundred tasks.
    #[test]
    fn noise_is_seldom_taken_for_knowledge() {
        for rows in [20, 100] {
            let passes = |id: &u64| {
                let mut rng = random::rng(*id, "noise", rows);
                let gold: Vec<usize> = (0..rows as usize).map(|i| i % 2).collect();
                let log_probs: Vec<Vec<f32>> = gold.iter().map(|_| vec![rng.random::<f32>() * -3.0, rng.random::<f32>() * -3.0]).collect();
                Knowledge::of(&of_words(log_probs), &gold, 0).better_than_chance()
            };
            let passed = (0..200).filter(passes).count();
            assert!(passed <= 10, "{rows} rows: {passed} of 200");
        }
    }
}
