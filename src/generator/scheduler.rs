//! Decides what one worker decodes next: which request sits in which slot, which prefix is shared, which tokens go into the batch.
//!
//! This file does not depend on a model. A [`Step`] is plain data: edits of the KV cache, then one batch. A shared prefix is prefilled
//! once, in a sequence of its own (a holder). Its cells are then copied to the holders and slots below it, which in a unified KV cache
//! only adds a sequence id to each cell. A slot that finishes is refilled before the next step.

use super::prefix::{Node, PrefixTree, Token};

/// A sequence of the KV cache: slots come first, holders of prefixes after them.
pub type SeqId = usize;

/// The limits of a llama.cpp context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Number of requests decoded together: sequences `0..slots`.
    pub slots: usize,
    /// Number of shared prefixes kept at once: sequences `slots..slots + holders`.
    pub holders: usize,
    /// Most tokens in one batch, at least `slots`.
    pub n_batch: usize,
    /// Cells of the KV cache; a token takes one cell, even if several sequences share it.
    pub n_cells: usize,
    /// Whether all sequences share these cells; if not, each sequence has `n_cells` of its own.
    pub unified: bool,
}

/// One request as the scheduler sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The prompt, not empty.
    pub input_ids: Vec<Token>,
    /// Logits are needed from this position of the prompt on; the last position if only the next token matters.
    pub logits_from: usize,
    /// Most new tokens; 0 only reads the logits of the prompt.
    pub max_tokens: usize,
}

impl Job {
    /// A job that reads only the logits of its last prompt token.
    pub fn new(input_ids: Vec<Token>, max_tokens: usize) -> Self {
        Job { logits_from: input_ids.len().saturating_sub(1), input_ids, max_tokens }
    }

    /// Whether it reads the logits of one prompt token alone.
    pub fn reads_one(&self) -> bool {
        self.logits_from + 1 == self.input_ids.len()
    }

    /// Cells that it takes if nothing is shared.
    pub fn n_cells(&self) -> usize {
        self.input_ids.len() + self.max_tokens
    }
}

/// The shareable tokens: those before the first one whose logits this job reads.
impl AsRef<[Token]> for Job {
    fn as_ref(&self) -> &[Token] {
        &self.input_ids[..self.logits_from]
    }
}

/// An edit of the KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheEdit {
    /// Removes the sequence.
    Clear { seq: SeqId },
    /// Makes an empty sequence share all cells of another.
    Copy { from: SeqId, to: SeqId },
}

/// A token of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input {
    pub token: Token,
    /// Position in its sequence.
    pub pos: usize,
    pub seq: SeqId,
    /// Whether the logits at this token are needed.
    pub logits: bool,
}

/// Where to find the logits of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    /// Index into [`Step::batch`].
    pub row: usize,
    pub slot: SeqId,
}

/// The next step: the edits in order, then the batch. The last output of a prompt, and every one after it, must be answered with
/// [`Scheduler::extend`] or [`Scheduler::finish`] before the next step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    pub edits: Vec<CacheEdit>,
    pub batch: Vec<Input>,
    pub outputs: Vec<Output>,
    /// Number of prompt tokens in the batch.
    pub prefill: usize,
}

/// The progress of a prefill.
#[derive(Clone, Copy, Debug)]
struct Fill {
    /// The prefix whose cells must be copied first.
    from: Option<usize>,
    /// Number of tokens in the cache.
    at: usize,
    /// Number of prompt tokens to prefill.
    end: usize,
}

/// A shared prefix, prefilled or being prefilled.
#[derive(Clone, Copy, Debug)]
struct Holder {
    seq: SeqId,
    fill: Fill,
    /// A job with this prefix.
    job: usize,
    /// Number of slots and holders that build on it.
    users: usize,
}

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

/// The state of one worker.
pub struct Scheduler<'a> {
    limits: Limits,
    jobs: &'a [Job],
    tree: &'a PrefixTree,
    slots: Vec<Option<Slot>>,
    /// Indexed by the node of the tree.
    holders: Vec<Option<Holder>>,
    /// Nodes with a holder, parents before children.
    resident: Vec<usize>,
    free_seqs: Vec<SeqId>,
    used_cells: usize,
    edits: Vec<CacheEdit>,
}

