//! Attention on tensor cores: a block takes 64 queries or keys, each of its four warps 16 of them.
#include "attention.h"
#include "mma.h"

#ifdef __CUDACC__
#define EXP __expf
#else
#define EXP expf
#endif

/// The sum, or the largest, over the four lanes that hold a row of a result.
DEVICE float row_total(float x) {
    x += __shfl_xor_sync(0xffffffff, x, 1);
    return x + __shfl_xor_sync(0xffffffff, x, 2);
}
DEVICE float row_largest(float x) {
    float other = __shfl_xor_sync(0xffffffff, x, 1);
    x = other > x ? other : x;
    other = __shfl_xor_sync(0xffffffff, x, 2);
    return other > x ? other : x;
}

/// Tokens of a row in the tile from `first` on.
DEVICE u32 in_tile(u32 tokens, u32 first) { return tokens - first < TILE ? tokens - first : TILE; }

template <int D, bool BIASED> DEVICE void attend(const Attention &a) {
    __shared__ ALIGNED Tile<D> q, k, v;
    Place p = place(a, D);
    if (p.first >= p.queries) return;
    const u32 row = 16 * warp(), g = lane() / 4, t = lane() % 4;
    float context[D / 8][4] = {}, highest[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};
    load_tile<D>(q, a.q + p.q + (u64)p.first * a.q_stride, a.q_stride, in_tile(p.queries, p.first));
    for (u32 first = 0; first < p.keys; first += TILE) {
        u64 at = p.kv + (u64)first * a.kv_stride;
        __syncthreads();
        load_tile<D>(k, a.k + at, a.kv_stride, in_tile(p.keys, first));
        load_tile<D>(v, a.v + at, a.kv_stride, in_tile(p.keys, first));
        __syncthreads();
        float s[8][4] = {};
        multiply_t<D>(s, q, row, k);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float largest = highest[half];
            u32 query = p.first + row + g + 8 * half;
#pragma unroll
            for (int i = 0; i < 16; i++) {
                float &x = s[i / 2][2 * half + i % 2];
                x += bias<BIASED>(a, p, query, first + 8 * (i / 2) + 2 * t + i % 2);
                if (first + 8 * (i / 2) + 2 * t + i % 2 >= p.keys) x = -INFINITY;
                largest = x > largest ? x : largest;
            }
            largest = row_largest(largest);
            float shrink = EXP((highest[half] - largest) * a.scale);
            highest[half] = largest;
            total[half] *= shrink;
            for (int n = 0; n < D / 8; n++) {
                context[n][2 * half] *= shrink;
                context[n][2 * half + 1] *= shrink;
            }
#pragma unroll
            for (int i = 0; i < 16; i++) {
                float &x = s[i / 2][2 * half + i % 2];
                x = EXP((x - largest) * a.scale);
                total[half] += x;
                x *= dropped(a, p, query, first + 8 * (i / 2) + 2 * t + i % 2);
            }
        }
        multiply<D>(context, s, v);
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float sum = row_total(total[half]);
        u32 query = p.first + row + g + 8 * half;
        if (query >= p.queries) continue;
        bf16 *to = a.context + p.context + (u64)query * a.hidden + 2 * t;
        for (int n = 0; n < D / 8; n++) store2(to + 8 * n, make_float2(context[n][2 * half] / sum, context[n][2 * half + 1] / sum));
        if (a.lse && t == 0) a.lse[(u64)p.head * a.queries + p.first_query + query] = highest[half] * a.scale + logf(sum);
    }
}

/// What the backward knows of 64 queries: log Σ exp of their scores, and the sum of dcontext · context.
struct QueryRows { float lse[TILE], along[TILE]; };

