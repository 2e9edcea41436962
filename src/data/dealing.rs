//! Deals rows that have several labels, or none, so that every part has its share of each label.

use rand::seq::SliceRandom;

use crate::math::random;

/// The part of each row, below `shares.len()`; `sets` has each row's labels, each below `labels`, and `shares` each part's share of the
/// rows.
///
/// Iterative stratification (Sechidis et al. 2011, "On the stratification of multi-label data"): the label with the fewest rows left is
/// dealt first, each of its rows to the part that lacks most of it; rows without a label come last. Of equals, the part that lacks most
/// rows, then the first. Rows are dealt in an order that is shuffled with `seed`.
pub fn deal(sets: &[Vec<usize>], labels: usize, shares: &[f64], seed: u64) -> Vec<usize> {
    let total: f64 = shares.iter().sum();
    let wanted = |rows: usize| shares.iter().map(|share| share / total * rows as f64).collect::<Vec<f64>>();
    let count = |label: usize| sets.iter().filter(|set| set.contains(&label)).count();
    // What each part still lacks of each label, and of rows.
    let mut lacks: Vec<Vec<f64>> = (0..labels).map(|label| wanted(count(label))).collect();
    let mut room = wanted(sets.len());
    let mut order: Vec<usize> = (0..sets.len()).collect();
    order.shuffle(&mut random::rng(seed, "dealing", 0));
    let mut part = vec![None; sets.len()];
    let mut give = |row: usize, by: Option<usize>, part: &mut Vec<Option<usize>>| {
        let need = |to: usize| (by.map_or(0.0, |label| lacks[label][to]), room[to]);
        let to = (0..shares.len()).reduce(|best, to| if need(to) > need(best) { to } else { best }).expect("there is a part");
        sets[row].iter().for_each(|&label| lacks[label][to] -= 1.0);
        room[to] -= 1.0;
        part[row] = Some(to);
    };
    loop {
        let left = |label: usize| (0..sets.len()).filter(|&row| part[row].is_none() && sets[row].contains(&label)).count();
        let rarest = (0..labels).map(|label| (left(label), label)).filter(|(rows, _)| *rows > 0).min();
        let Some((_, label)) = rarest else { break };
        for &row in order.iter().filter(|row| sets[**row].contains(&label)) {
            if part[row].is_none() {
                give(row, Some(label), &mut part);
            }
        }
    }
    for &row in &order {
        if part[row].is_none() {
            give(row, None, &mut part);
        }
    }
    part.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_part_has_its_share(
            sets in proptest::collection::vec(proptest::collection::btree_set(0usize..4, 0..4), 20..120), parts in 2usize..6, seed: u64,
        ) {
            let sets: Vec<Vec<usize>> = sets.into_iter().map(|set| set.into_iter().collect()).collect();
            let found = deal(&sets, 5, &vec![1.0; parts], seed);
            prop_assert_eq!(&found, &deal(&sets, 5, &vec![1.0; parts], seed));
            prop_assert!(found.len() == sets.len() && found.iter().all(|&part| part < parts));
            for label in 0..5 {
                let all = sets.iter().filter(|set| set.contains(&label)).count();
                for part in 0..parts {
                    let own = (0..sets.len()).filter(|&row| found[row] == part && sets[row].contains(&label)).count();
                    // Labels of one row are dealt together, so that the commoner ones may be a few rows off.
                    prop_assert!((own as f64 - all as f64 / parts as f64).abs() <= 7.0, "label {}: {} of {}", label, own, all);
                }
            }
        }
    }

    #[test]
    fn the_rarest_label_is_on_both_sides() {
        let mut sets: Vec<Vec<usize>> = (0..50).map(|row| if row % 3 == 0 { vec![0, 1] } else { vec![1] }).collect();
        (sets[7], sets[31]) = (vec![1, 2], vec![0, 2]);
        for seed in 0..20 {
            let part = deal(&sets, 3, &[0.5, 0.5], seed);
            assert_ne!(part[7], part[31]);
            assert_eq!(part.iter().filter(|part| **part == 0).count().abs_diff(25), 0);
        }
        let few = deal(&sets, 3, &[0.9, 0.1], 1);
        assert!((3..=7).contains(&few.iter().filter(|part| **part == 1).count()));
    }

    #[test]
    fn another_seed_deals_otherwise() {
        let sets = vec![vec![0]; 40];
        assert_ne!(deal(&sets, 1, &[1.0, 1.0], 1), deal(&sets, 1, &[1.0, 1.0], 2));
        assert!(deal(&[], 1, &[1.0], 2).is_empty());
    }
}
