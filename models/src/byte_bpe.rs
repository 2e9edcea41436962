//! The tokenizer of a folder that has a vocab.json with merges.txt and no tokenizer.json, as RoBERTa's first checkpoints have.

use crate::ModelError;
use serde_json::Value;
use std::path::Path;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{AddedToken, Tokenizer};

/// Whether a folder has the two files.
pub fn is_in(folder: &Path) -> bool {
    folder.join("vocab.json").exists() && folder.join("merges.txt").exists()
}

/// Builds the byte-level tokenizer, with the settings of tokenizer_config.json where there are some, as transformers does.
///
/// # Errors
/// Files that cannot be read, or a vocabulary that lacks `<s>` or `</s>`.
pub fn tokenizer(folder: &Path, config: Option<&[u8]>) -> Result<Tokenizer, ModelError> {
    let (vocab, merges) = (folder.join("vocab.json"), folder.join("merges.txt"));
    let wrong = |reason: String| ModelError::tokenizer(&vocab, reason);
    let model = BPE::from_file(&vocab.to_string_lossy(), &merges.to_string_lossy()).build();
    let mut tokenizer = Tokenizer::new(model.map_err(|e| wrong(e.to_string()))?);
    let id = |token: &str| {
        tokenizer.token_to_id(token).ok_or_else(|| wrong(format!("it has no {token}; is it the vocabulary of a RoBERTa model?")))
    };
    let (cls, sep) = (id("<s>")?, id("</s>")?);
    let plain = ["<s>", "<pad>", "</s>", "<unk>"].map(|token| AddedToken::from(token, true));
    let special: Vec<AddedToken> =
        plain.into_iter().chain([AddedToken::from("<mask>", true).lstrip(true)]).filter(|token| id(&token.content).is_ok()).collect();
    let config: Value = config.and_then(|config| serde_json::from_slice(config).ok()).unwrap_or_default();
    let space = config["add_prefix_space"].as_bool().unwrap_or(false);
    let framed = RobertaProcessing::new(("</s>".into(), sep), ("<s>".into(), cls)).trim_offsets(true).add_prefix_space(space);
    tokenizer
        .with_pre_tokenizer(Some(ByteLevel::new(space, true, true)))
        .with_decoder(Some(ByteLevel::default()))
        .with_post_processor(Some(framed));
    tokenizer.add_special_tokens(special).map_err(|e| wrong(e.to_string()))?;
    Ok(tokenizer)
}
