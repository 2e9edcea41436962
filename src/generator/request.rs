//! The generator interface: requests in, completions and log-probabilities out as they finish.

use serde::{Deserialize, Serialize};

use super::form::Form;
use super::repetition::Repetition;
use crate::error::Error;

/// A prompt, before the generator's chat template is applied.
///
/// Put what requests share first (`system`, then the start of `user`) and what is unique last: a common prefix is prefilled once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Prompt {
    /// The system turn; `None` for the template's default.
    pub system: Option<String>,
    /// The user turn.
    pub user: String,
    /// Prefilled start of the assistant's turn, such as an opening quotation mark; the completion continues it.
    pub answer_start: String,
    /// Without the chat template: the completion continues the plain text of `user` and `answer_start`.
    #[serde(default)]
    pub plain: bool,
}

/// Sampling settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Divides the logits; 0 is greedy.
    pub temperature: f32,
    /// Nucleus sampling: keeps the smallest set of tokens whose probabilities sum to at least this, in (0, 1]; 1 keeps all.
    pub top_p: f32,
    /// Keeps the k most likely tokens; 0 keeps all.
    pub top_k: u32,
    /// Drops tokens less likely than this share of the most likely one, in [0, 1]; 0 keeps all.
    pub min_p: f32,
    /// Applied before all of these.
    pub repetition: Repetition,
}

impl Sampling {
    /// Sampling from the model's own distribution: T = 1, no truncation.
    pub const PLAIN: Sampling = Sampling { temperature: 1.0, top_p: 1.0, top_k: 0, min_p: 0.0, repetition: Repetition::OFF };
}

impl Default for Sampling {
    /// The paper's setting: T = 0.9 and nucleus sampling (arXiv 2310.13671, section 3.1), with the usual p = 0.95.
    fn default() -> Self {
        Sampling { temperature: 0.9, top_p: 0.95, ..Sampling::PLAIN }
    }
}

/// A request for one text.
#[derive(Clone, Debug, PartialEq)]
pub struct CompletionRequest {
    /// The caller's id, returned in [`Completion::id`].
    pub id: u64,
    pub prompt: Prompt,
    pub sampling: Sampling,
    /// Seed of this request's random numbers: its draws do not depend on its slot or on other requests in the batch.
    pub seed: u64,
    /// Most new tokens, at least 1.
    pub max_tokens: u32,
    /// Stop strings: the text ends before the first one.
    pub stop: Vec<String>,
    /// Constrained output; `None` for free text.
    pub form: Option<Form>,
}

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model ended its turn with an end-of-text token.
    EndOfTurn,
    /// A stop string, which is not part of the text, or a complete form.
    Stop,
    /// `max_tokens` were written.
    Length,
}

/// A generated text.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    pub id: u64,
    /// The new text, without the prompt, `answer_start` or the stop string; always valid UTF-8.
    pub text: String,
    /// Number of sampled tokens.
    pub tokens: u32,
    /// Tokens computed since the answer before: over all answers, those of prompts that no shared prefix served, and new ones.
    pub computed: u32,
    pub finish: Finish,
}

/// A question whose answer is one of a few words.
#[derive(Clone, Debug, PartialEq)]
pub struct PosteriorRequest {
    /// The caller's id, returned in [`Posterior::id`].
    pub id: u64,
    pub prompt: Prompt,
    /// The candidate words that continue the prompt, no two of them the same tokens. None if only hidden states are wanted.
    pub words: Vec<String>,
}

/// The log-probabilities of the candidate words after a prompt, and hidden states.
#[derive(Clone, Debug, PartialEq)]
pub struct Posterior {
    pub id: u64,
    /// ln p(first token of the word | prompt), in the order of [`PosteriorRequest::words`]; words that begin alike share it, as their next
    /// tokens say.
    pub log_probs: Vec<f32>,
    /// (layers, hidden): the state of each layer that was asked for at the prompt's last token.
    pub states: Vec<Vec<f32>>,
    /// As [`Completion::computed`].
    pub computed: u32,
}

/// A request for the likelihood of a given text after a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct LikelihoodRequest {
    /// The caller's id, returned in [`Likelihood::id`].
    pub id: u64,
    pub prompt: Prompt,
    /// The text, directly after the prompt; at least one token.
    pub text: String,
}

/// The likelihood of a given text after its prompt.
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

/// Errors of a generator; the message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    #[error("{path}: {reason}")]
    Load { path: String, reason: String },
    #[error("the chat template cannot be used: {0}. Give another in a file that models.chat_template of the task names")]
    Template(String),
    #[error("request {id}: {reason}")]
    Request { id: u64, reason: String },
    #[error("the generator failed while decoding: {0}")]
    Decode(String),
    /// The sink returned an error; generation stops at once.
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

/// A language model that writes and judges. Implementations: [`Llama`](super::llama::Llama) and [`Scripted`](super::scripted::Scripted).
pub trait Generate {
    /// Writes one completion for every request.
    fn complete(&mut self, requests: &[CompletionRequest], sink: Sink<Completion>) -> Result<(), GenerateError>;

    /// Computes the log-probabilities of the candidate words of every request, and the hidden states of `layers`: numbers from 1 to
    /// [`Generate::layers`], ascending, or none. The last layer's is that after the final norm. Where no request has words, layers above
    /// those asked for are not computed.
    fn posteriors(&mut self, requests: &[PosteriorRequest], layers: &[usize], sink: Sink<Posterior>) -> Result<(), GenerateError>;

    /// Number of layers whose hidden states can be read; 0 if they cannot.
    fn layers(&self) -> usize;

    /// The model and its settings, for the run's manifest: with quantised weights the texts depend slightly on them.
    fn record(&self) -> serde_json::Value;

    /// Tokens computed so far: those of prompts that no shared prefix served, and new ones.
    fn computed(&self) -> u64;

    /// Number of parameters.
    fn parameters(&self) -> u64;

    /// Requests that are in work together.
    fn at_once(&self) -> usize;

    /// Computes the likelihood of every given text after its prompt.
    fn likelihood(&mut self, requests: &[LikelihoodRequest], sink: Sink<Likelihood>) -> Result<(), GenerateError>;
}
