//! Folds for cross-validation.

use std::collections::{BTreeSet, HashMap};

use rand::seq::SliceRandom;

use crate::math::random;

/// The fold, below `folds`, of each row, from the rows' labels, each below `labels`.
///
/// Each label's rows are shuffled and dealt to the folds in turn, from the fold at which the label before it ended: no two folds differ
/// by more than one row, neither of one label nor in all.
pub fn stratified(gold: &[usize], labels: usize, folds: usize, seed: u64) -> Vec<usize> {
    let mut fold = vec![0; gold.len()];
    let mut dealt = 0;
    for label in 0..labels {
        let mut own: Vec<usize> = (0..gold.len()).filter(|&row| gold[row] == label).collect();
        own.shuffle(&mut random::rng(seed, "folds", label as u64));
        for row in own {
            fold[row] = dealt % folds;
            dealt += 1;
        }
    }
    fold
}

/// The fold of [`stratified`] that each row is held out in, none for the only row of its label: it is in training whatever the fold.
///
/// There are `folds` folds, or as many as the rarest label has rows if those are fewer, but at least two.
pub fn held_out(gold: &[usize], labels: usize, folds: usize, seed: u64) -> Vec<Option<usize>> {
    let mut counts = vec![0; labels];
    gold.iter().for_each(|&label| counts[label] += 1);
    let rarest = counts.iter().copied().filter(|&count| count > 0).min().unwrap_or(0);
    let folds = stratified(gold, labels, folds.min(rarest).max(2), seed);
    folds.into_iter().zip(gold).map(|(fold, &label)| (counts[label] > 1).then_some(fold)).collect()
}

/// The fold that each row is held out in, where rows of one group must be in one fold: the groups are dealt in a shuffled order. If
/// there is one group, none is held out.
pub fn grouped(groups: &[u64], folds: usize, seed: u64) -> Vec<Option<usize>> {
    let mut distinct: Vec<u64> = groups.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    distinct.shuffle(&mut random::rng(seed, "folds of groups", 0));
    let fold: HashMap<u64, usize> = distinct.iter().enumerate().map(|(place, &group)| (group, place % folds)).collect();
    groups.iter().map(|group| (distinct.len() > 1).then(|| fold[group])).collect()
}

/// The fold, below `folds`, of each of `rows` rows, whatever their labels: they are dealt in an order that is shuffled for `purpose`.
pub fn dealt(rows: usize, folds: usize, purpose: &str) -> Vec<usize> {
    let mut fold: Vec<usize> = (0..rows).map(|i| i % folds).collect();
    fold.shuffle(&mut random::rng(rows as u64, purpose, 0));
    fold
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn even(sizes: impl Iterator<Item = usize> + Clone) -> bool {
        sizes.clone().max().unwrap_or(0) - sizes.min().unwrap_or(0) <= 1
    }

    proptest! {
        #[test]
        fn folds_are_even_in_each_label_and_in_all(
            gold in proptest::collection::vec(0usize..4, 0..80), folds in 1usize..7, seed in 0u64..1000
        ) {
            let found = stratified(&gold, 5, folds, seed);
            prop_assert!(found.len() == gold.len() && found.iter().all(|&fold| fold < folds));
            prop_assert_eq!(&found, &stratified(&gold, 5, folds, seed));
            let size = |fold: usize, of: &dyn Fn(usize) -> bool| (0..gold.len()).filter(|&i| found[i] == fold && of(gold[i])).count();
            prop_assert!(even((0..folds).map(|fold| size(fold, &|_| true))));
            for label in 0..5 {
                prop_assert!(even((0..folds).map(|fold| size(fold, &|own| own == label))));
            }
        }

        #[test]
        fn a_label_of_as_many_rows_as_folds_is_in_all_of_them(folds in 1usize..7, before in 0usize..9, seed in 0u64..1000) {
            let gold = [vec![0; before], vec![1; folds]].concat();
            let mut own = stratified(&gold, 2, folds, seed)[before..].to_vec();
            own.sort_unstable();
            prop_assert_eq!(own, (0..folds).collect::<Vec<_>>());
        }
    }

    #[test]
    fn rows_of_a_group_are_in_one_fold() {
        let groups: Vec<u64> = (0..60).map(|i| i % 13).collect();
        let fold = grouped(&groups, 5, 1);
        assert!((0..60).all(|i| fold[i] == fold[i % 13] && fold[i].is_some()));
        assert_eq!(fold.iter().flatten().collect::<std::collections::BTreeSet<_>>().len(), 5);
        assert_eq!(grouped(&[7, 7, 7], 5, 1), [None, None, None]);
    }

    #[test]
    fn the_seed_and_not_the_order_of_rows_makes_the_folds() {
        let gold = vec![0; 60];
        let (one, two) = (stratified(&gold, 1, 5, 1), stratified(&gold, 1, 5, 2));
        assert_ne!(one, two);
        assert!(one.windows(5).any(|five| (0..5).any(|fold| !five.contains(&fold))), "dealt in the order of the rows: {one:?}");
    }

    #[test]
    fn there_are_no_more_folds_than_rows_of_a_label_and_only_rows_stay_in_training() {
        let folds = |gold: &[usize]| held_out(gold, 4, 5, 0).into_iter().flatten().collect::<std::collections::BTreeSet<_>>().len();
        assert_eq!(folds(&[[0; 9], [1; 9]].concat()), 5);
        assert_eq!(folds(&[0, 0, 0, 0, 0, 0, 2, 2, 2]), 3);
        let gold = [0, 0, 0, 0, 0, 3];
        assert_eq!(folds(&gold), 2);
        assert_eq!(held_out(&gold, 4, 5, 0).iter().filter(|fold| fold.is_none()).count(), 1);
        assert_eq!(held_out(&gold, 4, 5, 0)[5], None);
    }
}
