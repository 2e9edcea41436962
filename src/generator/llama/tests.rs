//! Tests with a real model: `LACUNA_TEST_GGUF` names a small instruct GGUF, without it they skip and say so.

use super::*;
use crate::generator::{Prompt, Sampling};
use std::collections::BTreeMap;

/// The model to test with.
fn config() -> Option<LlamaConfig> {
    let path = std::env::var_os("LACUNA_TEST_GGUF");
    if path.is_none() {
        eprintln!("SKIPPED: set LACUNA_TEST_GGUF to a small instruct model (GGUF) to run this test");
    }
    Some(LlamaConfig { threads: 2, slots: 8, n_ctx: 512, ..LlamaConfig::new(path?) })
}

fn load() -> Option<Llama> {
    config().map(|config| Llama::load(config).expect("the test model loads"))
}

fn prompt(user: &str, answer_start: &str) -> Prompt {
    Prompt { system: None, user: user.into(), answer_start: answer_start.into() }
}

fn request(id: u64, user: &str) -> CompletionRequest {
    let stop = vec!["\"".into(), "\n".into()];
    CompletionRequest { id, prompt: prompt(user, "\""), sampling: Sampling::default(), seed: 1000 + id, max_tokens: 60, stop }
}

fn complete(llama: &mut Llama, requests: &[CompletionRequest]) -> Result<BTreeMap<u64, Completion>, GenerateError> {
    let mut done = BTreeMap::new();
    llama.complete(requests, &mut |completion| {
        assert!(done.insert(completion.id, completion).is_none(), "a request was answered twice");
        Ok(())
    })?;
    Ok(done)
}

fn score(llama: &mut Llama, requests: &[ScoreRequest]) -> Result<BTreeMap<u64, Vec<f32>>, GenerateError> {
    let mut done = BTreeMap::new();
    llama.score(requests, &mut |score| {
        assert!(done.insert(score.id, score.log_probs).is_none(), "a request was answered twice");
        Ok(())
    })?;
    Ok(done)
}

fn question(id: u64, text: &str) -> ScoreRequest {
    let user = format!("Is this sentence from a movie review positive or negative?\n\n\"{text}\"");
    ScoreRequest { id, prompt: prompt(&user, "The sentence is"), words: vec![" positive".into(), " negative".into()] }
}

/// 200 short texts, then 200 questions about them; prints rates and samples.
#[test]
#[ignore = "a measurement"]
fn throughput() {
    let Some(config) = config() else { return };
    let mut llama = Llama::load(LlamaConfig { slots: 32, n_ctx: 2048, ..config }).unwrap();
    eprintln!("{:?}", llama.description());
    let requests: Vec<_> = (0..200).map(|id| request(id, "Write one sentence from a positive movie review.")).collect();
    let texts = complete(&mut llama, &requests).unwrap();
    let wrote = llama.stats();
    let tokens: u32 = texts.values().map(|text| text.tokens).sum();
    eprintln!("{wrote:?}\n{:.1} texts/s, {:.0} tokens/s", 200.0 / wrote.seconds, f64::from(tokens) / wrote.seconds);
    texts.values().take(10).for_each(|text| eprintln!("  [{} {:?}] {}", text.tokens, text.finish, text.text));
    let questions: Vec<_> = texts.values().map(|text| question(text.id, &text.text)).collect();
    let scores = score(&mut llama, &questions).unwrap();
    let judged = llama.stats();
    let positive = scores.values().filter(|log_probs| log_probs[0] > log_probs[1]).count();
    eprintln!("{judged:?}\n{:.1} questions/s, {positive} positive", 200.0 / (judged.seconds - wrote.seconds));
}
