//! Multi-head self-attention over packed sequences: no padding, no mask, no transposed copies.

use crate::approx::exp;
use crate::dropout::Dropout;
use crate::mat::{Mat, MatMut};
use crate::matmul::matmul;
#[cfg(feature = "candle")]
use crate::padding::Padding;
use crate::sum::{max, sum, sum2};
use crate::vectorised;
#[cfg(feature = "candle")]
use candle_core::{D, Device, Result, Shape, Tensor};
use std::ops::Range;

/// Which tokens of a sequence are queries: all, or only the first (`[CLS]`), the only one that a classifier reads from the last layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queries {
    All,
    First,
}

/// The shape of an attention over the rows of a batch.
#[derive(Clone, Copy)]
pub struct Attention<'a> {
    pub heads: usize,
    /// Width of a head; hidden = heads * head_size.
    pub head_size: usize,
    /// (rows + 1) boundaries of the sequences, in tokens, from 0.
    pub cu_seqlens: &'a [usize],
    pub queries: Queries,
    /// Masks over the attention probabilities, if any.
    pub dropout: Option<Dropout>,
}

/// One head of one sequence.
struct Head {
    row: usize,
    head: usize,
    /// First token of the sequence.
    token: usize,
    keys: usize,
    /// Number of query tokens, and the place of the first one among all query tokens.
    queries: usize,
    first_query: usize,
    /// Place of its (queries, keys) probabilities.
    probs: Range<usize>,
}

impl Attention<'_> {
    fn hidden(&self) -> usize {
        self.heads * self.head_size
    }

    fn tokens(&self) -> usize {
        *self.cu_seqlens.last().expect("cu_seqlens has rows + 1 entries")
    }

    fn queries_of(&self, keys: usize) -> usize {
        match self.queries {
            Queries::All => keys,
            Queries::First => keys.min(1),
        }
    }

    /// Number of query tokens: the rows of the context.
    pub fn query_tokens(&self) -> usize {
        self.cu_seqlens.windows(2).map(|ends| self.queries_of(ends[1] - ends[0])).sum()
    }

    /// Length of the saved probabilities: Σ heads * queries * keys over the sequences.
    pub fn probs_len(&self) -> usize {
        self.cu_seqlens.windows(2).map(|ends| self.heads * self.queries_of(ends[1] - ends[0]) * (ends[1] - ends[0])).sum()
    }

    /// The heads of every sequence in turn; an empty sequence has none.
    fn each_head(&self) -> impl Iterator<Item = Head> {
        let (mut first_query, mut probs) = (0, 0);
        self.cu_seqlens.windows(2).enumerate().flat_map(move |(row, ends)| {
            let (token, keys) = (ends[0], ends[1] - ends[0]);
            let queries = self.queries_of(keys);
            let (query, prob) = (first_query, probs);
            first_query += queries;
            probs += self.heads * queries * keys;
            let heads = if keys > 0 { self.heads } else { 0 };
            (0..heads).map(move |head| {
                let start = prob + head * queries * keys;
                Head { row, head, token, keys, queries, first_query: query, probs: start..start + queries * keys }
            })
        })
    }

    fn check(&self, qkv: usize, probs: usize, context: usize) {
        let hidden = self.hidden();
        assert_eq!(qkv, self.tokens() * 3 * hidden, "qkv is (tokens, 3 * hidden)");
        assert_eq!(probs, self.probs_len(), "probs is heads * queries * keys for every sequence");
        assert_eq!(context, self.query_tokens() * hidden, "context is (query tokens, hidden)");
    }

    /// (rows, head_size) of part 0 (query), 1 (key) or 2 (value) of a head, inside (tokens, 3 * hidden).
    fn part<'a>(&self, qkv: &'a [f32], h: &Head, part: usize) -> Mat<'a> {
        let rows = if part == 0 { h.queries } else { h.keys };
        Mat::strided(&qkv[self.offset(h, part)..], rows, self.head_size, 3 * self.hidden())
    }

    fn part_mut<'a>(&self, qkv: &'a mut [f32], h: &Head, part: usize) -> MatMut<'a> {
        let rows = if part == 0 { h.queries } else { h.keys };
        MatMut::strided(&mut qkv[self.offset(h, part)..], rows, self.head_size, 3 * self.hidden())
    }

    fn offset(&self, h: &Head, part: usize) -> usize {
        (h.token * 3 + part) * self.hidden() + h.head * self.head_size
    }

    fn context_offset(&self, h: &Head) -> usize {
        h.first_query * self.hidden() + h.head * self.head_size
    }

    /// Multiplies the (queries, keys) numbers of a head by its part of its row's mask.
    fn drop(&self, h: &Head, x: &mut [f32]) {
        if let Some(dropout) = self.dropout.filter(|d| !d.is_off()) {
            dropout.row(h.row).apply(h.head * h.queries * h.keys, x);
        }
    }

    fn drops(&self) -> bool {
        self.dropout.is_some_and(|d| !d.is_off())
    }
}

