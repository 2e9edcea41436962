//! Embeddings or a residual sum, with dropout and LayerNorm in one pass; a warp a token. And the backward.
#include "dropout.h"

/// y (tokens, hidden) = dropout(LayerNorm(word + position + type)).
struct Embed {
    const float *words, *positions, *types; // (vocabulary, hidden); types may be null
    const u32 *ids, *position_ids, *type_ids, *rows; // (tokens)
    const float *weight, *bias; // (hidden)
    number *x_hat; // (tokens, hidden), or null in inference
    float *rstd; // (tokens)
    number *y;
    number *firsts; // (rows, hidden): the first tokens of y, or null
    Dropout drop;
    float eps;
    u32 tokens, hidden;
};

/// y (tokens, hidden) = LayerNorm(dropout(x) + residual); x becomes x_hat.
struct ResidualNorm {
    number *x;
    const number *residual;
    const u32 *position_ids, *rows; // (tokens), or null where a row is one token
    const float *weight, *bias;
    float *rstd; // (tokens), or null in inference
    number *y;
    number *firsts;
    Dropout drop;
    float eps;
    u32 tokens, hidden;
};

/// dx (tokens, hidden) from dy, and the sums of each block over its tokens for the gradients of weight and bias, and of the bias of the
/// linear layer before.
struct NormBackward {
    const number *dy;
    const number *dfirsts; // (rows, hidden): added to the first tokens of dy, or null
    const number *x_hat;
    const float *rstd, *weight;
    const u32 *position_ids, *rows;
    number *dx;
    number *branch; // dx through the dropout before the sum; null where there is no linear layer before
    float *partials; // (3, blocks, hidden): weight, bias, bias of the linear layer
    Dropout after, before; // dropout of y, and of x
    u32 tokens, hidden;
};

/// The columns 2 * (lane + 32 i) and the next of a row.
DEVICE u32 column(int i) { return 2 * (lane() + 32 * i); }

template <int PAIRS> DEVICE float row_sum(const float2 (&v)[PAIRS]) {
    float sum = 0;
    for (int i = 0; i < PAIRS; i++) sum += v[i].x + v[i].y;
    return warp_sum(sum);
}

/// v becomes x_hat; returns 1 / deviation.
template <int PAIRS> DEVICE float normalise(float2 (&v)[PAIRS], u32 hidden, float eps) {
    float mean = row_sum(v) / hidden, squares = 0;
#pragma unroll
    for (int i = 0; i < PAIRS; i++)
        if (column(i) < hidden) {
            v[i] = make_float2(v[i].x - mean, v[i].y - mean);
            squares += v[i].x * v[i].x + v[i].y * v[i].y;
        }
    float rstd = 1.0f / sqrtf(warp_sum(squares) / hidden + eps);
#pragma unroll
    for (int i = 0; i < PAIRS; i++) v[i] = make_float2(v[i].x * rstd, v[i].y * rstd);
    return rstd;
}

template <int PAIRS> DEVICE void embed(const Embed &a) {
    u32 token = blockIdx.x * 4 + warp();
    if (token >= a.tokens) return;
    const float *word = a.words + (u64)a.ids[token] * a.hidden, *place = a.positions + (u64)a.position_ids[token] * a.hidden;
    const float *type = a.types ? a.types + (u64)a.type_ids[token] * a.hidden : nullptr;
    float2 v[PAIRS];
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
        v[i] = make_float2(0, 0);
        u32 c = column(i);
        if (c >= a.hidden) continue;
        float2 w = load2(word + c), p = load2(place + c), t = type ? load2(type + c) : make_float2(0, 0);
        v[i] = make_float2(w.x + p.x + t.x, w.y + p.y + t.y);
    }
    float rstd = normalise(v, a.hidden, a.eps);
    if (a.x_hat && lane() == 0) a.rstd[token] = rstd;
    u64 at = (u64)token * a.hidden;
    u32 position = a.position_ids[token], row = a.rows[token];
    RowMask mask = row_mask(a.drop, row);
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
        u32 c = column(i);
        if (c >= a.hidden) continue;
        float2 weight = load2(a.weight + c), bias = load2(a.bias + c);
        float2 y = make_float2(v[i].x * weight.x + bias.x, v[i].y * weight.y + bias.y);
        if (a.drop.threshold) y = make_float2(y.x * kept(mask, position * a.hidden + c), y.y * kept(mask, position * a.hidden + c + 1));
        if (a.x_hat) store2(a.x_hat + at + c, v[i]);
        store2(a.y + at + c, y);
        if (a.firsts && position == 0) store2(a.firsts + (u64)row * a.hidden + c, y);
    }
}

