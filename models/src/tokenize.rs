//! Tokenization with the model's tokenizer.json.

use crate::ModelError;
use crate::byte_bpe;
use crate::caught::caught;
use crate::config::Config;
use crate::encoded::{Encoded, EncodedQuestion};
use crate::frame::Frame;
use crate::vocab_txt;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tokenizers::utils::truncation::{TruncationDirection, TruncationParams, TruncationStrategy, truncate_encodings};
use tokenizers::{Encoding, ModelWrapper, Tokenizer};

/// How texts are truncated or split into windows: `model_max_length` and `stride` in tokenizer_config.json.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    pub max_tokens: usize,
    /// Overlap of two neighbouring windows of a question's context, in tokens; `None` if texts are truncated.
    pub stride: Option<usize>,
}

impl Reading {
    /// The settings of a tokenizer_config.json; `None` if it is not readable or sets no bound.
    fn stated(config: &[u8]) -> Option<Reading> {
        let config: Value = serde_json::from_slice(config).ok()?;
        let number = |name: &str| config[name].as_u64().and_then(|n| usize::try_from(n).ok());
        Some(Reading { max_tokens: number("model_max_length")?, stride: number("stride") })
    }
}

/// A tokenizer and its files.
#[derive(Clone)]
pub struct TextEncoder {
    path: PathBuf,
    tokenizer: Tokenizer,
    /// The same, which reads the names of special tokens as text; made when a text has one.
    literal: OnceLock<Tokenizer>,
    frame: Frame,
    cls: u32,
    sep: u32,
    /// Names of special tokens.
    special: Vec<String>,
    /// Files of the folder that are copied as they are.
    copies: Vec<(&'static str, Vec<u8>)>,
    /// Initially from tokenizer_config.json.
    reading: Option<Reading>,
}

/// Files that may accompany tokenizer.json; created from it if missing.
const BESIDE: [&str; 3] = [TOKENIZER_CONFIG, "special_tokens_map.json", "vocab.txt"];
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// Reads a tokenizer and tries it: the library panics at some that are damaged, while it reads them or while they are used.
fn parsed(bytes: &[u8]) -> Result<Tokenizer, String> {
    match caught(|| Tokenizer::from_bytes(bytes).and_then(|tokenizer| tokenizer.encode(TRIED, false).map(|_| tokenizer))) {
        Some(Ok(tokenizer)) => Ok(tokenizer),
        Some(Err(error)) => Err(format!("not a tokenizer: {error}")),
        None => Err("a tokenizer that cannot be used: it is damaged".to_string()),
    }
}

/// A text with spaces, marks, accents and a character that few vocabularies have.
const TRIED: &str = "A text, d\u{e9}j\u{e0} vu: 日 \u{1f600}";

impl TextEncoder {
    /// Loads `folder`/tokenizer.json, or makes it from vocab.txt, or vocab.json and merges.txt, where those are alone. Padding and
    /// truncation are not used.
    ///
    /// # Errors
    /// A missing or damaged tokenizer.json, or one without tokens that begin and end a text.
    pub fn load(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join("tokenizer.json");
        let copies: Vec<_> = BESIDE.iter().filter_map(|name| read_if_there(folder, name).transpose()).collect::<Result<_, _>>()?;
        let config = copies.iter().find(|(name, _)| *name == TOKENIZER_CONFIG).map(|(_, config)| config.as_slice());
        let mut tokenizer = if !path.exists() && folder.join("vocab.txt").exists() {
            vocab_txt::tokenizer(folder, config)?
        } else if !path.exists() && byte_bpe::is_in(folder) {
            byte_bpe::tokenizer(folder, config)?
        } else {
            if folder.is_dir() && !path.exists() {
                let missing = "it is missing, and so are vocab.txt and vocab.json with merges.txt: copy one of them from where the model came \
                               from (AutoTokenizer.from_pretrained(…).save_pretrained(…) makes tokenizer.json of a sentencepiece.bpe.model)";
                return Err(ModelError::tokenizer(&path, missing));
            }
            let bytes = std::fs::read(&path).map_err(ModelError::file(&path))?;
            parsed(&bytes).map_err(|reason| ModelError::tokenizer(&path, reason))?
        };
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|e| ModelError::tokenizer(&path, e))?;
        let id = |token: &str| {
            let missing = || ModelError::tokenizer(&path, format!("it has no {token} token; is it the tokenizer of an encoder?"));
            tokenizer.token_to_id(token).ok_or_else(missing)
        };
        let frame = Frame::of(&tokenizer, config);
        let (cls, sep) = (id(&frame.cls)?, id(&frame.sep)?);
        let reading = config.and_then(Reading::stated);
        let added = tokenizer.get_added_tokens_decoder();
        let named = added.into_values().filter(|token| token.special).map(|token| token.content);
        let special = named.chain([frame.cls.clone(), frame.sep.clone()]).collect();
        Ok(TextEncoder { path, tokenizer, literal: OnceLock::new(), frame, cls, sep, special, copies, reading })
    }

