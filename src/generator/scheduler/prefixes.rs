//! Shared prefixes in the KV cache: each is prefilled once, in a holder, and stays while requests build on it.

use super::step::{CacheEdit, Input, Job, SeqId, Step};
use crate::generator::prefix::{Node, PrefixTree, Token};

/// The progress of a prefill.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fill {
    /// The prefix whose cells must be copied first.
    pub(super) from: Option<usize>,
    /// Number of tokens in the cache.
    pub(super) at: usize,
    /// Number of prompt tokens to prefill.
    pub(super) end: usize,
}

/// A shared prefix, prefilled or being prefilled.
#[derive(Clone, Copy, Debug)]
struct Holder {
    seq: SeqId,
    fill: Fill,
    /// A job with this prefix.
    job: usize,
    /// Number of requests and holders that build on it.
    users: usize,
}

/// The prefixes of one worker.
pub(super) struct Prefixes<'a> {
    jobs: &'a [Job],
    tree: &'a PrefixTree,
    /// Indexed by the node of the tree.
    holders: Vec<Option<Holder>>,
    /// Nodes with a holder, parents before children.
    resident: Vec<usize>,
    free_seqs: Vec<SeqId>,
    /// Cells of all holders.
    cells: usize,
}

impl<'a> Prefixes<'a> {
    /// None yet; `seqs` are the sequences for them.
    pub(super) fn new(jobs: &'a [Job], tree: &'a PrefixTree, seqs: std::ops::Range<SeqId>) -> Self {
        let holders = vec![None; tree.nodes.len()];
        Prefixes { jobs, tree, holders, resident: Vec::new(), free_seqs: seqs.rev().collect(), cells: 0 }
    }

    /// Cells that the prefixes take.
    pub(super) fn cells(&self) -> usize {
        self.cells
    }

    /// Cells of the prefixes on a path that have no holder yet.
    pub(super) fn missing(&self, path: &[usize]) -> usize {
        path.iter().filter(|&&node| self.holders[node].is_none()).map(|&node| self.tree.nodes[node].n_tokens()).sum()
    }

    /// Number of tokens of a prefix, with those of its parents.
    pub(super) fn end(&self, node: Option<usize>) -> usize {
        node.map_or(0, |node| self.tree.nodes[node].end)
    }

    /// What [`Prefixes::hold`] would return.
    pub(super) fn within_reach(&self, path: &[usize]) -> Option<usize> {
        let mut free = self.free_seqs.len();
        let held = path.iter().take_while(|&&node| {
            let resident = self.holders[node].is_some();
            let reached = resident || free > 0;
            free -= usize::from(!resident && reached);
            reached
        });
        held.last().copied()
    }

    /// Gives the prefixes of a path holders while sequence ids last; returns the deepest prefix that has one, which the job now uses.
    pub(super) fn hold(&mut self, path: &[usize], job: usize) -> Option<usize> {
        let mut base = None;
        for &node in path {
            if self.holders[node].is_none() {
                let Some(seq) = self.free_seqs.pop() else { break };
                let Node { end, .. } = self.tree.nodes[node];
                self.holders[node] = Some(Holder { seq, fill: Fill { from: base, at: 0, end }, job, users: 0 });
                self.join(base);
                self.resident.push(node);
                self.cells += self.tree.nodes[node].n_tokens();
            }
            base = Some(node);
        }
        self.join(base);
        base
    }

    /// Removes unused prefixes that are not on the path of the next job: jobs are sorted, so these prefixes are not needed again.
    pub(super) fn release_idle(&mut self, path: &[usize], edits: &mut Vec<CacheEdit>) {
        for i in (0..self.resident.len()).rev() {
            let node = self.resident[i];
            if path.contains(&node) {
                continue;
            }
            if let Some(holder) = self.holders[node].take_if(|holder| holder.users == 0) {
                self.resident.remove(i);
                edits.push(CacheEdit::Clear { seq: holder.seq });
                self.free_seqs.push(holder.seq);
                self.cells -= self.tree.nodes[node].n_tokens();
                self.leave(self.tree.nodes[node].parent);
            }
        }
    }

    fn join(&mut self, node: Option<usize>) {
        if let Some(holder) = node.and_then(|node| self.holders[node].as_mut()) {
            holder.users += 1;
        }
    }

    /// One request less builds on a prefix.
    pub(super) fn leave(&mut self, node: Option<usize>) {
        if let Some(holder) = node.and_then(|node| self.holders[node].as_mut()) {
            holder.users -= 1;
        }
    }

    /// Copies every finished prefix to the holders, and to those of `others` (sequences and their progress), that wait for it.
    pub(super) fn copy_finished<'f>(&mut self, others: impl Iterator<Item = (SeqId, &'f mut Fill)>, edits: &mut Vec<CacheEdit>) {
        let complete = |holder: &Holder| (holder.fill.from.is_none() && holder.fill.at == holder.fill.end).then_some(holder.seq);
        let ready: Vec<Option<SeqId>> = self.holders.iter().map(|holder| holder.as_ref().and_then(complete)).collect();
        let holders = self.holders.iter_mut().flatten().map(|holder| (holder.seq, &mut holder.fill));
        let mut copy = |to: SeqId, fill: &mut Fill| {
            let Some((node, from)) = fill.from.and_then(|node| Some((node, ready[node]?))) else { return };
            edits.push(CacheEdit::Copy { from, to });
            fill.from = None;
            fill.at = self.tree.nodes[node].end;
        };
        holders.for_each(|(to, fill)| copy(to, fill));
        others.for_each(|(to, fill)| copy(to, fill));
    }

    /// Puts the prefixes' tokens into the batch, of one holder only if `apart`.
    pub(super) fn prefill(&mut self, n_batch: usize, apart: bool, step: &mut Step) {
        for &node in &self.resident {
            if let Some(holder) = &mut self.holders[node] {
                let prompt = &self.jobs[holder.job].input_ids;
                prefill(&mut holder.fill, prompt, holder.seq, usize::MAX, n_batch, step);
            }
            if apart && !step.batch.is_empty() {
                break;
            }
        }
    }
}

/// Puts as much of the prompt into the batch as fits; logits are needed from position `logits_from` on.
pub(super) fn prefill(fill: &mut Fill, prompt: &[Token], seq: SeqId, logits_from: usize, n_batch: usize, step: &mut Step) {
    if fill.from.is_some() || fill.at >= fill.end {
        return;
    }
    let end = fill.end.min(fill.at + n_batch - step.batch.len());
    let tokens = (fill.at..end).zip(&prompt[fill.at..end]);
    step.batch.extend(tokens.map(|(pos, &token)| Input { token, pos, seq, logits: pos >= logits_from }));
    fill.at = end;
}
