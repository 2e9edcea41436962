//! Multi-head self-attention over packed sequences: no padding, no mask, no transposed copies, and memory that is linear in the length
//! of long sequences.

mod blocks;
#[cfg(feature = "candle")]
mod composed;
pub mod disentangled;
mod shape;

use crate::approx::exp;
use crate::mat::{Mat, MatMut};
use crate::matmul::matmul;
use crate::sum::{max, sum, sum2};
use crate::vectorised;
use blocks::Block;
#[cfg(feature = "candle")]
pub use composed::composed;
use disentangled::Products;
use shape::resized;
pub use shape::{Attention, Bias, Disentangled, Queries};

/// Work space; it grows to a block of the longest sequence.
#[derive(Default)]
pub struct Scratch {
    probs: Vec<f32>,
    dropped: Vec<f32>,
    dprobs: Vec<f32>,
    products: Products,
}

/// Gradients of what is added to scores, of the shapes that it has; empty where there is nothing.
#[derive(Default)]
pub struct Added<'a> {
    pub bias: &'a mut [f32],
    /// Of [`Disentangled::positions`].
    pub positions: &'a mut [f32],
}

impl Attention<'_> {
    /// Number of query tokens: the rows of the context.
    pub fn query_tokens(&self) -> usize {
        self.cu_seqlens.windows(2).map(|ends| self.queries_of(ends[1] - ends[0])).sum()
    }

    /// Number of probabilities that [`forward`] keeps for [`backward`]: Σ heads * queries * keys over the sequences that are not long.
    pub fn probs_len(&self) -> usize {
        self.each_block(|_| {})
    }

    fn check(&self, qkv: usize, probs: usize, context: usize) {
        let hidden = self.hidden();
        assert_eq!(qkv, self.tokens() * 3 * hidden, "qkv is (tokens, 3 * hidden)");
        assert_eq!(probs, self.probs_len(), "probs is what probs_len says");
        assert_eq!(context, self.query_tokens() * hidden, "context is (query tokens, hidden)");
        let longest = self.cu_seqlens.windows(2).map(|ends| ends[1] - ends[0]).max().unwrap_or(0);
        if let Some(disentangled) = &self.disentangled {
            disentangled.check(hidden, longest);
        }
        if let Some(bias) = self.bias {
            assert!(bias.longest >= longest.max(1), "a bias for {} tokens, and a sequence of {longest}", bias.longest);
            assert_eq!(bias.values.len(), self.heads * (2 * bias.longest - 1), "bias is (heads, 2 * longest - 1)");
        }
    }
}

/// `context` = dropout(softmax(scores)) v for every head of every sequence; the scores are q kᵀ / √head_size + bias, or those of
/// [`disentangled`] over √(3 head_size), of the keys in the window.
///
/// `qkv` (tokens, 3 * hidden) holds q, k and v of a token side by side. `probs` receives the probabilities before dropout, as
/// [`Attention::probs_len`] says; `context` is (query tokens, hidden).
pub fn forward(attention: &Attention, qkv: &[f32], probs: &mut [f32], context: &mut [f32], scratch: &mut Scratch) {
    attention.check(qkv.len(), probs.len(), context.len());
    let hidden = attention.hidden();
    attention.each_block(|b| {
        let probs = match &b.kept {
            Some(place) => &mut probs[place.clone()],
            None => resized(&mut scratch.probs, b.len()),
        };
        probabilities(attention, b, qkv, probs, &mut scratch.products);
        let dropped = dropped(attention, b, probs, &mut scratch.dropped);
        let out = MatMut::strided(&mut context[attention.context_offset(b)..], b.queries.len(), attention.head_size, hidden);
        matmul(out, Mat::new(dropped, b.keys.len()), attention.part(qkv, b, 2), false);
    });
}

