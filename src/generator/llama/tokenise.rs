//! Tokenises prompts so that no text of the caller can become a control token.

use std::collections::BTreeSet;

use super::answers::{TokenFork, token_forks};
use crate::generator::chat_template::ChatTemplate;
use crate::generator::form::Vocabulary;
use crate::generator::prefix::Token;
use crate::generator::request::{GenerateError, LikelihoodRequest, PosteriorRequest, Prompt};
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token_type::LlamaTokenAttr;
use llama_cpp_2::vocab::LlamaVocab;

/// llama.cpp counts the bytes of a text in an i32; no context fits a prompt of even this many bytes.
const LONGEST_TEXT: usize = 1 << 28;

/// Checks that llama.cpp can tokenise every text with a SentencePiece vocabulary (`llama`): it ends the process at a byte without a token.
///
/// # Errors
/// The bytes without a token.
pub(super) fn check_bytes(vocab: &LlamaVocab, kind: Option<&str>) -> Result<(), String> {
    if kind != Some("llama") {
        return Ok(());
    }
    let texts: BTreeSet<String> =
        (0..vocab.n_tokens()).map(|token| token_text(vocab, LlamaToken(token))).filter(|text| text.len() <= 6).collect();
    // Those that UTF-8 has.
    let bytes = (1..=0xf4u8).filter(|byte| ![0xc0, 0xc1].contains(byte));
    let has = |byte: u8| {
        let alone = byte.is_ascii() && texts.contains(&char::from(byte).to_string());
        alone || texts.contains(&format!("<0x{byte:02X}>"))
    };
    let missing: Vec<String> = bytes.filter(|&byte| !has(byte)).map(|byte| format!("<0x{byte:02X}>")).collect();
    match &missing[..] {
        [] => Ok(()),
        [first, ..] => Err(format!(
            "its vocabulary has no token for {} bytes ({first} and so on), and llama.cpp cannot read texts with them; convert the model again",
            missing.len()
        )),
    }
}

/// The rendered prompt as tokens, with one BOS if the model wants one.
///
/// The prompt is tokenised as a whole, as other tools do, unless that gives more control tokens than the template wrote: then
/// template and contents are tokenised separately, the contents as plain text.
pub(super) fn input_ids(vocab: &LlamaVocab, template: &ChatTemplate, prompt: &Prompt) -> Result<Vec<Token>, GenerateError> {
    let text = template.render(prompt)?;
    if text.len() > LONGEST_TEXT {
        return Err(GenerateError::Template(format!("a prompt of {} bytes is too long for any model", text.len())));
    }
    let pieces = template.pieces(prompt)?;
    let controls = |tokens: &[LlamaToken]| tokens.iter().filter(|&&token| is_special(vocab, token)).count();
    let tokenise = |text: &str, parse_special: bool| vocab.tokenize(text.as_bytes(), false, parse_special);
    let whole = tokenise(&text, true);
    let written = pieces.iter().filter(|piece| piece.from_template).map(|piece| controls(&tokenise(&piece.text, true))).sum::<usize>();
    let tokens = if controls(&whole) == written {
        whole
    } else {
        let as_written = |text: &str| tokenise(text, true);
        pieces.iter().flat_map(|piece| if piece.from_template { as_written(&piece.text) } else { as_text(vocab, &piece.text) }).collect()
    };
    Ok(with_one_bos(vocab.bos().0, vocab.should_add_bos(), tokens.into_iter().map(|token| token.0).collect()))
}

/// Whether a token is one that a text must not become: a control token, or one that the model's makers defined, such as `</think>`.
/// Those of white space are none.
fn is_special(vocab: &LlamaVocab, token: LlamaToken) -> bool {
    vocab.is_control(token) || is_defined(vocab, token)
}

fn is_defined(vocab: &LlamaVocab, token: LlamaToken) -> bool {
    vocab.attr(token).contains(LlamaTokenAttr::UserDefined)
        && !String::from_utf8_lossy(&vocab.token_to_piece(token, true, None)).trim().is_empty()
}

/// The tokens of a text none of which is special. llama.cpp reads tokens that the model's makers defined in any text; so they are cut
/// behind their first character.
fn as_text(vocab: &LlamaVocab, text: &str) -> Vec<LlamaToken> {
    let tokenise = |text: &str| vocab.tokenize(text.as_bytes(), false, false);
    let tokens = tokenise(text);
    let defined = tokens.iter().filter(|&&token| is_defined(vocab, token)).map(|&token| vocab.token_to_piece(token, true, None));
    let defined: BTreeSet<String> = defined.filter_map(|piece| String::from_utf8(piece).ok()).collect();
    let behind_first = |(at, tag): (usize, &str)| at + tag.chars().next().map_or(0, char::len_utf8);
    let cuts: BTreeSet<usize> = defined.iter().flat_map(|tag| text.match_indices(tag.trim()).map(behind_first)).collect();
    if cuts.is_empty() {
        return tokens;
    }
    let mut from = 0;
    cuts.into_iter().chain([text.len()]).flat_map(|to| tokenise(&text[std::mem::replace(&mut from, to)..to])).collect()
}

