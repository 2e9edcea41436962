//! What an example is: the texts that the small model reads, and the label or the answer that is right.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::head::Head;

/// What an example is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// One text, one label.
    Text,
    /// Two texts, one label: the first is given, the second is written.
    Pair,
    /// A question whose answer is a run of words of a context: context and answer are given, the question is written.
    ExtractiveQa,
}

/// What the small model reads: a text, or a pair of texts; of a question, its context and the question.
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
    /// As [`fingerprint`], of both texts.
    pub fn fingerprint(&self) -> String {
        let pair = self.text_pair.map(fingerprint).unwrap_or_default();
        format!("{}\n{pair}", fingerprint(self.text))
    }
}

/// Words that stand in a context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub text: String,
    /// Where they begin, in characters (Unicode code points), as in SQuAD.
    pub start: usize,
}

impl Answer {
    /// The words at these bytes of `context`; none if a character would be cut.
    pub fn at(context: &str, bytes: Range<usize>) -> Option<Self> {
        let text = context.get(bytes.clone())?.to_string();
        Some(Answer { text, start: context[..bytes.start].chars().count() })
    }

    /// The bytes of `context` that it takes; none if it does not stand there.
    pub fn bytes_in(&self, context: &str) -> Option<Range<usize>> {
        let start = context.char_indices().map(|(byte, _)| byte).chain([context.len()]).nth(self.start)?;
        context[start..].starts_with(&self.text).then_some(start..start + self.text.len())
    }
}

/// One real text, or pair of texts, with its label; or a question with its answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoldRow<H: Head> {
    /// Line in its file, from 1: the row's id in the manifest.
    pub line: usize,
    /// The text, the first text of a pair, or a question's context.
    pub text: String,
    /// The second text of a pair, or a question.
    pub text_pair: Option<String>,
    /// What is right for it.
    pub gold: H::Gold,
}

impl<H: Head> GoldRow<H> {
    pub fn input(&self) -> Input<'_> {
        Input { text: &self.text, text_pair: self.text_pair.as_deref() }
    }

    /// The part that a generator writes: the second text of a pair, a question, or the text.
    pub fn written(&self) -> &str {
        self.text_pair.as_deref().unwrap_or(&self.text)
    }

    pub fn goal(&self) -> H::Goal {
        H::goal(&self.gold)
    }

    /// Whether a prediction is right.
    pub fn accepts(&self, prediction: &H::Prediction) -> bool {
        H::accepts(&self.gold, prediction)
    }

    /// See [`Head::stratum`].
    pub fn stratum(&self) -> usize {
        H::stratum(&self.goal())
    }
}

/// A text without a label: what a second text, or a question, is written for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Line in its file, from 1.
    pub line: usize,
    pub text: String,
    /// What may be asked for; empty for pairs.
    pub answers: Vec<Answer>,
}

/// What two texts share that differ only in case and white space.
pub fn fingerprint(text: &str) -> String {
    text.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}
