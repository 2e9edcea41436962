//! What a generator is: requests in, completions and log-probabilities out as they finish.

use serde::{Deserialize, Serialize};

use super::form::Form;
use super::repetition::Repetition;
use crate::error::Error;

/// A prompt before the generator's own chat template is put around it.
///
/// What requests share comes first (`system`, then the beginning of `user`), what is unique comes last: the scheduler
/// prefills a common prefix once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Prompt {
    /// The system turn; `None` leaves it to the template's own default.
    pub system: Option<String>,
    /// The user turn.
    pub user: String,
    /// How the assistant's turn begins, for example an opening quotation mark; the completion goes on from here.
    pub answer_start: String,
}

/// How a token is drawn from the logits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Divides the logits; 0 takes the most likely token.
    pub temperature: f32,
    /// Nucleus: the smallest set of tokens whose probabilities sum to at least this, in (0, 1]; 1 keeps all.
    pub top_p: f32,
    /// Keeps the k most likely tokens; 0 keeps all.
    pub top_k: u32,
    /// Drops tokens less likely than this share of the most likely one, in [0, 1]; 0 keeps all.
    pub min_p: f32,
    /// Comes before all of these.
    pub repetition: Repetition,
}

impl Sampling {
    /// Plain sampling from the model's own distribution: T = 1, nothing truncated.
    pub const PLAIN: Sampling = Sampling { temperature: 1.0, top_p: 1.0, top_k: 0, min_p: 0.0, repetition: Repetition::OFF };
}

impl Default for Sampling {
    /// The paper's setting: T = 0.9 and nucleus sampling (arXiv 2310.13671, section 3.1), with the usual p = 0.95.
    fn default() -> Self {
        Sampling { temperature: 0.9, top_p: 0.95, ..Sampling::PLAIN }
    }
}

/// One text to write.
#[derive(Clone, Debug, PartialEq)]
pub struct CompletionRequest {
    /// The caller's name for it; comes back in [`Completion::id`].
    pub id: u64,
    pub prompt: Prompt,
    pub sampling: Sampling,
    /// Seeds this request's own random numbers: the same request gives the same draws in any slot and company.
    pub seed: u64,
    /// At most this many new tokens, at least 1.
    pub max_tokens: u32,
    /// The text ends before the first of these.
    pub stop: Vec<String>,
    /// What the text must look like; `None` leaves it free.
    pub form: Option<Form>,
}

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model ended its turn.
    EndOfTurn,
    /// A stop string was met; it is not part of the text. Or the form is complete.
    Stop,
    /// `max_tokens` were written.
    Length,
}

/// What the generator wrote for one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    pub id: u64,
    /// The new text, without the prompt, `answer_start` or the stop string; always valid UTF-8.
    pub text: String,
    /// New tokens that were sampled.
    pub tokens: u32,
    pub finish: Finish,
}

/// One question whose answer is one of a few words.
#[derive(Clone, Debug, PartialEq)]
pub struct PosteriorRequest {
    /// The caller's name for it; comes back in [`Posterior::id`].
    pub id: u64,
    pub prompt: Prompt,
    /// The words that may follow the prompt; their first tokens must differ.
    pub words: Vec<String>,
}

/// How likely each word is as the continuation of one prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Posterior {
    pub id: u64,
    /// ln p(first token of the word | prompt), in the order of [`PosteriorRequest::words`].
    pub log_probs: Vec<f32>,
}

/// A given text whose likelihood after a prompt is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct LikelihoodRequest {
    /// The caller's name for it; comes back in [`Likelihood::id`].
    pub id: u64,
    pub prompt: Prompt,
    /// Goes on directly after the prompt; at least one token.
    pub text: String,
}

/// How likely a given text is after its prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Likelihood {
    pub id: u64,
    /// ln p(token | prompt and the tokens before it), for every token of the text; their sum is the text's log-likelihood.
    pub log_probs: Vec<f32>,
}

impl Likelihood {
    /// ln p(text | prompt), in nats.
    pub fn total(&self) -> f64 {
        self.log_probs.iter().map(|&log_prob| f64::from(log_prob)).sum()
    }
}

/// What can go wrong while generating; the message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    #[error("{path}: {reason}")]
    Load { path: String, reason: String },
    #[error("the chat template of the model cannot be rendered: {0}")]
    Template(String),
    #[error("request {id}: {reason}")]
    Request { id: u64, reason: String },
    #[error("the generator failed while decoding: {0}")]
    Decode(String),
    /// The consumer of the results failed; generation stops at once.
    #[error(transparent)]
    Consumer(#[from] anyhow::Error),
}

impl From<GenerateError> for Error {
    fn from(error: GenerateError) -> Self {
        match error {
            GenerateError::Load { .. } | GenerateError::Template(_) => Error::Model(error.to_string()),
            GenerateError::Consumer(inner) => inner.downcast::<Error>().unwrap_or_else(|other| Error::Failed(other.to_string())),
            other => Error::Failed(other.to_string()),
        }
    }
}

/// Receives results in the order in which they finish; an error stops the generator.
pub type Sink<'a, T> = &'a mut dyn FnMut(T) -> anyhow::Result<()>;

/// A language model that writes and judges. Two exist: [`Llama`](super::llama::Llama) and [`Scripted`](super::scripted::Scripted).
pub trait Generate {
    /// Writes one completion for every request.
    fn complete(&mut self, requests: &[CompletionRequest], sink: Sink<Completion>) -> Result<(), GenerateError>;

    /// Reads off the log-probabilities of the given words after every prompt.
    fn posteriors(&mut self, requests: &[PosteriorRequest], sink: Sink<Posterior>) -> Result<(), GenerateError>;

    /// What writes, and how, for a run's record: with quantised weights the texts depend a little on these.
    fn record(&self) -> serde_json::Value;

    /// Reads off how likely every given text is after its prompt.
    fn likelihood(&mut self, requests: &[LikelihoodRequest], sink: Sink<Likelihood>) -> Result<(), GenerateError>;
}
