//! What became of the errors from one round to the next.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::Misclassified;

/// Misclassified *mine* rows against the round before, counted by their gold label in the task's order; questions in one count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Wrong before, right now.
    pub fixed: Vec<usize>,
    /// Wrong both times.
    pub stayed: Vec<usize>,
    /// Right before, wrong now.
    pub appeared: Vec<usize>,
}

impl Changes {
    pub fn between(before: &[Misclassified], after: &[Misclassified], labels: usize) -> Changes {
        let lines = |errors: &[Misclassified]| errors.iter().map(|error| error.line).collect::<HashSet<usize>>();
        let (was, is) = (lines(before), lines(after));
        let count = |errors: &[Misclassified], holds: &dyn Fn(usize) -> bool| {
            let mut counts = vec![0; labels];
            errors.iter().filter(|error| holds(error.line)).for_each(|error| counts[error.goal.label()] += 1);
            counts
        };
        Changes {
            fixed: count(before, &|line| !is.contains(&line)),
            stayed: count(before, &|line| is.contains(&line)),
            appeared: count(after, &|line| !was.contains(&line)),
        }
    }

    /// In words: `6 fixed, 3 stayed, 1 appeared`.
    pub fn in_words(&self) -> String {
        let sum = |counts: &[usize]| counts.iter().sum::<usize>();
        format!("{} fixed, {} stayed, {} appeared", sum(&self.fixed), sum(&self.stayed), sum(&self.appeared))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Goal, Guess};

    #[test]
    fn every_error_is_fixed_stays_or_appears() {
        let error = |line, label| {
            let (goal, predicted) = (Goal::Label(label), Guess::Label(0));
            Misclassified { line, text: String::new(), text_pair: None, goal, predicted }
        };
        let changes = Changes::between(&[error(1, 0), error(2, 1), error(3, 1)], &[error(3, 1), error(4, 0), error(5, 0)], 2);
        assert_eq!(changes, Changes { fixed: vec![1, 1], stayed: vec![0, 1], appeared: vec![2, 0] });
        assert_eq!(changes.in_words(), "2 fixed, 1 stayed, 2 appeared");
    }
}
