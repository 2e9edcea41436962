//! The pieces in which attention is computed: some queries of a head of a row, and the keys that they attend to.

use super::{Attention, Queries};
use std::ops::Range;

/// A row of up to this many queries is one block.
const WHOLE: usize = 256;
/// Queries of a block of a longer row.
const QUERIES: usize = 128;
/// Queries of a block where each attends to its neighbours alone: with more of them, more keys are out of the window of most.
const IN_WINDOW: usize = 64;
/// Probabilities for up to this many keys are kept for the backward; of more they are computed again, so that memory grows with the tokens
/// of a row and not with their square.
const KEPT: usize = 512;

/// Some queries of one head of one sequence.
pub(super) struct Block {
    pub row: usize,
    pub head: usize,
    /// First token of the sequence, and its number of tokens.
    pub token: usize,
    pub tokens: usize,
    /// The queries, from 0 in each sequence, and how many the sequence has.
    pub queries: Range<usize>,
    pub of_queries: usize,
    /// The place of the sequence's first query among those of all sequences.
    pub first_query: usize,
    /// The keys, from 0 in each sequence: all that one of the queries attends to.
    pub keys: Range<usize>,
    /// The place of the (queries, keys) probabilities, if they are kept.
    pub kept: Option<Range<usize>>,
}

impl Block {
    /// Whether it has all queries and keys of its head.
    pub fn is_whole(&self) -> bool {
        self.queries.len() == self.of_queries && self.keys.len() == self.tokens
    }

    /// Number of probabilities.
    pub fn len(&self) -> usize {
        self.queries.len() * self.keys.len()
    }

    /// The keys that a query attends to, from the block's first one.
    pub fn seen(&self, query: usize, window: Option<usize>) -> Range<usize> {
        match window {
            None => 0..self.keys.len(),
            Some(window) => {
                let (first, end) = (query.saturating_sub(window).max(self.keys.start), (query + window + 1).min(self.keys.end));
                first - self.keys.start..end - self.keys.start
            }
        }
    }
}

impl Attention<'_> {
    /// Number of queries of a sequence.
    pub(super) fn queries_of(&self, tokens: usize) -> usize {
        match self.queries {
            Queries::All => tokens,
            Queries::First => tokens.min(1),
        }
    }

    fn queries_a_block(&self, queries: usize) -> usize {
        match self.window {
            Some(window) if queries > 2 * window => IN_WINDOW,
            _ if queries <= WHOLE => WHOLE,
            _ => QUERIES,
        }
    }

    fn keys_of(&self, queries: &Range<usize>, tokens: usize) -> Range<usize> {
        match self.window {
            None => 0..tokens,
            Some(window) => queries.start.saturating_sub(window)..(queries.end + window).min(tokens),
        }
    }

    /// Visits the blocks of every head of every sequence in turn; an empty sequence has none. Returns how many probabilities are kept.
    pub(super) fn each_block(&self, mut visit: impl FnMut(&Block)) -> usize {
        let (mut first_query, mut kept) = (0, 0);
        for (row, ends) in self.cu_seqlens.windows(2).enumerate() {
            let (token, tokens) = (ends[0], ends[1] - ends[0]);
            let of_queries = self.queries_of(tokens);
            let size = self.queries_a_block(of_queries);
            for (head, start) in (0..self.heads).flat_map(|head| (0..of_queries).step_by(size).map(move |start| (head, start))) {
                let queries = start..(start + size).min(of_queries);
                let keys = self.keys_of(&queries, tokens);
                let numbers = if keys.len() <= KEPT { queries.len() * keys.len() } else { 0 };
                let place = (numbers > 0).then_some(kept..kept + numbers);
                visit(&Block { row, head, token, tokens, queries, of_queries, first_query, keys, kept: place });
                kept += numbers;
            }
            first_query += of_queries;
        }
        kept
    }
}