    /// Encodes a text, or a pair, into at most `max_tokens` tokens; the longer text is truncated first.
    ///
    /// # Errors
    /// `max_tokens` leaves no room for a token of each text beside those that frame them.
    pub fn encode(&self, text: &str, text_pair: Option<&str>, max_tokens: usize) -> Result<Encoded, ModelError> {
        let (special, texts) = (self.frame.special(text_pair.is_some()), if text_pair.is_some() { 2 } else { 1 });
        if max_tokens < special + texts {
            let reason = format!("{max_tokens} tokens cannot hold {special} special tokens and {texts} text(s)");
            return Err(ModelError::tokenizer(&self.path, reason));
        }
        let plain = |text: &str| self.reads(text).encode_fast(text, false).map_err(|e| ModelError::tokenizer(&self.path, e));
        let (text, pair) = (plain(text)?, text_pair.map(plain).transpose()?);
        let strategy = TruncationStrategy::LongestFirst;
        let limit = TruncationParams { max_length: max_tokens - special, strategy, stride: 0, ..TruncationParams::default() };
        let cut = truncate_encodings(text, pair, &limit).map_err(|e| ModelError::tokenizer(&self.path, e))?;
        Ok(self.join(cut))
    }

    /// Encodes a question and the text that may hold its answer into rows of at most `max_tokens` tokens. Each has the whole
    /// question; a text that does not fit is split into windows, each of which begins with the last `stride` tokens of the one before, as
    /// transformers' tokenizers do with `truncation="only_second"` and `return_overflowing_tokens`. If a long question leaves
    /// too little room for `stride`, half a window is repeated.
    ///
    /// # Errors
    /// The question leaves no room for the text.
    pub fn encode_question(
        &self,
        question: &str,
        context: &str,
        max_tokens: usize,
        stride: usize,
    ) -> Result<Vec<EncodedQuestion>, ModelError> {
        let plain = |text: &str| self.reads(text).encode(text, false).map_err(|e| ModelError::tokenizer(&self.path, e));
        let (question, mut context) = (plain(question)?, plain(context)?);
        let special = self.frame.special(true);
        let taken = question.len() + special;
        if max_tokens <= taken {
            let reason =
                format!("the question and {special} special tokens take {taken} of {max_tokens} tokens; none is left for its context");
            return Err(ModelError::tokenizer(&self.path, reason));
        }
        let room = max_tokens - taken;
        context.truncate(room, if stride < room { stride } else { room / 2 }, TruncationDirection::Right);
        let mut windows = vec![context];
        let rest = windows[0].take_overflowing();
        windows.extend(rest);
        let first = question.len() + 1 + self.frame.between;
        let window = |window: Encoding| {
            let (context, offsets) = (first..first + window.len(), window.get_offsets().to_vec());
            EncodedQuestion { encoded: self.join((question.clone(), Some(window))), context, offsets }
        };
        Ok(windows.into_iter().map(window).collect())
    }

    /// How texts were read in training; `None` if neither tokenizer_config.json nor [`Self::set_reading`] says.
    pub fn reading(&self) -> Option<Reading> {
        self.reading
    }

    /// Sets how texts were read in training, for the tokenizer_config.json of models saved with this tokenizer.
    pub fn set_reading(&mut self, reading: Reading) {
        self.reading = Some(reading);
    }

    /// The token whose first occurrence ends what has token type 0; an id that no token has if all have it.
    pub fn first_text_ends(&self) -> u32 {
        if self.frame.second_type == 0 { u32::MAX } else { self.sep }
    }

    /// The largest token id and its token.
    pub fn last_token(&self) -> Option<(u32, String)> {
        self.tokenizer.get_vocab(true).into_iter().map(|(token, id)| (id, token)).max()
    }

    /// The token that stands for what the tokenizer does not know, if it has one.
    pub fn unknown_token(&self) -> Option<u32> {
        ["[UNK]", "<unk>"].iter().find_map(|name| self.tokenizer.token_to_id(name))
    }

    /// The tokenizer for a text: one that reads `[SEP]` and the like as text, if they are in it.
    fn reads(&self, text: &str) -> &Tokenizer {
        if !self.special.iter().any(|name| text.contains(name.as_str())) {
            return &self.tokenizer;
        }
        self.literal.get_or_init(|| {
            let mut literal = self.tokenizer.clone();
            literal.set_encode_special_tokens(true);
            literal
        })
    }

    fn join(&self, (text, pair): (Encoding, Option<Encoding>)) -> Encoded {
        let mut input_ids = vec![self.cls];
        input_ids.extend_from_slice(text.get_ids());
        input_ids.push(self.sep);
        let mut token_type_ids = vec![0; input_ids.len()];
        if let Some(pair) = pair {
            input_ids.extend(std::iter::repeat_n(self.sep, self.frame.between - 1));
            input_ids.extend_from_slice(pair.get_ids());
            input_ids.push(self.sep);
            token_type_ids.resize(input_ids.len(), self.frame.second_type);
        }
        Encoded { input_ids, token_type_ids }
    }

