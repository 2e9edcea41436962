//! Tests our sampler against llama.cpp's sampler chain: the same tokens remain with the same probabilities, and draws follow them.

use crate::generator::llama::backend::backend;
use crate::generator::prefix::Token;
use crate::generator::repetition::Repetition;
use crate::generator::request::Sampling;
use crate::generator::sampler::{Room, Sampler};
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

const VOCAB: usize = 1000;
const DRAWS: usize = 30_000;

fn logits() -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(77);
    let mut uniform = || (rng.next_u32() as f32 / u32::MAX as f32).max(1e-6);
    // A few likely tokens above a long tail, like a language model's logits.
    (0..VOCAB).map(|_| 3.0 - 1.5 * (-uniform().ln()).sqrt() + if uniform() > 0.98 { 4.0 } else { 0.0 }).collect()
}

/// The probability of every token in llama.cpp's chain after the tokens of `text`.
fn llama_cpp(logits: &[f32], sampling: &Sampling, text: &[Token]) -> Vec<f64> {
    backend().expect("llama.cpp starts");
    let Sampling { temperature, top_p, top_k, min_p, repetition } = *sampling;
    let Repetition { last_n, repeat, frequency, presence, .. } = repetition;
    let top_k = if top_k == 0 { VOCAB as i32 } else { top_k as i32 };
    let mut chain = LlamaSampler::chain_simple([
        LlamaSampler::penalties(VOCAB as i32, last_n as i32, repeat, frequency, presence),
        LlamaSampler::top_k(top_k),
        LlamaSampler::top_p(top_p, 1),
        LlamaSampler::min_p(min_p, 1),
        LlamaSampler::temp(temperature),
        LlamaSampler::dist(1),
    ]);
    text.iter().for_each(|&token| chain.accept(LlamaToken(token)));
    let all = logits.iter().zip(0..).map(|(&logit, token)| LlamaTokenData::new(LlamaToken(token), logit, 0.0));
    let mut candidates = LlamaTokenDataArray::from_iter(all, false);
    candidates.apply_sampler(&mut chain);
    let mut probabilities = vec![0.0; VOCAB];
    let weights: Vec<(usize, f64)> = candidates.data.iter().map(|token| (token.id().0 as usize, f64::from(token.logit()))).collect();
    let max = weights.iter().map(|weight| weight.1).fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = weights.iter().map(|weight| (weight.1 - max).exp()).sum();
    weights.iter().for_each(|&(token, logit)| probabilities[token] = (logit - max).exp() / total);
    probabilities
}

/// Pearson's chi-square test of our draws, rare tokens pooled; the bound is mean + 5 standard deviations.
fn assert_same(sampling: Sampling, text: &[Token]) {
    let logits = logits();
    let expected = llama_cpp(&logits, &sampling, text);
    let mut counts = vec![0.0f64; VOCAB];
    let mut room = Room::default();
    for seed in 0..DRAWS as u64 {
        let mut sampler = Sampler::after(sampling, seed, text);
        counts[sampler.draw(&logits, &mut room, None).unwrap() as usize] += 1.0;
    }
    let (mut statistic, mut cells, mut rare) = (0.0, 0, (0.0, 0.0));
    for (&p, &got) in expected.iter().zip(&counts) {
        let want = p * DRAWS as f64;
        if want >= 8.0 {
            statistic += (got - want).powi(2) / want;
            cells += 1;
        } else {
            rare = (rare.0 + want, rare.1 + got);
        }
    }
    if rare.0 >= 1.0 {
        statistic += (rare.1 - rare.0).powi(2) / rare.0;
        cells += 1;
    }
    let freedom = f64::from(cells - 1);
    assert!(cells >= 2 && statistic <= freedom + 5.0 * (2.0 * freedom).sqrt(), "{statistic:.1} with {freedom} degrees, {sampling:?}");
    // Rounding may move the nucleus's cut by one token.
    let outside: f64 = expected.iter().zip(&counts).filter(|(p, _)| **p == 0.0).map(|(_, count)| count).sum();
    assert!(outside <= DRAWS as f64 * 0.005, "{outside} draws of tokens that llama.cpp removes, {sampling:?}");
}

#[test]
fn draws_match_llama_cpps_chain() {
    let plain = Sampling::PLAIN;
    for sampling in [
        plain,
        Sampling { temperature: 0.6, ..plain },
        Sampling { top_k: 40, temperature: 0.9, ..plain },
        Sampling { top_p: 0.8, ..plain },
        Sampling { top_p: 0.95, temperature: 1.4, ..plain },
        Sampling { min_p: 0.05, ..plain },
        Sampling { top_k: 60, top_p: 0.9, min_p: 0.02, temperature: 0.8, ..plain },
    ] {
        assert_same(sampling, &[]);
    }
}

#[test]
fn repetition_penalties_match_llama_cpps_chain() {
    let likeliest = logits().iter().zip(0..).max_by(|a, b| a.0.total_cmp(b.0)).map(|(_, token)| token).unwrap();
    let text = [9, likeliest, 3, 9, likeliest, 4, 5, likeliest];
    for repetition in [
        Repetition { repeat: 1.3, ..Repetition::OFF },
        Repetition { frequency: 0.6, ..Repetition::OFF },
        Repetition { presence: 1.1, ..Repetition::OFF },
        Repetition { last_n: 3, repeat: 1.2, frequency: 0.3, presence: 0.4, ..Repetition::OFF },
    ] {
        assert_same(Sampling { top_k: 50, repetition, ..Sampling::PLAIN }, &text);
    }
}
