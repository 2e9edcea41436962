//! Attention tile by tile, generic over the vectors: first the cells that tokens share, then each token's own.

use super::cells::TILE;
use super::lanes::{Lanes, Product};
use super::operation::{Attention, Strided};
use super::work::{CHUNK, Work};
use lacuna_kernels::half;

/// The maximum before any score: below all of them, and finite.
const NO_SCORE: f32 = -1e30;

/// Up to 64 tokens, one key head, one stream.
struct Tile {
    first: usize,
    tokens: usize,
    kv_head: usize,
    stream: usize,
    /// Lanes of one head: `tokens`, filled up to whole vectors.
    stride: usize,
}

/// The operation in vectors of type `L`.
///
/// # Safety
/// As [`super::attention`]; the caller enables the instructions of `L`.
#[inline(always)]
pub(super) unsafe fn run<L: Lanes>(a: &Attention, work: &mut Work, ith: usize, nth: usize) {
    let tiles = a.tokens.div_ceil(TILE);
    let mut classified = usize::MAX;
    for unit in (ith..a.streams * tiles * a.kv_heads).step_by(nth) {
        let (tile, kv_head) = (unit / a.kv_heads, unit % a.kv_heads);
        let (stream, first) = (tile / tiles, tile % tiles * TILE);
        let tokens = TILE.min(a.tokens - first);
        let tile_of = Tile { first, tokens, kv_head, stream, stride: tokens.next_multiple_of(L::LEN) };
        // SAFETY: as the caller says; the tile lies within the operation.
        unsafe {
            if classified != tile {
                work.cells.classify(tokens, |t| a.mask.at([first + t, 0, stream]));
                classified = tile;
            }
            begin(a, work, &tile_of);
            shared::<L>(a, work, &tile_of);
            (0..tokens).for_each(|t| own::<L>(a, work, &tile_of, t));
            finish::<L>(a, work, &tile_of);
        }
    }
}

/// Nothing has been seen yet.
#[inline(always)]
unsafe fn begin(a: &Attention, work: &Work, tile: &Tile) {
    let lanes = a.group() * tile.stride;
    // SAFETY: the work space has this many lanes.
    unsafe {
        std::slice::from_raw_parts_mut(work.largest, lanes).fill(NO_SCORE);
        std::slice::from_raw_parts_mut(work.total, lanes).fill(0.0);
        std::slice::from_raw_parts_mut(work.sums, lanes * a.value_dim).fill(0.0);
    }
}

/// Processes the cells that many tokens see.
#[inline(always)]
unsafe fn shared<L: Lanes>(a: &Attention, work: &Work, tile: &Tile) {
    if work.cells.shared().is_empty() {
        return;
    }
    // SAFETY: as `run`.
    unsafe {
        transpose_queries(a, work, tile);
        for cells in work.cells.shared().chunks(CHUNK) {
            shared_chunk::<L>(a, work, tile, cells);
        }
    }
}

/// The tile's queries, scaled, as (key_dim, lanes).
#[inline(always)]
unsafe fn transpose_queries(a: &Attention, work: &Work, tile: &Tile) {
    let lanes = a.group() * tile.stride;
    // SAFETY: as `run`; the work space holds key_dim x lanes.
    unsafe {
        std::slice::from_raw_parts_mut(work.queries, a.key_dim * lanes).fill(0.0);
        for h in 0..a.group() {
            for t in 0..tile.tokens {
                let q: *const f32 = a.q.at([tile.first + t, tile.kv_head * a.group() + h, tile.stream]);
                for d in 0..a.key_dim {
                    *work.queries.add(d * lanes + h * tile.stride + t) = *q.add(d) * a.scale;
                }
            }
        }
    }
}

/// Scores, weights and sums of values for up to [`CHUNK`] shared cells.
#[inline(always)]
unsafe fn shared_chunk<L: Lanes>(a: &Attention, work: &Work, tile: &Tile, cells: &[u32]) {
    let lanes = a.group() * tile.stride;
    // SAFETY: as `run`; keys, values and scores have room for a chunk.
    unsafe {
        widen::<L>(&a.k, cells, tile, a.key_dim, work.keys);
        widen::<L>(&a.v, cells, tile, a.value_dim, work.values);
        // scores (cells, lanes) = keys (cells, key_dim) · queries (key_dim, lanes)
        L::product(Product {
            rows: cells.len(),
            cols: lanes,
            inner: a.key_dim,
            a: (work.keys, a.key_dim, 1),
            b: (work.queries, lanes),
            c: (work.scores, lanes),
            accumulate: false,
        });
        hide::<L>(a, work, tile, cells);
        softmax_chunk::<L>(a, work, tile, cells.len());
        for h in 0..a.group() {
            // sums (tokens, value_dim) += weights (cells, tokens)ᵀ · values (cells, value_dim)
            L::product(Product {
                rows: tile.tokens,
                cols: a.value_dim,
                inner: cells.len(),
                a: (work.scores.add(h * tile.stride), 1, lanes),
                b: (work.values, a.value_dim),
                c: (work.sums.add(h * tile.stride * a.value_dim), a.value_dim),
                accumulate: true,
            });
        }
    }
}

