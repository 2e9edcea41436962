//! The tokenizer of a folder that has a vocab.txt and no tokenizer.json, as BERT's first checkpoints have.

use crate::ModelError;
use serde_json::Value;
use std::path::Path;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{AddedToken, Tokenizer};

const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// Builds the word-piece tokenizer of `folder`/vocab.txt, with the settings of tokenizer_config.json where there are some, as
/// transformers does.
///
/// # Errors
/// A vocabulary that cannot be read, or lacks `[UNK]`, `[CLS]` or `[SEP]`.
pub fn tokenizer(folder: &Path, config: Option<&[u8]>) -> Result<Tokenizer, ModelError> {
    let path = folder.join("vocab.txt");
    let wrong = |reason: String| ModelError::tokenizer(&path, reason);
    let model = WordPiece::from_file(&path.to_string_lossy()).unk_token("[UNK]".into()).build();
    let mut tokenizer = Tokenizer::new(model.map_err(|e| wrong(e.to_string()))?);
    let id = |token: &str| {
        tokenizer.token_to_id(token).ok_or_else(|| wrong(format!("it has no {token}; is it the vocabulary of a BERT model?")))
    };
    let (_, cls, sep) = (id("[UNK]")?, id("[CLS]")?, id("[SEP]")?);
    let special: Vec<AddedToken> = SPECIAL.iter().filter(|token| id(token).is_ok()).map(|token| AddedToken::from(*token, true)).collect();
    let config: Value = config.and_then(|config| serde_json::from_slice(config).ok()).unwrap_or_default();
    let flag = |name: &str| config[name].as_bool();
    let (chinese, lowercase) = (flag("tokenize_chinese_chars").unwrap_or(true), flag("do_lower_case").unwrap_or(true));
    let normalizer = BertNormalizer::new(true, chinese, flag("strip_accents"), lowercase);
    tokenizer.with_normalizer(Some(normalizer)).map_err(|e| wrong(e.to_string()))?;
    tokenizer
        .with_pre_tokenizer(Some(BertPreTokenizer))
        .with_post_processor(Some(BertProcessing::new(("[SEP]".into(), sep), ("[CLS]".into(), cls))));
    tokenizer.add_special_tokens(special).map_err(|e| wrong(e.to_string()))?;
    Ok(tokenizer)
}
