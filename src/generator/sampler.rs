//! Samples a token from raw logits: repetition penalties, top-k, top-p, min-p, temperature, without sorting the vocabulary.

use super::prefix::Token;
use super::request::Sampling;
use lacuna_cuda::{Head, Want};
use lacuna_kernels::vectorised;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::cmp::Ordering;

/// Logits without a valid distribution: the model or its file is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the logits are {0}: the model file is damaged or its format is not supported here, check its sha256")]
pub struct BadLogits(&'static str);

/// Tokens processed together.
const BLOCK: usize = 64;

/// A token with its logit.
pub type Candidate = (f32, Token);

/// Work space, reused from token to token.
#[derive(Default)]
pub struct Room {
    candidates: Vec<Candidate>,
    /// The logits after repetition penalties.
    adjusted: Vec<f32>,
}

/// Samples the tokens of one request.
///
/// The order is that of llama.cpp's default chain: repetition penalties, top-k, then top-p and min-p on the remaining probabilities at
/// T = 1, then the temperature. Truncation only ever keeps the most likely tokens, so only these are collected and sorted.
pub struct Sampler {
    sampling: Sampling,
    rng: ChaCha8Rng,
    /// The prompt's tokens, if a repetition penalty needs them.
    prompt: Vec<Token>,
    /// The tokens drawn so far, if a repetition penalty needs them.
    text: Vec<Token>,
}

impl Sampler {
    /// `sampling` must have passed [`check`]; `prompt` is the tokens before the first one drawn.
    pub fn new(sampling: Sampling, seed: u64, prompt: &[Token]) -> Self {
        let prompt = if sampling.repetition.dry() { prompt.to_vec() } else { Vec::new() };
        Sampler { sampling, rng: ChaCha8Rng::seed_from_u64(seed), prompt, text: Vec::new() }
    }

    /// A sampler that has already drawn the tokens of `text`.
    #[cfg(test)]
    pub(super) fn after(sampling: Sampling, seed: u64, text: &[Token]) -> Self {
        Sampler { text: text.to_vec(), ..Sampler::new(sampling, seed, &[]) }
    }

    /// Draws a token from the model's logits `(n_vocab)`, restricted to `allowed` if given. Uses one random number, two if nothing is
    /// truncated, none at T = 0.
    pub fn draw(&mut self, logits: &[f32], room: &mut Room, allowed: Option<&[Token]>) -> Result<Token, BadLogits> {
        let Room { candidates, adjusted } = room;
        let repetition = self.sampling.repetition;
        if !repetition.is_on() && allowed.is_none() {
            return self.choose(logits, candidates);
        }
        adjusted.clear();
        match allowed {
            None => adjusted.extend_from_slice(logits),
            Some(allowed) => {
                adjusted.resize(logits.len(), f32::NEG_INFINITY);
                allowed.iter().for_each(|&token| adjusted[token as usize] = logits[token as usize]);
            }
        }
        repetition.apply(adjusted, &self.prompt, &self.text);
        let token = self.choose(adjusted, candidates)?;
        if repetition.is_on() {
            self.text.push(token);
        }
        Ok(token)
    }

    fn choose(&mut self, logits: &[f32], candidates: &mut Vec<Candidate>) -> Result<Token, BadLogits> {
        let max = checked_max(logits)?;
        if self.sampling.temperature == 0.0 {
            return Ok(logits.iter().position(|&logit| logit == max).unwrap_or(0) as Token);
        }
        let Sampling { top_p, top_k, min_p, .. } = self.sampling;
        if top_p >= 1.0 && top_k == 0 && min_p == 0.0 {
            return Ok(self.pick_from_all(logits, max, candidates));
        }
        truncate(logits, max, &self.sampling, candidates);
        Ok(self.pick(max, candidates))
    }

    /// What of a row of logits suffices for most draws; `None` if it takes all of them.
    pub fn want(&self) -> Option<Want> {
        let Sampling { temperature, top_p, top_k, min_p, repetition } = self.sampling;
        let all = Want { row: 0, top_k: 0, top_p: 1.0, distance: f32::INFINITY };
        // Penalties push tokens down, and others come up from below.
        let (more, deeper) = if repetition.is_on() { (repetition.last_n.min(64), 4.0) } else { (0, 0.0) };
        let from_min_p = deeper - min_p.ln();
        match (temperature == 0.0, top_k > 0, top_p < 1.0, min_p > 0.0) {
            _ if repetition.may_raise() => None,
            (true, ..) => Some(Want { distance: deeper, ..all }),
            (_, true, true, _) => Some(Want { top_k: top_k + more, ..all }),
            (_, true, false, _) => Some(Want { top_k: top_k + more, distance: from_min_p, ..all }),
            (_, _, true, _) if repetition.is_on() => Some(Want { top_p: 0.5 + 0.5 * top_p, ..all }),
            (_, _, true, _) => Some(Want { top_p, ..all }),
            (_, _, _, true) => Some(Want { distance: from_min_p, ..all }),
            _ => None,
        }
    }

    /// The tokens whose logits repetition penalties would change now, in ascending order.
    pub fn penalised(&self) -> Vec<Token> {
        let mut tokens = Vec::new();
        self.sampling.repetition.change(&self.prompt, &self.text, |token, _| tokens.push(token));
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    }

    /// [`Sampler::draw`] from the likeliest tokens and the penalised ones, (logit, token), as [`Sampler::want`] and
    /// [`Sampler::penalised`] ask for them; `None`, and no random number is used, if all logits are needed.
    pub fn draw_from(&mut self, head: &Head, penalised: &[Candidate], room: &mut Room) -> Result<Option<Token>, BadLogits> {
        check_max(head.max)?;
        let kept = &mut room.candidates;
        kept.clear();
        kept.extend(head.tokens.iter().chain(penalised));
        kept.sort_unstable_by_key(|candidate| candidate.1);
        kept.dedup_by_key(|candidate| candidate.1);
        let repetition = self.sampling.repetition;
        let mut others = f64::from(head.total);
        others -= penalised.iter().map(|candidate| f64::from((candidate.0 - head.max).exp())).sum::<f64>();
        repetition.change(&self.prompt, &self.text, |token, penalty| {
            if let Ok(at) = kept.binary_search_by_key(&token, |candidate| candidate.1) {
                kept[at].0 = penalty(kept[at].0);
            }
        });
        let now = |kept: &[Candidate], token: Token| kept.binary_search_by_key(&token, |candidate| candidate.1).map(|at| kept[at].0);
        others += penalised.iter().filter_map(|&(_, token)| now(kept, token).ok()).map(|x| f64::from((x - head.max).exp())).sum::<f64>();
        // Below the floor there may be others.
        kept.retain(|candidate| candidate.0 >= head.floor);
        let max = kept.iter().fold(f32::NEG_INFINITY, |max, candidate| max.max(candidate.0));
        let total = others * f64::from(head.max - max).exp();
        let token = match self.sampling.temperature {
            _ if kept.is_empty() => return Ok(None),
            0.0 => kept.iter().find(|candidate| candidate.0 == max).map_or(0, |candidate| candidate.1),
            _ if !truncate_head(kept, head.floor, max, total as f32, &self.sampling) => return Ok(None),
            _ => self.pick(max, kept),
        };
        if repetition.is_on() {
            self.text.push(token);
        }
        Ok(Some(token))
    }

    /// Draws one of the tokens in proportion to softmax(logits / T), where these are all that are allowed.
    pub fn draw_allowed(&mut self, allowed: &[Candidate], room: &mut Room) -> Result<Token, BadLogits> {
        let Room { candidates, adjusted } = room;
        candidates.clear();
        candidates.extend(allowed);
        self.sampling.repetition.change(&self.prompt, &self.text, |token, penalty| {
            if let Ok(at) = candidates.binary_search_by_key(&token, |candidate| candidate.1) {
                candidates[at].0 = penalty(candidates[at].0);
            }
        });
        // The sampler's own rules over these tokens alone.
        let tokens: Vec<Token> = candidates.iter().map(|candidate| candidate.1).collect();
        adjusted.clear();
        adjusted.extend(candidates.iter().map(|candidate| candidate.0));
        let at = self.choose(adjusted, candidates)?;
        let token = tokens[at as usize];
        if self.sampling.repetition.is_on() {
            self.text.push(token);
        }
        Ok(token)
    }

    /// Draws from softmax(logits / T) over the vocabulary: first a block of tokens, then a token in the block.
    fn pick_from_all(&mut self, logits: &[f32], max: f32, candidates: &mut Vec<Candidate>) -> Token {
        let scale = self.sampling.temperature.recip();
        candidates.clear();
        // (weight, first token) of every block.
        candidates.extend(logits.chunks(BLOCK).map(|block| block_weight(block, max, scale)).zip((0..).step_by(BLOCK)));
        let first = self.pick_weighted(candidates) as usize;
        candidates.clear();
        let block = logits[first..].iter().take(BLOCK).zip(first as Token..);
        candidates.extend(block.map(|(&logit, token)| (exp_nonpositive((logit - max) * scale), token)));
        self.pick_weighted(candidates)
    }

    /// Draws from softmax(logits / T) over the candidates.
    fn pick(&mut self, max: f32, candidates: &mut [Candidate]) -> Token {
        let scale = self.sampling.temperature.recip();
        candidates.iter_mut().for_each(|(logit, _)| *logit = exp_nonpositive((*logit - max) * scale));
        self.pick_weighted(candidates)
    }

    /// Draws one of the tokens in proportion to its weight.
    fn pick_weighted(&mut self, candidates: &[Candidate]) -> Token {
        let total: f64 = candidates.iter().map(|&(weight, _)| f64::from(weight)).sum();
        let unit = (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64; // [0, 1)
        let mut rest = unit * total;
        for &(weight, token) in candidates.iter() {
            rest -= f64::from(weight);
            if rest < 0.0 {
                return token;
            }
        }
        candidates.iter().rev().find(|candidate| candidate.0 > 0.0).map_or(0, |candidate| candidate.1)
    }
}

/// Refuses values out of range.
pub fn check(sampling: &Sampling) -> Result<(), String> {
    let Sampling { temperature, top_p, min_p, .. } = *sampling;
    if !(temperature.is_finite() && temperature >= 0.0) {
        return Err(format!("temperature is {temperature}; it must be 0 or more"));
    }
    if !(top_p > 0.0 && top_p <= 1.0) {
        return Err(format!("top_p is {top_p}; it must be above 0 and at most 1 (1 keeps all tokens)"));
    }
    if !(0.0..=1.0).contains(&min_p) {
        return Err(format!("min_p is {min_p}; it must be from 0 to 1 (0 keeps all tokens)"));
    }
    sampling.repetition.check()
}

/// ln softmax(logits) at the given tokens.
pub fn log_probs(logits: &[f32], tokens: &[Token]) -> Result<Vec<f32>, BadLogits> {
    let max = checked_max(logits)?;
    let log_total = sum_exp(logits, max).ln();
    Ok(tokens.iter().map(|&token| logits[token as usize] - max - log_total).collect())
}

/// [`log_probs`] from a head and the tokens' logits.
pub fn log_probs_from(head: &Head, logits: &[f32]) -> Result<Vec<f32>, BadLogits> {
    check_max(head.max)?;
    Ok(logits.iter().map(|logit| logit - head.max - head.total.ln()).collect())
}

/// Leaves in `kept`, all tokens from `floor` on, those that top-k, top-p and min-p leave; false if tokens below the floor may be among
/// them. `total` is Σ exp(logit − max) over the vocabulary.
fn truncate_head(kept: &mut Vec<Candidate>, floor: f32, max: f32, total: f32, sampling: &Sampling) -> bool {
    let min_p_floor = max + sampling.min_p.ln(); // -inf at 0
    let (k, top_p) = (sampling.top_k as usize, sampling.top_p);
    let whole = floor == f32::NEG_INFINITY || min_p_floor >= floor;
    if k > 0 {
        if kept.len() < k && (top_p < 1.0 || !whole) {
            return false;
        }
        kept.sort_unstable_by(by_logit);
        kept.truncate(k);
        if top_p < 1.0 {
            let head: f32 = kept.iter().map(|&(logit, _)| exp_nonpositive(logit - max)).sum();
            cut_nucleus(kept, max, top_p * head);
        }
    } else if top_p < 1.0 {
        let mass: f32 = kept.iter().map(|&(logit, _)| exp_nonpositive(logit - max)).sum();
        if mass < top_p * total && floor > f32::NEG_INFINITY {
            return false;
        }
        cut_nucleus(kept, max, top_p * total);
    } else if !whole {
        return false;
    }
    kept.retain(|&(logit, _)| logit >= min_p_floor);
    true
}

/// Fills `kept` with the tokens that top-k, top-p and min-p leave; at least one.
fn truncate(logits: &[f32], max: f32, sampling: &Sampling, kept: &mut Vec<Candidate>) {
    let min_p_floor = max + sampling.min_p.ln(); // -inf at 0
    let k = sampling.top_k as usize;
    if 0 < k && k < logits.len() {
        let floor = head_floor(logits, k, kept);
        collect(logits, floor, kept);
        kept.select_nth_unstable_by(k - 1, by_logit);
        kept.truncate(k);
        // What is drawn does not depend on how many more were collected.
        kept.sort_unstable_by(by_logit);
        if sampling.top_p < 1.0 {
            let total: f32 = kept.iter().map(|&(logit, _)| exp_nonpositive(logit - max)).sum();
            cut_nucleus(kept, max, sampling.top_p * total);
        }
    } else if sampling.top_p < 1.0 {
        let (floor, enough) = nucleus_floor(logits, max, sampling.top_p);
        collect(logits, floor, kept);
        cut_nucleus(kept, max, enough);
    } else {
        collect(logits, min_p_floor, kept);
    }
    kept.retain(|&(logit, _)| logit >= min_p_floor);
}

/// Orders by decreasing logit, ties by token id, so that truncation does not depend on the order of collection.
fn by_logit(a: &Candidate, b: &Candidate) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// Keeps the fewest most likely tokens whose weights exp(logit - max) sum to `enough`, at least one. Bisects the range that contains
/// the cut until it is short enough to sort.
fn cut_nucleus(kept: &mut Vec<Candidate>, max: f32, enough: f32) {
    let weight = |&(logit, _): &Candidate| exp_nonpositive(logit - max);
    let (mut start, mut end, mut mass) = (0, kept.len(), 0.0);
    while end - start > 64 {
        let half = (end - start) / 2;
        kept[start..end].select_nth_unstable_by(half, by_logit);
        let upper: f32 = kept[start..start + half].iter().map(weight).sum();
        if mass + upper >= enough {
            end = start + half;
        } else {
            mass += upper;
            start += half;
        }
    }
    kept[start..end].sort_unstable_by(by_logit);
    let below = kept[start..end].iter().position(|candidate| {
        mass += weight(candidate);
        mass >= enough
    });
    kept.truncate(below.map_or(kept.len(), |last| start + last + 1));
}

vectorised! {
    /// A lower bound of the logits in the nucleus, close to its cut, and the weight that the nucleus must have. One pass sums the weight
    /// above each of a few distances from the maximum.
    fn nucleus_floor(logits: &[f32], max: f32, top_p: f32) -> (f32, f32) {
        const DISTANCES: [f32; 8] = [1.0, 2.0, 3.0, 4.5, 6.5, 9.0, 13.0, f32::INFINITY];
        const LANES: usize = 16;
        let floors = DISTANCES.map(|distance| max - distance);
        let mut masses = [[0.0f32; LANES]; DISTANCES.len()];
        let mut add = |chunk: &[f32; LANES]| {
            let weights = chunk.map(|logit| exp_nonpositive(logit - max));
            for (mass, floor) in masses.iter_mut().zip(floors) {
                for lane in 0..LANES {
                    mass[lane] += if chunk[lane] >= floor { weights[lane] } else { 0.0 };
                }
            }
        };
        let (chunks, rest) = logits.as_chunks::<LANES>();
        chunks.iter().for_each(&mut add);
        let mut last = [f32::NEG_INFINITY; LANES];
        last[..rest.len()].copy_from_slice(rest);
        add(&last);
        let masses = masses.map(|lanes| lanes.iter().sum::<f32>());
        let enough = top_p * masses[DISTANCES.len() - 1];
        let found = masses.iter().position(|&mass| mass >= enough);
        (found.map_or(f32::NEG_INFINITY, |at| floors[at]), enough)
    }
}

vectorised! {
    /// A lower bound of the k-th largest logit, near to it: the k-th largest of the blocks' maxima.
    fn head_floor(logits: &[f32], k: usize, room: &mut Vec<Candidate>) -> f32 {
        const LANES: usize = 8;
        let larger = |a: f32, b: f32| if b > a { b } else { a };
        let largest = |block: &[f32]| {
            let (chunks, rest) = block.as_chunks::<LANES>();
            let mut max = [f32::NEG_INFINITY; LANES];
            chunks.iter().for_each(|chunk| (0..LANES).for_each(|i| max[i] = larger(max[i], chunk[i])));
            max.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| larger(a, b))
        };
        // More blocks than tokens are wanted.
        let block = (logits.len() / (2 * k)).clamp(1, BLOCK);
        room.clear();
        room.extend(logits.chunks(block).map(largest).zip(0..));
        if room.len() <= k { f32::NEG_INFINITY } else { room.select_nth_unstable_by(k - 1, by_logit).1.0 }
    }
}

vectorised! {
    /// Collects the tokens whose logit is at least `floor`; a vectorised comparison skips blocks without any.
    fn collect(logits: &[f32], floor: f32, kept: &mut Vec<Candidate>) {
        kept.clear();
        for (block, chunk) in logits.chunks(BLOCK).enumerate() {
            if chunk.iter().fold(false, |any, &logit| any | (logit >= floor)) {
                let candidates = chunk.iter().enumerate().map(|(i, &logit)| (logit, (block * BLOCK + i) as Token));
                kept.extend(candidates.filter(|&(logit, _)| logit >= floor));
            }
        }
    }
}

/// The largest logit; an error if there is a NaN or no finite maximum.
fn checked_max(logits: &[f32]) -> Result<f32, BadLogits> {
    check_max(max_or_nan(logits))
}

vectorised! {
    /// The largest logit; NaN if there is one.
    fn max_or_nan(logits: &[f32]) -> f32 {
        const LANES: usize = 64;
        let mut max = [f32::NEG_INFINITY; LANES];
        let mut nan = [0u32; LANES];
        for chunk in logits.chunks(LANES) {
            for (i, &logit) in chunk.iter().enumerate() {
                max[i] = if logit > max[i] { logit } else { max[i] };
                nan[i] |= u32::from(logit.is_nan());
            }
        }
        if nan.contains(&1) { f32::NAN } else { max.into_iter().fold(f32::NEG_INFINITY, f32::max) }
    }
}

fn check_max(max: f32) -> Result<f32, BadLogits> {
    match (max.is_nan(), max.is_finite()) {
        (true, _) => Err(BadLogits("not numbers (NaN)")),
        (false, false) => Err(BadLogits("infinite")),
        (false, true) => Ok(max),
    }
}

vectorised! {
    /// Σ exp((logit - max) * scale) over a block.
    fn block_weight(block: &[f32], max: f32, scale: f32) -> f32 {
        const LANES: usize = 16;
        let mut sums = [0.0f32; LANES];
        let (chunks, rest) = block.as_chunks::<LANES>();
        for chunk in chunks {
            for (sum, &logit) in sums.iter_mut().zip(chunk) {
                *sum += exp_nonpositive((logit - max) * scale);
            }
        }
        sums.iter().sum::<f32>() + rest.iter().map(|&logit| exp_nonpositive((logit - max) * scale)).sum::<f32>()
    }
}

vectorised! {
    /// Σ exp(logit - max) over the vocabulary.
    fn sum_exp(logits: &[f32], max: f32) -> f32 {
        const LANES: usize = 64;
        let mut sums = [0.0f32; LANES];
        let (chunks, rest) = logits.as_chunks::<LANES>();
        for chunk in chunks {
            for (sum, &logit) in sums.iter_mut().zip(chunk) {
                *sum += exp_nonpositive(logit - max);
            }
        }
        sums.iter().sum::<f32>() + rest.iter().map(|&logit| exp_nonpositive(logit - max)).sum::<f32>()
    }
}

/// exp(x) for x <= 0, to 3e-6 relative, in a form that the compiler vectorises: 2^n times a polynomial on [-1/2, 1/2] (the Taylor
/// series of 2^f). Below -87, where the result would be subnormal, it is 0.
#[inline(always)]
fn exp_nonpositive(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer in the low bits
    let t = x.max(-88.0) * std::f32::consts::LOG2_E;
    let rounded = t + ROUND;
    let n = rounded.to_bits() as i32 - ROUND.to_bits() as i32;
    let f = t - (rounded - ROUND);
    let p = 1.0 + f * (std::f32::consts::LN_2 + f * (0.240_226_5 + f * (0.055_504_11 + f * (0.009_618_13 + f * 0.001_333_36))));
    let power = f32::from_bits(((n + 127) << 23) as u32);
    if x < -87.0 { 0.0 } else { power * p }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::repetition::Repetition;
    use proptest::prelude::*;

    /// The probability of every token by definition, in f64 with a full sort.
    fn reference(logits: &[f32], sampling: &Sampling) -> Vec<f64> {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        if sampling.top_k > 0 {
            order.truncate(sampling.top_k as usize);
        }
        let max = f64::from(logits[order[0]]);
        let weight = |token: usize| (f64::from(logits[token]) - max).exp();
        let total: f64 = order.iter().map(|&token| weight(token)).sum();
        if sampling.top_p < 1.0 {
            let mut mass = 0.0;
            let last = order.iter().position(|&token| {
                mass += weight(token) / total;
                mass >= f64::from(sampling.top_p)
            });
            order.truncate(last.map_or(order.len(), |last| last + 1));
        }
        order.retain(|&token| weight(token) >= f64::from(sampling.min_p));
        let tempered = |token: usize| ((f64::from(logits[token]) - max) / f64::from(sampling.temperature)).exp();
        let total: f64 = order.iter().map(|&token| tempered(token)).sum();
        let mut probabilities = vec![0.0; logits.len()];
        order.iter().for_each(|&token| probabilities[token] = tempered(token) / total);
        probabilities
    }

    /// A vocabulary of 300 with a peaked head, a flat tail and a few forbidden tokens.
    fn logits() -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut logits: Vec<f32> = (0..300).map(|_| (rng.next_u32() as f32 / u32::MAX as f32) * 9.0 - 3.0).collect();
        logits[17] = f32::NEG_INFINITY;
        logits[299] = 8.0;
        logits
    }

    /// Pearson's chi-square test against the reference, with rare tokens pooled; the bound is mean + 5 standard deviations.
    fn assert_distribution(sampling: Sampling) {
        const DRAWS: usize = 40_000;
        let logits = logits();
        let expected = reference(&logits, &sampling);
        let mut counts = vec![0usize; logits.len()];
        let (mut sampler, mut room) = (Sampler::new(sampling, 11, &[]), Room::default());
        for _ in 0..DRAWS {
            counts[sampler.draw(&logits, &mut room, None).unwrap() as usize] += 1;
        }
        let (mut statistic, mut cells, mut rare) = (0.0, 0usize, (0.0, 0.0));
        for (&p, &count) in expected.iter().zip(&counts) {
            assert!(p > 0.0 || count == 0, "a truncated token was drawn: {sampling:?}");
            let (want, got) = (p * DRAWS as f64, count as f64);
            if want >= 8.0 {
                statistic += (got - want).powi(2) / want;
                cells += 1;
            } else {
                rare = (rare.0 + want, rare.1 + got);
            }
        }
        if rare.0 > 0.0 {
            statistic += (rare.1 - rare.0).powi(2) / rare.0;
            cells += 1;
        }
        let freedom = cells.saturating_sub(1) as f64;
        assert!(
            statistic <= freedom + 5.0 * (2.0 * freedom).sqrt() + 1e-9,
            "chi-square {statistic:.1} with {freedom} degrees, {sampling:?}"
        );
    }

    #[test]
    fn draws_follow_the_reference_for_every_truncation() {
        let all = Sampling::PLAIN;
        assert_distribution(all);
        assert_distribution(Sampling { temperature: 0.5, ..all });
        assert_distribution(Sampling { temperature: 1.7, ..all });
        assert_distribution(Sampling { top_k: 7, ..all });
        assert_distribution(Sampling { top_k: 250, ..all });
        assert_distribution(Sampling { top_k: 1, ..all });
        assert_distribution(Sampling { top_p: 0.9, ..all });
        assert_distribution(Sampling { top_p: 0.05, ..all });
        assert_distribution(Sampling { top_p: 0.9999, ..all });
        assert_distribution(Sampling { min_p: 0.1, ..all });
        assert_distribution(Sampling { min_p: 1.0, ..all });
    }

    #[test]
    fn draws_follow_the_reference_for_combinations() {
        for temperature in [0.7, 1.3] {
            for (top_p, top_k, min_p) in [(0.9, 40, 0.0), (0.8, 0, 0.05), (1.0, 30, 0.1), (0.95, 50, 0.02), (0.5, 299, 0.001)] {
                assert_distribution(Sampling { temperature, top_p, top_k, min_p, ..Sampling::PLAIN });
            }
        }
    }

    #[test]
    fn a_large_vocabulary_far_below_the_maximum_is_collected_whole() {
        let mut logits = vec![-200.0; 5000];
        logits[4321] = 0.0;
        let mut kept = Vec::new();
        truncate(&logits, 0.0, &Sampling { top_k: 3, ..Sampling::PLAIN }, &mut kept);
        assert_eq!(kept.iter().map(|candidate| candidate.1).collect::<std::collections::BTreeSet<_>>(), [0, 1, 4321].into());
    }

    #[test]
    fn zero_temperature_takes_the_first_maximum() {
        let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
        assert_eq!(Sampler::new(greedy, 1, &[]).draw(&[1.0, 3.0, 3.0, f32::NEG_INFINITY], &mut Room::default(), None), Ok(1));
    }

    #[test]
    fn only_allowed_tokens_are_drawn() {
        let (mut sampler, mut room) = (Sampler::new(Sampling::PLAIN, 8, &[]), Room::default());
        let drawn: Vec<Token> = (0..200).map(|_| sampler.draw(&[1.0, 9.0, 1.0, 0.5], &mut room, Some(&[0, 2])).unwrap()).collect();
        assert!(drawn.contains(&0) && drawn.contains(&2) && !drawn.contains(&1) && !drawn.contains(&3));
        assert!(sampler.draw(&[1.0; 3], &mut room, Some(&[])).is_err(), "nothing is allowed");
    }

    #[test]
    fn damaged_logits_are_an_error() {
        let mut sampler = Sampler::new(Sampling::default(), 1, &[]);
        let mut many = vec![0.0; 1000];
        many[999] = f32::NAN;
        for logits in [&many[..], &[f32::NAN], &[f32::NEG_INFINITY; 3], &[0.0, f32::INFINITY], &[]] {
            assert!(sampler.draw(logits, &mut Room::default(), None).is_err());
            assert!(log_probs(logits, &[]).is_err());
        }
    }

    #[test]
    fn the_seed_decides() {
        let draws = |seed| {
            let mut sampler = Sampler::new(Sampling::default(), seed, &[]);
            (0..50).map(|_| sampler.draw(&logits(), &mut Room::default(), None).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draws(3), draws(3));
        assert_ne!(draws(3), draws(4));
    }

    #[test]
    fn values_out_of_range_are_refused() {
        let good = Sampling::default();
        assert_eq!(check(&good), Ok(()));
        for (bad, name) in [
            (Sampling { temperature: -1.0, ..good }, "temperature"),
            (Sampling { temperature: f32::NAN, ..good }, "temperature"),
            (Sampling { top_p: 0.0, ..good }, "top_p"),
            (Sampling { top_p: f32::NAN, ..good }, "top_p"),
            (Sampling { min_p: 1.5, ..good }, "min_p"),
        ] {
            assert!(check(&bad).unwrap_err().contains(name));
        }
    }

    #[test]
    fn repetition_penalties_come_before_truncation() {
        let repetition = Repetition { presence: 100.0, ..Repetition::OFF };
        let greedy = Sampling { temperature: 0.0, repetition, ..Sampling::PLAIN };
        let (mut sampler, mut room) = (Sampler::new(greedy, 1, &[]), Room::default());
        let drawn: Vec<Token> = (0..4).map(|_| sampler.draw(&[1.0, 4.0, 3.0, 2.0], &mut room, None).unwrap()).collect();
        assert_eq!(drawn, [1, 2, 3, 0], "a penalised token is no longer the likeliest");
    }

    /// Prints the time of a draw from a vocabulary of 49,152.
    #[test]
    #[ignore = "a measurement"]
    fn time_of_a_draw() {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let mut uniform = || (rng.next_u32() as f32 / u32::MAX as f32).max(1e-9);
        let logits: Vec<Vec<f32>> = (0..20)
            .map(|_| (0..49_152).map(|_| 2.0 * (-2.0 * uniform().ln()).sqrt() * (std::f32::consts::TAU * uniform()).cos()).collect())
            .collect();
        let peaked: Vec<Vec<f32>> = logits.iter().map(|row| row.iter().map(|&x| if x > 6.0 { x * 1.6 } else { x }).collect()).collect();
        let penalties = Repetition { repeat: 1.1, dry_multiplier: 0.8, ..Repetition::OFF };
        for (name, sampling) in [
            ("plain", Sampling::PLAIN),
            ("top-k 40", Sampling { top_k: 40, ..Sampling::PLAIN }),
            ("top-p 0.95", Sampling { top_p: 0.95, ..Sampling::PLAIN }),
            ("min-p 0.05", Sampling { min_p: 0.05, ..Sampling::PLAIN }),
            ("min-p 0.05, repetition", Sampling { min_p: 0.05, repetition: penalties, ..Sampling::PLAIN }),
        ] {
            for (shape, logits) in [("flat", &logits), ("peaked", &peaked)] {
                let (mut sampler, mut room) = (Sampler::new(sampling, 3, &[1; 200]), Room::default());
                let begun = std::time::Instant::now();
                for i in 0..400 {
                    std::hint::black_box(sampler.draw(&logits[i % 20], &mut room, None).unwrap());
                }
                eprintln!("{name}, {shape}: {:.1} us a token", begun.elapsed().as_secs_f64() * 1e6 / 400.0);
            }
        }
    }

    proptest! {
        #[test]
        fn exp_is_exp(x in -86.9f32..=0.0) {
            let want = f64::from(x).exp();
            prop_assert!((f64::from(exp_nonpositive(x)) - want).abs() <= 1e-5 * want);
        }

        #[test]
        fn truncation_matches_the_definition(
            logits in prop::collection::vec(-12.0f32..12.0, 1..400), top_p in 0.01f32..0.99, top_k in 0..60u32, min_p in 0.0f32..0.5,
        ) {
            let sampling = Sampling { top_p, top_k, min_p, ..Sampling::PLAIN };
            let max = checked_max(&logits).unwrap();
            let mut kept = Vec::new();
            truncate(&logits, max, &sampling, &mut kept);
            let want = reference(&logits, &sampling).iter().filter(|&&p| p > 0.0).count();
            // Rounding may move the nucleus's cut by one token.
            prop_assert!(kept.len().abs_diff(want) <= 1, "{} against {want}", kept.len());
        }

        /// The kernel that finds heads, on the host.
        #[test]
        fn draws_from_a_head_are_those_from_all_logits(
            logits in prop::collection::vec(-12.0f32..12.0, 300..400), top_p in 0.3f32..1.2, top_k in 0..60u32, min_p in -0.2f32..0.5,
            greedy: bool, penalised: bool, seed: u64,
        ) {
            let repetition = if penalised { Repetition { repeat: 1.3, presence: 1.0, ..Repetition::OFF } } else { Repetition::OFF };
            let temperature = if greedy { 0.0 } else { 0.8 };
            let sampling = Sampling { temperature, top_p: top_p.min(1.0), top_k, min_p: min_p.max(0.0), repetition };
            let text: Vec<Token> = (0..40).map(|i| i * 7 % 300).collect();
            let sampler = || Sampler { text: if penalised { text.clone() } else { Vec::new() }, ..Sampler::new(sampling, seed, &[]) };
            let (mut room, mut from_all, mut from_head) = (Room::default(), sampler(), sampler());
            let Some(want) = from_head.want() else {
                prop_assert!(!greedy && top_k == 0 && top_p >= 1.0 && min_p <= 0.0);
                return Ok(());
            };
            let device = lacuna_cuda::Device::emulated();
            let memory = device.uploaded(&logits).unwrap();
            // SAFETY: one row, which lives as long as `memory`.
            let row = unsafe { lacuna_cuda::Logits::at(memory.address(), logits.len()) };
            let mut heads = lacuna_cuda::Heads::new(&device, 1).unwrap();
            let head = heads.heads(row, &[want]).unwrap().remove(0).unwrap();
            let also: Vec<Candidate> = from_head.penalised().iter().map(|&token| (logits[token as usize], token)).collect();
            let drawn = from_head.draw_from(&head, &also, &mut room).unwrap();
            prop_assert!(drawn.is_some() || penalised);
            // With penalties a nucleus is collected in another order, so that a random number means another token.
            let same_order = greedy || top_k > 0 || top_p >= 1.0 || !penalised;
            if let Some(drawn) = drawn.filter(|_| same_order) {
                prop_assert_eq!(drawn, from_all.draw(&logits, &mut room, None).unwrap());
                prop_assert_eq!(from_head.text, from_all.text);
            }
        }

        #[test]
        fn log_probs_are_normalised(logits in prop::collection::vec(-30.0f32..30.0, 1..50)) {
            let tokens: Vec<Token> = (0..logits.len() as Token).collect();
            let total: f64 = log_probs(&logits, &tokens).unwrap().iter().map(|&p| f64::from(p).exp()).sum();
            prop_assert!((total - 1.0).abs() < 1e-4);
        }
    }
}