/// Some cells' keys or values as F32, (cells, dim).
#[inline(always)]
unsafe fn widen<L: Lanes>(from: &Strided, cells: &[u32], tile: &Tile, dim: usize, to: *mut f32) {
    const AHEAD: usize = 8;
    for (i, &cell) in cells.iter().enumerate() {
        if let Some(&later) = cells.get(i + AHEAD) {
            prefetch(from, later, tile, dim);
        }
        let halves: *const u16 = from.at([cell as usize, tile.kv_head, tile.stream]);
        for d in (0..dim).step_by(L::LEN) {
            // SAFETY: a cell has `dim` halves, a multiple of the vector's length.
            unsafe { L::halves(halves.add(d)).store(to.add(i * dim + d)) };
        }
    }
}

/// Applies the mask to the scores of shared cells that not every token sees.
#[inline(always)]
unsafe fn hide<L: Lanes>(a: &Attention, work: &Work, tile: &Tile, cells: &[u32]) {
    let lanes = a.group() * tile.stride;
    for (i, &cell) in cells.iter().enumerate() {
        let seen = work.cells.seen_by(cell);
        // SAFETY: scores are (cells, lanes); the mask has a row for each token.
        unsafe {
            if seen.count_ones() as usize != tile.tokens {
                for lane in (0..lanes).step_by(L::LEN) {
                    let scores = work.scores.add(i * lanes + lane);
                    let bits = (seen >> (lane % tile.stride)) as u32;
                    L::load(scores).keep(bits, L::splat(f32::NEG_INFINITY)).store(scores);
                }
            }
            if work.cells.biased() {
                for (h, t) in (0..a.group()).flat_map(|h| (0..tile.tokens).map(move |t| (h, t))) {
                    *work.scores.add(i * lanes + h * tile.stride + t) += bias(a, tile, t, cell);
                }
            }
        }
    }
}

/// What the mask adds to the score of a token and a cell.
#[inline(always)]
unsafe fn bias(a: &Attention, tile: &Tile, t: usize, cell: u32) -> f32 {
    // SAFETY: the mask has a row of `cells` halves for each token.
    half::to_f32(unsafe { *a.mask.at::<u16>([tile.first + t, 0, tile.stream]).add(cell as usize) })
}

/// Turns the scores of a chunk into weights and rescales the earlier sums to the new maximum.
#[inline(always)]
unsafe fn softmax_chunk<L: Lanes>(a: &Attention, work: &Work, tile: &Tile, cells: usize) {
    let lanes = a.group() * tile.stride;
    // SAFETY: scores are (cells, lanes), sums (lanes, value_dim).
    unsafe {
        for lane in (0..lanes).step_by(L::LEN) {
            let scores = |i: usize| work.scores.add(i * lanes + lane);
            let before = L::load(work.largest.add(lane));
            let largest = (0..cells).fold(before, |largest, i| largest.max(L::load(scores(i))));
            let factor = before.sub(largest).exp();
            let mut total = L::load(work.total.add(lane)).mul(factor);
            for i in 0..cells {
                let weight = L::load(scores(i)).sub(largest).exp();
                weight.store(scores(i));
                total = total.add(weight);
            }
            largest.store(work.largest.add(lane));
            total.store(work.total.add(lane));
            factor.store(work.factor.add(lane));
        }
        for lane in (0..a.group()).flat_map(|h| (0..tile.tokens).map(move |t| h * tile.stride + t)) {
            scale::<L>(work.sums.add(lane * a.value_dim), a.value_dim, *work.factor.add(lane));
        }
    }
}

#[inline(always)]
unsafe fn scale<L: Lanes>(numbers: *mut f32, len: usize, factor: f32) {
    if factor == 1.0 {
        return;
    }
    for d in (0..len).step_by(L::LEN) {
        // SAFETY: the caller gives `len` numbers, a multiple of the vector's length.
        unsafe { L::load(numbers.add(d)).mul(L::splat(factor)).store(numbers.add(d)) };
    }
}

