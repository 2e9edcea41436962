//! What attention is given: queries, keys and what is added to their products.

use crate::dropout::Dropout;
use std::ops::Range;

/// Which tokens of a sequence are queries: all, or only the first (`[CLS]`), the only one that a classifier reads from the last layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queries {
    All,
    First,
}

/// A number for each head and each distance of a key from its query, which is added to their score.
#[derive(Clone, Copy, Debug)]
pub struct Bias<'a> {
    /// (heads, 2 * longest - 1): the distances key - query from 1 - longest on.
    pub values: &'a [f32],
    /// Tokens of the longest sequence, or more.
    pub longest: usize,
}

impl Bias<'_> {
    /// The place of the numbers of a head and a query with these keys.
    pub(super) fn place(&self, head: usize, query: usize, keys: &Range<usize>) -> Range<usize> {
        let start = head * (2 * self.longest - 1) + self.longest - 1 + keys.start - query;
        start..start + keys.len()
    }
}

/// Relative positions as they meet queries and keys.
#[derive(Clone, Copy, Debug)]
pub struct Disentangled<'a> {
    /// (positions, 3 * hidden): the query and the key of each relative position, side by side as those of tokens; the last third is not
    /// read.
    pub positions: &'a [f32],
    /// The row of `positions` for each distance query - key from 1 - longest to longest - 1; it never falls as the distance grows.
    pub rows: &'a [u32],
    /// Tokens of the longest sequence, or more.
    pub longest: usize,
}

/// The shape of an attention over the rows of a batch.
#[derive(Clone, Copy)]
pub struct Attention<'a> {
    pub heads: usize,
    /// Width of a head; hidden = heads * head_size.
    pub head_size: usize,
    /// (rows + 1) boundaries of the sequences, in tokens, from 0.
    pub cu_seqlens: &'a [usize],
    pub queries: Queries,
    /// Masks over the attention probabilities, if any.
    pub dropout: Option<Dropout>,
    /// What the distance adds to a score, if anything.
    pub bias: Option<Bias<'a>>,
    /// How far a key may be from its query, in tokens, if not all attend to all.
    pub window: Option<usize>,
    /// Relative positions whose products with queries and keys are added to those of queries and keys, if there are any.
    pub disentangled: Option<Disentangled<'a>>,
}

impl Attention<'_> {
    pub(super) fn hidden(&self) -> usize {
        self.heads * self.head_size
    }

    pub(super) fn tokens(&self) -> usize {
        *self.cu_seqlens.last().expect("cu_seqlens has rows + 1 entries")
    }

    /// Number of queries of a sequence.
    pub(super) fn queries_of(&self, tokens: usize) -> usize {
        match self.queries {
            Queries::All => tokens,
            Queries::First => tokens.min(1),
        }
    }

    pub(super) fn drops(&self) -> bool {
        self.dropout.is_some_and(|d| !d.is_off())
    }

    /// The factor of scores: one over the root of the numbers that a score is a sum of.
    pub(super) fn scale(&self) -> f32 {
        let products = if self.disentangled.is_some() { 3.0 } else { 1.0 };
        1.0 / (products * self.head_size as f32).sqrt()
    }
}

/// `v` with this length; what is new is 0.
pub(super) fn resized(v: &mut Vec<f32>, n: usize) -> &mut [f32] {
    v.resize(n, 0.0);
    v
}
