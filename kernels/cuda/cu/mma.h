//! Products of 16-bit tiles on tensor cores: mma.sync m16n8k16, and its fragments from tiles in shared memory.
//!
//! With g = lane / 4 and t = lane % 4, a lane holds of A (16, 16) rows g and g + 8 in columns 2t, 2t + 1 and 8 further; of B (16, 8)
//! column g in the rows 2t, 2t + 1 and 8 further; of C (16, 8) rows g and g + 8 in columns 2t and 2t + 1.
#pragma once
#include "number.h"

#ifdef __CUDACC__
#define ALIGNED __align__(16)
#else
#define ALIGNED __attribute__((aligned(16)))
#endif

/// c += a · b.
DEVICE void mma(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) {
#ifdef __CUDACC__
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    char(*places)[64] = warp_places();
    memcpy(places[lane()], a, 16);
    memcpy(places[lane()] + 16, b, 8);
    sync_warp();
    const u32 g = lane() / 4, t = lane() % 4;
    for (u32 i = 0; i < 4; i++) {
        u32 row = g + 8 * (i / 2), column = 2 * t + i % 2;
        for (u32 k = 0; k < 16; k++) {
            const bf16 *of_a = (const bf16 *)places[row % 8 * 4 + k % 8 / 2], *of_b = (const bf16 *)(places[column * 4 + k % 8 / 2] + 16);
            c[i] += widen(of_a[2 * (row / 8 + 2 * (k / 8)) + k % 2]) * widen(of_b[2 * (k / 8) + k % 2]);
        }
    }
#endif
}

/// A tile in shared memory: rows of D numbers, 8 more apart so that lanes meet in no bank.
template <int D> struct Tile {
    static const int STRIDE = D + 8;
    bf16 numbers[64 * (D + 8)];
};

template <int D> DEVICE u32 word(const Tile<D> &x, u32 row, u32 column) {
    return *(const u32 *)(x.numbers + row * Tile<D>::STRIDE + column);
}

/// The fragment of A whose first row and column are those of the tile.
template <int D> DEVICE void fragment_a(u32 (&a)[4], const Tile<D> &x, u32 row, u32 column) {
    u32 r = row + lane() / 4, c = column + 2 * (lane() % 4);
    a[0] = word(x, r, c);
    a[1] = word(x, r + 8, c);
    a[2] = word(x, r, c + 8);
    a[3] = word(x, r + 8, c + 8);
}

/// The fragment of B = xᵀ: its columns are rows of the tile from `row` on.
template <int D> DEVICE void fragment_bt(u32 (&b)[2], const Tile<D> &x, u32 row, u32 column) {
    u32 r = row + lane() / 4, c = column + 2 * (lane() % 4);
    b[0] = word(x, r, c);
    b[1] = word(x, r, c + 8);
}

/// The fragment of B = x.
template <int D> DEVICE void fragment_b(u32 (&b)[2], const Tile<D> &x, u32 row, u32 column) {
    const bf16 *first = x.numbers + (row + 2 * (lane() % 4)) * Tile<D>::STRIDE + column + lane() / 4;
    b[0] = (u32)first[Tile<D>::STRIDE].bits << 16 | first[0].bits;
    b[1] = (u32)first[9 * Tile<D>::STRIDE].bits << 16 | first[8 * Tile<D>::STRIDE].bits;
}

/// Two neighbouring (16, 8) results as a fragment of A (16, 16).
DEVICE void as_a(u32 (&a)[4], const float (&left)[4], const float (&right)[4]) {
    a[0] = pack(left[0], left[1]);
    a[1] = pack(left[2], left[3]);
    a[2] = pack(right[0], right[1]);
    a[3] = pack(right[2], right[3]);
}

/// c (16, 64) += 16 rows of x from `row` on, times yᵀ.
template <int D> DEVICE void multiply_t(float (&c)[8][4], const Tile<D> &x, u32 row, const Tile<D> &y) {
#pragma unroll
    for (int k = 0; k < D; k += 16) {
        u32 a[4], b[2];
        fragment_a(a, x, row, k);
#pragma unroll
        for (int j = 0; j < 8; j++) {
            fragment_bt(b, y, 8 * j, k);
            mma(c[j], a, b);
        }
    }
}

/// c (16, D) += x (16, 64) · y.
template <int D> DEVICE void multiply(float (&c)[D / 8][4], const float (&x)[8][4], const Tile<D> &y) {
#pragma unroll
    for (int k = 0; k < 4; k++) {
        u32 a[4], b[2];
        as_a(a, x[2 * k], x[2 * k + 1]);
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            fragment_b(b, y, 16 * k, 8 * n);
            mma(c[n], a, b);
        }
    }
}

/// Copies `count` rows of D numbers into a tile, by 128 threads; the other rows are zeros.
template <int D> DEVICE void load_tile(Tile<D> &tile, const bf16 *from, u32 stride, u32 count) {
#pragma unroll
    for (u32 i = threadIdx.x; i < 64 * D / 8; i += 128) {
        u32 row = i / (D / 8), column = i % (D / 8) * 8;
        uint4 eight = {0, 0, 0, 0};
        if (row < count) eight = *(const uint4 *)(from + (u64)row * stride + column);
        *(uint4 *)(tile.numbers + row * Tile<D>::STRIDE + column) = eight;
    }
}
