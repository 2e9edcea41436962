//! What the generator says of a text, and the hidden states with which it says it.

use crate::data::example::Input;
use crate::error::{Error, Result};
use crate::generator::Generate;
use crate::math::random;
use crate::measure::folds;
use crate::task::file::JudgeKind;

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
pub const DEPTHS: [f64; 5] = [0.4, 0.5, 0.6, 0.8, 1.0];

/// The layers whose states a judge reads, ascending; none if it goes by words alone, or if it may and the generator shows none. `depth` is
/// the share of the layers that it computes.
///
/// # Errors
/// A judge by states alone, of a generator that shows none.
pub fn layers(generator: &dyn Generate, kind: JudgeKind, depth: f64) -> Result<Vec<usize>> {
    let found = at_depths(generator.layers(), depth);
    match kind {
        JudgeKind::Prompt => Ok(Vec::new()),
        JudgeKind::States if found.is_empty() => Err(Error::Model(
            "targets.judge = \"states\": this generator shows no hidden states; take another, or targets.judge = \"prompt\"".into(),
        )),
        JudgeKind::Stack | JudgeKind::States => Ok(found),
    }
}

/// The layers at [`DEPTHS`] and at `depth`, of which none is deeper, of a generator with so many; ascending.
fn at_depths(of: usize, depth: f64) -> Vec<usize> {
    let depths = DEPTHS.iter().copied().filter(|&own| own < depth).chain([depth]);
    let mut layers: Vec<usize> = depths.map(|depth| (depth * of as f64).round() as usize).filter(|&layer| layer > 0).collect();
    layers.dedup();
    layers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_depth_has_its_own_layer_and_none_deeper() {
        let found = [1.0, 0.6, 0.5, 0.55, 0.1].map(|depth| at_depths(28, depth));
        let wanted: [&[usize]; 5] = [&[11, 14, 17, 22, 28], &[11, 14, 17], &[11, 14], &[11, 14, 15], &[3]];
        assert_eq!(found, wanted.map(<[usize]>::to_vec));
        assert_eq!((at_depths(2, 1.0), at_depths(0, 0.6)), (vec![1, 2], vec![]));
    }
}