/// Processes the cells that token `t` of the tile and few others see.
#[inline(always)]
unsafe fn own<L: Lanes>(a: &Attention, work: &Work, tile: &Tile, t: usize) {
    let cells = work.cells.own(t);
    if cells.is_empty() {
        return;
    }
    let row = cells.len().next_multiple_of(L::LEN);
    // SAFETY: as `run`; scores have room for (group, cells).
    unsafe {
        own_scores::<L>(a, work, tile, t, cells);
        // Prefetch the next token's first cells while this one's are computed.
        let next: &[u32] = if t + 1 < tile.tokens { work.cells.own(t + 1) } else { &[] };
        let next = || next.iter().take(L::LEN);
        next().for_each(|&cell| prefetch(&a.k, cell, tile, a.key_dim));
        for h in 0..a.group() {
            own_softmax::<L>(a, work, h * tile.stride + t, work.scores.add(h * row), row);
        }
        next().for_each(|&cell| prefetch(&a.v, cell, tile, a.value_dim));
        for (i, some) in cells.chunks(CHUNK).enumerate() {
            widen::<L>(&a.v, some, tile, a.value_dim, work.values);
            // sums (group, value_dim) += weights (group, cells) · values (cells, value_dim)
            L::product(Product {
                rows: a.group(),
                cols: a.value_dim,
                inner: some.len(),
                a: (work.scores.add(i * CHUNK), row, 1),
                b: (work.values, a.value_dim),
                c: (work.sums.add(t * a.value_dim), tile.stride * a.value_dim),
                accumulate: true,
            });
        }
    }
}

/// Scores of one token's own cells, (group, cells); the rest of a last vector is −∞.
#[inline(always)]
unsafe fn own_scores<L: Lanes>(a: &Attention, work: &Work, tile: &Tile, t: usize, cells: &[u32]) {
    let row = cells.len().next_multiple_of(L::LEN);
    // SAFETY: as `own`.
    unsafe {
        for h in 0..a.group() {
            let q: *const f32 = a.q.at([tile.first + t, tile.kv_head * a.group() + h, tile.stream]);
            for d in (0..a.key_dim).step_by(L::LEN) {
                L::load(q.add(d)).mul(L::splat(a.scale)).store(work.query.add(h * a.key_dim + d));
            }
        }
        for (i, some) in cells.chunks(L::LEN).enumerate() {
            for &cell in cells.iter().skip((i + 1) * L::LEN).take(L::LEN) {
                prefetch(&a.k, cell, tile, a.key_dim);
                prefetch(&a.v, cell, tile, a.value_dim);
            }
            widen::<L>(&a.k, some, tile, a.key_dim, work.keys);
            let present = ((1u64 << some.len()) - 1) as u32;
            for h in 0..a.group() {
                let dots = L::dots(work.keys, work.query.add(h * a.key_dim), a.key_dim);
                dots.keep(present, L::splat(f32::NEG_INFINITY)).store(work.scores.add(h * row + i * L::LEN));
            }
        }
        if work.cells.biased() {
            for (h, (i, &cell)) in (0..a.group()).flat_map(|h| cells.iter().enumerate().map(move |cell| (h, cell))) {
                *work.scores.add(h * row + i) += bias(a, tile, t, cell);
            }
        }
    }
}

/// Prefetches a cell's key or value: cells lie anywhere in the cache.
#[inline(always)]
fn prefetch(from: &Strided, cell: u32, tile: &Tile, dim: usize) {
    for line in (0..dim * 2).step_by(64) {
        lacuna_kernels::prefetch::now(from.at::<u8>([cell as usize, tile.kv_head, tile.stream]).wrapping_add(line));
    }
}

/// Turns one lane's `n` scores into weights and rescales the earlier sums to the new maximum.
#[inline(always)]
unsafe fn own_softmax<L: Lanes>(a: &Attention, work: &Work, lane: usize, scores: *mut f32, n: usize) {
    // SAFETY: `scores` points to `n` numbers, a multiple of the vector's length; the lane exists.
    unsafe {
        let before = *work.largest.add(lane);
        let largest = (0..n).step_by(L::LEN).fold(L::splat(before), |largest, i| largest.max(L::load(scores.add(i)))).largest();
        let factor = L::splat(before - largest).exp().largest();
        let mut total = L::splat(0.0);
        for i in (0..n).step_by(L::LEN) {
            let weight = L::load(scores.add(i)).sub(L::splat(largest)).exp();
            weight.store(scores.add(i));
            total = total.add(weight);
        }
        *work.largest.add(lane) = largest;
        *work.total.add(lane) = *work.total.add(lane) * factor + total.sum();
        scale::<L>(work.sums.add(lane * a.value_dim), a.value_dim, factor);
    }
}

/// Divides by the sum of weights; a token that sees nothing gets zeros.
#[inline(always)]
unsafe fn finish<L: Lanes>(a: &Attention, work: &Work, tile: &Tile) {
    for (h, t) in (0..a.group()).flat_map(|h| (0..tile.tokens).map(move |t| (h, t))) {
        let lane = h * tile.stride + t;
        let out: *mut f32 = a.out.at([tile.first + t, tile.kv_head * a.group() + h, tile.stream]);
        // SAFETY: the lane exists; the output has value_dim numbers for each token and head.
        unsafe {
            let total = *work.total.add(lane);
            let inverse = L::splat(if total > 0.0 { 1.0 / total } else { 0.0 });
            for d in (0..a.value_dim).step_by(L::LEN) {
                L::load(work.sums.add(lane * a.value_dim + d)).mul(inverse).store(out.add(d));
            }
        }
    }
}