/// The prompt of a posterior request, and the forks that tell its words apart after it.
pub(super) fn question(
    vocab: &LlamaVocab,
    template: &ChatTemplate,
    request: &PosteriorRequest,
) -> Result<(Vec<Token>, Vec<TokenFork>), GenerateError> {
    let refuse = |reason: String| GenerateError::Request { id: request.id, reason };
    let prompt_ids = input_ids(vocab, template, &request.prompt)?;
    let mut answers = Vec::with_capacity(request.words.len());
    for word in &request.words {
        let answer_start = format!("{}{word}", request.prompt.answer_start);
        let answered = input_ids(vocab, template, &Prompt { answer_start, ..request.prompt.clone() })?;
        let own = answered.strip_prefix(&prompt_ids[..]).filter(|rest| !rest.is_empty()).ok_or_else(|| {
            refuse(format!(
                "the word {word:?} has no token of its own after the prompt; end answer_start without a space and begin the word with it"
            ))
        })?;
        answers.push(own.to_vec());
    }
    let forks = token_forks(&answers).map_err(|(one, other)| {
        let (one, other) = (&request.words[one], &request.words[other]);
        refuse(format!("the words {one:?} and {other:?} are the same tokens; choose words that differ"))
    })?;
    Ok((prompt_ids, forks))
}

/// The tokens of a prompt and of the text that follows it, at least one of each.
///
/// The text's first token may include the prompt's last characters (`"` and `The` become `"The`): the prompt is the common prefix of
/// the tokenisations with and without the text.
pub(super) fn given_text(
    vocab: &LlamaVocab,
    template: &ChatTemplate,
    request: &LikelihoodRequest,
) -> Result<(Vec<Token>, Vec<Token>), GenerateError> {
    let alone = input_ids(vocab, template, &request.prompt)?;
    let answer_start = format!("{}{}", request.prompt.answer_start, request.text);
    let mut prompt = input_ids(vocab, template, &Prompt { answer_start, ..request.prompt.clone() })?;
    let common = prompt.iter().zip(&alone).take_while(|(a, b)| a == b).count();
    let text = prompt.split_off(common);
    if text.is_empty() || prompt.is_empty() {
        let reason = "the text has no token of its own after the prompt; an empty text has no likelihood".into();
        return Err(GenerateError::Request { id: request.id, reason });
    }
    Ok((prompt, text))
}

/// The bytes of every token, for constrained decoding; control tokens have none.
pub(super) fn vocabulary(vocab: &LlamaVocab) -> Vocabulary {
    let tokens = || (0..vocab.n_tokens()).map(LlamaToken);
    let piece = |token| if vocab.is_control(token) || vocab.is_eog(token) { Vec::new() } else { vocab.token_to_piece(token, false, None) };
    Vocabulary::new(tokens().map(piece).collect(), tokens().filter(|&token| vocab.is_eog(token)).map(|token| token.0).collect())
}

/// The text of a token; empty if the model has no such token (id -1, which must not be passed to llama.cpp).
pub(super) fn token_text(vocab: &LlamaVocab, token: LlamaToken) -> String {
    if !(0..vocab.n_tokens()).contains(&token.0) {
        return String::new();
    }
    vocab.text(token).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Templates may write BOS and tokenizers may add it: keeps exactly one. `adds` says whether the model's tokenizer adds one.
fn with_one_bos(bos: Token, adds: bool, mut input_ids: Vec<Token>) -> Vec<Token> {
    let written = input_ids.iter().take_while(|&&token| token == bos).count();
    if written > 1 {
        input_ids.drain(1..written);
    }
    if written == 0 && bos >= 0 && (adds || input_ids.is_empty()) {
        input_ids.insert(0, bos);
    }
    input_ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_bos_at_the_start() {
        assert_eq!(with_one_bos(1, true, vec![5, 6]), [1, 5, 6]);
        assert_eq!(with_one_bos(1, true, vec![1, 5, 6]), [1, 5, 6]);
        assert_eq!(with_one_bos(1, true, vec![1, 1, 5, 6]), [1, 5, 6]);
        assert_eq!(with_one_bos(1, false, vec![5, 1]), [5, 1]);
        assert_eq!(with_one_bos(-1, true, vec![5]), [5], "a model without BOS");
        assert_eq!(with_one_bos(1, false, vec![]), [1], "an empty prompt cannot be decoded");
    }
}
