//! Examples: the texts that the small model reads, and their gold label or answer.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use super::head::Head;

/// The kind of task: what an example consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// One text, one label.
    Text,
    /// One text, any number of labels or none.
    MultiLabel,
    /// Two texts, one label: the first is given, the second is written.
    Pair,
    /// A question whose answer is a span of a context: context and answer are given, the question is written.
    ExtractiveQa,
}

/// The small model's input: a text, or a pair of texts; for question answering, the context and the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input<'t> {
    pub text: &'t str,
    pub text_pair: Option<&'t str>,
}

impl<'t> From<&'t str> for Input<'t> {
    fn from(text: &'t str) -> Self {
        Input { text, text_pair: None }
    }
}

impl Input<'_> {
    /// [`fingerprint`] of both texts.
    pub fn fingerprint(&self) -> String {
        let pair = self.text_pair.map(fingerprint).unwrap_or_default();
        format!("{}\n{pair}", fingerprint(self.text))
    }

    /// A number for its [fingerprint](Input::fingerprint). Of ten million texts, two that differ share one with a chance of 3 in a million.
    pub fn key(&self) -> u64 {
        hash(&self.fingerprint())
    }
}

/// A span of a context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub text: String,
    /// Where it begins, in characters (Unicode code points), as in SQuAD.
    pub start: usize,
}

impl Answer {
    /// The span at these bytes of `context`; `None` if it would cut a character.
    pub fn at(context: &str, bytes: Range<usize>) -> Option<Self> {
        let text = context.get(bytes.clone())?.to_string();
        Some(Answer { text, start: context[..bytes.start].chars().count() })
    }

    /// Its byte range in `context`; `None` if the text there differs.
    pub fn bytes_in(&self, context: &str) -> Option<Range<usize>> {
        let start = context.char_indices().map(|(byte, _)| byte).chain([context.len()]).nth(self.start)?;
        context[start..].starts_with(&self.text).then_some(start..start + self.text.len())
    }
}

/// A real text, or pair of texts, with its gold label; or a question with its gold answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoldRow<H: Head> {
    /// Line in its file, from 1: the row's id in the manifest.
    pub line: usize,
    /// The text, the first text of a pair, or a question's context.
    pub text: String,
    /// The second text of a pair, or a question.
    pub text_pair: Option<String>,
    /// The gold label, labels or answers.
    pub gold: H::Gold,
}

impl<H: Head> GoldRow<H> {
    pub fn input(&self) -> Input<'_> {
        Input { text: &self.text, text_pair: self.text_pair.as_deref() }
    }

    /// The part that a generator would write: the text, the second text of a pair, or the question.
    pub fn written(&self) -> &str {
        self.text_pair.as_deref().unwrap_or(&self.text)
    }

    pub fn goal(&self) -> H::Goal {
        H::goal(&self.gold)
    }

    /// Whether a prediction is correct.
    pub fn accepts(&self, prediction: &H::Prediction) -> bool {
        H::accepts(&self.gold, prediction)
    }

    /// See [`Head::stratum`].
    pub fn stratum(&self) -> usize {
        H::stratum(&self.goal())
    }
}

/// An unlabelled text for which a second text or a question is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Line in its file, from 1.
    pub line: usize,
    pub text: String,
    /// Answers that questions may be written for; empty for pairs.
    pub answers: Vec<Answer>,
}

/// A key for deduplication: equal for texts that differ only in case, white space and Unicode form (composed or decomposed characters).
pub fn fingerprint(text: &str) -> String {
    let words = text.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join(" ");
    if words.is_ascii() { words } else { words.nfc().collect() }
}

/// A number for the [`fingerprint`] of a text, as [`Input::key`].
pub fn key_of(text: &str) -> u64 {
    hash(&fingerprint(text))
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