/// Loads queries from `first` on; for those beyond the last one everything is 0. Two threads a query.
template <int D>
DEVICE void load_queries(QueryRows &rows, Tile<D> &q, Tile<D> &dcontext, const AttentionBackward &b, const Place &p, u32 first) {
    const Attention &a = b.forward;
    u64 at = p.context + (u64)first * a.hidden;
    load_tile<D>(q, a.q + p.q + (u64)first * a.q_stride, a.q_stride, in_tile(p.queries, first));
    load_tile<D>(dcontext, b.dcontext + at, a.hidden, in_tile(p.queries, first));
    u32 i = threadIdx.x / 2;
    bool there = first + i < p.queries;
    float sum = 0;
    if (there)
        for (int c = threadIdx.x % 2 * (D / 2); c < (int)(threadIdx.x % 2 + 1) * (D / 2); c += 2) {
            float2 d = load2(b.dcontext + at + (u64)i * a.hidden + c), x = load2(a.context + at + (u64)i * a.hidden + c);
            sum += d.x * x.x + d.y * x.y;
        }
    sum += __shfl_xor_sync(0xffffffff, sum, 1);
    rows.along[i] = sum;
    rows.lse[i] = there ? a.lse[(u64)p.head * a.queries + p.first_query + first + i] : 0;
}

/// Writes the rows of a (64, D) result that are there, 16 by each warp, and their column sums as part `part` of the partial sums.
template <int D>
DEVICE void write_rows(const AttentionBackward &b, const float (&x)[D / 8][4], bf16 *to, u32 stride, u32 count, u32 part) {
    __shared__ float sums[4][D];
    const u32 g = lane() / 4, t = lane() % 4, hidden = b.forward.hidden;
    __syncthreads();
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
        for (int half = 0; half < 2; half++) {
            u32 row = 16 * warp() + g + 8 * half;
            if (row < count) store2(to + (u64)row * stride + 8 * n + 2 * t, make_float2(x[n][2 * half], x[n][2 * half + 1]));
        }
        float left = x[n][0] + x[n][2], right = x[n][1] + x[n][3];
        for (int mask = 4; mask < 32; mask *= 2) {
            left += __shfl_xor_sync(0xffffffff, left, mask);
            right += __shfl_xor_sync(0xffffffff, right, mask);
        }
        if (g == 0) store2(&sums[warp()][8 * n + 2 * t], make_float2(left, right));
    }
    __syncthreads();
    if (threadIdx.x < D)
        b.partials[(u64)blockIdx.x * 3 * hidden + part * hidden + blockIdx.y * D + threadIdx.x] =
            sums[0][threadIdx.x] + sums[1][threadIdx.x] + sums[2][threadIdx.x] + sums[3][threadIdx.x];
}

/// Adds the gradients of the products of 64 queries with the keys from `first` on to those by distance. A warp's 16 rows at a time go
/// through `rows`, from which each thread adds up a diagonal: the order is always the same.
DEVICE void gather_distances(const Attention &a, const Place &p, float *by_distance, float *rows, const float (&ds)[8][4], u32 first) {
    const u32 g = lane() / 4, t = lane() % 4;
    for (u32 turn = 0; turn < 4; turn++) {
        __syncthreads();
        if (warp() == turn)
            for (int i = 0; i < 32; i++) rows[(g + 8 * (i % 4 / 2)) * TILE + 8 * (i / 4) + 2 * t + i % 2] = ds[i / 4][i % 4];
        __syncthreads();
        u32 query = p.first + 16 * turn;
        // The diagonals from that of the last row and the first key to that of the first row and the last key.
        if (threadIdx.x < TILE + 15) {
            float sum = 0;
            for (u32 row = 0; row < 16; row++) {
                u32 key = threadIdx.x + row - 15;
                if (key < TILE && first + key < p.keys && query + row < p.queries) sum += rows[row * TILE + key];
            }
            u32 place = a.longest - 1 + first + threadIdx.x - 15 - query;
            if (place < 2 * a.longest - 1) by_distance[place] += sum;
        }
    }
}

