//! The schedule for a KV cache of its own for each sequence (streams).
//!
//! llama.cpp computes such sequences together only where their ids are neighbours and each has as many tokens in the batch as the others;
//! any other batch it cuts into many small ones. So every batch is a rectangle. A prompt's own tokens are prefilled in *berths*, which are
//! neighbours: the shorter prompts are padded at their end, the padding is removed, and the finished prompts are copied to their slots.
//! All slots are then decoded one token at a time; an idle slot among them decodes a token that nobody reads. The width of these batches
//! hardly changes, so a GPU can use its graph again. Freed slots are refilled together, once an eighth of them is idle.

use std::ops::Range;

use super::prefixes::{Fill, Prefixes};
use super::step::{CacheEdit, Input, Job, Limits, Output, Schedule, SeqId, Step};
use crate::generator::prefix::{PrefixTree, Token};

/// The number of slots in a batch is a multiple of this, or all of them.
const WIDTH: usize = 16;

/// What a slot does.
#[derive(Clone, Copy, Debug)]
enum Slot {
    /// Idle, with this many tokens in its cache that nobody reads.
    Idle(usize),
    /// Its request is in a berth; the first sampled token once it is known.
    Waits { job: usize, sampled: Option<Token> },
    /// A request with this many tokens in the cache, and the last sampled token, which is not there yet.
    Writes { job: usize, base: Option<usize>, at: usize, sampled: Token },
}

/// A prompt on its way to a slot.
#[derive(Clone, Copy, Debug)]
struct Berth {
    job: usize,
    slot: SeqId,
    /// The prefix that it builds on, and the progress of its copy.
    base: Option<usize>,
    fill: Fill,
}

pub(super) struct Streams<'a> {
    limits: Limits,
    jobs: &'a [Job],
    tree: &'a PrefixTree,
    slots: Vec<Slot>,
    /// Prompts that are prefilled together.
    berths: Vec<Berth>,
    /// The prefix that is left in each berth's cache from the prompt before, to be used again: a copy costs a GPU more than its bytes.
    left: Vec<Option<usize>>,
    /// Columns of the berths' rectangle that are in the cache; `None` before it has begun.
    columns: Option<usize>,
    prefixes: Prefixes<'a>,
    edits: Vec<CacheEdit>,
}

impl<'a> Streams<'a> {
    pub(super) fn new(limits: Limits, jobs: &'a [Job], tree: &'a PrefixTree) -> Self {
        assert!(1 <= limits.berths && limits.berths <= limits.n_batch, "streams need a berth, and a batch a token of each: {limits:?}");
        let holders = limits.slots + limits.berths..limits.sequences();
        let (slots, prefixes) = (vec![Slot::Idle(0); limits.slots], Prefixes::new(jobs, tree, holders));
        let left = vec![None; limits.berths];
        Streams { limits, jobs, tree, slots, berths: Vec::new(), left, columns: None, prefixes, edits: Vec::new() }
    }

    fn idle(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot, Slot::Idle(_))).count()
    }

    /// Tokens of a prompt that its prefix does not have.
    fn own(&self, job: usize, base: Option<usize>) -> usize {
        self.jobs[job].input_ids.len() - self.prefixes.end(base)
    }

    /// Whether the berths' prompts and this one, padded to equal length, fit in their caches.
    fn fits(&self, job: usize, base: Option<usize>) -> bool {
        let all = || self.berths.iter().map(|berth| (berth.job, berth.base)).chain([(job, base)]);
        let columns = all().map(|(job, base)| self.own(job, base)).max().unwrap_or(0);
        all().all(|(_, base)| self.prefixes.end(base) + columns <= self.limits.n_cells)
    }

    /// The state of the next free berth: with this prefix, or waiting for it.
    fn fill_next_berth(&mut self, job: usize, base: Option<usize>) -> Fill {
        let (at, end) = (self.berths.len(), self.jobs[job].input_ids.len());
        match self.left[at].take() {
            left @ Some(_) if left == base => return Fill { from: None, at: self.prefixes.end(base), end },
            Some(_) => self.edits.push(CacheEdit::Clear { seq: self.limits.slots + at }),
            None => {}
        }
        Fill { from: base, at: 0, end }
    }

    /// The next columns of the berths' rectangle.
    fn prefill_berths(&mut self, step: &mut Step) {
        let all = self.berths.iter().map(|berth| self.own(berth.job, berth.base)).max().unwrap_or(0);
        let begin = self.columns.unwrap_or(0);
        let columns = begin..all.min(begin + self.limits.n_batch / self.berths.len());
        for at in 0..self.berths.len() {
            self.prefill_berth(at, columns.clone(), step);
        }
        self.columns = Some(columns.end);
    }

    fn prefill_berth(&self, at: usize, columns: Range<usize>, step: &mut Step) {
        let Berth { job, slot, base, .. } = self.berths[at];
        let (prompt, first) = (&self.jobs[job].input_ids, self.prefixes.end(base));
        for pos in columns.start + first..columns.end + first {
            let logits = pos + 1 == prompt.len();
            if logits {
                step.outputs.push(Output { row: step.batch.len(), slot });
            }
            if pos < prompt.len() {
                step.prefill += 1
            } else {
                step.padding += 1
            }
            // Any token will do behind the prompt.
            let token = prompt[pos.min(prompt.len() - 1)];
            step.batch.push(Input { token, pos, seq: self.limits.slots + at, logits });
        }
    }

    /// Once all prompts are whole and their first tokens known: copies them to their slots, and leaves their prefixes in the berths.
    fn land(&mut self) {
        let Some(columns) = self.columns else { return };
        let is_open = |berth: &Berth| {
            self.own(berth.job, berth.base) > columns || matches!(self.slots[berth.slot], Slot::Waits { sampled: None, .. })
        };
        if self.berths.iter().any(is_open) {
            return;
        }
        self.columns = None;
        for (at, Berth { slot, base, job, .. }) in std::mem::take(&mut self.berths).into_iter().enumerate() {
            let (seq, length) = (self.limits.slots + at, self.jobs[job].input_ids.len());
            // A request that ended with its first token has left its slot.
            if let Slot::Waits { sampled: Some(sampled), .. } = self.slots[slot] {
                self.edits.push(CacheEdit::Trim { seq, from: length });
                self.edits.push(CacheEdit::Copy { from: seq, to: slot });
                self.slots[slot] = Slot::Writes { job, base, at: length, sampled };
            }
            self.left[at] = base;
            self.edits.push(base.map_or(CacheEdit::Clear { seq }, |_| CacheEdit::Trim { seq, from: self.prefixes.end(base) }));
        }
    }

    /// One token of every slot up to the last in use.
    fn decode(&mut self, step: &mut Step) {
        let used = self.slots.iter().rposition(|slot| matches!(slot, Slot::Writes { .. })).map_or(0, |last| last + 1);
        let width = used.next_multiple_of(WIDTH).min(self.slots.len());
        for (seq, slot) in self.slots[..width].iter_mut().enumerate() {
            let (token, pos) = match slot {
                Slot::Writes { at, sampled, .. } => {
                    step.outputs.push(Output { row: step.batch.len(), slot: seq });
                    *at += 1;
                    (*sampled, *at - 1)
                }
                Slot::Idle(tokens) => {
                    if *tokens == self.limits.n_cells {
                        step.edits.push(CacheEdit::Clear { seq });
                        *tokens = 0;
                    }
                    step.padding += 1;
                    *tokens += 1;
                    (self.jobs[0].input_ids[0], *tokens - 1)
                }
                Slot::Waits { .. } => unreachable!("berths are emptied before slots are decoded"),
            };
            // The logits of idle slots are computed too: a graph is used again only for as many rows.
            step.batch.push(Input { token, pos, seq, logits: true });
        }
    }
}

