//! The bias of relative positions, from a number for each bucket and head to one for each head and distance.
#include "number.h"

struct RelativeBias {
    const float *table; // (buckets, heads)
    const u32 *buckets; // (distances): the bucket of each distance
    float *bias; // (heads, distances): over the scale of attention, which is applied behind the sum
    float scale;
    u32 heads, distances;
};

KERNEL(relative_bias, RelativeBias, 128) {
    u32 i = blockIdx.x * 128 + threadIdx.x;
    if (i < a.heads * a.distances) a.bias[i] = a.table[a.buckets[i % a.distances] * a.heads + i / a.distances] / a.scale;
}
