//! How the small model reads texts: its tokenizer, its maximum length, and its thread pool.

use lacuna_models::{Encoded, Reading, TextEncoder};
use rayon::ThreadPool;
use rayon::prelude::*;

use crate::data::example::Input;
use crate::error::{Error, Result};

/// Fewer texts than this are not worth another thread.
pub const LEAST_TEXTS: usize = 32;

/// Tokenizes texts on the model's threads.
pub struct Reader {
    pub encoder: TextEncoder,
    /// Number of position embeddings, the model's maximum length.
    pub max_position_embeddings: usize,
    /// The only threads that parallel work runs on.
    pub pool: ThreadPool,
}

impl Reader {
    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// `wanted` tokens, at most as many as the model has positions.
    pub fn max_tokens(&self, wanted: usize) -> usize {
        wanted.min(self.max_position_embeddings)
    }

    /// The [`Reading`] that the task or the saved model states, if any.
    pub fn stated(&self) -> Option<Reading> {
        self.encoder.reading()
    }

    /// Encodes every text into at most `max_tokens` tokens.
    ///
    /// # Errors
    /// A text that cannot be encoded.
    pub fn encode_all(&self, inputs: &[Input], max_tokens: usize) -> Result<Vec<Encoded>> {
        let max_tokens = self.max_tokens(max_tokens);
        let one = |input: &Input| self.encoder.encode(input.text, input.text_pair, max_tokens).map_err(|e| Error::Failed(e.to_string()));
        self.pool.install(|| inputs.par_iter().with_min_len(LEAST_TEXTS).map(one).collect())
    }
}