    /// Name and content of the tokenizer files of a saved folder for a model of this configuration: copied, or created if the folder
    /// had none. tokenizer.json is written without padding and truncation, tokenizer_config.json with [`Self::reading`].
    pub fn files(&self, config: &Config) -> Result<Vec<(&'static str, Vec<u8>)>, ModelError> {
        let json = self.tokenizer.to_string(false).map_err(|e| ModelError::tokenizer(&self.path, e))?;
        let mut files = vec![("tokenizer.json", json.into_bytes())];
        for name in BESIDE {
            if name == "vocab.txt" && !is_word_pieces(&self.tokenizer) {
                continue;
            }
            let copy = self.copies.iter().find(|(copied, _)| *copied == name).map(|(_, bytes)| bytes.clone());
            let content = copy.unwrap_or_else(|| self.make(name, config).into_bytes());
            files.push((name, if name == TOKENIZER_CONFIG { self.with_reading(content, config)? } else { content }));
        }
        Ok(files)
    }

    fn make(&self, name: &str, config: &Config) -> String {
        match name {
            "vocab.txt" => vocabulary(&self.tokenizer),
            TOKENIZER_CONFIG => tokenizer_config(&self.tokenizer, &self.frame, config),
            _ => format!("{:#}\n", special_tokens(&self.tokenizer, &self.frame)),
        }
    }

    /// Updates `content`, a tokenizer_config.json; unchanged if it already has the right values.
    fn with_reading(&self, content: Vec<u8>, model: &Config) -> Result<Vec<u8>, ModelError> {
        let bounded = |reading: Reading| Reading { max_tokens: reading.max_tokens.min(model.max_position_embeddings), ..reading };
        let wanted = self.reading.map(bounded).filter(|&wanted| Reading::stated(&content) != Some(wanted));
        let Some(Reading { max_tokens, stride }) = wanted else { return Ok(content) };
        let path = self.path.with_file_name(TOKENIZER_CONFIG);
        let mut config: Value = serde_json::from_slice(&content).map_err(|e| ModelError::tokenizer(&path, format!("not JSON: {e}")))?;
        let fields = config.as_object_mut().ok_or_else(|| ModelError::tokenizer(&path, "not an object"))?;
        fields.insert("model_max_length".into(), json!(max_tokens));
        if let Some(stride) = stride {
            fields.insert("stride".into(), json!(stride));
        }
        Ok(format!("{config:#}\n").into_bytes())
    }
}

fn read_if_there(folder: &Path, name: &'static str) -> Result<Option<(&'static str, Vec<u8>)>, ModelError> {
    match std::fs::read(folder.join(name)) {
        Ok(bytes) => Ok(Some((name, bytes))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(ModelError::file(&folder.join(name))(e)),
    }
}

/// The special tokens by their roles: those around texts, and the others by the name that the vocabulary has.
fn special_tokens(tokenizer: &Tokenizer, frame: &Frame) -> serde_json::Value {
    let named = |names: [&'static str; 2]| names.into_iter().find(|name| tokenizer.token_to_id(name).is_some());
    let mut tokens = json!({"sep_token": frame.sep, "cls_token": frame.cls});
    for (role, names) in [("unk_token", ["[UNK]", "<unk>"]), ("pad_token", ["[PAD]", "<pad>"]), ("mask_token", ["[MASK]", "<mask>"])] {
        if let Some(name) = named(names) {
            tokens[role] = json!(name);
        }
    }
    tokens
}

/// Whether vocab.txt says all of it: word pieces around `[CLS]` and `[SEP]`.
fn is_word_pieces(tokenizer: &Tokenizer) -> bool {
    matches!(tokenizer.get_model(), ModelWrapper::WordPiece(_)) && tokenizer.token_to_id("[CLS]").is_some()
}

fn tokenizer_config(tokenizer: &Tokenizer, frame: &Frame, model: &Config) -> String {
    let normalizer = serde_json::to_value(tokenizer.get_normalizer()).unwrap_or_default();
    let mut config = special_tokens(tokenizer, frame);
    let typed = model.type_vocab_size > 1;
    let class = if typed { "BertTokenizer" } else { "DistilBertTokenizer" };
    // What is no word-piece tokenizer is read from tokenizer.json alone.
    config["tokenizer_class"] = json!(if is_word_pieces(tokenizer) { class } else { "PreTrainedTokenizerFast" });
    // Models without token types refuse them.
    let inputs = ["input_ids", "token_type_ids", "attention_mask"];
    config["model_input_names"] = inputs.into_iter().filter(|&name| typed || name != "token_type_ids").collect();
    config["do_lower_case"] = json!(normalizer["lowercase"].as_bool().unwrap_or(true));
    config["strip_accents"] = normalizer["strip_accents"].clone();
    config["tokenize_chinese_chars"] = json!(normalizer["handle_chinese_chars"].as_bool().unwrap_or(true));
    config["model_max_length"] = json!(model.max_position_embeddings);
    format!("{config:#}\n")
}

fn vocabulary(tokenizer: &Tokenizer) -> String {
    let mut tokens: Vec<(u32, String)> = tokenizer.get_vocab(true).into_iter().map(|(token, id)| (id, token)).collect();
    tokens.sort_unstable();
    tokens.into_iter().map(|(_, token)| token + "\n").collect()
}
