//! The arguments of attention over packed rows, and where the numbers of a row and a head lie.
#pragma once
#include "dropout.h"

/// Queries, or keys, that a block works on.
#define TILE 64
/// The longest row.
#define LONGEST 512

/// context = dropout(softmax((q kᵀ + bias) · scale)) v for every head of every row. The grid is (tiles, heads).
struct Attention {
    const number *q, *k, *v; // rows of q lie q_stride apart, those of k and v kv_stride
    number *context; // (queries, hidden)
    float *lse; // (heads, queries): log Σ exp of the scores, or null in inference
    const u32 *cu_seqlens; // (rows + 1)
    const u32 *tiles; // (tiles, 2): a row, and the first of at most TILE tokens of it
    const float *bias; // (heads, 2 longest - 1): for each distance of a key from its query; kernels that are biased read it
    Dropout drop;
    float scale;
    u32 q_stride, kv_stride, hidden, queries, first_only; // first_only: the first token of a row is its only query
    u32 longest; // the most tokens of a row, for the bias
};

/// The gradients of q, k and v, and their sums over the tokens of each tile. The grid is (tiles, heads, 2).
struct AttentionBackward {
    Attention forward;
    const number *dcontext; // (queries, hidden)
    number *dq, *dk, *dv; // like q, k and v
    float *partials; // (tiles, 3 hidden)
    const u32 *buckets; // (2 longest - 1): the bucket of each distance
    float *bias_partials; // (tiles, bucket_count, heads): the gradient of the number of a bucket
    u32 bucket_count;
};

/// A tile of a row, and the row's numbers for one head.
struct Place {
    u32 row, head, first, keys, queries, first_query; // first_query: among the queries of all rows
    u64 q, kv, context;
    RowMask mask;
};

DEVICE Place place(const Attention &a, u32 head_size) {
    Place p;
    p.row = a.tiles[2 * blockIdx.x];
    p.first = a.tiles[2 * blockIdx.x + 1];
    p.head = blockIdx.y;
    u32 token = a.cu_seqlens[p.row];
    p.keys = a.cu_seqlens[p.row + 1] - token;
    p.queries = a.first_only ? 1 : p.keys;
    p.first_query = a.first_only ? p.row : token;
    u32 column = p.head * head_size;
    p.q = (u64)p.first_query * a.q_stride + column;
    p.kv = (u64)token * a.kv_stride + column;
    p.context = (u64)p.first_query * a.hidden + column;
    p.mask = row_mask(a.drop, p.row);
    return p;
}

/// The place of a query's distance to a key among all distances.
DEVICE u32 distance(const Attention &a, u32 query, u32 key) { return a.longest - 1 + key - query; }

/// What the distance of a key from its query adds to their product; nothing for those that are not there.
template <bool BIASED> DEVICE float bias(const Attention &a, const Place &p, u32 query, u32 key) {
    if (!BIASED || query >= p.queries || key >= p.keys) return 0;
    return a.bias[p.head * (2 * a.longest - 1) + distance(a, query, key)];
}

/// The gradients of a tile's biases by distance become those by bucket, without the scale of the bias. By a block.
DEVICE void write_buckets(const AttentionBackward &b, const Place &p, const float *by_distance) {
    __syncthreads();
    for (u32 bucket = threadIdx.x; bucket < b.bucket_count; bucket += blockDim.x) {
        float sum = 0;
        for (u32 i = 0; i < 2 * b.forward.longest - 1; i++)
            if (b.buckets[i] == bucket) sum += by_distance[i];
        b.bias_partials[((u64)blockIdx.x * b.bucket_count + bucket) * gridDim.y + p.head] = sum / b.forward.scale;
    }
}

/// The dropout of the probability of a query and a key.
DEVICE float dropped(const Attention &a, const Place &p, u32 query, u32 key) {
    return a.drop.threshold ? kept(p.mask, (p.head * p.queries + query) * p.keys + key) : 1.0f;
}
