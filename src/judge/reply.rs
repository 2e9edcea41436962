//! What the generator says of a text, and the hidden states with which it says it.

use crate::data::example::Input;
use crate::math::random;
use crate::measure::folds;

/// The generator's reply to the judge's questions about a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    /// (labels): the mean of ln p of each label's word over the judge prompts.
    pub log_probs: Vec<f32>,
    /// (layers, hidden): states at the end of the first question.
    pub states: Vec<Vec<f32>>,
    /// Of a pair, which others have its first text: a head could know it again, so that they are held out together.
    pub group: Option<u64>,
}

impl Reply {
    /// The group of a text or pair.
    pub fn group_of(input: Input) -> Option<u64> {
        input.text_pair.map(|_| random::derive(0, input.text, 0))
    }
}

/// The fold that each row is held out in: pairs by their first texts, other texts stratified by label; none for a row that is always
/// learnt from.
pub(super) fn held_out(replies: &[Reply], gold: &[usize], labels: usize, folds: usize, seed: u64) -> Vec<Option<usize>> {
    let groups: Option<Vec<u64>> = replies.iter().map(|reply| reply.group).collect();
    match groups {
        Some(groups) if !groups.is_empty() => folds::grouped(&groups, folds, seed),
        _ => folds::held_out(gold, labels, folds, seed),
    }
}

/// The depths of the layers whose states are read, as shares of all layers.
pub const DEPTHS: [f64; 4] = [0.4, 0.6, 0.8, 1.0];

/// The layers whose states are read of a generator with so many layers, ascending; none if it shows none.
pub fn layers(of: usize) -> Vec<usize> {
    let mut layers: Vec<usize> = DEPTHS.iter().map(|depth| (depth * of as f64).round() as usize).filter(|&layer| layer > 0).collect();
    layers.dedup();
    layers
}
