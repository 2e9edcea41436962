//! The schedule for one KV cache that all sequences share: copying a prefix only adds a sequence id to its cells, and any tokens go into
//! one batch. A slot that finishes is refilled before the next step, and its prompt is prefilled beside the tokens of the others.

use super::prefixes::{Fill, Prefixes, prefill};
use super::step::{CacheEdit, Input, Job, Limits, Output, Schedule, SeqId, Step};
use crate::generator::prefix::{PrefixTree, Token};

/// A request in a slot.
#[derive(Clone, Copy, Debug)]
struct Slot {
    job: usize,
    /// The prefix that it builds on.
    base: Option<usize>,
    fill: Fill,
    /// Cells reserved for this slot alone.
    cells: usize,
    /// The last sampled token, which is not in the cache yet.
    sampled: Option<Token>,
}

pub(super) struct Unified<'a> {
    limits: Limits,
    jobs: &'a [Job],
    tree: &'a PrefixTree,
    slots: Vec<Option<Slot>>,
    prefixes: Prefixes<'a>,
    /// Cells reserved for slots.
    slot_cells: usize,
    edits: Vec<CacheEdit>,
}

impl<'a> Unified<'a> {
    pub(super) fn new(limits: Limits, jobs: &'a [Job], tree: &'a PrefixTree) -> Self {
        let prefixes = Prefixes::new(jobs, tree, limits.slots..limits.slots + limits.holders);
        Unified { limits, jobs, tree, slots: vec![None; limits.slots], prefixes, slot_cells: 0, edits: Vec::new() }
    }

    /// Adds the last sampled token of every slot whose prompt is in the cache.
    fn decode_sampled(&mut self, step: &mut Step) {
        for (seq, slot) in self.slots.iter_mut().enumerate().filter_map(|(seq, slot)| Some((seq, slot.as_mut()?))) {
            if let Some(token) = slot.sampled.take() {
                step.outputs.push(Output { row: step.batch.len(), slot: seq });
                step.batch.push(Input { token, pos: slot.fill.at, seq, logits: true });
                slot.fill.at += 1;
            }
        }
    }

    fn prefill_slots(&mut self, step: &mut Step) {
        for (seq, slot) in self.slots.iter_mut().enumerate().filter_map(|(seq, slot)| Some((seq, slot.as_mut()?))) {
            let job = &self.jobs[slot.job];
            let first = step.batch.len();
            prefill(&mut slot.fill, &job.input_ids, seq, job.logits_from, self.limits.n_batch, step);
            let rows = first..step.batch.len();
            step.outputs.extend(rows.filter(|&row| step.batch[row].logits).map(|row| Output { row, slot: seq }));
        }
    }
}

impl Schedule for Unified<'_> {
    fn wants_job(&self) -> bool {
        self.slots.iter().any(Option::is_none)
    }

    /// Takes the lowest free slot; `None` if no slot is free or there are too few cells until another job finishes.
    fn admit(&mut self, job: usize) -> Option<SeqId> {
        let slot = self.slots.iter().position(Option::is_none)?;
        let path = self.tree.path(job);
        self.prefixes.release_idle(&path, &mut self.edits);
        let own = self.jobs[job].n_cells() - self.prefixes.end(path.last().copied());
        if self.slot_cells + self.prefixes.cells() + self.prefixes.missing(&path) + own > self.limits.n_cells {
            return None;
        }
        let base = self.prefixes.hold(&path, job);
        let cells = self.jobs[job].n_cells() - self.prefixes.end(base);
        self.slot_cells += cells;
        let fill = Fill { from: base, at: 0, end: self.jobs[job].input_ids.len() };
        self.slots[slot] = Some(Slot { job, base, fill, cells, sampled: None });
        Some(slot)
    }

    fn job_in(&self, slot: SeqId) -> Option<usize> {
        self.slots[slot].map(|slot| slot.job)
    }

    fn step(&mut self) -> Option<Step> {
        self.slots.iter().any(Option::is_some).then_some(())?;
        let slots = self.slots.iter_mut().enumerate().filter_map(|(seq, slot)| Some((seq, &mut slot.as_mut()?.fill)));
        self.prefixes.copy_finished(slots, &mut self.edits);
        let mut step = Step { edits: std::mem::take(&mut self.edits), ..Step::default() };
        self.decode_sampled(&mut step);
        let decoded = step.batch.len();
        self.prefixes.prefill(self.limits.n_batch, false, &mut step);
        self.prefill_slots(&mut step);
        step.prefill = step.batch.len() - decoded;
        Some(step)
    }

    fn extend(&mut self, slot: SeqId, token: Token) {
        if let Some(slot) = &mut self.slots[slot] {
            slot.sampled = Some(token);
        }
    }

    fn finish(&mut self, slot: SeqId) {
        if let Some(done) = self.slots[slot].take() {
            self.edits.push(CacheEdit::Clear { seq: slot });
            self.slot_cells -= done.cells;
            self.prefixes.leave(done.base);
        }
    }
}
