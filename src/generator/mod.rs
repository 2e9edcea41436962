//! The language model: requests in, completions and log-probabilities out. Knows nothing of tasks, labels or runs.

pub mod chat_template;
pub mod form;
pub mod llama;
pub mod prefix;
pub mod queue;
pub mod repetition;
pub mod request;
pub mod sampler;
pub mod scheduler;
pub mod scripted;
pub mod stop;
pub mod thoughts;

pub use request::{
    Completion, CompletionRequest, Finish, Generate, GenerateError, Likelihood, LikelihoodRequest, Posterior, PosteriorRequest, Prompt,
    Sampling, Sink,
};
