//! How requests use logits: a completion samples its next token, a question reads the log-probabilities of its words.

use super::in_place::{Ask, Found};
use super::workers::{Logits, Next, Outputs, Reader};
use crate::generator::form::{Guide, Vocabulary};
use crate::generator::prefix::Token;
use crate::generator::request::{Completion, CompletionRequest, Finish, GenerateError, Likelihood, Posterior};
use crate::generator::sampler::{self, BadLogits, Candidate, Room, Sampler};
use crate::generator::stop::GrowingText;
use lacuna_cuda::Want;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use std::sync::Arc;

/// More allowed tokens than this are not worth reading one by one.
const MOST_SINGLE: usize = 4096;

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

    /// The tokens that the form allows next, if there is one.
    fn allowed(&mut self) -> Option<Arc<[Token]>> {
        let budget = (self.max_tokens - self.tokens) as usize;
        self.guide.as_mut().map(|guide| guide.allowed(budget))
    }

    /// The next token; `None` if it takes all logits.
    fn draw(&mut self, logits: &Logits, room: &mut Room) -> Result<Option<Token>, BadLogits> {
        let allowed = self.allowed();
        let with = |logits: &[f32], tokens: &[Token]| logits.iter().copied().zip(tokens.iter().copied()).collect::<Vec<Candidate>>();
        match (logits, &allowed) {
            (Logits::Found(Found::Head { head, also }), _) => {
                let penalised = with(also, &self.sampler.penalised());
                self.sampler.draw_from(head, &penalised, room)
            }
            (Logits::Found(Found::Tokens(found)), Some(allowed)) => self.sampler.draw_allowed(&with(found, allowed), room).map(Some),
            _ => self.sampler.draw(logits.whole(), room, allowed.as_deref()).map(Some),
        }
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

    fn ask(&mut self, _: usize) -> Ask {
        match self.allowed() {
            Some(allowed) if allowed.len() > MOST_SINGLE => Ask::Whole,
            Some(allowed) => Ask::Tokens(allowed.to_vec()),
            None => self.sampler.want().map_or(Ask::Whole, |want| Ask::Head { want, also: self.sampler.penalised() }),
        }
    }

    fn read(&mut self, Outputs { logits, .. }: Outputs, room: &mut Room) -> Result<Next<Completion>, GenerateError> {
        let Some(token) = self.draw(&logits, room).map_err(|error| bad_logits(self.id, error))? else { return Ok(Next::Whole) };
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

    fn ask(&mut self, _: usize) -> Ask {
        ask_log_probs(&self.words)
    }

    fn read(&mut self, Outputs { logits, states }: Outputs, _: &mut Room) -> Result<Next<Posterior>, GenerateError> {
        let log_probs = log_probs(&logits, &self.words).map_err(|error| bad_logits(self.id, error))?;
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

    fn ask(&mut self, ahead: usize) -> Ask {
        let at = self.rest.len().saturating_sub(ahead + 1);
        ask_log_probs(self.rest.get(at..=at).unwrap_or_default())
    }

    fn read(&mut self, Outputs { logits, .. }: Outputs, _: &mut Room) -> Result<Next<Likelihood>, GenerateError> {
        if let Some(token) = self.rest.pop() {
            self.log_probs.extend(log_probs(&logits, &[token]).map_err(|error| bad_logits(self.id, error))?);
        }
        if !self.rest.is_empty() {
            return Ok(Next::More);
        }
        Ok(Next::Done(Likelihood { id: self.id, log_probs: std::mem::take(&mut self.log_probs) }))
    }
}

/// What the log-probabilities of some tokens take: the sum over the vocabulary, which comes with any head, and their own logits.
fn ask_log_probs(tokens: &[Token]) -> Ask {
    match tokens {
        [] => Ask::Tokens(Vec::new()),
        _ => Ask::Head { want: Want { row: 0, top_k: 0, top_p: 1.0, distance: 0.0 }, also: tokens.to_vec() },
    }
}

fn log_probs(logits: &Logits, tokens: &[Token]) -> Result<Vec<f32>, BadLogits> {
    match logits {
        _ if tokens.is_empty() => Ok(Vec::new()),
        Logits::Found(Found::Head { head, also }) => sampler::log_probs_from(head, also),
        _ => sampler::log_probs(logits.whole(), tokens),
    }
}

fn bad_logits(id: u64, error: BadLogits) -> GenerateError {
    GenerateError::Decode(format!("request {id}: {error}"))
}
