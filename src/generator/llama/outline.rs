//! A model's tokenizer, chat template and context alone: what can be checked, and cut, before its weights are loaded.

use std::path::Path;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;

use super::backend::backend;
use super::gguf::Header;
use super::model::chat_template;
use super::tokenise;
use crate::generator::chat_template::ChatTemplate;
use crate::generator::request::{GenerateError, PosteriorRequest, Prompt};

/// The part of a model that is loaded in a moment.
pub struct Outline {
    model: LlamaModel,
    template: ChatTemplate,
    n_ctx: usize,
}

impl Outline {
    /// Opens the GGUF file at `path`, or the first part of a split one.
    ///
    /// # Errors
    /// A file that is no GGUF model, or has no usable tokenizer or chat template.
    pub fn open(path: &Path) -> Result<Outline, GenerateError> {
        let fail = |reason: String| GenerateError::Load { path: path.display().to_string(), reason };
        let header = Header::read(path).map_err(fail)?;
        let backend = backend().map_err(fail)?;
        let params = LlamaModelParams::default().with_n_gpu_layers(0).with_vocab_only(true);
        let model = LlamaModel::load_from_file(backend, path, &params).map_err(|_| {
            fail("its tokenizer cannot be read: the file is truncated or damaged, or its architecture is unknown to this build".into())
        })?;
        let architecture = header.text("general.architecture").unwrap_or_default();
        let n_ctx = header.integer(&format!("{architecture}.context_length")).unwrap_or(u64::MAX);
        let template = chat_template(&model)?;
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

    /// The beginning of a text that has at most `most` tokens; `None` if the whole text has no more.
    pub fn cut(&self, text: &str, most: usize) -> Option<String> {
        // No token is shorter than a byte.
        if text.len() <= most {
            return None;
        }
        let vocab = self.model.vocab();
        let tokens = vocab.tokenize(text.as_bytes(), false, false);
        if tokens.len() <= most {
            return None;
        }
        let bytes: Vec<u8> = tokens[..most].iter().flat_map(|&token: &LlamaToken| vocab.token_to_piece(token, false, None)).collect();
        let whole = String::from_utf8_lossy(&bytes);
        Some(whole.trim_end_matches('\u{fffd}').to_string())
    }
}
