//! Packed batches: token ids of sequences of different lengths, one after the other, without padding.

use crate::ModelError;
use crate::config::Config;
use crate::encoded::Encoded;
use lacuna_kernels::attention::Queries;

/// Sequences packed one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackedBatch {
    /// (tokens)
    pub input_ids: Vec<u32>,
    /// (tokens): 0 for the first text, 1 for the second; not read by models without token types.
    pub token_type_ids: Vec<u32>,
    /// (rows + 1): where each sequence begins, in tokens, and where the last one ends.
    pub cu_seqlens: Vec<u32>,
}

/// Neighbouring rows of a batch, with boundaries counted from their first token.
pub(crate) struct Shard<'a> {
    pub input_ids: &'a [u32],
    pub token_type_ids: &'a [u32],
    pub position_ids: Vec<u32>,
    pub cu_seqlens: Vec<usize>,
    /// Place of its first row in the batch.
    pub first_row: usize,
    /// Whether the last hidden states of all tokens are needed, not of `[CLS]` alone.
    pub every_token: bool,
}

impl PackedBatch {
    /// Packs encoded texts in their order.
    pub fn from_rows(rows: &[&Encoded]) -> Self {
        let mut batch = PackedBatch { cu_seqlens: vec![0], ..Self::default() };
        for row in rows {
            batch.input_ids.extend_from_slice(&row.input_ids);
            batch.token_type_ids.extend_from_slice(&row.token_type_ids);
            batch.cu_seqlens.push(batch.input_ids.len() as u32);
        }
        batch
    }

    /// Number of sequences.
    pub fn rows(&self) -> usize {
        self.cu_seqlens.len().saturating_sub(1)
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.input_ids.len()
    }

    /// Checks that a model of this configuration can run the batch; the error names the first problem.
    pub fn check(&self, config: &Config) -> Result<(), ModelError> {
        let error = |reason: String| Err(ModelError::Batch(reason));
        let (tokens, longest) = (self.tokens(), config.max_position_embeddings);
        if self.rows() == 0 {
            return error("it has no rows".into());
        }
        if self.token_type_ids.len() != tokens {
            return error(format!("{tokens} input_ids, but {} token_type_ids", self.token_type_ids.len()));
        }
        if self.cu_seqlens[0] != 0 || self.cu_seqlens[self.rows()] as usize != tokens {
            return error(format!(
                "cu_seqlens goes from {} to {}, not from 0 to {tokens}",
                self.cu_seqlens[0],
                self.cu_seqlens[self.rows()]
            ));
        }
        for (row, ends) in self.cu_seqlens.windows(2).enumerate() {
            if ends[1] <= ends[0] {
                return error(format!("row {row} has no tokens"));
            }
            if (ends[1] - ends[0]) as usize > longest {
                return error(format!("row {row} has {} tokens; the model takes at most {longest}", ends[1] - ends[0]));
            }
        }
        if let Some(id) = self.input_ids.iter().find(|&&id| id as usize >= config.vocab_size) {
            return error(format!(
                "token id {id} is outside the vocabulary of {}; does the tokenizer belong to the model?",
                config.vocab_size
            ));
        }
        let types = config.type_vocab_size;
        if let Some(id) = self.token_type_ids.iter().find(|&&id| types > 0 && id as usize >= types) {
            return error(format!("token type {id} is outside the {types} types of the model"));
        }
        Ok(())
    }

    /// Splits a checked batch into at most `n` runs of rows with about the same number of tokens.
    pub(crate) fn shards(&self, n: usize) -> Vec<Shard<'_>> {
        let rows = self.rows();
        let n = n.clamp(1, rows);
        let mut bounds = vec![0];
        for i in 1..n {
            let goal = self.tokens() as f64 * i as f64 / n as f64;
            let distance = |row: &usize| (self.cu_seqlens[*row] as f64 - goal).abs();
            // Every shard before and after keeps at least one row.
            let nearest = (bounds[i - 1] + 1..=rows - (n - i)).min_by(|a, b| distance(a).total_cmp(&distance(b)));
            bounds.push(nearest.expect("n is at most the number of rows"));
        }
        bounds.push(rows);
        bounds.windows(2).map(|ends| self.shard(ends[0], ends[1])).collect()
    }

    fn shard(&self, first_row: usize, end_row: usize) -> Shard<'_> {
        let boundaries = &self.cu_seqlens[first_row..=end_row];
        let (start, end) = (boundaries[0] as usize, boundaries[boundaries.len() - 1] as usize);
        Shard {
            input_ids: &self.input_ids[start..end],
            token_type_ids: &self.token_type_ids[start..end],
            position_ids: boundaries.windows(2).flat_map(|ends| 0..ends[1] - ends[0]).collect(),
            cu_seqlens: boundaries.iter().map(|&b| b as usize - start).collect(),
            first_row,
            every_token: false,
        }
    }
}

impl Shard<'_> {
    /// Tokens of the longest row.
    pub fn longest(&self) -> usize {
        self.cu_seqlens.windows(2).map(|ends| ends[1] - ends[0]).max().unwrap_or(0)
    }

    pub fn rows(&self) -> usize {
        self.cu_seqlens.len() - 1
    }

    pub fn tokens(&self) -> usize {
        self.input_ids.len()
    }

    /// The boundaries of the rows among the queries.
    pub fn cu_queries(&self, queries: Queries) -> Vec<usize> {
        match queries {
            Queries::All => self.cu_seqlens.clone(),
            Queries::First => (0..=self.rows()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Shards hold every row once, in order, and none is empty; none has more than its share and one row.
        #[test]
        fn shards_cover_the_batch(lengths in prop::collection::vec(1usize..50, 1..20), n in 0usize..25) {
            let row = |&n: &usize| Encoded { input_ids: vec![n as u32; n], token_type_ids: vec![0; n] };
            let rows: Vec<Encoded> = lengths.iter().map(row).collect();
            let batch = PackedBatch::from_rows(&rows.iter().collect::<Vec<_>>());
            let shards = batch.shards(n);
            prop_assert!(shards.len() == n.clamp(1, lengths.len()) && shards.iter().all(|s| s.rows() > 0));
            prop_assert_eq!(shards.iter().flat_map(|s| s.input_ids.to_vec()).collect::<Vec<_>>(), batch.input_ids.clone());
            let found: Vec<usize> = shards.iter().flat_map(|s| s.cu_seqlens.windows(2).map(|e| e[1] - e[0]).collect::<Vec<_>>()).collect();
            prop_assert_eq!(&found, &lengths);
            let mut next = 0;
            for shard in &shards {
                prop_assert_eq!(shard.first_row, next);
                next += shard.rows();
                prop_assert!(shard.tokens() <= batch.tokens() / shards.len() + 50 * shards.len().min(2));
                let positions: Vec<u32> = shard.cu_seqlens.windows(2).flat_map(|e| 0..(e[1] - e[0]) as u32).collect();
                prop_assert_eq!(&shard.position_ids, &positions);
            }
        }
    }
}