impl Schedule for Streams<'_> {
    /// Until a batch of prompts has begun, and only when enough slots are idle to make one.
    fn wants_job(&self) -> bool {
        let (idle, all) = (self.idle(), self.slots.len());
        let worthwhile = (all / 8).clamp(1, self.limits.berths);
        let room = self.berths.len() < self.limits.berths && idle > 0;
        self.columns.is_none() && room && (!self.berths.is_empty() || idle == all || idle >= worthwhile)
    }

    fn admit(&mut self, job: usize) -> Option<SeqId> {
        let slot = self.slots.iter().position(|slot| matches!(slot, Slot::Idle(_))).filter(|_| self.wants_job())?;
        let path = self.tree.path(job);
        self.prefixes.release_idle(&path, &mut self.edits);
        if !self.berths.is_empty() && !self.fits(job, self.prefixes.within_reach(&path)) {
            return None;
        }
        let base = self.prefixes.hold(&path, job);
        if let Slot::Idle(1..) = self.slots[slot] {
            self.edits.push(CacheEdit::Clear { seq: slot });
        }
        self.slots[slot] = Slot::Waits { job, sampled: None };
        let fill = self.fill_next_berth(job, base);
        self.berths.push(Berth { job, slot, base, fill });
        Some(slot)
    }

    fn job_in(&self, slot: SeqId) -> Option<usize> {
        match self.slots[slot] {
            Slot::Idle(_) => None,
            Slot::Waits { job, .. } | Slot::Writes { job, .. } => Some(job),
        }
    }

    fn step(&mut self) -> Option<Step> {
        if self.berths.is_empty() && self.idle() == self.slots.len() {
            return None;
        }
        let first = self.limits.slots;
        let berths = self.berths.iter_mut().enumerate().map(|(at, berth)| (first + at, &mut berth.fill));
        self.prefixes.copy_finished(berths, &mut self.edits);
        let mut step = Step { edits: std::mem::take(&mut self.edits), ..Step::default() };
        if !self.berths.is_empty() {
            self.prefixes.prefill(self.limits.n_batch, true, &mut step);
            step.prefill = step.batch.len();
            if step.batch.is_empty() {
                self.prefill_berths(&mut step);
            }
        } else {
            self.decode(&mut step);
        }
        Some(step)
    }

    fn extend(&mut self, slot: SeqId, token: Token) {
        match &mut self.slots[slot] {
            Slot::Waits { sampled, .. } => *sampled = Some(token),
            Slot::Writes { sampled, .. } => *sampled = token,
            Slot::Idle(_) => {}
        }
        self.land();
    }

    fn finish(&mut self, slot: SeqId) {
        match self.slots[slot] {
            Slot::Idle(_) => return,
            // Its berth knows the prefix, and is cleared with the others.
            Slot::Waits { .. } => {
                let berth = self.berths.iter().find(|berth| berth.slot == slot);
                self.prefixes.leave(berth.and_then(|berth| berth.base));
            }
            Slot::Writes { base, .. } => {
                self.edits.push(CacheEdit::Clear { seq: slot });
                self.prefixes.leave(base);
            }
        }
        self.slots[slot] = Slot::Idle(0);
        self.land();
    }
}