/// `context` = dropout(softmax(q kᵀ / √head_size)) v for every head of every sequence.
///
/// `qkv` (tokens, 3 * hidden) holds q, k and v of a token side by side. `probs` receives the probabilities before dropout, as
/// [`Attention::probs_len`] says; `context` is (query tokens, hidden). `scratch` is work space that grows to the longest sequence's
/// square.
pub fn forward(attention: &Attention, qkv: &[f32], probs: &mut [f32], context: &mut [f32], scratch: &mut Vec<f32>) {
    attention.check(qkv.len(), probs.len(), context.len());
    let (hidden, scale) = (attention.hidden(), 1.0 / (attention.head_size as f32).sqrt());
    for h in attention.each_head() {
        let part = |p| attention.part(qkv, &h, p);
        let probs = &mut probs[h.probs.clone()];
        matmul(MatMut::new(probs, h.keys), part(0), part(1).t(), false);
        probs.chunks_exact_mut(h.keys).for_each(|row| softmax(row, scale));
        let kept = dropped(attention, &h, probs, scratch);
        let out = MatMut::strided(&mut context[attention.context_offset(&h)..], h.queries, attention.head_size, hidden);
        matmul(out, Mat::new(kept, h.keys), part(2), false);
    }
}

/// The gradients of q, k and v into `dqkv` (tokens, 3 * hidden), from that of the context.
///
/// `qkv` and `probs` as [`forward`] saw and left them. With [`Queries::First`] the query parts of the other tokens are not written.
pub fn backward(attention: &Attention, qkv: &[f32], probs: &[f32], dcontext: &[f32], dqkv: &mut [f32], scratch: &mut [Vec<f32>; 2]) {
    attention.check(qkv.len(), probs.len(), dcontext.len());
    assert_eq!(dqkv.len(), qkv.len());
    let (hidden, scale) = (attention.hidden(), 1.0 / (attention.head_size as f32).sqrt());
    let [kept, dprobs] = scratch;
    for h in attention.each_head() {
        let part = |p| attention.part(qkv, &h, p);
        let dout = Mat::strided(&dcontext[attention.context_offset(&h)..], h.queries, attention.head_size, hidden);
        let probs = &probs[h.probs.clone()];
        let kept = Mat::new(dropped(attention, &h, probs, kept), h.keys);
        matmul(attention.part_mut(dqkv, &h, 2), kept.t(), dout, false);

        dprobs.resize(probs.len(), 0.0);
        matmul(MatMut::new(dprobs, h.keys), dout, part(2).t(), false);
        attention.drop(&h, dprobs);
        for (dprobs, probs) in dprobs.chunks_exact_mut(h.keys).zip(probs.chunks_exact(h.keys)) {
            softmax_backward(dprobs, probs, scale);
        }
        let dscores = Mat::new(dprobs, h.keys);
        matmul(attention.part_mut(dqkv, &h, 0), dscores, part(1), false);
        matmul(attention.part_mut(dqkv, &h, 1), dscores.t(), part(0), false);
    }
}

/// The probabilities after dropout: the given ones, or a masked copy in `scratch`.
fn dropped<'a>(attention: &Attention, h: &Head, probs: &'a [f32], scratch: &'a mut Vec<f32>) -> &'a [f32] {
    if !attention.drops() {
        return probs;
    }
    scratch.clear();
    scratch.extend_from_slice(probs);
    attention.drop(h, scratch);
    scratch
}