/// The gradients of q, k and v into `dqkv` (tokens, 3 * hidden), from that of the context; those of what is added to scores are added to
/// `added`.
///
/// `qkv` and `probs` as [`forward`] saw and left them. With [`Queries::First`] the query parts of the other tokens are not written.
pub fn backward(
    attention: &Attention,
    (qkv, probs): (&[f32], &[f32]),
    dcontext: &[f32],
    dqkv: &mut [f32],
    added: Added,
    scratch: &mut Scratch,
) {
    attention.check(qkv.len(), probs.len(), dcontext.len());
    assert_eq!(dqkv.len(), qkv.len());
    assert_eq!(added.bias.len(), attention.bias.map_or(0, |bias| bias.values.len()), "its gradient is like the bias");
    assert_eq!(added.positions.len(), attention.disentangled.map_or(0, |of| of.positions.len()), "their gradient is like the positions");
    let hidden = attention.hidden();
    attention.each_block(|b| {
        let part = |p| attention.part(qkv, b, p);
        let dout = Mat::strided(&dcontext[attention.context_offset(b)..], b.queries.len(), attention.head_size, hidden);
        let probs = match &b.kept {
            Some(place) => &probs[place.clone()],
            None => {
                let probs = resized(&mut scratch.probs, b.len());
                probabilities(attention, b, qkv, probs, &mut scratch.products);
                probs
            }
        };
        // Blocks of one head share keys, and no block may have some of them.
        if !b.is_whole() && b.queries.start == 0 {
            clear(attention, b, dqkv);
        }
        let dropped = Mat::new(dropped(attention, b, probs, &mut scratch.dropped), b.keys.len());
        matmul(attention.part_mut(dqkv, b, 2), dropped.t(), dout, !b.is_whole());

        let dprobs = resized(&mut scratch.dprobs, b.len());
        matmul(MatMut::new(dprobs, b.keys.len()), dout, part(2).t(), false);
        attention.drop(b, dprobs);
        scores_backward(attention, b, probs, dprobs, added.bias);
        let dscores = Mat::new(dprobs, b.keys.len());
        matmul(attention.part_mut(dqkv, b, 0), dscores, part(1), false);
        matmul(attention.part_mut(dqkv, b, 1), dscores.t(), part(0), !b.is_whole());
        if let Some(disentangled) = &attention.disentangled {
            disentangled.backward(attention, b, (qkv, dprobs), dqkv, added.positions, &mut scratch.products);
        }
    });
}

/// The (queries, keys) probabilities of a block.
fn probabilities(attention: &Attention, b: &Block, qkv: &[f32], probs: &mut [f32], products: &mut Products) {
    matmul(MatMut::new(probs, b.keys.len()), attention.part(qkv, b, 0), attention.part(qkv, b, 1).t(), false);
    if let Some(disentangled) = &attention.disentangled {
        disentangled.add(attention, b, qkv, probs, products);
    }
    for (query, row) in b.queries.clone().zip(probs.chunks_exact_mut(b.keys.len())) {
        let seen = b.seen(query, attention.window);
        row[..seen.start].fill(0.0);
        row[seen.end..].fill(0.0);
        match attention.bias {
            Some(bias) => biased_softmax(&mut row[seen.clone()], attention.scale(), &bias.values[bias.place(b.head, query, &b.keys)][seen]),
            None => softmax(&mut row[seen], attention.scale()),
        }
    }
}

/// The gradient of the products q kᵀ, in place of that of the probabilities; that of the bias is added to `dbias`.
fn scores_backward(attention: &Attention, b: &Block, probs: &[f32], dprobs: &mut [f32], dbias: &mut [f32]) {
    let rows = dprobs.chunks_exact_mut(b.keys.len()).zip(probs.chunks_exact(b.keys.len()));
    for (query, (dprobs, probs)) in b.queries.clone().zip(rows) {
        let Some(bias) = attention.bias else {
            softmax_backward(dprobs, probs, attention.scale());
            continue;
        };
        softmax_backward(dprobs, probs, 1.0);
        dbias[bias.place(b.head, query, &b.keys)].iter_mut().zip(&*dprobs).for_each(|(sum, d)| *sum += d);
        dprobs.iter_mut().for_each(|d| *d *= attention.scale());
    }
}

