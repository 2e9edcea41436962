//! Attention of candle's differentiable operations, over rows padded to the longest.

use super::shape::{Attention, Queries};
use crate::dropout::Dropout;
use crate::padding::Padding;
use candle_core::{D, Device, Result, Shape, Tensor};

/// What a key that is not seen has in place of its score: its probability is then 0. A finite number, as in padding.
const NEVER: f32 = -1e9;

/// [`super::forward`]. `q` is (query tokens, hidden), `k` and `v` are (tokens, hidden); the context (query tokens, hidden). `padding`
/// belongs to the same `cu_seqlens`; no row is empty. `bias` is that of the attention as a tensor, (heads, 2 * longest - 1) with the
/// longest of the padding; `positions` are queries and keys of the relative positions of a disentangled attention, (positions, hidden)
/// each.
pub fn composed(
    attention: &Attention,
    padding: &Padding,
    [q, k, v]: [&Tensor; 3],
    bias: Option<&Tensor>,
    positions: Option<[&Tensor; 2]>,
) -> Result<Tensor> {
    let scale = attention.scale() as f64;
    let q = (q * scale)?;
    let q = match attention.queries {
        Queries::All => padding.pad(&q)?,
        Queries::First => q.unsqueeze(1)?,
    };
    let [q, k, v] = [&q, &padding.pad(k)?, &padding.pad(v)?].map(|x| {
        // (rows, places, hidden) to (rows, heads, places, head_size)
        x.reshape((padding.rows(), (), attention.heads, attention.head_size))?.transpose(1, 2)?.contiguous()
    });
    let (q, k) = (q?, k?);
    let mut scores = q.matmul(&k.t()?)?;
    if let Some([queries, keys]) = positions {
        scores = (scores + with_positions(attention, padding, [&q, keys], false)?)?;
        scores = (scores + with_positions(attention, padding, [&(&k * scale)?, queries], true)?)?;
    }
    let scores = match bias {
        Some(bias) => scores.broadcast_add(&spread(attention, padding, bias)?)?,
        None => scores,
    };
    let probs = masked_softmax(attention, &scores, padding)?;
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

/// Number of queries of a padded row.
fn queries(attention: &Attention, padding: &Padding) -> usize {
    attention.queries_of(padding.longest())
}

/// (rows, heads, queries, longest): the products of `x` (rows, heads, places, head_size), which are queries or else keys, with the relative
/// position (positions, hidden) of each query and key.
fn with_positions(attention: &Attention, padding: &Padding, [x, positions]: [&Tensor; 2], are_keys: bool) -> Result<Tensor> {
    let (queries, longest) = (queries(attention, padding), padding.longest());
    let of = attention.disentangled.as_ref().expect("an attention with relative positions");
    let row = |query: usize, key: usize| of.rows[of.longest - 1 + query - key];
    // (1, heads, head_size, positions)
    let positions = positions.reshape(((), attention.heads, attention.head_size))?.permute((1, 2, 0))?.unsqueeze(0)?.contiguous()?;
    // (rows, heads, places, positions)
    let products = x.broadcast_matmul(&positions)?;
    let (rows, heads, places, _) = products.dims4()?;
    let others = if are_keys { queries } else { longest };
    let index = (0..places).flat_map(|place| (0..others).map(move |other| if are_keys { row(other, place) } else { row(place, other) }));
    let index = Tensor::from_iter(index.collect::<Vec<u32>>(), x.device())?.reshape((1, 1, places, others))?;
    let found = products.gather(&index.broadcast_as((rows, heads, places, others))?.contiguous()?, D::Minus1)?;
    if are_keys { found.transpose(2, 3)?.contiguous() } else { Ok(found) }
}

/// (heads, queries, longest) of a bias (heads, 2 * longest - 1).
fn spread(attention: &Attention, padding: &Padding, bias: &Tensor) -> Result<Tensor> {
    let (queries, longest) = (queries(attention, padding), padding.longest());
    let places = (0..queries).flat_map(|query| (0..longest).map(move |key| (longest - 1 + key - query) as u32));
    let places = Tensor::from_iter(places, bias.device())?;
    bias.t()?.contiguous()?.index_select(&places, 0)?.reshape((queries, longest, attention.heads))?.permute((2, 0, 1))?.contiguous()
}

/// (1, 1, queries, longest): added to the scores, 0 for the keys in the window of a query.
fn outside(attention: &Attention, padding: &Padding, window: usize, device: &Device) -> Result<Tensor> {
    let (queries, longest) = (queries(attention, padding), padding.longest());
    let mask = (0..queries).flat_map(|query| (0..longest).map(move |key: usize| if key.abs_diff(query) <= window { 0.0 } else { NEVER }));
    Tensor::from_iter(mask, device)?.reshape((1, 1, queries, longest))
}

/// softmax over the tokens of each row, of `scores` (rows, heads, queries, longest). candle's fused softmax has no gradient.
fn masked_softmax(attention: &Attention, scores: &Tensor, padding: &Padding) -> Result<Tensor> {
    let mask = padding.mask().reshape((padding.rows(), 1, 1, padding.longest()))?;
    let mask = match attention.window {
        Some(window) => mask.broadcast_add(&outside(attention, padding, window, scores.device())?)?,
        None => mask,
    };
    // One subtraction both masks the padding and avoids overflow in exp. The softmax is invariant to a constant subtracted from all scores
    // of a query, so no gradient is needed through it.
    let highest = scores.detach().broadcast_add(&mask)?.max_keepdim(D::Minus1)?;
    let odds = (scores - highest.broadcast_sub(&mask)?)?.exp()?;
    odds.broadcast_div(&odds.sum_keepdim(D::Minus1)?)
}

/// The dropout of the probabilities, whose `shape` is (rows, heads, queries, longest), as [`forward`] has it.
fn padded_mask(attention: &Attention, dropout: &Dropout, shape: &Shape, device: &Device) -> Result<Tensor> {
    let (_, heads, queries, longest) = shape.dims4()?;
    let mut kept = vec![0; shape.elem_count()];
    attention.each_block(|b| {
        let head = &mut kept[(b.row * heads + b.head) * queries * longest..];
        for (query, places) in head.chunks_exact_mut(longest).enumerate().take(b.queries.end).skip(b.queries.start) {
            let first = (b.head * b.of_queries + query) * b.tokens + b.keys.start;
            dropout.row(b.row).kept(first, &mut places[b.keys.clone()]);
        }
    });
    dropout.mask(kept, shape, device)
}
