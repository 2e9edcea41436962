//! The training set of a model: which synthetic rows it learns from, and with whose targets.

use std::collections::HashSet;

use super::rows::{ReadRow, SyntheticRow};
use super::stages::Stages;
use super::state::Synthesis;
use crate::judge::judges::LearntFrom;
use crate::small::row::TrainRow;

/// A choice of synthetic rows and of their targets.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The last round whose written rows are among them; none for read ones alone.
    pub written: Option<usize>,
    /// The last round whose read texts are among them.
    pub read: usize,
    /// The judge that their targets come from.
    pub learnt: LearntFrom,
    /// Lines of gold rows that none of them was written from, or in whose list it stands.
    pub without: HashSet<usize>,
}

impl<H: Stages> Synthesis<'_, H> {
    /// Training rows: those written, then those read.
    pub(super) fn union(&self, chosen: &Chosen) -> Vec<TrainRow<H::Target>> {
        let written = self.rows.iter().filter(|row| Some(row.round) <= chosen.written && !self.descends(row, &chosen.without));
        let written = written.map(|row| row.to_learn(H::target(self, row, chosen.learnt)));
        let shows = |row: &ReadRow| row.shown.iter().flatten().any(|line| chosen.without.contains(line));
        let read = self.read.iter().filter(|row| row.round <= chosen.read && !shows(row));
        written.chain(read.map(|row| row.to_learn(H::target_of_read(self, row, chosen.learnt)))).collect()
    }

    /// Whether a row was written from one of the gold rows of these lines: like it, or for its first text or context.
    fn descends(&self, row: &SyntheticRow<H>, lines: &HashSet<usize>) -> bool {
        let context = row.written.context.filter(|_| self.inputs.task.gold_contexts());
        row.written.parent.into_iter().chain(context).any(|line| lines.contains(&line))
    }
}
