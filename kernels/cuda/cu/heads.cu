//! The likeliest tokens of rows of logits, for a sampler on the host, so that whole rows need not be copied there.
#include "number.h"

/// What a sampler needs of a row: enough of its likeliest tokens.
struct Want {
    u32 row;
    u32 top_k; // this many tokens at least; 0: not by number
    float top_p; // below 1, without top_k: tokens with this share of the probability at least
    float distance; // otherwise the tokens at most this far below the largest logit; with top_k no token further below
};

/// `count` tokens from `first` on are all whose logit is at least `floor`; OVERFLOW: there was no room for them.
struct Found { float max, total; u32 first, count, nan; float floor; };
#define OVERFLOW 0xffffffffu

/// A block of 256 threads a row.
struct Heads {
    const float *logits; // (rows, vocabulary)
    const Want *wants;
    Found *found; // as many as wants
    u32 *tokens; // (room)
    float *values; // (room)
    u32 *taken; // one number, zero before
    u32 vocabulary, room;
};

/// The logits of single tokens.
struct Picks {
    const float *logits; // (rows, vocabulary)
    const u32 *places; // (count, 2): row and token
    float *values; // (count)
    u32 vocabulary, count;
};

/// Bits that are in the order of the floats.
DEVICE u32 ordered(float x) {
    u32 bits = __float_as_uint(x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
DEVICE float unordered(u32 key) { return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key); }

DEVICE float block_max(float x) {
    __shared__ float maxima[8];
    x = warp_max(x);
    __syncthreads();
    if (lane() == 0) maxima[warp()] = x;
    __syncthreads();
    for (int i = 0; i < 8; i++) x = maxima[i] > x ? maxima[i] : x;
    return x;
}

/// The k-th largest of the threads' numbers, k at most 256: found bit by bit.
DEVICE float kth_largest(float x, u32 k) {
    u32 key = ordered(x), found = 0;
    for (int bit = 31; bit >= 0; bit--) {
        u32 tried = found | 1u << bit;
        if (block_sum(key >= tried ? 1.0 : 0.0) >= k) found = tried;
    }
    return unordered(found);
}

/// The distances below the maximum at which a nucleus may be cut, as on the host.
DEVICE float nucleus_distance(int i) {
    const float distances[8] = {1.0f, 2.0f, 3.0f, 4.5f, 6.5f, 9.0f, 13.0f, INFINITY};
    return distances[i];
}

/// A logit below which no token of a nucleus lies.
DEVICE float nucleus_floor(const float *row, u32 vocabulary, float max, double total, float top_p) {
    double mass[7] = {};
    for (u32 i = threadIdx.x; i < vocabulary; i += 256) {
        float below = max - row[i], weight = expf(-below);
        for (int d = 0; d < 7; d++) mass[d] += below <= nucleus_distance(d) ? weight : 0.0f;
    }
    float floor = -INFINITY;
    for (int d = 6; d >= 0; d--)
        if (block_sum(mass[d]) >= top_p * total) floor = max - nucleus_distance(d);
    return floor;
}

KERNEL(heads, Heads, 256) {
    __shared__ u32 first, place;
    Want want = a.wants[blockIdx.x];
    const float *row = a.logits + (u64)want.row * a.vocabulary;
    float own = -INFINITY;
    bool nan = false;
#pragma unroll 8
    for (u32 i = threadIdx.x; i < a.vocabulary; i += 256) {
        float x = row[i];
        own = x > own ? x : own;
        nan |= x != x;
    }
    float max = block_max(own), sum = 0;
#pragma unroll 8
    for (u32 i = threadIdx.x; i < a.vocabulary; i += 256) sum += expf(row[i] - max);
    double total = block_sum(sum);
    float floor = max - want.distance;
    if (want.top_k) {
        float kth = want.top_k > 256 ? -INFINITY : kth_largest(own, want.top_k);
        floor = kth > floor ? kth : floor;
    } else if (want.top_p < 1.0f) {
        floor = nucleus_floor(row, a.vocabulary, max, total, want.top_p);
    }
    u32 mine = 0;
#pragma unroll 8
    for (u32 i = threadIdx.x; i < a.vocabulary; i += 256) mine += row[i] >= floor;
    double bad = block_sum(nan ? 1.0 : 0.0);
    u32 count = (u32)block_sum((double)mine);
    if (threadIdx.x == 0) {
        first = atomicAdd(a.taken, count);
        place = 0;
        if (first > a.room || count > a.room - first) count = OVERFLOW;
        a.found[blockIdx.x] = {max, (float)total, first, count, (u32)bad, floor};
        if (count == OVERFLOW) first = OVERFLOW;
    }
    __syncthreads();
    if (first == OVERFLOW) return;
    // In any order: the host sorts them.
    for (u32 i = threadIdx.x; i < a.vocabulary; i += 256)
        if (row[i] >= floor) {
            u32 at = first + atomicAdd(&place, 1);
            a.tokens[at] = i;
            a.values[at] = row[i];
        }
}

KERNEL(picks, Picks, 256) {
    u32 i = blockIdx.x * 256 + threadIdx.x;
    if (i < a.count) a.values[i] = a.logits[(u64)a.places[2 * i] * a.vocabulary + a.places[2 * i + 1]];
}
