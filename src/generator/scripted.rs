//! A scripted generator, to test the loop without a model.

use super::request::{
    Completion, CompletionRequest, Finish, Generate, GenerateError, Likelihood, LikelihoodRequest, Posterior, PosteriorRequest, Prompt,
    Sink,
};
use crate::math::random::derive;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Answers every request with a given function.
pub struct Scripted<C, S> {
    complete: C,
    judge: S,
    shuffle: Option<u64>,
    fail_after: Option<usize>,
    answered: usize,
    /// Words of prompts and texts.
    computed: u64,
}

impl<C: Fn(&CompletionRequest) -> String, S: Fn(&PosteriorRequest) -> Vec<f32>> Scripted<C, S> {
    /// `complete` writes a text, `judge` gives a log-probability for each word.
    pub fn new(complete: C, judge: S) -> Self {
        Scripted { complete, judge, shuffle: None, fail_after: None, answered: 0, computed: 0 }
    }

    /// Delivers answers in a random order, as from workers that finish at different times.
    pub fn shuffled(mut self, seed: u64) -> Self {
        self.shuffle = Some(seed);
        self
    }

    /// Fails with [`GenerateError::Decode`] after this many answers over all calls.
    pub fn failing_after(mut self, answers: usize) -> Self {
        self.fail_after = Some(answers);
        self
    }

    /// Number of answers so far, over all calls.
    pub fn answered(&self) -> usize {
        self.answered
    }

    fn answer<R, T>(&mut self, requests: &[R], reply: impl Fn(&Self, &R) -> T, sink: Sink<T>) -> Result<(), GenerateError> {
        let mut order: Vec<&R> = requests.iter().collect();
        if let Some(seed) = self.shuffle {
            order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        }
        for request in order {
            if self.fail_after.is_some_and(|limit| self.answered >= limit) {
                return Err(GenerateError::Decode(format!("the script fails after {} answers", self.answered)));
            }
            let answer = reply(self, request);
            self.answered += 1;
            sink(answer)?;
        }
        Ok(())
    }
}

impl<C: Fn(&CompletionRequest) -> String, S: Fn(&PosteriorRequest) -> Vec<f32>> Generate for Scripted<C, S> {
    fn complete(&mut self, requests: &[CompletionRequest], sink: Sink<Completion>) -> Result<(), GenerateError> {
        let reply = |script: &Self, request: &CompletionRequest| {
            let text = (script.complete)(request);
            let tokens = text.split_whitespace().count() as u32;
            let computed = words(&request.prompt) + tokens;
            Completion { id: request.id, text, tokens, computed, finish: Finish::Stop }
        };
        let mut computed = 0;
        let outcome = self.answer(requests, reply, &mut |completion| {
            computed += u64::from(completion.computed);
            sink(completion)
        });
        self.computed += computed;
        outcome
    }

    fn posteriors(&mut self, requests: &[PosteriorRequest], layers: &[usize], sink: Sink<Posterior>) -> Result<(), GenerateError> {
        let reply = |script: &Self, request: &PosteriorRequest| Posterior {
            id: request.id,
            log_probs: if request.words.is_empty() { Vec::new() } else { (script.judge)(request) },
            states: layers.iter().map(|&layer| state(&request.prompt, layer)).collect(),
            computed: words(&request.prompt),
        };
        let mut computed = 0;
        let outcome = self.answer(requests, reply, &mut |posterior| {
            computed += u64::from(posterior.computed);
            sink(posterior)
        });
        self.computed += computed;
        outcome
    }

    fn layers(&self) -> usize {
        LAYERS
    }

    fn computed(&self) -> u64 {
        self.computed
    }

    fn at_once(&self) -> usize {
        1
    }

    fn parameters(&self) -> u64 {
        1
    }

    fn record(&self) -> serde_json::Value {
        serde_json::json!({"generator": "a script", "parameters": 1})
    }

    /// The script's log-probability of each of the text's words, one by one.
    fn likelihood(&mut self, requests: &[LikelihoodRequest], sink: Sink<Likelihood>) -> Result<(), GenerateError> {
        let reply = |script: &Self, request: &LikelihoodRequest| {
            let words = request.text.split_whitespace().map(str::to_string).collect();
            let question = PosteriorRequest { id: request.id, prompt: request.prompt.clone(), words };
            Likelihood { id: request.id, log_probs: (script.judge)(&question) }
        };
        self.answer(requests, reply, sink)
    }
}

/// Number of layers with hidden states.
const LAYERS: usize = 2;
/// Numbers of a hidden state.
const HIDDEN: usize = 64;

/// A hidden state: how often the prompt has the words of each of [`HIDDEN`] heaps, which differ from layer to layer.
fn state(prompt: &Prompt, layer: usize) -> Vec<f32> {
    let mut state = vec![0.0; HIDDEN];
    for word in prompt.user.split_whitespace() {
        state[(derive(0, word, layer as u64) % HIDDEN as u64) as usize] += 1.0;
    }
    state
}

/// Number of words in a prompt.
fn words(prompt: &Prompt) -> u32 {
    prompt.user.split_whitespace().count() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::request::Sampling;

    fn requests(n: u64) -> Vec<CompletionRequest> {
        let prompt = |id| Prompt { system: None, user: format!("text {id}"), answer_start: String::new(), plain: false };
        let request = |id| CompletionRequest {
            id,
            prompt: prompt(id),
            sampling: Sampling::default(),
            seed: id,
            max_tokens: 9,
            stop: vec![],
            form: None,
        };
        (0..n).map(request).collect()
    }

    fn scripted() -> Scripted<impl Fn(&CompletionRequest) -> String, impl Fn(&PosteriorRequest) -> Vec<f32>> {
        Scripted::new(|request| request.prompt.user.to_uppercase(), |request| vec![-1.0; request.words.len()])
    }

    fn ids(generator: &mut dyn Generate, n: u64) -> (Vec<u64>, Result<(), GenerateError>) {
        let mut ids = Vec::new();
        let outcome = generator.complete(&requests(n), &mut |completion| {
            assert_eq!(completion.text, format!("TEXT {}", completion.id));
            ids.push(completion.id);
            Ok(())
        });
        (ids, outcome)
    }

    #[test]
    fn every_request_is_answered_in_order_or_shuffled() {
        assert_eq!(ids(&mut scripted(), 5).0, [0, 1, 2, 3, 4]);
        let (mut shuffled, _) = ids(&mut scripted().shuffled(1), 30);
        assert!(!shuffled.is_sorted());
        shuffled.sort_unstable();
        assert_eq!(shuffled, (0..30).collect::<Vec<_>>());
    }

    #[test]
    fn it_fails_when_told_and_stops_when_the_sink_fails() {
        let (answered, outcome) = ids(&mut scripted().failing_after(3), 5);
        assert_eq!((answered.len(), matches!(outcome, Err(GenerateError::Decode(_)))), (3, true));
        let mut generator = scripted();
        let outcome = generator.complete(&requests(5), &mut |_| anyhow::bail!("disk full"));
        assert!(matches!(outcome, Err(GenerateError::Consumer(_))));
        assert_eq!(generator.answered(), 1);
    }
}
