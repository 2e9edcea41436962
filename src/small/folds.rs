//! Folds of gold rows for cross-validation, by the kind of head.

use std::collections::{BTreeSet, HashMap};

use rand::seq::SliceRandom;

use super::head::SmallHead;
use crate::data::answers::Answers;
use crate::data::dealing::deal;
use crate::data::example::GoldRow;
use crate::data::head::Head;
use crate::data::label_sets::{LabelSets, with_none};
use crate::data::labels::Labels;
use crate::math::random;
use crate::measure::folds;

/// A head whose gold rows can be cross-validated.
pub trait Folds: SmallHead {
    /// The fold, below `folds`, that each row is held out in; none for a row that is in training whatever the fold.
    fn held_out(&self, gold: &[GoldRow<Self>], folds: usize, seed: u64) -> Vec<Option<usize>>;
}

impl Folds for Labels {
    /// Stratified, see [`folds::held_out`]; of pairs, all with one first text are in one fold.
    fn held_out(&self, gold: &[GoldRow<Labels>], folds: usize, seed: u64) -> Vec<Option<usize>> {
        if self.pairs {
            return by_first_text(gold, folds, seed);
        }
        folds::held_out(&gold.iter().map(|row| row.gold.label).collect::<Vec<_>>(), self.names.len(), folds, seed)
    }
}

impl Folds for LabelSets {
    /// Each label has its share in every fold, see [`deal`].
    fn held_out(&self, gold: &[GoldRow<LabelSets>], folds: usize, seed: u64) -> Vec<Option<usize>> {
        let sets: Vec<Vec<usize>> = gold.iter().map(|row| row.gold.labels.clone()).collect();
        let sets = with_none(sets, self.names.len());
        deal(&sets, self.names.len() + 1, &vec![1.0; folds.min(gold.len()).max(1)], seed).into_iter().map(Some).collect()
    }
}

impl Folds for Answers {
    /// All questions of a context are in one fold. If there is one context, none is held out.
    fn held_out(&self, gold: &[GoldRow<Answers>], folds: usize, seed: u64) -> Vec<Option<usize>> {
        by_first_text(gold, folds, seed)
    }
}

/// All rows with one first text, or one context, are in one fold; if there is one such text, none is held out.
fn by_first_text<H: Head>(gold: &[GoldRow<H>], folds: usize, seed: u64) -> Vec<Option<usize>> {
    let texts: BTreeSet<&str> = gold.iter().map(|row| row.text.as_str()).collect();
    let mut texts: Vec<&str> = texts.into_iter().collect();
    texts.shuffle(&mut random::rng(seed, "folds of contexts", 0));
    let place: HashMap<&str, usize> = texts.iter().enumerate().map(|(place, text)| (*text, place % folds)).collect();
    gold.iter().map(|row| place.get(row.text.as_str()).copied().filter(|_| texts.len() > 1)).collect()
}

/// A fold's rows: those to learn from, and those held out.
pub type Sides = (Vec<usize>, Vec<usize>);

/// For each fold that rows are held out in, the places of the rows to learn from, and of those held out.
pub fn sides(fold: &[Option<usize>]) -> Vec<Sides> {
    let folds = fold.iter().flatten().max().map_or(0, |last| last + 1);
    (0..folds).map(|k| (0..fold.len()).partition(|&i| fold[i] != Some(k))).collect()
}

/// The rows at these places.
pub fn at<T: Clone>(rows: &[T], places: &[usize]) -> Vec<T> {
    places.iter().map(|&i| rows[i].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::answers::GoldAnswers;
    use crate::data::example::Answer;

    fn questions(contexts: &[usize]) -> Vec<GoldRow<Answers>> {
        let row = |(i, context): (usize, &usize)| GoldRow {
            line: i + 1,
            text: format!("context {context}"),
            text_pair: Some(format!("question {i}")),
            gold: GoldAnswers { answer: Answer { text: "context".into(), start: 0 }, others: vec![] },
        };
        contexts.iter().enumerate().map(row).collect()
    }

    #[test]
    fn questions_about_a_context_are_held_out_together() {
        let contexts = [0, 1, 0, 2, 3, 1, 4, 0];
        let found = Answers.held_out(&questions(&contexts), 3, 1);
        assert_eq!(found.iter().flatten().collect::<BTreeSet<_>>().len(), 3);
        for i in 0..8 {
            assert!((0..8).all(|j| contexts[i] != contexts[j] || found[i] == found[j]), "{found:?}");
        }
        assert_eq!(Answers.held_out(&questions(&[0, 0]), 3, 1), [None, None]);
    }

    #[test]
    fn a_row_is_held_out_once_and_learnt_from_in_all_other_folds() {
        let sides = sides(&[Some(1), None, Some(0), Some(1)]);
        assert_eq!(sides, [(vec![0, 1, 3], vec![2]), (vec![1, 2], vec![0, 3])]);
        assert!(super::sides(&[None, None]).is_empty());
    }
}