/// [`forward`] of candle's operations, over rows padded to the longest. `q` is (query tokens, hidden), `k` and `v` are (tokens, hidden);
/// the context (query tokens, hidden). `padding` belongs to the same `cu_seqlens`; no row is empty.
#[cfg(feature = "candle")]
pub fn composed(attention: &Attention, padding: &Padding, [q, k, v]: [&Tensor; 3]) -> Result<Tensor> {
    let q = (q / (attention.head_size as f64).sqrt())?;
    let q = match attention.queries {
        Queries::All => padding.pad(&q)?,
        Queries::First => q.unsqueeze(1)?,
    };
    let [q, k, v] = [&q, &padding.pad(k)?, &padding.pad(v)?].map(|x| {
        // (rows, places, hidden) to (rows, heads, places, head_size)
        x.reshape((padding.rows(), (), attention.heads, attention.head_size))?.transpose(1, 2)?.contiguous()
    });
    let probs = masked_softmax(&q?.matmul(&k?.t()?)?, padding)?;
    let probs = match attention.dropout.filter(|d| !d.is_off()) {
        Some(dropout) => (&probs * padded_mask(attention, &dropout, probs.shape(), probs.device())?)?,
        None => probs,
    };
    let context = probs.matmul(&v?)?.transpose(1, 2)?.reshape((padding.rows(), (), attention.hidden()))?;
    match attention.queries {
        Queries::All => padding.unpad(&context),
        Queries::First => context.squeeze(1),
    }
}

/// softmax over the tokens of each row, of `scores` (rows, heads, queries, longest). candle's fused softmax has no gradient.
#[cfg(feature = "candle")]
fn masked_softmax(scores: &Tensor, padding: &Padding) -> Result<Tensor> {
    let mask = padding.mask().reshape((padding.rows(), 1, 1, padding.longest()))?;
    // One subtraction both masks the padding and avoids overflow in exp. The softmax is invariant to a constant subtracted from all scores
    // of a query, so no gradient is needed through it.
    let highest = scores.detach().broadcast_add(&mask)?.max_keepdim(D::Minus1)?;
    let odds = (scores - highest.broadcast_sub(&mask)?)?.exp()?;
    odds.broadcast_div(&odds.sum_keepdim(D::Minus1)?)
}

/// The dropout of the probabilities, whose `shape` is (rows, heads, queries, longest), as [`forward`] has it.
#[cfg(feature = "candle")]
fn padded_mask(attention: &Attention, dropout: &Dropout, shape: &Shape, device: &Device) -> Result<Tensor> {
    let (_, heads, queries, longest) = shape.dims4()?;
    let mut kept = vec![0; shape.elem_count()];
    for h in attention.each_head() {
        let head = &mut kept[(h.row * heads + h.head) * queries * longest..];
        for (query, places) in head.chunks_exact_mut(longest).take(h.queries).enumerate() {
            dropout.row(h.row).kept((h.head * h.queries + query) * h.keys, &mut places[..h.keys]);
        }
    }
    dropout.mask(kept, shape, device)
}

vectorised! {
    /// softmax(scale * row) in place. -inf becomes 0; a NaN, or a row of nothing but -inf, makes the whole row NaN.
    fn softmax(row: &mut [f32], scale: f32) {
        let highest = max(row);
        row.iter_mut().for_each(|x| *x = exp::<FMA>((*x - highest) * scale));
        let inverse = 1.0 / sum(row, |x| x);
        row.iter_mut().for_each(|x| *x *= inverse);
    }
}