/// dq of 64 queries.
template <int D, bool BIASED>
DEVICE void queries_backward(const AttentionBackward &b, const Place &p, Tile<D> &q, Tile<D> &k, Tile<D> &v, Tile<D> &dcontext,
                             QueryRows &rows) {
    const Attention &a = b.forward;
    const u32 row = 16 * warp(), g = lane() / 4, t = lane() % 4;
    float dq[D / 8][4] = {};
    __shared__ float by_distance[BIASED ? 2 * LONGEST : 1];
    if (BIASED)
        for (u32 i = threadIdx.x; i < 2 * a.longest - 1; i += 128) by_distance[i] = 0;
    if (p.first < p.queries) {
        load_queries<D>(rows, q, dcontext, b, p, p.first);
        for (u32 first = 0; first < p.keys; first += TILE) {
            u64 at = p.kv + (u64)first * a.kv_stride;
            __syncthreads();
            load_tile<D>(k, a.k + at, a.kv_stride, in_tile(p.keys, first));
            load_tile<D>(v, a.v + at, a.kv_stride, in_tile(p.keys, first));
            __syncthreads();
            float s[8][4] = {}, dp[8][4] = {};
            multiply_t<D>(s, q, row, k);
            multiply_t<D>(dp, dcontext, row, v);
#pragma unroll
            for (int i = 0; i < 32; i++) {
                u32 query = row + g + 8 * (i % 4 / 2), key = first + 8 * (i / 4) + 2 * t + i % 2;
                float &x = s[i / 4][i % 4];
                float product = x + bias<BIASED>(a, p, p.first + query, key);
                float probability = key < p.keys ? EXP(product * a.scale - rows.lse[query]) : 0;
                x = probability * (dp[i / 4][i % 4] * dropped(a, p, p.first + query, key) - rows.along[query]) * a.scale;
            }
            multiply<D>(dq, s, k);
            // The values of these keys are not needed any more.
            if (BIASED) gather_distances(a, p, by_distance, (float *)v.numbers, s, first);
        }
    }
    u32 count = p.first < p.queries ? in_tile(p.queries, p.first) : 0;
    write_rows<D>(b, dq, b.dq + p.q + (u64)p.first * a.q_stride, a.q_stride, count, 0);
    if (BIASED) write_buckets(b, p, by_distance);
}

/// dk and dv of 64 keys.
template <int D, bool BIASED>
DEVICE void keys_backward(const AttentionBackward &b, const Place &p, Tile<D> &q, Tile<D> &k, Tile<D> &v, Tile<D> &dcontext,
                          QueryRows &rows) {
    const Attention &a = b.forward;
    const u32 row = 16 * warp(), g = lane() / 4, t = lane() % 4, count = in_tile(p.keys, p.first);
    const u64 at = p.kv + (u64)p.first * a.kv_stride;
    float dk[D / 8][4] = {}, dv[D / 8][4] = {};
    load_tile<D>(k, a.k + at, a.kv_stride, count);
    load_tile<D>(v, a.v + at, a.kv_stride, count);
    for (u32 first = 0; first < p.queries; first += TILE) {
        __syncthreads();
        load_queries<D>(rows, q, dcontext, b, p, first);
        __syncthreads();
        float s[8][4] = {}, dp[8][4] = {};
        multiply_t<D>(s, k, row, q);
        multiply_t<D>(dp, v, row, dcontext);
#pragma unroll
        for (int i = 0; i < 32; i++) {
            u32 key = row + g + 8 * (i % 4 / 2), query = 8 * (i / 4) + 2 * t + i % 2;
            float &x = s[i / 4][i % 4], &d = dp[i / 4][i % 4];
            float product = x + bias<BIASED>(a, p, first + query, p.first + key);
            float probability = key < count ? EXP(product * a.scale - rows.lse[query]) : 0;
            float mask = dropped(a, p, first + query, p.first + key);
            x = probability * mask;
            d = probability * (d * mask - rows.along[query]) * a.scale;
        }
        multiply<D>(dv, s, dcontext);
        multiply<D>(dk, dp, q);
    }
    write_rows<D>(b, dk, b.dk + at, a.kv_stride, count, 1);
    write_rows<D>(b, dv, b.dv + at, a.kv_stride, count, 2);
}

template <int D, bool BIASED> DEVICE void attend_backward(const AttentionBackward &b) {
    __shared__ ALIGNED Tile<D> q, k, v, dcontext;
    __shared__ QueryRows rows;
    Place p = place(b.forward, D);
    if (blockIdx.z == 0) {
        queries_backward<D, BIASED>(b, p, q, k, v, dcontext, rows);
    } else {
        keys_backward<D, BIASED>(b, p, q, k, v, dcontext, rows);
    }
}
