//! GELU in its exact form, with its slope kept for the backward.
#include "number.h"

/// activated = x Φ(x); x becomes the slope if it is wanted.
struct Gelu {
    number *x;
    number *activated;
    u64 pairs;
    u32 with_slope;
};

/// d (tokens, columns) *= slope, and the column sums of each block's tokens; the sums alone where there is no slope.
struct GeluBackward {
    number *d;
    const number *slope; // or null
    float *partials; // (gridDim.y, columns)
    u32 tokens, columns, tokens_a_block;
};

DEVICE float2 gelu(float x) {
    float cdf = 0.5f + 0.5f * erff(x * 0.70710678f);
    return make_float2(x * cdf, cdf + x * 0.3989423f * expf(-0.5f * x * x));
}

KERNEL(gelu_forward, Gelu, 256) {
    for (u64 i = blockIdx.x * 256 + threadIdx.x; i < a.pairs; i += gridDim.x * 256) {
        float2 x = load2(a.x + 2 * i), first = gelu(x.x), second = gelu(x.y);
        store2(a.activated + 2 * i, make_float2(first.x, second.x));
        if (a.with_slope) store2(a.x + 2 * i, make_float2(first.y, second.y));
    }
}

KERNEL(gelu_backward, GeluBackward, 256) {
    __shared__ float sums[8][64];
    u32 c = blockIdx.x * 64 + 2 * lane();
    u32 first = blockIdx.y * a.tokens_a_block, end = first + a.tokens_a_block < a.tokens ? first + a.tokens_a_block : a.tokens;
    float2 sum = make_float2(0, 0);
    if (c < a.columns)
        for (u32 token = first + warp(); token < end; token += 8) {
            u64 at = (u64)token * a.columns + c;
            float2 d = load2(a.d + at);
            if (a.slope) {
                float2 slope = load2(a.slope + at);
                d = make_float2(d.x * slope.x, d.y * slope.y);
                store2(a.d + at, d);
            }
            sum = make_float2(sum.x + d.x, sum.y + d.y);
        }
    store2(&sums[warp()][2 * lane()], sum);
    __syncthreads();
    c = blockIdx.x * 64 + threadIdx.x;
    if (threadIdx.x < 64 && c < a.columns) {
        float total = 0;
        for (int w = 0; w < 8; w++) total += sums[w][threadIdx.x];
        a.partials[(u64)blockIdx.y * a.columns + c] = total;
    }
}
