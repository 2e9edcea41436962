//! Attention in f32 arithmetic: a warp takes one query, or in the backward one key, at a time.
#include "attention.h"

/// The D numbers of a row as floats, by the lanes of a warp.
template <int D> DEVICE void fetch(float *to, const number *from) {
    __syncwarp();
    for (int c = lane(); c < D; c += 32) to[c] = widen(from[c]);
    __syncwarp();
}

template <int D> DEVICE float dot(const float *x, const number *y) {
    float sum = 0;
#pragma unroll
    for (int c = 0; c < D; c += 2) {
        float2 pair = load2(y + c);
        sum += x[c] * pair.x + x[c + 1] * pair.y;
    }
    return sum;
}

/// Columns lane() + 32 i of Σ over j of weights[j] · rows[j].
template <int D> DEVICE void weighted_sum(float (&sum)[D / 32], const float *weights, const number *rows, u32 stride, u32 count) {
    for (int i = 0; i < D / 32; i++) sum[i] = 0;
    for (u32 j = 0; j < count; j++)
        for (int i = 0; i < D / 32; i++) sum[i] += weights[j] * widen(rows[(u64)j * stride + lane() + 32 * i]);
}

template <int D, bool BIASED> DEVICE void attend(const Attention &a) {
    __shared__ float weights[4][LONGEST], query[4][D];
    Place p = place(a, D);
    float *w = weights[warp()], *q = query[warp()];
    for (u32 i = p.first + warp(); i < p.first + TILE && i < p.queries; i += 4) {
        fetch<D>(q, a.q + p.q + (u64)i * a.q_stride);
        float highest = -INFINITY, total = 0;
        for (u32 key = lane(); key < p.keys; key += 32) {
            w[key] = dot<D>(q, a.k + p.kv + (u64)key * a.kv_stride) + bias<BIASED>(a, p, i, key);
            highest = w[key] > highest ? w[key] : highest;
        }
        highest = warp_max(highest);
        for (u32 key = lane(); key < p.keys; key += 32) total += w[key] = expf((w[key] - highest) * a.scale);
        total = warp_sum(total);
        for (u32 key = lane(); key < p.keys; key += 32) w[key] *= dropped(a, p, i, key) / total;
        __syncwarp();
        float sum[D / 32];
        weighted_sum<D>(sum, w, a.v + p.kv, a.kv_stride, p.keys);
        for (int c = 0; c < D / 32; c++) put(a.context + p.context + (u64)i * a.hidden + lane() + 32 * c, sum[c]);
        if (a.lse && lane() == 0) a.lse[(u64)p.head * a.queries + p.first_query + i] = highest * a.scale + logf(total);
    }
}

/// Adds `sum` to what this warp holds of the tile's column sums.
template <int D> DEVICE void gather(float (&total)[D / 32], const float (&sum)[D / 32]) {
    for (int c = 0; c < D / 32; c++) total[c] += sum[c];
}

/// Writes the column sums of the tile, from those of its four warps, as part `part` of the partial sums.
template <int D> DEVICE void write_sums(const AttentionBackward &b, const float (&total)[D / 32], u32 part) {
    __shared__ float sums[4][D];
    __syncthreads();
    for (int c = 0; c < D / 32; c++) sums[warp()][lane() + 32 * c] = total[c];
    __syncthreads();
    const u32 hidden = b.forward.hidden;
    if (threadIdx.x < D)
        b.partials[(u64)blockIdx.x * 3 * hidden + part * hidden + blockIdx.y * D + threadIdx.x] =
            sums[0][threadIdx.x] + sums[1][threadIdx.x] + sums[2][threadIdx.x] + sums[3][threadIdx.x];
}

/// The sum of dcontext · context of a query, by the lanes of a warp: what the softmax's gradient subtracts.
template <int D> DEVICE float along(const float *dcontext, const number *context) {
    float sum = 0;
    for (int c = lane(); c < D; c += 32) sum += dcontext[c] * widen(context[c]);
    return warp_sum(sum);
}

/// Adds the gradients of the products of up to four queries from `first` on to those by distance; in the order of the queries.
DEVICE void gather_distances(const Attention &a, const Place &p, float *by_distance, const float (*weights)[LONGEST], u32 first) {
    __syncthreads();
    for (u32 i = threadIdx.x; i < 2 * a.longest - 1; i += 128)
        for (u32 query = first; query < first + 4 && query < p.queries; query++) {
            u32 key = i + query - (a.longest - 1);
            if (key < p.keys) by_distance[i] += weights[query - first][key];
        }
    __syncthreads();
}

