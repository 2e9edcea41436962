//! The training set of a model: which synthetic rows it learns from, and with whose targets.

use std::collections::HashSet;

use super::rows::{ReadRow, Reviewed, SyntheticRow};
use super::stages::Stages;
use super::state::Synthesis;
use crate::data::example::Input;
use crate::judge::judges::LearntFrom;
use crate::run::review::GOLD;
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
        let written = self.rows.iter().filter(|row| row.reviewed != Reviewed::Rejected);
        let written = written.filter(|row| Some(row.round) <= chosen.written && !self.descends(row, &chosen.without));
        let written = written.map(|row| row.to_learn(self.target(row, chosen.learnt)));
        let shows = |row: &ReadRow| row.shown.iter().flatten().any(|line| chosen.without.contains(line));
        let read = self.read.iter().filter(|row| row.reviewed != Reviewed::Rejected);
        let read = read.filter(|row| row.round <= chosen.read && !shows(row));
        written.chain(read.map(|row| row.to_learn(self.target_of_read(row, chosen.learnt)))).collect()
    }

    /// What a model learns from a written row: the label that a person gave it, or what the task and the judge say.
    pub(super) fn target(&self, row: &SyntheticRow<H>, learnt: LearntFrom) -> H::Target {
        self.relabelled(&row.reviewed).unwrap_or_else(|| H::target(self, row, learnt))
    }

    /// The same of a read row.
    pub(super) fn target_of_read(&self, row: &ReadRow, learnt: LearntFrom) -> H::Target {
        self.relabelled(&row.reviewed).unwrap_or_else(|| H::target_of_read(self, row, learnt))
    }

    fn relabelled(&self, reviewed: &Reviewed) -> Option<H::Target> {
        let Reviewed::Relabelled(label) = reviewed else { return None };
        let head = &self.inputs.small.head;
        head.gold_named(label).map(|gold| head.hard_target(&H::goal(&gold)))
    }

    /// Notes what people have decided about the rows so far.
    pub(super) fn heed_decisions(&mut self) {
        let decisions = self.inputs.decisions;
        for row in &mut self.rows {
            row.reviewed = Reviewed::by(decisions.about(&row.id(), &row.text, row.text_pair.as_deref()));
        }
        for row in &mut self.read {
            row.reviewed = Reviewed::by(decisions.about(&row.id(), &row.text.text, row.text.text_pair.as_deref()));
        }
    }

    /// How many decisions are about rows that the run has.
    pub(super) fn decisions_about_rows(&self) -> usize {
        let decisions = self.inputs.decisions;
        let known = |id: &str, input: Input| usize::from(decisions.about(id, input.text, input.text_pair).is_some());
        let written: usize = self.rows.iter().map(|row| known(&row.id(), row.input())).sum();
        let read: usize = self.read.iter().map(|row| known(&row.id(), row.text.input())).sum();
        let gold: usize = self.inputs.drawn.gold().map(|row| known(&format!("{GOLD}{}", row.line), row.input())).sum();
        written + read + gold
    }

    /// Whether a row was written from one of the gold rows of these lines: like it, or for its first text or context.
    fn descends(&self, row: &SyntheticRow<H>, lines: &HashSet<usize>) -> bool {
        let context = row.written.context.filter(|_| self.inputs.task.gold_contexts());
        row.written.parent.into_iter().chain(context).any(|line| lines.contains(&line))
    }
}
