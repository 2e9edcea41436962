//! Both schedules against a fake KV cache that refuses what llama.cpp would abort on.

use super::*;
use crate::generator::prefix::Token;
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
                CacheEdit::Trim { seq, from } => {
                    assert!(!self.limits.unified && from > 0);
                    self.cells.iter_mut().filter(|cell| cell.pos >= from).for_each(|cell| cell.seqs.retain(|&other| other != seq));
                }
            }
            self.cells.retain(|cell| !cell.seqs.is_empty());
        }
        assert!(!step.batch.is_empty() && step.batch.len() <= self.limits.n_batch, "{} tokens", step.batch.len());
        assert!(self.limits.unified || is_rectangle(step), "{:?}", step.batch);
        for input in &step.batch {
            assert!(input.seq < self.limits.sequences());
            assert_eq!(input.pos, self.sequence(input.seq).len(), "sequence {} must continue without a gap", input.seq);
            self.cells.push(Cell { token: input.token, pos: input.pos, seqs: [input.seq].into() });
            let used = if self.limits.unified { self.cells.len() } else { self.sequence(input.seq).len() };
            assert!(used <= self.limits.n_cells, "more cells used than available");
        }
    }
}

/// Whether the sequences of the batch are neighbours, each with its tokens together, and as many as the others.
fn is_rectangle(step: &Step) -> bool {
    let rows: Vec<(SeqId, usize)> = step.batch.chunk_by(|a, b| a.seq == b.seq).map(|row| (row[0].seq, row.len())).collect();
    rows.windows(2).all(|pair| pair[1] == (pair[0].0 + 1, pair[0].1))
}

/// The fake model's next token.
fn next_token(sequence: &[Token]) -> Token {
    1000 + sequence.iter().fold(0, |hash, &token| (hash * 31 + token) % 997)
}

