//! The pieces in which attention is computed: some queries of a head of a row, and the keys that they attend to.

use super::shape::Attention;
use crate::mat::{Mat, MatMut};
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

    /// (rows, head_size) of part 0 (query), 1 (key) or 2 (value) of a block, inside (tokens, 3 * hidden).
    pub(super) fn part<'a>(&self, qkv: &'a [f32], b: &Block, part: usize) -> Mat<'a> {
        let (offset, rows) = self.place(b, part);
        Mat::strided(&qkv[offset..], rows, self.head_size, 3 * self.hidden())
    }

    pub(super) fn part_mut<'a>(&self, qkv: &'a mut [f32], b: &Block, part: usize) -> MatMut<'a> {
        let (offset, rows) = self.place(b, part);
        MatMut::strided(&mut qkv[offset..], rows, self.head_size, 3 * self.hidden())
    }

    /// Where a part of a block begins, and its number of rows.
    fn place(&self, b: &Block, part: usize) -> (usize, usize) {
        let rows = if part == 0 { &b.queries } else { &b.keys };
        (((b.token + rows.start) * 3 + part) * self.hidden() + b.head * self.head_size, rows.len())
    }

    pub(super) fn context_offset(&self, b: &Block) -> usize {
        (b.first_query + b.queries.start) * self.hidden() + b.head * self.head_size
    }

    /// Multiplies the (queries, keys) numbers of a block by its part of its row's mask.
    pub(super) fn drop(&self, b: &Block, x: &mut [f32]) {
        let Some(dropout) = self.dropout.filter(|d| !d.is_off()) else { return };
        let mask = dropout.row(b.row);
        for (query, x) in b.queries.clone().zip(x.chunks_exact_mut(b.keys.len())) {
            mask.apply((b.head * b.of_queries + query) * b.tokens + b.keys.start, x);
        }
    }
}
