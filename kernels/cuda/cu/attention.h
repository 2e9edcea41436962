//! The arguments of attention over packed rows, and where the numbers of a row and a head lie.
#pragma once
#include "dropout.h"

/// Queries, or keys, that a block works on.
#define TILE 64
/// The longest row.
#define LONGEST 512

/// context = dropout(softmax(q kᵀ · scale)) v for every head of every row. The grid is (tiles, heads).
struct Attention {
    const number *q, *k, *v; // rows of q lie q_stride apart, those of k and v kv_stride
    number *context; // (queries, hidden)
    float *lse; // (heads, queries): log Σ exp of the scores, or null in inference
    const u32 *cu_seqlens; // (rows + 1)
    const u32 *tiles; // (tiles, 2): a row, and the first of at most TILE tokens of it
    Dropout drop;
    float scale;
    u32 q_stride, kv_stride, hidden, queries, first_only; // first_only: the first token of a row is its only query
};

/// The gradients of q, k and v, and their sums over the tokens of each tile. The grid is (tiles, heads, 2).
struct AttentionBackward {
    Attention forward;
    const number *dcontext; // (queries, hidden)
    number *dq, *dk, *dv; // like q, k and v
    float *partials; // (tiles, 3 hidden)
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

/// The dropout of the probability of a query and a key.
DEVICE float dropped(const Attention &a, const Place &p, u32 query, u32 key) {
    return a.drop.threshold ? kept(p.mask, (p.head * p.queries + query) * p.keys + key) : 1.0f;
}
