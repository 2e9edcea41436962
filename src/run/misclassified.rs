//! The misclassified rows of a round, and how they differ from the previous round's.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::data::example::{GoldRow, Input};
use crate::data::head::Head;

/// A *mine* row that the round's model got wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Misclassified<H: Head> {
    /// Line in the gold file.
    pub line: usize,
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_pair: Option<String>,
    /// The gold label or answer; `label` or `answer` in the file.
    #[serde(flatten)]
    pub goal: H::Goal,
    pub predicted: H::Prediction,
}

impl<H: Head> Misclassified<H> {
    pub fn new(row: &GoldRow<H>, predicted: H::Prediction) -> Self {
        Misclassified { line: row.line, text: row.text.clone(), text_pair: row.text_pair.clone(), goal: row.goal(), predicted }
    }

    pub fn input(&self) -> Input<'_> {
        Input { text: &self.text, text_pair: self.text_pair.as_deref() }
    }
}

/// Changes in the misclassified *mine* rows since the previous round, counted per gold label in the task's order, of several labels by the
/// first; one count for questions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Wrong before, correct now.
    pub fixed: Vec<usize>,
    /// Wrong in both rounds.
    pub stayed: Vec<usize>,
    /// Correct before, wrong now.
    pub appeared: Vec<usize>,
}

impl Changes {
    pub fn between<H: Head>(before: &[Misclassified<H>], after: &[Misclassified<H>], strata: usize) -> Changes {
        let lines = |errors: &[Misclassified<H>]| errors.iter().map(|error| error.line).collect::<HashSet<usize>>();
        let (was, is) = (lines(before), lines(after));
        let count = |errors: &[Misclassified<H>], holds: &dyn Fn(usize) -> bool| {
            let mut counts = vec![0; strata];
            errors.iter().filter(|error| holds(error.line)).for_each(|error| counts[H::stratum(&error.goal)] += 1);
            counts
        };
        Changes {
            fixed: count(before, &|line| !is.contains(&line)),
            stayed: count(before, &|line| is.contains(&line)),
            appeared: count(after, &|line| !was.contains(&line)),
        }
    }

    /// For progress messages: `6 fixed, 3 stayed, 1 appeared`.
    pub fn in_words(&self) -> String {
        let sum = |counts: &[usize]| counts.iter().sum::<usize>();
        format!("{} fixed, {} stayed, {} appeared", sum(&self.fixed), sum(&self.stayed), sum(&self.appeared))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::labels::{Label, Labels};

    #[test]
    fn every_error_is_fixed_stays_or_appears() {
        let error =
            |line, label| Misclassified::<Labels> { line, text: String::new(), text_pair: None, goal: Label { label }, predicted: 0 };
        let changes = Changes::between(&[error(1, 0), error(2, 1), error(3, 1)], &[error(3, 1), error(4, 0), error(5, 0)], 2);
        assert_eq!(changes, Changes { fixed: vec![1, 1], stayed: vec![0, 1], appeared: vec![2, 0] });
        assert_eq!(changes.in_words(), "2 fixed, 1 stayed, 2 appeared");
    }
}