template <int D, bool BIASED> DEVICE void queries_backward(const AttentionBackward &b, const Place &p) {
    const Attention &a = b.forward;
    __shared__ float by_distance[BIASED ? 2 * LONGEST : 1];
    if (BIASED)
        for (u32 i = threadIdx.x; i < 2 * a.longest - 1; i += 128) by_distance[i] = 0;
    __shared__ float weights[4][LONGEST], query[4][D], dcontext[4][D];
    float *w = weights[warp()], *q = query[warp()], *d = dcontext[warp()], total[D / 32] = {};
    for (u32 first = p.first; first < p.first + TILE && first < p.queries; first += 4) {
        u32 i = first + warp();
        if (i < p.queries) {
            fetch<D>(q, a.q + p.q + (u64)i * a.q_stride);
            fetch<D>(d, b.dcontext + p.context + (u64)i * a.hidden);
            float subtracted = along<D>(d, a.context + p.context + (u64)i * a.hidden);
            float lse = a.lse[(u64)p.head * a.queries + p.first_query + i];
            for (u32 key = lane(); key < p.keys; key += 32) {
                u64 at = p.kv + (u64)key * a.kv_stride;
                float probability = expf((dot<D>(q, a.k + at) + bias<BIASED>(a, p, i, key)) * a.scale - lse);
                w[key] = probability * (dot<D>(d, a.v + at) * dropped(a, p, i, key) - subtracted) * a.scale;
            }
            __syncwarp();
            float sum[D / 32];
            weighted_sum<D>(sum, w, a.k + p.kv, a.kv_stride, p.keys);
            for (int c = 0; c < D / 32; c++) put(b.dq + p.q + (u64)i * a.q_stride + lane() + 32 * c, sum[c]);
            gather<D>(total, sum);
        }
        if (BIASED) gather_distances(a, p, by_distance, weights, first);
    }
    write_sums<D>(b, total, 0);
    if (BIASED) write_buckets(b, p, by_distance);
}

template <int D, bool BIASED> DEVICE void keys_backward(const AttentionBackward &b, const Place &p) {
    const Attention &a = b.forward;
    __shared__ float scores[4][LONGEST], probabilities[4][LONGEST], keys[4][D], values[4][D], dcontext[4][D];
    float *ds = scores[warp()], *pr = probabilities[warp()], *k = keys[warp()], *v = values[warp()], *d = dcontext[warp()];
    float of_keys[D / 32] = {}, of_values[D / 32] = {};
    for (u32 key = p.first + warp(); key < p.first + TILE && key < p.keys; key += 4) {
        u64 at = p.kv + (u64)key * a.kv_stride;
        fetch<D>(k, a.k + at);
        fetch<D>(v, a.v + at);
        for (u32 i = 0; i < p.queries; i++) {
            u64 context = p.context + (u64)i * a.hidden;
            fetch<D>(d, b.dcontext + context);
            float subtracted = along<D>(d, a.context + context), score = 0, dprobability = 0;
            for (int c = lane(); c < D; c += 32) {
                score += k[c] * widen(a.q[p.q + (u64)i * a.q_stride + c]);
                dprobability += d[c] * v[c];
            }
            score = warp_sum(score);
            dprobability = warp_sum(dprobability);
            float probability = expf((score + bias<BIASED>(a, p, i, key)) * a.scale - a.lse[(u64)p.head * a.queries + p.first_query + i]);
            float mask = dropped(a, p, i, key);
            pr[i] = probability * mask;
            ds[i] = probability * (dprobability * mask - subtracted) * a.scale;
        }
        __syncwarp();
        float sum[D / 32];
        weighted_sum<D>(sum, ds, a.q + p.q, a.q_stride, p.queries);
        for (int c = 0; c < D / 32; c++) put(b.dk + at + lane() + 32 * c, sum[c]);
        gather<D>(of_keys, sum);
        weighted_sum<D>(sum, pr, b.dcontext + p.context, a.hidden, p.queries);
        for (int c = 0; c < D / 32; c++) put(b.dv + at + lane() + 32 * c, sum[c]);
        gather<D>(of_values, sum);
    }
    write_sums<D>(b, of_keys, 1);
    write_sums<D>(b, of_values, 2);
}

template <int D, bool BIASED> DEVICE void attend_backward(const AttentionBackward &b) {
    Place p = place(b.forward, D);
    if (blockIdx.z == 0) {
        queries_backward<D, BIASED>(b, p);
    } else {
        keys_backward<D, BIASED>(b, p);
    }
}
