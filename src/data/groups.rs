//! Assigns groups of rows to *mine* or *select*, each as a whole, so that every label has its share of both.

use rand::seq::SliceRandom;

use crate::math::random;

/// Random orders of the groups that are tried; the best assignment is kept.
const ORDERS: u64 = 32;

/// What is wrong with an assignment, worst first: the number of labels that one side lacks; squared distances from the wanted numbers.
type Cost = (usize, usize);

/// For each group, whether it goes to *select*.
///
/// `counts` has each group's number of rows of each label; `wanted`, the number of rows of each label that *select* should have.
/// All groups begin in *mine*. In an order drawn with `seed`, each changes sides if that lowers the cost, until none does.
///
/// # Errors
/// The labels that one side lacks, whichever order was tried.
pub fn assign(counts: &[Vec<usize>], wanted: &[usize], seed: u64) -> Result<Vec<bool>, Vec<usize>> {
    let mut best: Option<(Cost, Sides)> = None;
    for order in 0..ORDERS {
        let mut sides = Sides::all_mine(counts, wanted);
        let cost = sides.improve(counts, seed, order);
        if best.as_ref().is_none_or(|(least, _)| cost < *least) {
            best = Some((cost, sides));
        }
        if cost == (0, 0) {
            break;
        }
    }
    let ((lacking, _), sides) = best.expect("there is at least one order");
    if lacking == 0 { Ok(sides.selected) } else { Err((0..wanted.len()).filter(|&label| sides.lacks(label)).collect()) }
}

/// An assignment, with what *select* has of each label.
struct Sides<'w> {
    selected: Vec<bool>,
    select: Vec<usize>,
    all: Vec<usize>,
    wanted: &'w [usize],
}

impl<'w> Sides<'w> {
    fn all_mine(counts: &[Vec<usize>], wanted: &'w [usize]) -> Self {
        let all = (0..wanted.len()).map(|label| counts.iter().map(|group| group[label]).sum()).collect();
        Sides { selected: vec![false; counts.len()], select: vec![0; wanted.len()], all, wanted }
    }

    /// Whether one side has no row of a label.
    fn lacks(&self, label: usize) -> bool {
        self.select[label] == 0 || self.select[label] == self.all[label]
    }

    fn cost(&self) -> Cost {
        let lacking = (0..self.wanted.len()).filter(|&label| self.lacks(label)).count();
        (lacking, self.select.iter().zip(self.wanted).map(|(have, want)| have.abs_diff(*want).pow(2)).sum())
    }

    /// Moves a group, of which `counts` are the rows of each label, to the other side.
    fn flip(&mut self, group: usize, counts: &[usize]) {
        let leaves = self.selected[group];
        self.selected[group] = !leaves;
        for (have, count) in self.select.iter_mut().zip(counts) {
            *have = if leaves { *have - count } else { *have + count };
        }
    }

    /// Moves groups, in an order of their own for each `order`, while that lowers the cost; the cost at the end.
    fn improve(&mut self, counts: &[Vec<usize>], seed: u64, order: u64) -> Cost {
        let mut groups: Vec<usize> = (0..counts.len()).collect();
        groups.shuffle(&mut random::rng(seed, "split", order));
        let mut cost = self.cost();
        loop {
            let before = cost;
            for &group in &groups {
                self.flip(group, &counts[group]);
                if self.cost() < cost {
                    cost = self.cost();
                } else {
                    self.flip(group, &counts[group]);
                }
            }
            if cost == before {
                return cost;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cost(counts: &[Vec<usize>], wanted: &[usize], selected: &[bool]) -> Cost {
        let mut sides = Sides::all_mine(counts, wanted);
        (0..counts.len()).filter(|&group| selected[group]).for_each(|group| sides.flip(group, &counts[group]));
        sides.cost()
    }

    #[test]
    fn labels_that_no_assignment_divides_are_named() {
        // Each two of three groups share a label, so two of them are on one side.
        let counts = [vec![1, 0, 1], vec![1, 1, 0], vec![0, 1, 1]];
        assert_eq!(assign(&counts, &[1, 1, 1], 1).unwrap_err().len(), 1);
        assert_eq!(assign(&[vec![2, 1], vec![0, 1]], &[1, 1], 1).unwrap_err(), [0]);
    }

    proptest! {
        /// Compared with all assignments of a few groups.
        #[test]
        fn few_groups_are_assigned_almost_as_well_as_they_can_be(
            counts in proptest::collection::vec(proptest::collection::vec(0usize..4, 3), 1..9), share in 0.1f64..0.9, seed: u64,
        ) {
            let total = |label: usize| counts.iter().map(|group| group[label]).sum::<usize>() as f64;
            let wanted: Vec<usize> = (0..3).map(|label| (share * total(label)).round() as usize).collect();
            let every = (0..1u32 << counts.len()).map(|bits| (0..counts.len()).map(|group| bits >> group & 1 == 1).collect::<Vec<_>>());
            let best = every.map(|selected| cost(&counts, &wanted, &selected)).min().unwrap();
            match assign(&counts, &wanted, seed) {
                Ok(selected) => prop_assert!(cost(&counts, &wanted, &selected).1 <= best.1 + 16),
                Err(labels) => prop_assert_eq!(labels.len(), best.0),
            }
        }
    }
}
