//! Compares synthetic with gold rows: diversity, distances, and the similarity of a round's rows to the errors they extrapolate.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::head::LoopHead;
use super::rows::SyntheticRow;
use super::state::Synthesis;
use crate::error::Result;
use crate::math::vectors::dot;
use crate::measure::distance::Distances;
use crate::measure::diversity::{Diversity, edit_distance};

/// Measures of the union after a round, on the texts that the generator wrote (for pairs, the second texts).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Likeness {
    pub synthetic: Diversity,
    pub gold: Diversity,
    /// Distances on features of the pretrained small model; `None` for a handful of rows.
    pub distances: Option<Distances>,
    /// Similarity of the round's own rows to their errors; `None` for the seed.
    pub to_parents: Option<ToParents>,
}

/// Mean similarity of a round's rows to the errors that they extrapolate (the paper's Table 6).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToParents {
    /// Cosine similarity of the features, in [-1, 1].
    pub cosine: f64,
    /// Edit distance over the characters of the longer text, in [0, 1].
    pub edits: f64,
}

/// Most texts of each set that are compared, evenly spaced.
pub(super) const MOST: usize = 300;

impl<H: LoopHead> Synthesis<'_, H> {
    /// Compares the union after `round` with all gold rows; of these, only the texts are used, not the labels.
    pub(super) fn likeness(&self, round: usize) -> Result<Likeness> {
        let split = self.inputs.split;
        let gold = thinned(split.gold().map(|row| row.written()).collect(), MOST);
        let union = thinned(self.rows.iter().filter(|row| row.round <= round).map(SyntheticRow::own_text).collect(), MOST);
        let max_tokens = self.inputs.task.train.max_tokens;
        let features = |texts: &[&str]| self.inputs.small.features(texts, max_tokens);
        let distances = Distances::of(&features(&union)?, &features(&gold)?);
        let to_parents = self.to_parents(round)?;
        Ok(Likeness { synthetic: Diversity::of(&union), gold: Diversity::of(&gold), distances, to_parents })
    }

    fn to_parents(&self, round: usize) -> Result<Option<ToParents>> {
        let texts: HashMap<usize, &str> = self.inputs.split.mine.iter().map(|row| (row.line, row.written())).collect();
        let pairs = self.rows_of(round).filter_map(|row| Some((row.own_text(), *texts.get(&row.written.parent?)?)));
        let (own, parents): (Vec<&str>, Vec<&str>) = thinned(pairs.collect(), MOST).into_iter().unzip();
        if own.is_empty() {
            return Ok(None);
        }
        let max_tokens = self.inputs.task.train.max_tokens;
        let features = |texts: &[&str]| self.inputs.small.features(texts, max_tokens);
        let cosines = features(&own)?.into_iter().zip(features(&parents)?).map(|(u, v)| dot(&u, &v));
        let edits = own.iter().zip(&parents).map(|(a, b)| {
            let longer = a.chars().count().max(b.chars().count()).max(1);
            edit_distance(a, b) as f64 / longer as f64
        });
        let n = own.len() as f64;
        Ok(Some(ToParents { cosine: cosines.sum::<f64>() / n, edits: edits.sum::<f64>() / n }))
    }
}

/// At most so many items, evenly spaced.
pub(super) fn thinned<T: Clone>(all: Vec<T>, most: usize) -> Vec<T> {
    let n = all.len().min(most);
    (0..n).map(|i| all[i * all.len() / n].clone()).collect()
}