/// Runs all jobs on one worker; returns the number of prefilled prompt tokens and of steps.
fn run(limits: Limits, jobs: &[Job], lengths: &[usize]) -> (usize, usize) {
    let tree = PrefixTree::new(jobs, 2);
    let mut scheduler = schedule(limits, jobs, &tree);
    let mut cache = FakeCache { cells: Vec::new(), limits };
    let mut written: Vec<Vec<Token>> = vec![Vec::new(); jobs.len()];
    let (mut finished, mut read) = (vec![0; jobs.len()], vec![0; jobs.len()]);
    let mut waiting = (0..jobs.len()).peekable();
    let (mut prefilled, mut steps) = (0, 0);
    loop {
        while scheduler.wants_job() && waiting.next_if(|&job| scheduler.admit(job).is_some()).is_some() {}
        let Some(step) = scheduler.step() else { break };
        cache.apply(&step);
        assert!(limits.unified || step.outputs.len() + step.padding >= step.batch.len() - step.prefill);
        prefilled += step.prefill;
        steps += 1;
        let unread = step.batch.iter().filter(|input| input.logits).count() - step.outputs.len();
        assert!(unread <= step.padding, "{unread} logits that nobody reads, of {} tokens of padding", step.padding);
        for output in &step.outputs {
            let job = scheduler.job_in(output.slot).expect("outputs are of slots in use");
            let input = step.batch[output.row];
            assert!(input.logits && (input.seq == output.slot || !limits.unified));
            // In a berth the prompt has padding behind it.
            let sequence = cache.sequence(input.seq)[..=input.pos].to_vec();
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
    let limits = Limits { slots: 4, berths: 0, holders: 2, n_batch: 8, n_cells: 5 + 4 * 4, unified: true };
    assert_eq!(run(limits, &jobs, &[3; 10]).0, 5 + 10);
}

#[test]
fn a_finished_slot_is_refilled_before_the_next_step() {
    let jobs = vec![Job::new(vec![7], 4); 6];
    let limits = Limits { slots: 2, berths: 0, holders: 0, n_batch: 2, n_cells: 64, unified: true };
    // The first job takes five steps; meanwhile the other slot serves five jobs of one step each.
    assert_eq!(run(limits, &jobs, &[4, 0, 0, 0, 0, 0]).1, 5);
}

#[test]
fn a_job_waits_until_there_are_cells() {
    let job = |token| Job::new(vec![token; 5], 3);
    let jobs = [job(1), job(2)];
    let tree = PrefixTree::new(&jobs, 2);
    let mut scheduler = schedule(Limits { slots: 2, berths: 0, holders: 1, n_batch: 8, n_cells: 15, unified: true }, &jobs, &tree);
    assert_eq!(scheduler.admit(0), Some(0));
    assert_eq!(scheduler.admit(1), None);
    scheduler.finish(0);
    assert_eq!(scheduler.admit(1), Some(0));
}

#[test]
fn streams_decode_at_a_constant_width() {
    let jobs = vec![Job::new(vec![7, 8, 9], 20); 200];
    let limits = Limits { slots: 40, berths: 5, holders: 2, n_batch: 64, n_cells: 32, unified: false };
    let lengths: Vec<usize> = (0..200).map(|i| 5 + i * 7 % 13).collect();
    let tree = PrefixTree::new(&jobs, 2);
    let (mut scheduler, mut waiting) = (schedule(limits, &jobs, &tree), 0..200);
    let mut cache = FakeCache { cells: Vec::new(), limits };
    let (mut left, mut widths, mut padding, mut decoded) = ([0; 40], Vec::new(), 0, 0);
    loop {
        while scheduler.wants_job() {
            let Some(job) = waiting.next() else { break };
            left[scheduler.admit(job).unwrap()] = lengths[job];
        }
        let Some(step) = scheduler.step() else { break };
        cache.apply(&step);
        if step.prefill == 0 && !waiting.is_empty() {
            widths.push(step.batch.len());
            (padding, decoded) = (padding + step.padding, decoded + step.batch.len());
        }
        for &Output { slot, .. } in &step.outputs {
            if left[slot] == 0 {
                scheduler.finish(slot)
            } else {
                scheduler.extend(slot, 1)
            }
            left[slot] = left[slot].saturating_sub(1);
        }
    }
    // The first five prompts are decoded when all slots are full; an eighth of the slots may idle.
    assert!(widths.iter().all(|&width| width == 40), "{widths:?}");
    assert!(padding * 8 <= decoded, "{padding} of {decoded}");
}

proptest! {
    #[test]
    fn every_request_finishes_and_its_sequence_is_prompt_and_new_tokens(
        mut prompts in prop::collection::vec((prop::collection::vec(0..2i32, 1..14), 0..6usize, 0..6usize, 0..14usize), 0..30),
        slots in 1..6usize, holders in 0..5usize, extra_batch in 0..12usize, extra_cells in 0..60usize, berths in 0..6usize,
    ) {
        if berths > 0 {
            prompts.iter_mut().for_each(|prompt| prompt.3 = 14);
        }
        prompts.sort_by(|a, b| a.0[..a.0.len().saturating_sub(1).min(a.3)].cmp(&b.0[..b.0.len().saturating_sub(1).min(b.3)]));
        let job = |(ids, max, _, from): &(Vec<Token>, usize, usize, usize)| {
            Job { logits_from: if berths == 0 { *from.min(&(ids.len() - 1)) } else { ids.len() - 1 }, ..Job::new(ids.clone(), *max) }
        };
        let jobs: Vec<Job> = prompts.iter().map(job).collect();
        let lengths: Vec<usize> = prompts.iter().map(|prompt| prompt.2).collect();
        let largest = jobs.iter().map(Job::n_cells).max().unwrap_or(1);
        let n_batch = slots.max(berths) + extra_batch;
        let limits = Limits { slots, berths, holders, n_batch, n_cells: largest + extra_cells, unified: berths == 0 };
        let (prefilled, _) = run(limits, &jobs, &lengths);
        prop_assert!(prefilled <= jobs.iter().map(|job| job.input_ids.len()).sum());
    }

    #[test]
    fn jobs_in_any_order_are_still_served(
        order in Just((0..20usize).collect::<Vec<_>>()).prop_shuffle(), holders in 0..4usize, berths in 0..4usize,
    ) {
        // After stealing, a worker may need a prefix again that it has removed.
        let jobs: Vec<Job> = (0..20).map(|i| Job::new(vec![i / 5, i / 5, i % 5, 9], 2)).collect();
        let tree = PrefixTree::new(&jobs, 2);
        let limits = Limits { slots: 3, berths, holders, n_batch: 5, n_cells: 20, unified: berths == 0 };
        let mut scheduler = schedule(limits, &jobs, &tree);
        let mut cache = FakeCache { cells: Vec::new(), limits };
        let mut order = order.into_iter().peekable();
        let mut done = Vec::new();
        loop {
            while scheduler.wants_job() && order.next_if(|&job| scheduler.admit(job).is_some()).is_some() {}
            let Some(step) = scheduler.step() else { break };
            cache.apply(&step);
            for output in &step.outputs {
                let job = scheduler.job_in(output.slot).unwrap();
                let input = step.batch[output.row];
                prop_assert_eq!(&cache.sequence(input.seq)[..=input.pos], &jobs[job].input_ids[..]);
                done.push(job);
                scheduler.finish(output.slot);
            }
        }
        done.sort_unstable();
        prop_assert_eq!(done, (0..20).collect::<Vec<_>>());
    }
}