vectorised! {
    /// The gradient of the scores before the scale, in place of that of the probabilities.
    fn softmax_backward(dprobs: &mut [f32], probs: &[f32], scale: f32) {
        let along = sum2(dprobs, probs, |d, p| d * p);
        dprobs.iter_mut().zip(probs).for_each(|(d, p)| *d = p * (*d - along) * scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, dot, gradient, random, wide};

    /// Attention with explicit loops; `mask` multiplies the probabilities.
    fn reference(a: &Attention, qkv: &[f64], mask: &[f32]) -> Vec<f64> {
        let (hidden, d) = (a.hidden(), a.head_size);
        let mut context = vec![0.0; a.query_tokens() * hidden];
        for h in a.each_head() {
            let at = |token: usize, part: usize, c: usize| qkv[((h.token + token) * 3 + part) * hidden + h.head * d + c];
            for q in 0..h.queries {
                let score = |k: usize| (0..d).map(|c| at(q, 0, c) * at(k, 1, c)).sum::<f64>() / (d as f64).sqrt();
                let total: f64 = (0..h.keys).map(|k| score(k).exp()).sum();
                for k in 0..h.keys {
                    let p = score(k).exp() / total * mask[h.probs.start + q * h.keys + k] as f64;
                    (0..d).for_each(|c| context[(h.first_query + q) * hidden + h.head * d + c] += p * at(k, 2, c));
                }
            }
        }
        context
    }

    fn mask(a: &Attention) -> Vec<f32> {
        let mut mask = vec![1.0; a.probs_len()];
        for h in a.each_head() {
            a.drop(&h, &mut mask[h.probs.clone()]);
        }
        mask
    }

    #[test]
    fn forward_and_backward() {
        let cu_seqlens = [0, 0, 1, 6, 6, 7, 10, 10];
        for queries in [Queries::All, Queries::First] {
            for dropout in [None, Some(Dropout::new(1, 2, 3, 4, 0.4))] {
                for (heads, head_size) in [(1, 1), (2, 3), (3, 8)] {
                    let a = Attention { heads, head_size, cu_seqlens: &cu_seqlens, queries, dropout };
                    let qkv = random(10 * 3 * heads * head_size, 1);
                    let dcontext = random(a.query_tokens() * heads * head_size, 2);
                    let (mut probs, mut context) = (vec![0.0; a.probs_len()], vec![0.0; dcontext.len()]);
                    forward(&a, &qkv, &mut probs, &mut context, &mut Vec::new());
                    let mask = mask(&a);
                    assert_close(&context, &reference(&a, &wide(&qkv), &mask), 1e-5);
                    let mut dqkv = vec![0.0; qkv.len()];
                    backward(&a, &qkv, &probs, &dcontext, &mut dqkv, &mut Default::default());
                    assert_close(&dqkv, &gradient(&qkv, |x| dot(&reference(&a, x, &mask), &dcontext)), 1e-4);
                }
            }
        }
    }

    #[cfg(feature = "candle")]
    #[test]
    fn composed_is_the_same() {
        use crate::testing::{assert_tensor, gradients, var};
        for cu_seqlens in [vec![0, 1], vec![0, 1, 6, 7, 10], vec![0, 4, 8]] {
            for queries in [Queries::All, Queries::First] {
                for dropout in [None, Some(Dropout::new(1, 2, 3, 4, 0.4))] {
                    for (heads, head_size) in [(1, 1), (2, 3), (3, 8)] {
                        let (rows, tokens) = (cu_seqlens.len() - 1, cu_seqlens[cu_seqlens.len() - 1]);
                        let hidden = heads * head_size;
                        let a = Attention { heads, head_size, cu_seqlens: &cu_seqlens, queries, dropout };
                        // The largest scores are far apart, so that an unmasked neighbour would show.
                        let qkv: Vec<f32> = random(tokens * 3 * hidden, 1).iter().map(|x| 3.0 * x).collect();
                        let dcontext = random(a.query_tokens() * hidden, 2);
                        let (mut probs, mut context) = (vec![0.0; a.probs_len()], vec![0.0; dcontext.len()]);
                        forward(&a, &qkv, &mut probs, &mut context, &mut Vec::new());
                        let mut dqkv = vec![0.0; qkv.len()];
                        backward(&a, &qkv, &probs, &dcontext, &mut dqkv, &mut Default::default());

                        let padding = Padding::new(&cu_seqlens, &Device::Cpu).unwrap();
                        let qkv = [var(&qkv, (tokens, 3 * hidden))];
                        let [q, k, v] = [0, 1, 2].map(|part| qkv[0].narrow(1, part * hidden, hidden).unwrap().contiguous().unwrap());
                        let firsts: Vec<u32> = cu_seqlens[..rows].iter().map(|&token| token as u32).collect();
                        let q = match queries {
                            Queries::All => q,
                            Queries::First => q.index_select(&Tensor::new(firsts, &Device::Cpu).unwrap(), 0).unwrap(),
                        };
                        let found = composed(&a, &padding, [&q, &k, &v]).unwrap();
                        assert_tensor(&found, &context, 1e-5);
                        assert_tensor(&gradients(&found, &dcontext, &qkv)[0], &dqkv, 1e-4);
                    }
                }
            }
        }
    }

    #[test]
    fn softmax_of_strange_rows() {
        let mut row = [f32::NEG_INFINITY, 0.0, 0.0];
        softmax(&mut row, 0.5);
        assert_eq!(row, [0.0, 0.5, 0.5]);
        for mut row in [[f32::NAN, 0.0], [f32::NEG_INFINITY; 2]] {
            softmax(&mut row, 1.0);
            assert!(row[0].is_nan() && row[1].is_nan());
        }
    }

    #[test]
    #[should_panic(expected = "qkv is (tokens, 3 * hidden)")]
    fn wrong_length() {
        let a = Attention { heads: 1, head_size: 2, cu_seqlens: &[0, 1], queries: Queries::All, dropout: None };
        forward(&a, &[0.0; 5], &mut [0.0], &mut [0.0; 2], &mut Vec::new());
    }
}
