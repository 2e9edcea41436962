//! How requests use logits: a completion samples its next token, a question reads the log-probabilities of its words.

use super::workers::{Next, Outputs, Reader};
use crate::generator::form::{Guide, Vocabulary};
use crate::generator::prefix::Token;
use crate::generator::request::{Completion, CompletionRequest, Finish, GenerateError, Likelihood, Posterior};
use crate::generator::sampler::{self, BadLogits, Room, Sampler};
use crate::generator::stop::GrowingText;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;

/// A completion in progress.
pub(super) struct Writing<'m> {
    model: &'m LlamaModel,
    id: u64,
    sampler: Sampler,
    guide: Option<Guide<'m>>,
    text: GrowingText,
    tokens: u32,
    max_tokens: u32,
}

impl<'m> Writing<'m> {
    pub(super) fn new(model: &'m LlamaModel, request: &CompletionRequest, prompt: &[Token], vocabulary: Option<&'m Vocabulary>) -> Self {
        let CompletionRequest { id, sampling, seed, max_tokens, .. } = *request;
        let sampler = Sampler::new(sampling, seed, prompt);
        let guide = request.form.as_ref().zip(vocabulary).map(|(form, vocabulary)| Guide::new(form, vocabulary));
        Writing { model, id, sampler, guide, text: GrowingText::new(request.stop.clone()), tokens: 0, max_tokens }
    }

    /// Appends a token; returns why the text is complete, if it is.
    fn push(&mut self, token: LlamaToken) -> Option<Finish> {
        let vocab = self.model.vocab();
        self.tokens += 1;
        if vocab.is_eog(token) {
            Some(Finish::EndOfTurn)
        } else if self.guide.as_mut().is_some_and(|guide| guide.push(token.0)) {
            self.text.push(&vocab.token_to_piece(token, false, None));
            Some(Finish::Stop)
        } else if self.text.push(&vocab.token_to_piece(token, false, None)) {
            Some(Finish::Stop)
        } else {
            (self.tokens == self.max_tokens).then_some(Finish::Length)
        }
    }
}

impl Reader for Writing<'_> {
    type Answer = Completion;

    fn read(&mut self, Outputs { logits, .. }: Outputs, room: &mut Room) -> Result<Next<Completion>, GenerateError> {
        let budget = (self.max_tokens - self.tokens) as usize;
        let allowed = self.guide.as_mut().map(|guide| guide.allowed(budget));
        let token = self.sampler.draw(logits, room, allowed.as_deref()).map_err(|error| bad_logits(self.id, error))?;
        let Some(finish) = self.push(LlamaToken(token)) else { return Ok(Next::Token(token)) };
        let text = std::mem::replace(&mut self.text, GrowingText::new(Vec::new())).into_text();
        Ok(Next::Done(Completion { id: self.id, text, tokens: self.tokens, computed: 0, finish }))
    }

    fn charge(completion: &mut Completion, computed: u32) {
        completion.computed = computed;
    }
}

/// A question whose prompt is being prefilled.
#[derive(Clone)]
pub(super) struct Judging {
    pub(super) id: u64,
    /// The first token of each word.
    pub(super) words: Vec<Token>,
}

impl Reader for Judging {
    type Answer = Posterior;

    fn read(&mut self, Outputs { logits, states }: Outputs, _: &mut Room) -> Result<Next<Posterior>, GenerateError> {
        let log_probs = match self.words[..] {
            [] => Vec::new(),
            _ => sampler::log_probs(logits, &self.words).map_err(|error| bad_logits(self.id, error))?,
        };
        if states.iter().flatten().any(|x| !x.is_finite()) {
            return Err(GenerateError::Decode(format!("request {}: a hidden state is not finite", self.id)));
        }
        Ok(Next::Done(Posterior { id: self.id, log_probs, states, computed: 0 }))
    }

    fn charge(posterior: &mut Posterior, computed: u32) {
        posterior.computed = computed;
    }
}

/// A given text whose likelihood is being read.
pub(super) struct Reading {
    pub(super) id: u64,
    /// The remaining tokens of the text, the next one last.
    pub(super) rest: Vec<Token>,
    pub(super) log_probs: Vec<f32>,
}

impl Reading {
    pub(super) fn new(id: u64, text: &[Token]) -> Self {
        Reading { id, rest: text.iter().rev().copied().collect(), log_probs: Vec::with_capacity(text.len()) }
    }
}

impl Reader for Reading {
    type Answer = Likelihood;

    fn read(&mut self, Outputs { logits, .. }: Outputs, _: &mut Room) -> Result<Next<Likelihood>, GenerateError> {
        if let Some(token) = self.rest.pop() {
            self.log_probs.extend(sampler::log_probs(logits, &[token]).map_err(|error| bad_logits(self.id, error))?);
        }
        if !self.rest.is_empty() {
            return Ok(Next::More);
        }
        Ok(Next::Done(Likelihood { id: self.id, log_probs: std::mem::take(&mut self.log_probs) }))
    }
}

fn bad_logits(id: u64, error: BadLogits) -> GenerateError {
    GenerateError::Decode(format!("request {id}: {error}"))
}
