//! Inverted dropout with the masks of the CPU's kernels: a pure function of key, row and element.
#pragma once
#include "number.h"

/// The masks of one place in one step. A threshold of 0 keeps every element.
struct Dropout {
    u64 key;
    u32 first_row;
    u32 threshold;
    float scale;
};

/// The mask of one row of the batch.
struct RowMask {
    u32 low, high, threshold;
    float scale;
};

/// SplitMix64's finaliser.
DEVICE u64 mix(u64 x) {
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

DEVICE RowMask row_mask(const Dropout &d, u32 row) {
    u64 key = mix(d.key ^ (u64)(d.first_row + row));
    return {(u32)key, (u32)(key >> 32), d.threshold, d.scale};
}

/// What element `i` is multiplied by.
DEVICE float kept(const RowMask &m, u32 i) {
    u32 h = i * 0x9e3779b9u ^ m.low;
    h = (h ^ (h >> 16)) * 0x7feb352du ^ m.high;
    h = (h ^ (h >> 15)) * 0x846ca68bu;
    return (h ^ (h >> 16)) < m.threshold ? 0.0f : m.scale;
}
