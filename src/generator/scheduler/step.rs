//! What a worker decodes next, as plain data: edits of the KV cache, then one batch; and what a schedule must do.

use crate::generator::prefix::Token;

/// A sequence of the KV cache: slots come first, berths after them, holders of prefixes last.
pub type SeqId = usize;

/// The limits of a llama.cpp context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Number of requests decoded together: the first sequences.
    pub slots: usize,
    /// Number of prompts prefilled together on their way to a slot: the next sequences. None in a unified cache, at least one else.
    pub berths: usize,
    /// Number of shared prefixes kept at once: the last sequences.
    pub holders: usize,
    /// Most tokens in one batch, at least `slots`.
    pub n_batch: usize,
    /// Cells of the KV cache; a token takes one cell, even if several sequences share it.
    pub n_cells: usize,
    /// Whether all sequences share these cells; if not, each sequence has `n_cells` of its own, a stream.
    pub unified: bool,
}

impl Limits {
    /// Number of sequences.
    pub fn sequences(&self) -> usize {
        self.slots + self.berths + self.holders
    }

    /// Cells of all sequences together.
    pub fn all_cells(&self) -> usize {
        self.n_cells * if self.unified { 1 } else { self.sequences() }
    }
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
    /// Makes an empty sequence share all cells of another, or in a stream have a copy of them.
    Copy { from: SeqId, to: SeqId },
    /// Removes the end of a sequence, from a position on.
    Trim { seq: SeqId, from: usize },
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
/// [`Schedule::extend`] or [`Schedule::finish`] before the next step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    pub edits: Vec<CacheEdit>,
    pub batch: Vec<Input>,
    pub outputs: Vec<Output>,
    /// Number of prompt tokens in the batch.
    pub prefill: usize,
    /// Number of tokens in the batch that nobody reads.
    pub padding: usize,
}

/// The state of one worker.
pub trait Schedule {
    /// Whether another job is wanted now.
    fn wants_job(&self) -> bool;

    /// Puts a job into a free slot and returns the slot; `None` if it must wait for others. An idle worker admits any job that fits.
    fn admit(&mut self, job: usize) -> Option<SeqId>;

    /// The job in a slot.
    fn job_in(&self, slot: SeqId) -> Option<usize>;

    /// The next step; `None` if no slot is in use.
    fn step(&mut self) -> Option<Step>;

    /// Adds a sampled token to the slot; it goes into a later batch.
    fn extend(&mut self, slot: SeqId, token: Token);

    /// Ends the slot's request; frees the slot and its cells.
    fn finish(&mut self, slot: SeqId);
}