impl<'a> Scheduler<'a> {
    /// The scheduler of an idle worker. `tree` must be built over `jobs`, every job must fit `limits.n_cells`, and
    /// `limits.n_batch >= limits.slots >= 1`.
    pub fn new(limits: Limits, jobs: &'a [Job], tree: &'a PrefixTree) -> Self {
        assert!(1 <= limits.slots && limits.slots <= limits.n_batch, "a batch must hold one token of every slot: {limits:?}");
        Scheduler {
            limits,
            jobs,
            tree,
            slots: vec![None; limits.slots],
            holders: vec![None; tree.nodes.len()],
            resident: Vec::new(),
            free_seqs: (limits.slots..limits.slots + limits.holders).rev().collect(),
            used_cells: 0,
            edits: Vec::new(),
        }
    }

    /// Whether a slot is free.
    pub fn has_free_slot(&self) -> bool {
        self.slots.iter().any(Option::is_none)
    }

    /// Puts a job into the lowest free slot and returns the slot; `None` if no slot is free or there are too few cells until another job
    /// finishes. An idle worker admits any job that fits the cache.
    pub fn admit(&mut self, job: usize) -> Option<SeqId> {
        let slot = self.slots.iter().position(Option::is_none)?;
        let path = self.tree.path(job);
        self.release_idle(&path);
        let missing: usize = path.iter().filter(|&&node| self.holders[node].is_none()).map(|&node| self.tree.nodes[node].n_tokens()).sum();
        let shared = path.last().map_or(0, |&node| self.tree.nodes[node].end);
        if self.limits.unified && self.used_cells + missing + self.jobs[job].n_cells() - shared > self.limits.n_cells {
            return None;
        }
        let base = self.hold(&path, job);
        let at = base.map_or(0, |node| self.tree.nodes[node].end);
        let cells = self.jobs[job].n_cells() - at;
        self.used_cells += cells;
        let fill = Fill { from: base, at: 0, end: self.jobs[job].input_ids.len() };
        self.slots[slot] = Some(Slot { job, base, fill, cells, sampled: None });
        Some(slot)
    }

    /// The job in a slot.
    pub fn job_in(&self, slot: SeqId) -> Option<usize> {
        self.slots[slot].map(|slot| slot.job)
    }

    /// The next step; `None` if no slot is in use.
    pub fn step(&mut self) -> Option<Step> {
        self.slots.iter().any(Option::is_some).then_some(())?;
        self.copy_finished_prefixes();
        let mut step = Step { edits: std::mem::take(&mut self.edits), ..Step::default() };
        self.decode_sampled(&mut step);
        let decoded = step.batch.len();
        self.prefill_holders(&mut step);
        self.prefill_slots(&mut step);
        step.prefill = step.batch.len() - decoded;
        Some(step)
    }

    /// Adds a sampled token to the slot; it goes into the next batch.
    pub fn extend(&mut self, slot: SeqId, token: Token) {
        if let Some(slot) = &mut self.slots[slot] {
            slot.sampled = Some(token);
        }
    }

    /// Ends the slot's request; frees the slot and its cells.
    pub fn finish(&mut self, slot: SeqId) {
        if let Some(done) = self.slots[slot].take() {
            self.edits.push(CacheEdit::Clear { seq: slot });
            self.used_cells -= done.cells;
            self.leave(done.base);
        }
    }

    /// Gives the prefixes of a path holders while sequence ids last; returns the deepest prefix that has one.
    fn hold(&mut self, path: &[usize], job: usize) -> Option<usize> {
        let mut base = None;
        for &node in path {
            if self.holders[node].is_none() {
                let Some(seq) = self.free_seqs.pop() else { break };
                let Node { end, .. } = self.tree.nodes[node];
                self.holders[node] = Some(Holder { seq, fill: Fill { from: base, at: 0, end }, job, users: 0 });
                self.join(base);
                self.resident.push(node);
                self.used_cells += self.tree.nodes[node].n_tokens();
            }
            base = Some(node);
        }
        self.join(base);
        base
    }

