//! How the small model reads texts: its tokenizer, its length, and the threads that it works on.

use std::sync::Arc;

use lacuna_models::{Encoded, Reading, TextEncoder};
use rayon::ThreadPool;
use rayon::prelude::*;

use crate::data::example::Input;
use crate::error::{Error, Result};

/// Texts that are worth another thread.
pub const LEAST_TEXTS: usize = 32;

/// Turns texts into tokens.
pub struct Reader {
    pub encoder: TextEncoder,
    /// Of the model's positions.
    pub max_position_embeddings: usize,
    /// All work over threads is done by these, and by no others.
    pub pool: Arc<ThreadPool>,
}

impl Reader {
    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// As many tokens as wanted, or as the model has positions for.
    pub fn max_tokens(&self, wanted: usize) -> usize {
        wanted.min(self.max_position_embeddings)
    }

    /// What the task or the saved model says of how texts are read.
    pub fn stated(&self) -> Option<Reading> {
        self.encoder.reading()
    }

    /// Every text's tokens, at most so many of each.
    ///
    /// # Errors
    /// A text that cannot be encoded.
    pub fn encode_all(&self, inputs: &[Input], max_tokens: usize) -> Result<Vec<Encoded>> {
        let max_tokens = self.max_tokens(max_tokens);
        let one = |input: &Input| self.encoder.encode(input.text, input.text_pair, max_tokens).map_err(|e| Error::Failed(e.to_string()));
        self.pool.install(|| inputs.par_iter().with_min_len(LEAST_TEXTS).map(one).collect())
    }
}
