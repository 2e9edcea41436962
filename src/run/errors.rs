//! The errors of a round, and what became of those of the round before.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::data::example::{Goal, Guess, Input};

/// A *mine* row that the round's model got wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Misclassified {
    /// In the gold file.
    pub line: usize,
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_pair: Option<String>,
    /// `label` or `answer` in the file.
    #[serde(flatten)]
    pub goal: Goal,
    pub predicted: Guess,
}

impl Misclassified {
    pub fn input(&self) -> Input<'_> {
        Input { text: &self.text, text_pair: self.text_pair.as_deref() }
    }
}

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