    /// Removes unused prefixes that are not on the path of the next job: jobs are sorted, so these prefixes are not needed again.
    fn release_idle(&mut self, path: &[usize]) {
        for i in (0..self.resident.len()).rev() {
            let node = self.resident[i];
            if path.contains(&node) {
                continue;
            }
            if let Some(holder) = self.holders[node].take_if(|holder| holder.users == 0) {
                self.resident.remove(i);
                self.edits.push(CacheEdit::Clear { seq: holder.seq });
                self.free_seqs.push(holder.seq);
                self.used_cells -= self.tree.nodes[node].n_tokens();
                self.leave(self.tree.nodes[node].parent);
            }
        }
    }

    fn join(&mut self, node: Option<usize>) {
        if let Some(holder) = node.and_then(|node| self.holders[node].as_mut()) {
            holder.users += 1;
        }
    }

    fn leave(&mut self, node: Option<usize>) {
        if let Some(holder) = node.and_then(|node| self.holders[node].as_mut()) {
            holder.users -= 1;
        }
    }

    /// Copies every finished prefix to the holders and slots that wait for it.
    fn copy_finished_prefixes(&mut self) {
        let complete = |holder: &Holder| (holder.fill.from.is_none() && holder.fill.at == holder.fill.end).then_some(holder.seq);
        let ready: Vec<Option<SeqId>> = self.holders.iter().map(|holder| holder.as_ref().and_then(complete)).collect();
        let holders = self.holders.iter_mut().flatten().map(|holder| (holder.seq, &mut holder.fill));
        let slots = self.slots.iter_mut().enumerate().filter_map(|(seq, slot)| Some((seq, &mut slot.as_mut()?.fill)));
        for (to, fill) in holders.chain(slots) {
            let Some(node) = fill.from else { continue };
            let Some(from) = ready[node] else { continue };
            self.edits.push(CacheEdit::Copy { from, to });
            fill.from = None;
            fill.at = self.tree.nodes[node].end;
        }
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

    fn prefill_holders(&mut self, step: &mut Step) {
        for &node in &self.resident {
            if let Some(holder) = &mut self.holders[node] {
                let prompt = &self.jobs[holder.job].input_ids;
                prefill(&mut holder.fill, prompt, holder.seq, usize::MAX, self.limits.n_batch, step);
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

/// Puts as much of the prompt into the batch as fits; logits are needed from position `logits_from` on.
fn prefill(fill: &mut Fill, prompt: &[Token], seq: SeqId, logits_from: usize, n_batch: usize, step: &mut Step) {
    if fill.from.is_some() || fill.at >= fill.end {
        return;
    }
    let end = fill.end.min(fill.at + n_batch - step.batch.len());
    let tokens = (fill.at..end).zip(&prompt[fill.at..end]);
    step.batch.extend(tokens.map(|(pos, &token)| Input { token, pos, seq, logits: pos >= logits_from }));
    fill.at = end;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// A cell of the fake cache: a token, its position, and the sequences that see it.
    struct Cell {
        token: Token,
        pos: usize,
        seqs: BTreeSet<SeqId>,
    }

    /// A unified KV cache that checks what llama.cpp would abort on.
    struct FakeCache {
        cells: Vec<Cell>,
        limits: Limits,
    }

    impl FakeCache {
        fn sequence(&self, seq: SeqId) -> Vec<Token> {
            let mut cells: Vec<_> = self.cells.iter().filter(|cell| cell.seqs.contains(&seq)).collect();
            cells.sort_by_key(|cell| cell.pos);
            assert!(cells.iter().enumerate().all(|(i, cell)| cell.pos == i), "positions of sequence {seq} have a gap or a duplicate");
            cells.iter().map(|cell| cell.token).collect()
        }

        fn apply(&mut self, step: &Step) {
            for &edit in &step.edits {
                match edit {
                    CacheEdit::Clear { seq } => self.cells.iter_mut().for_each(|cell| cell.seqs.retain(|&other| other != seq)),
                    CacheEdit::Copy { from, to } => {
                        assert!(self.sequence(to).is_empty(), "copied onto the sequence {to}, which is in use");
                        assert!(!self.sequence(from).is_empty(), "copied the empty sequence {from}");
                        for cell in self.cells.iter_mut().filter(|cell| cell.seqs.contains(&from)) {
                            cell.seqs.insert(to);
                        }
                    }
                }
                self.cells.retain(|cell| !cell.seqs.is_empty());
            }
            assert!(!step.batch.is_empty() && step.batch.len() <= self.limits.n_batch, "{} tokens", step.batch.len());
            for input in &step.batch {
                assert!(input.seq < self.limits.slots + self.limits.holders);
                assert_eq!(input.pos, self.sequence(input.seq).len(), "sequence {} must continue without a gap", input.seq);
                self.cells.push(Cell { token: input.token, pos: input.pos, seqs: [input.seq].into() });
                let used = if self.limits.unified { self.cells.len() } else { self.sequence(input.seq).len() };
                assert!(used <= self.limits.n_cells, "more cells used than available");
            }
        }
    }

    /// The fake model's next token.
    fn next_token(sequence: &[Token]) -> Token {
        1000 + sequence.iter().fold(0, |hash, &token| (hash * 31 + token) % 997)
    }

    /// Runs all jobs on one worker; returns the number of prefilled prompt tokens and of steps.
    fn run(limits: Limits, jobs: &[Job], lengths: &[usize]) -> (usize, usize) {
        let tree = PrefixTree::new(jobs, 2);
        let mut scheduler = Scheduler::new(limits, jobs, &tree);
        let mut cache = FakeCache { cells: Vec::new(), limits };
        let mut written: Vec<Vec<Token>> = vec![Vec::new(); jobs.len()];
        let (mut finished, mut read) = (vec![0; jobs.len()], vec![0; jobs.len()]);
        let mut waiting = (0..jobs.len()).peekable();
        let (mut prefilled, mut steps) = (0, 0);
        loop {
            while waiting.next_if(|&job| scheduler.admit(job).is_some()).is_some() {}
            let Some(step) = scheduler.step() else { break };
            cache.apply(&step);
            prefilled += step.prefill;
            steps += 1;
            assert_eq!(step.outputs.len(), step.batch.iter().filter(|input| input.logits).count());
            for output in &step.outputs {
                let job = scheduler.job_in(output.slot).expect("outputs are of slots in use");
                assert!(step.batch[output.row].logits && step.batch[output.row].seq == output.slot);
                let sequence = cache.sequence(output.slot);
                let input = step.batch[output.row];
                assert!(input.pos >= jobs[job].logits_from);
                read[job] += 1;
                if input.pos + 1 < jobs[job].input_ids.len() {
                    continue;
                }
                assert_eq!(sequence, [jobs[job].input_ids.clone(), written[job].clone()].concat());
                if written[job].len() == lengths[job].min(jobs[job].max_tokens) {
                    finished[job] += 1;
                    scheduler.finish(output.slot);
                } else {
                    let token = next_token(&sequence);
                    written[job].push(token);
                    scheduler.extend(output.slot, token);
                }
            }
        }
        assert_eq!(waiting.next(), None, "a job was left over");
        assert!(finished.iter().all(|&times| times == 1), "every job finishes once: {finished:?}");
        for (job, read) in read.into_iter().enumerate() {
            assert_eq!(read, jobs[job].input_ids.len() - jobs[job].logits_from + written[job].len(), "every logit is read once");
        }
        (prefilled, steps)
    }

    #[test]
    fn a_shared_prefix_is_prefilled_once() {
        let jobs = vec![Job::new(vec![1, 2, 3, 4, 5, 6], 3); 10];
        let limits = Limits { slots: 4, holders: 2, n_batch: 8, n_cells: 5 + 4 * 4, unified: true };
        assert_eq!(run(limits, &jobs, &[3; 10]).0, 5 + 10);
    }

    #[test]
    fn a_finished_slot_is_refilled_before_the_next_step() {
        let jobs = vec![Job::new(vec![7], 4); 6];
        let limits = Limits { slots: 2, holders: 0, n_batch: 2, n_cells: 64, unified: true };
        // The first job takes five steps; meanwhile the other slot serves five jobs of one step each.
        assert_eq!(run(limits, &jobs, &[4, 0, 0, 0, 0, 0]).1, 5);
    }

    #[test]
    fn a_job_waits_until_there_are_cells() {
        let job = |token| Job::new(vec![token; 5], 3);
        let jobs = [job(1), job(2)];
        let tree = PrefixTree::new(&jobs, 2);
        let mut scheduler = Scheduler::new(Limits { slots: 2, holders: 1, n_batch: 8, n_cells: 15, unified: true }, &jobs, &tree);
        assert_eq!(scheduler.admit(0), Some(0));
        assert_eq!(scheduler.admit(1), None);
        scheduler.finish(0);
        assert_eq!(scheduler.admit(1), Some(0));
    }

    proptest! {
        #[test]
        fn every_request_finishes_and_its_sequence_is_prompt_and_new_tokens(
            mut prompts in prop::collection::vec((prop::collection::vec(0..2i32, 1..14), 0..6usize, 0..6usize, 0..14usize), 0..30),
            slots in 1..6usize, holders in 0..5usize, extra_batch in 0..12usize, extra_cells in 0..60usize, unified: bool,
        ) {
            prompts.sort_by(|a, b| a.0[..a.0.len().saturating_sub(1).min(a.3)].cmp(&b.0[..b.0.len().saturating_sub(1).min(b.3)]));
            let job = |(ids, max, _, from): &(Vec<Token>, usize, usize, usize)| {
                Job { logits_from: *from.min(&(ids.len() - 1)), ..Job::new(ids.clone(), *max) }
            };
            let jobs: Vec<Job> = prompts.iter().map(job).collect();
            let lengths: Vec<usize> = prompts.iter().map(|prompt| prompt.2).collect();
            let largest = jobs.iter().map(Job::n_cells).max().unwrap_or(1);
            let limits = Limits { slots, holders, n_batch: slots + extra_batch, n_cells: largest + extra_cells, unified };
            let (prefilled, _) = run(limits, &jobs, &lengths);
            prop_assert!(prefilled <= jobs.iter().map(|job| job.input_ids.len()).sum());
        }

        #[test]
        fn jobs_in_any_order_are_still_served(
            order in Just((0..20usize).collect::<Vec<_>>()).prop_shuffle(), holders in 0..4usize,
        ) {
            // After stealing, a worker may need a prefix again that it has removed.
            let jobs: Vec<Job> = (0..20).map(|i| Job::new(vec![i / 5, i / 5, i % 5, 9], 2)).collect();
            let tree = PrefixTree::new(&jobs, 2);
            let limits = Limits { slots: 3, holders, n_batch: 5, n_cells: 20, unified: true };
            let mut scheduler = Scheduler::new(limits, &jobs, &tree);
            let mut cache = FakeCache { cells: Vec::new(), limits };
            let mut order = order.into_iter().peekable();
            let mut done = Vec::new();
            loop {
                while order.next_if(|&job| scheduler.admit(job).is_some()).is_some() {}
                let Some(step) = scheduler.step() else { break };
                cache.apply(&step);
                for output in &step.outputs {
                    let job = scheduler.job_in(output.slot).unwrap();
                    prop_assert_eq!(cache.sequence(output.slot), jobs[job].input_ids.clone());
                    done.push(job);
                    scheduler.finish(output.slot);
                }
            }
            done.sort_unstable();
            prop_assert_eq!(done, (0..20).collect::<Vec<_>>());
        }
    }
}