template <int PAIRS> DEVICE void residual_norm(const ResidualNorm &a) {
    u32 token = blockIdx.x * 4 + warp();
    if (token >= a.tokens) return;
    u64 at = (u64)token * a.hidden;
    u32 position = a.position_ids ? a.position_ids[token] : 0, row = a.rows ? a.rows[token] : token;
    RowMask mask = row_mask(a.drop, row);
    float2 v[PAIRS];
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
        v[i] = make_float2(0, 0);
        u32 c = column(i);
        if (c >= a.hidden) continue;
        float2 x = load2(a.x + at + c), r = load2(a.residual + at + c);
        if (a.drop.threshold) x = make_float2(x.x * kept(mask, position * a.hidden + c), x.y * kept(mask, position * a.hidden + c + 1));
        v[i] = make_float2(x.x + r.x, x.y + r.y);
    }
    float rstd = normalise(v, a.hidden, a.eps);
    if (a.rstd && lane() == 0) a.rstd[token] = rstd;
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
        u32 c = column(i);
        if (c >= a.hidden) continue;
        float2 weight = load2(a.weight + c), bias = load2(a.bias + c);
        float2 y = make_float2(v[i].x * weight.x + bias.x, v[i].y * weight.y + bias.y);
        if (a.rstd) store2(a.x + at + c, v[i]);
        store2(a.y + at + c, y);
        if (a.firsts && position == 0) store2(a.firsts + (u64)row * a.hidden + c, y);
    }
}

/// Sums what the 8 warps of a block hold, column by column in the order of the warps, into `to` (hidden).
template <int PAIRS> DEVICE void sum_warps(const float2 (&v)[PAIRS], float *to, u32 hidden) {
    __shared__ float sums[8][64 * PAIRS];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < PAIRS; i++) store2(&sums[warp()][column(i)], v[i]);
    __syncthreads();
    for (u32 c = threadIdx.x; c < hidden; c += 256) {
        float sum = 0;
        for (int w = 0; w < 8; w++) sum += sums[w][c];
        to[c] = sum;
    }
}

template <int PAIRS> DEVICE void norm_backward(const NormBackward &a) {
    float2 dweight[PAIRS], dbias[PAIRS], dlinear[PAIRS];
#pragma unroll
    for (int i = 0; i < PAIRS; i++) dweight[i] = dbias[i] = dlinear[i] = make_float2(0, 0);
    for (u32 token = blockIdx.x * 8 + warp(); token < a.tokens; token += gridDim.x * 8) {
        u64 at = (u64)token * a.hidden;
        u32 position = a.position_ids ? a.position_ids[token] : 0, row = a.rows ? a.rows[token] : token;
        const number *dfirst = a.dfirsts && position == 0 ? a.dfirsts + (u64)row * a.hidden : nullptr;
        RowMask after = row_mask(a.after, row), before = row_mask(a.before, row);
        float2 d[PAIRS], x[PAIRS];
        float mean = 0, along = 0;
#pragma unroll
        for (int i = 0; i < PAIRS; i++) {
            d[i] = x[i] = make_float2(0, 0);
            u32 c = column(i), element = position * a.hidden + c;
            if (c >= a.hidden) continue;
            d[i] = load2(a.dy + at + c);
            x[i] = load2(a.x_hat + at + c);
            float2 f = dfirst ? load2(dfirst + c) : make_float2(0, 0), weight = load2(a.weight + c);
            d[i] = make_float2(d[i].x + f.x, d[i].y + f.y);
            if (a.after.threshold) d[i] = make_float2(d[i].x * kept(after, element), d[i].y * kept(after, element + 1));
            dweight[i] = make_float2(dweight[i].x + d[i].x * x[i].x, dweight[i].y + d[i].y * x[i].y);
            dbias[i] = make_float2(dbias[i].x + d[i].x, dbias[i].y + d[i].y);
            d[i] = make_float2(d[i].x * weight.x, d[i].y * weight.y);
            mean += d[i].x + d[i].y;
            along += d[i].x * x[i].x + d[i].y * x[i].y;
        }
        mean = warp_sum(mean) / a.hidden;
        along = warp_sum(along) / a.hidden;
        float rstd = a.rstd[token];
#pragma unroll
        for (int i = 0; i < PAIRS; i++) {
            u32 c = column(i), element = position * a.hidden + c;
            if (c >= a.hidden) continue;
            float2 dx = make_float2(rstd * (d[i].x - mean - x[i].x * along), rstd * (d[i].y - mean - x[i].y * along));
            store2(a.dx + at + c, dx);
            if (a.before.threshold) {
                dx = make_float2(dx.x * kept(before, element), dx.y * kept(before, element + 1));
                store2(a.branch + at + c, dx);
            }
            dlinear[i] = make_float2(dlinear[i].x + dx.x, dlinear[i].y + dx.y);
        }
    }
    u64 next = (u64)gridDim.x * a.hidden;
    float *to = a.partials + (u64)blockIdx.x * a.hidden;
    sum_warps(dweight, to, a.hidden);
    sum_warps(dbias, to + next, a.hidden);
    if (a.branch) sum_warps(dlinear, to + 2 * next, a.hidden);
}

// A kernel for each number of column pairs that a lane holds: hidden sizes up to 384, 768 and 1024.
#define OF_WIDTH(pairs)                                                              \
    KERNEL(embed_##pairs, Embed, 128) { embed<pairs>(a); }                           \
    KERNEL(residual_norm_##pairs, ResidualNorm, 128) { residual_norm<pairs>(a); }    \
    KERNEL(norm_backward_##pairs, NormBackward, 256) { norm_backward<pairs>(a); }
OF_WIDTH(6)
OF_WIDTH(12)
OF_WIDTH(16)