/// Sets the gradients of the keys and values of a block's head to zero.
fn clear(attention: &Attention, b: &Block, dqkv: &mut [f32]) {
    let all = Block { keys: 0..b.tokens, queries: 0..0, kept: None, ..*b };
    for part in [1, 2] {
        let mut rows = attention.part_mut(dqkv, &all, part);
        (0..b.tokens).for_each(|i| rows.row_mut(i).fill(0.0));
    }
}

/// The probabilities after dropout: the given ones, or a masked copy in `scratch`.
fn dropped<'a>(attention: &Attention, b: &Block, probs: &'a [f32], scratch: &'a mut Vec<f32>) -> &'a [f32] {
    if !attention.drops() {
        return probs;
    }
    scratch.clear();
    scratch.extend_from_slice(probs);
    attention.drop(b, scratch);
    scratch
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
    /// softmax(scale * row + bias) in place.
    fn biased_softmax(row: &mut [f32], scale: f32, bias: &[f32]) {
        row.iter_mut().zip(bias).for_each(|(x, b)| *x = *x * scale + b);
        let highest = max(row);
        row.iter_mut().for_each(|x| *x = exp::<FMA>(*x - highest));
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
    use crate::dropout::Dropout;
    use crate::testing::{assert_close, dot, gradient, random, wide};

    /// Attention with explicit loops; `mask` (heads of rows, queries, tokens) multiplies the probabilities. What is added to scores is a
    /// bias or, where the attention has them, relative positions.
    fn reference(a: &Attention, qkv: &[f64], added: &[f64], mask: &[f32]) -> Vec<f64> {
        let (hidden, d) = (a.hidden(), a.head_size);
        let (mut context, mut first_query, mut mask) = (vec![0.0; a.query_tokens() * hidden], 0, mask.iter());
        for ends in a.cu_seqlens.windows(2) {
            let keys = ends[1] - ends[0];
            for (head, q) in (0..a.heads).flat_map(|head| (0..a.queries_of(keys)).map(move |q| (head, q))) {
                let at = |token: usize, part: usize, c: usize| qkv[((ends[0] + token) * 3 + part) * hidden + head * d + c];
                let of_bias = |k: usize| a.bias.map_or(0.0, |b| added[head * (2 * b.longest - 1) + b.longest - 1 + k - q]);
                let of_positions = |k: usize| {
                    let Some(of) = a.disentangled else { return 0.0 };
                    let row = of.rows[of.longest - 1 + q - k] as usize;
                    let position = |part: usize, c: usize| added[(3 * row + part) * hidden + head * d + c];
                    (0..d).map(|c| at(q, 0, c) * position(1, c) + at(k, 1, c) * position(0, c)).sum::<f64>()
                };
                let width = d as f64 * if a.disentangled.is_some() { 3.0 } else { 1.0 };
                let product = |k: usize| (0..d).map(|c| at(q, 0, c) * at(k, 1, c)).sum::<f64>();
                let score = |k: usize| (product(k) + of_positions(k)) / width.sqrt() + of_bias(k);
                let seen = |k: &usize| a.window.is_none_or(|window| k.abs_diff(q) <= window);
                let total: f64 = (0..keys).filter(seen).map(|k| score(k).exp()).sum();
                for k in 0..keys {
                    let p = if seen(&k) { score(k).exp() / total } else { 0.0 } * *mask.next().unwrap() as f64;
                    (0..d).for_each(|c| context[(first_query + q) * hidden + head * d + c] += p * at(k, 2, c));
                }
            }
            first_query += a.queries_of(keys);
        }
        context
    }

    fn mask(a: &Attention) -> Vec<f32> {
        let mut masks = Vec::new();
        for (row, ends) in a.cu_seqlens.windows(2).enumerate() {
            let keys = ends[1] - ends[0];
            let mut mask = vec![1.0; a.heads * a.queries_of(keys) * keys];
            if let Some(dropout) = a.dropout {
                dropout.row(row).apply(0, &mut mask);
            }
            masks.extend(mask);
        }
        masks
    }

    /// Attentions of all kinds over these sequences, with numbers for a bias or relative positions.
    fn kinds(cu_seqlens: &[usize], shapes: &[(usize, usize)], windows: &[Option<usize>], check: impl Fn(&Attention)) {
        let longest = cu_seqlens.windows(2).map(|ends| ends[1] - ends[0]).max().unwrap();
        for &(heads, head_size) in shapes {
            let values = random(heads * (2 * longest - 1), 7);
            let (positions, rows) = (random(8 * 3 * heads * head_size, 8), disentangled::rows(4, 9, longest));
            let disentangled = Disentangled { positions: &positions, rows: &rows, longest };
            for queries in [Queries::All, Queries::First] {
                for dropout in [None, Some(Dropout::new(1, 2, 3, 4, 0.4))] {
                    for &window in windows {
                        let plain = Attention { heads, head_size, cu_seqlens, queries, dropout, bias: None, window, disentangled: None };
                        check(&plain);
                        check(&Attention { bias: Some(Bias { values: &values, longest }), ..plain });
                        check(&Attention { disentangled: Some(disentangled), ..plain });
                    }
                }
            }
        }
    }

    /// What is added to scores.
    fn added<'a>(a: &Attention<'a>) -> &'a [f32] {
        a.bias.map(|bias| bias.values).or(a.disentangled.map(|of| of.positions)).unwrap_or_default()
    }

    /// The context and the gradients of q, k and v and of what is added to scores.
    fn run(a: &Attention, qkv: &[f32], dcontext: &[f32]) -> [Vec<f32>; 3] {
        let (mut probs, mut context, mut scratch) = (vec![0.0; a.probs_len()], vec![0.0; dcontext.len()], Scratch::default());
        forward(a, qkv, &mut probs, &mut context, &mut scratch);
        // What is not written must not be read, and what is written must not be added to.
        let (mut dqkv, mut dadded) = (vec![f32::NAN; qkv.len()], vec![0.0; added(a).len()]);
        if a.queries == Queries::First {
            dqkv.chunks_exact_mut(3 * a.hidden()).for_each(|token| token[..a.hidden()].fill(0.0));
        }
        let gradients = match a.bias {
            Some(_) => Added { bias: &mut dadded, ..Added::default() },
            None => Added { positions: &mut dadded, ..Added::default() },
        };
        backward(a, (qkv, &probs), dcontext, &mut dqkv, gradients, &mut scratch);
        [context, dqkv, dadded]
    }

    #[test]
    fn forward_and_backward() {
        kinds(&[0, 0, 1, 6, 6, 7, 10, 10], &[(1, 1), (2, 3), (3, 8)], &[None, Some(2)], |a| {
            let qkv = random(10 * 3 * a.hidden(), 1);
            let dcontext = random(a.query_tokens() * a.hidden(), 2);
            let [context, dqkv, dbias] = run(a, &qkv, &dcontext);
            let (mask, bias) = (mask(a), added(a));
            assert_close(&context, &reference(a, &wide(&qkv), &wide(bias), &mask), 1e-5);
            assert_close(&dqkv, &gradient(&qkv, |x| dot(&reference(a, x, &wide(bias), &mask), &dcontext)), 1e-4);
            assert_close(&dbias, &gradient(bias, |x| dot(&reference(a, &wide(&qkv), x, &mask), &dcontext)), 1e-4);
        });
    }

    /// Sequences of several blocks, whose probabilities are kept or not: the context, and the slopes in a random direction.
    #[test]
    fn long_sequences() {
        kinds(&[0, 300, 1000, 1003], &[(2, 4)], &[None, Some(64), Some(300)], |a| {
            let qkv = random(1003 * 3 * a.hidden(), 1);
            let dcontext = random(a.query_tokens() * a.hidden(), 2);
            let [context, dqkv, dbias] = run(a, &qkv, &dcontext);
            let (mask, bias) = (mask(a), added(a));
            assert_close(&context, &reference(a, &wide(&qkv), &wide(bias), &mask), 1e-5);
            let moved =
                |x: &[f32], by: &[f32], step: f64| -> Vec<f64> { x.iter().zip(by).map(|(&x, &by)| x as f64 + step * by as f64).collect() };
            let (along, of_bias) = (random(qkv.len(), 3), random(bias.len(), 4));
            let value = |step: f64| dot(&reference(a, &moved(&qkv, &along, step), &moved(bias, &of_bias, step), &mask), &dcontext);
            let slope = (value(1e-5) - value(-1e-5)) / 2e-5;
            let found = dot(&wide(&dqkv), &along) + dot(&wide(&dbias), &of_bias);
            assert!((found - slope).abs() < 1e-4 * slope.abs().max(1.0), "{found}, expected {slope}");
        });
    }

    #[test]
    fn memory_of_a_long_sequence_is_linear() {
        let probs = |tokens: usize, window| {
            let a = Attention { cu_seqlens: &[0, tokens], window, ..attention_of_one_head() };
            a.probs_len()
        };
        assert_eq!([probs(100, None), probs(512, None), probs(8192, None)], [100 * 100, 512 * 512, 0]);
        assert!(probs(8192, Some(64)) <= 8192 * (64 + 2 * 64));
        assert_eq!(probs(100, Some(64)), 100 * 100);
    }

    fn attention_of_one_head() -> Attention<'static> {
        let (heads, head_size, cu_seqlens) = (1, 2, &[0, 1]);
        Attention { heads, head_size, cu_seqlens, queries: Queries::All, dropout: None, bias: None, window: None, disentangled: None }
    }

    #[cfg(feature = "candle")]
    #[test]
    fn composed_is_the_same() {
        use crate::padding::Padding;
        use crate::testing::{assert_tensor, gradients, var};
        use candle_core::{Device, Tensor};
        for cu_seqlens in [vec![0, 1], vec![0, 1, 6, 7, 10], vec![0, 4, 8]] {
            kinds(&cu_seqlens, &[(1, 1), (2, 3), (3, 8)], &[None, Some(2)], |a| {
                let (rows, tokens, hidden) = (cu_seqlens.len() - 1, cu_seqlens[cu_seqlens.len() - 1], a.hidden());
                // The largest scores are far apart, so that an unmasked neighbour would show.
                let qkv: Vec<f32> = random(tokens * 3 * hidden, 1).iter().map(|x| 3.0 * x).collect();
                let dcontext = random(a.query_tokens() * hidden, 2);
                let [context, dqkv, dbias] = run(a, &qkv, &dcontext);

                let padding = Padding::new(&cu_seqlens, &Device::Cpu).unwrap();
                let mut vars = vec![var(&qkv, (tokens, 3 * hidden))];
                vars.extend(a.bias.map(|bias| var(bias.values, (a.heads, 2 * bias.longest - 1))));
                vars.extend(a.disentangled.map(|of| var(of.positions, (8, 3 * hidden))));
                let [q, k, v] = [0, 1, 2].map(|part| vars[0].narrow(1, part * hidden, hidden).unwrap().contiguous().unwrap());
                let firsts: Vec<u32> = cu_seqlens[..rows].iter().map(|&token| token as u32).collect();
                let q = match a.queries {
                    Queries::All => q,
                    Queries::First => q.index_select(&Tensor::new(firsts, &Device::Cpu).unwrap(), 0).unwrap(),
                };
                let bias = a.bias.and_then(|_| vars.get(1)).map(|bias| bias.as_tensor());
                let positions =
                    a.disentangled.map(|_| [0, 1].map(|part| vars[1].narrow(1, part * hidden, hidden).unwrap().contiguous().unwrap()));
                let positions = positions.as_ref().map(|[queries, keys]| [queries, keys]);
                let found = composed(a, &padding, [&q, &k, &v], bias, positions).unwrap();
                assert_tensor(&found, &context, 1e-5);
                let found = gradients(&found, &dcontext, &vars);
                found.iter().zip([dqkv, dbias]).for_each(|(found, expected)| assert_tensor(found, &expected, 1e-4));
            });
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
        forward(&attention_of_one_head(), &[0.0; 5], &mut [0.0], &mut [0.0; 2], &mut Scratch::default());
    }
}
