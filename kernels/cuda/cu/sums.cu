//! Sums in a fixed order: the embeddings' gradients, and the column sums whose parts other kernels have left.
#include "number.h"

/// Tokens that took the same row of a table: `count` of `order` from `start`. Their sum goes to row `to` of the gradients or, with
/// the flag PARTIAL, of the partial sums; it is added with ADD.
struct Segment { u32 start, count, to, flags; };
#define ADD 1
#define PARTIAL 2

/// A block a segment.
struct Scatter {
    const number *d; // (tokens, hidden)
    const u32 *order;
    const Segment *segments;
    float *grads, *partials;
    u32 hidden;
};

/// `count` rows of `columns` numbers, `stride` apart from `from` on; their sum goes to `to` in the gradients.
struct Sum { u32 from, count, stride, columns, to, flags; };

/// The grid is (sums, columns / 32).
struct Reduce {
    const float *partials;
    const Sum *sums;
    float *grads;
};

KERNEL(scatter, Scatter, 128) {
    Segment s = a.segments[blockIdx.x];
    float *to = (s.flags & PARTIAL ? a.partials : a.grads) + (u64)s.to * a.hidden;
    for (u32 c = 2 * threadIdx.x; c < a.hidden; c += 256) {
        float2 sum = s.flags & ADD ? load2(to + c) : make_float2(0, 0);
#pragma unroll 4
        for (u32 i = 0; i < s.count; i++) {
            float2 d = load2(a.d + (u64)a.order[s.start + i] * a.hidden + c);
            sum = make_float2(sum.x + d.x, sum.y + d.y);
        }
        store2(to + c, sum);
    }
}

KERNEL(reduce, Reduce, 256) {
    __shared__ float parts[8][32];
    Sum s = a.sums[blockIdx.x];
    u32 c = blockIdx.y * 32 + lane();
    if (blockIdx.y * 32 >= s.columns) return;
    float sum = 0;
    if (c < s.columns)
        for (u32 i = warp(); i < s.count; i += 8) sum += a.partials[s.from + (u64)i * s.stride + c];
    parts[warp()][lane()] = sum;
    __syncthreads();
    if (warp() == 0 && c < s.columns) {
        float total = s.flags & ADD ? a.grads[s.to + c] : 0;
        for (int w = 0; w < 8; w++) total += parts[w][lane()];
        a.grads[s.to + c] = total;
    }
}
