//! A model's tokenizer, chat template, context and the shapes of its tensors: what can be checked, and cut, before its weights are loaded.

use std::ops::Range;
use std::path::Path;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;

use super::backend::backend;
use super::refusal::header_of_generator;
use super::{crash, load, model, tokenise};
use crate::generator::chat_template::ChatTemplate;
use crate::generator::request::{GenerateError, PosteriorRequest, Prompt};

/// The part of a model that is loaded in a moment.
pub struct Outline {
    model: LlamaModel,
    template: ChatTemplate,
    n_ctx: usize,
}

impl Outline {
    /// Opens the GGUF file at `path`, or the first part of a split one. `chat_template` stands for the model's own.
    ///
    /// # Errors
    /// A file that is no GGUF model, or has no usable tokenizer or chat template.
    pub fn open(path: &Path, chat_template: Option<&str>) -> Result<Outline, GenerateError> {
        let fail = |reason: String| GenerateError::Load { path: path.display().to_string(), reason };
        let header = header_of_generator(path).map_err(fail)?;
        let backend = backend().map_err(fail)?;
        // All tensors are looked at, and none is read.
        let params = LlamaModelParams::default().with_n_gpu_layers(0).with_no_alloc(true);
        let _guard = crash::Guard::new(path);
        let model = load::load(backend, path, &params).map_err(fail)?;
        tokenise::check_bytes(&model.vocab(), header.text("tokenizer.ggml.model")).map_err(fail)?;
        let architecture = header.text("general.architecture").unwrap_or_default();
        let n_ctx = header.integer(&format!("{architecture}.context_length")).unwrap_or(u64::MAX);
        let template = model::chat_template(&model, chat_template)?;
        Ok(Outline { model, template, n_ctx: usize::try_from(n_ctx).unwrap_or(usize::MAX) })
    }

    /// Most tokens that the model reads and writes together.
    pub fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    /// Number of tokens of a prompt.
    ///
    /// # Errors
    /// A prompt that the chat template cannot render.
    pub fn prompt_tokens(&self, prompt: &Prompt) -> Result<usize, GenerateError> {
        tokenise::input_ids(&self.model.vocab(), &self.template, prompt).map(|ids| ids.len())
    }

    /// Whether the words of a question can be told apart.
    ///
    /// # Errors
    /// A word without a token of its own, or two that are the same tokens.
    pub fn check_words(&self, request: &PosteriorRequest) -> Result<(), GenerateError> {
        tokenise::question(&self.model.vocab(), &self.template, request).map(drop)
    }

    /// The tokens of a text, as bytes, if there are more than `most`.
    pub fn tokens_beyond(&self, text: &str, most: usize) -> Option<Vec<Vec<u8>>> {
        // No token is shorter than a byte.
        if text.len() <= most {
            return None;
        }
        let vocab = self.model.vocab();
        let tokens = vocab.tokenize(text.as_bytes(), false, false);
        (tokens.len() > most).then(|| tokens.iter().map(|&token: &LlamaToken| vocab.token_to_piece(token, false, None)).collect())
    }

    /// At most `most` of a text's tokens: the first ones, or if the needed bytes are not among them, those around the needed ones, of which
    /// no more than a quarter comes behind.
    pub fn part(&self, tokens: &[Vec<u8>], most: usize, needed: Option<Range<usize>>) -> String {
        let from = needed.map_or(0, |needed| first_of_part(tokens, most, needed.end));
        let bytes: Vec<u8> = tokens[from..].iter().take(most).flatten().copied().collect();
        String::from_utf8_lossy(&bytes).trim_matches('\u{fffd}').to_string()
    }
}

/// The first of `most` tokens among which is the byte before `end`.
fn first_of_part(tokens: &[Vec<u8>], most: usize, end: usize) -> usize {
    let mut bytes = 0;
    let before_end = tokens.iter().take_while(|token| {
        bytes += token.len();
        bytes < end
    });
    let tokens_to_end = before_end.count() + 1;
    if tokens_to_end <= most { 0 } else { (tokens_to_end + most / 4).min(tokens.len()).saturating_sub(most) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_what_is_needed() {
        let tokens: Vec<Vec<u8>> = (0..100).map(|_| b"ab".to_vec()).collect();
        assert_eq!(first_of_part(&tokens, 20, 40), 0, "the last byte of the twentieth token");
        assert_eq!(first_of_part(&tokens, 20, 41), 6, "the twenty-first is the sixteenth of the part");
        assert_eq!(first_of_part(&tokens, 20, 199), 80);
        assert_eq!(first_of_part(&tokens, 100, 200), 0);
        assert_eq!(first_of_part(&tokens, 1, 200), 99);
    }
}
