//! The gradient norm and AdamW over the flat buffers. A step whose loss or norm is not finite changes nothing.
#include "number.h"

/// Blocks of the norm; each leaves a partial sum.
#define SQUARES 256

/// Partial sums of the squares of the gradients: of the dense part, and of the word rows that have one. Those get the stamp of this step.
struct Squares {
    const float *grads; // flat
    const u32 *touched; // word rows, each once
    u32 *stamps; // (vocabulary)
    const double *losses;
    double *partials; // (SQUARES + 1): the last one is the loss
    u64 words, length; // where the dense part begins and ends
    u32 touched_count, hidden, stamp, loss_count;
};

/// A part of the dense parameters, from its begin; `decays` or not.
struct Piece { u32 start, length, decays, unused; };

/// One update. Blocks before `word_blocks` take 16 word rows each, the others a piece.
struct Update {
    float *params, *m, *v; // flat
    const float *grads;
    bf16 *rounded; // the dense part in bf16
    const u32 *stamps;
    const Piece *pieces;
    const double *partials;
    double *outcome; // loss, norm
    double max_norm; // 0: no clipping
    u64 words;
    float rate, root, keep, beta1, beta2, eps;
    u32 vocabulary, hidden, stamp, word_blocks;
};

struct Round {
    const float *from;
    bf16 *to;
    u64 length;
};

KERNEL(squares, Squares, 256) {
    double sum = 0;
    u64 thread = (u64)blockIdx.x * 256 + threadIdx.x, threads = (u64)gridDim.x * 256;
    for (u64 i = a.words + 2 * thread; i < a.length; i += 2 * threads) {
        float x = a.grads[i], y = i + 1 < a.length ? a.grads[i + 1] : 0;
        sum += (double)(x * x) + (double)(y * y);
    }
    for (u32 i = blockIdx.x; i < a.touched_count; i += gridDim.x) {
        const float *row = a.grads + (u64)a.touched[i] * a.hidden;
        for (u32 c = threadIdx.x; c < a.hidden; c += 256) sum += (double)(row[c] * row[c]);
        if (threadIdx.x == 0) a.stamps[a.touched[i]] = a.stamp;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) a.partials[blockIdx.x] = sum;
    if (blockIdx.x) return;
    double loss = 0;
    for (u32 i = threadIdx.x; i < a.loss_count; i += 256) loss += a.losses[i];
    loss = block_sum(loss);
    if (threadIdx.x == 0) a.partials[SQUARES] = loss;
}

DEVICE float adamw(const Update &a, float p, float g, float &m, float &v, float keep) {
    m = a.beta1 * m + (1 - a.beta1) * g;
    v = a.beta2 * v + (1 - a.beta2) * g * g;
    return p * keep - a.rate * m / (sqrtf(v) * a.root + a.eps);
}

/// The update of `length` numbers from `start` on, with gradients times `scale`; of none with a `scale` of 0.
DEVICE void update_range(const Update &a, u64 start, u32 length, float scale, float keep) {
    for (u32 i = 4 * threadIdx.x; i < length; i += 4 * 256) {
        u64 at = start + i;
        if (i + 4 > length) {
            for (; at < start + length; at++) {
                float m = a.m[at], v = a.v[at];
                a.params[at] = adamw(a, a.params[at], scale == 0 ? 0 : a.grads[at] * scale, m, v, keep);
                a.m[at] = m;
                a.v[at] = v;
                if (at >= a.words) a.rounded[at - a.words] = narrow(a.params[at]);
            }
            return;
        }
        float4 p = *(float4 *)(a.params + at), m = *(float4 *)(a.m + at), v = *(float4 *)(a.v + at), g = make_float4(0, 0, 0, 0);
        if (scale != 0) g = *(const float4 *)(a.grads + at);
        p.x = adamw(a, p.x, g.x * scale, m.x, v.x, keep);
        p.y = adamw(a, p.y, g.y * scale, m.y, v.y, keep);
        p.z = adamw(a, p.z, g.z * scale, m.z, v.z, keep);
        p.w = adamw(a, p.w, g.w * scale, m.w, v.w, keep);
        *(float4 *)(a.params + at) = p;
        *(float4 *)(a.m + at) = m;
        *(float4 *)(a.v + at) = v;
        if (at >= a.words) {
            bf16 *to = a.rounded + (at - a.words);
            store2(to, make_float2(p.x, p.y));
            store2(to + 2, make_float2(p.z, p.w));
        }
    }
}

/// Word rows that never had a gradient only decay.
DEVICE void update_words(const Update &a, float scale) {
    u32 first = blockIdx.x * 16, end = first + 16 < a.vocabulary ? first + 16 : a.vocabulary;
    for (u32 row = first; row < end; row++) {
        u32 stamp = a.stamps[row];
        u64 start = (u64)row * a.hidden;
        if (stamp) {
            update_range(a, start, a.hidden, stamp == a.stamp ? scale : 0, a.keep);
        } else if (a.keep != 1) {
            for (u32 c = threadIdx.x; c < a.hidden; c += 256) a.params[start + c] *= a.keep;
        }
    }
}

KERNEL(update, Update, 256) {
    double norm = sqrt(block_sum(a.partials[threadIdx.x])), loss = a.partials[SQUARES];
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        a.outcome[0] = loss;
        a.outcome[1] = norm;
    }
    if (!isfinite((float)loss) || !isfinite(norm)) return;
    double clip = a.max_norm > 0 ? a.max_norm / (norm + 1e-6) : 1;
    float scale = clip < 1 ? (float)clip : 1;
    if (blockIdx.x < a.word_blocks) {
        update_words(a, scale);
    } else {
        Piece piece = a.pieces[blockIdx.x - a.word_blocks];
        update_range(a, a.words + piece.start, piece.length, scale, piece.decays ? a.keep : 1);
    }
}

KERNEL(round_weights, Round, 256) {
    u64 i = (u64)blockIdx.x * 256 + threadIdx.x;
    if (i < a.length) a.to[i] = narrow(a.from[i]);
}
