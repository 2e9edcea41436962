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

/// Threads of a block, which takes a row: as many as can be, since they wait for memory.
#define THREADS 1024

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

DEVICE float row_max(float x) {
    __shared__ float maxima[THREADS / 32];
    x = warp_max(x);
    __syncthreads();
    if (lane() == 0) maxima[warp()] = x;
    __syncthreads();
    return warp_max(maxima[lane()]);
}

/// The sum over the block, always in the same order; every thread gets it.
template <class V> DEVICE V row_sum_of(V x) {
    __shared__ V sums[THREADS / 32];
    x = warp_sum(x);
    __syncthreads();
    if (lane() == 0) sums[warp()] = x;
    __syncthreads();
    return warp_sum(sums[lane()]);
}

/// The k-th largest of the threads' numbers, k at most THREADS: found bit by bit.
DEVICE float kth_largest(float x, u32 k) {
    u32 key = ordered(x), found = 0;
    for (int bit = 31; bit >= 0; bit--) {
        u32 tried = found | 1u << bit;
        if (row_sum_of(u32(key >= tried)) >= k) found = tried;
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
    for (u32 i = threadIdx.x; i < vocabulary; i += THREADS) {
        float below = max - row[i], weight = expf(-below);
        for (int d = 0; d < 7; d++) mass[d] += below <= nucleus_distance(d) ? weight : 0.0f;
    }
    float floor = -INFINITY;
    for (int d = 6; d >= 0; d--)
        if (row_sum_of(mass[d]) >= top_p * total) floor = max - nucleus_distance(d);
    return floor;
}

KERNEL(heads, Heads, THREADS) {
    __shared__ u32 first, place;
    Want want = a.wants[blockIdx.x];
    const float *row = a.logits + (u64)want.row * a.vocabulary;
    float own = -INFINITY;
    bool nan = false;
#pragma unroll 8
    for (u32 i = threadIdx.x; i < a.vocabulary; i += THREADS) {
        float x = row[i];
        own = x > own ? x : own;
        nan |= x != x;
    }
    float max = row_max(own), sum = 0;
#pragma unroll 8
    for (u32 i = threadIdx.x; i < a.vocabulary; i += THREADS) sum += expf(row[i] - max);
    double total = row_sum_of((double)sum);
    float floor = max - want.distance;
    if (want.top_k) {
        float kth = want.top_k > THREADS ? -INFINITY : kth_largest(own, want.top_k);
        floor = kth > floor ? kth : floor;
    } else if (want.top_p < 1.0f) {
        floor = nucleus_floor(row, a.vocabulary, max, total, want.top_p);
    }
    u32 mine = 0;
#pragma unroll 8
    for (u32 i = threadIdx.x; i < a.vocabulary; i += THREADS) mine += row[i] >= floor;
    u32 bad = row_sum_of((u32)nan), count = row_sum_of(mine);
    if (threadIdx.x == 0) {
        // A row that takes more than its share leaves the others theirs.
        if (count > a.room / gridDim.x) count = OVERFLOW;
        first = count == OVERFLOW ? OVERFLOW : atomicAdd(a.taken, count);
        place = 0;
        a.found[blockIdx.x] = {max, (float)total, first, count, bad, floor};
    }
    __syncthreads();
    if (first == OVERFLOW) return;
    // In any order: the host sorts them.
    for (u32 i = threadIdx.x; i < a.vocabulary; i += THREADS)
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
