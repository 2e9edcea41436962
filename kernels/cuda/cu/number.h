//! The number format of activations: `number` is float or bf16, as NUMBER says; and what all kernels need.
#pragma once
#ifdef __CUDACC__
#define DEVICE static __device__ __forceinline__
#define KERNEL(name, Arguments, threads) extern "C" __global__ void __launch_bounds__(threads) name(const Arguments a)
#else
#include "host.h"
#endif

typedef unsigned u32;
typedef unsigned long long u64;

/// The upper half of a float.
struct bf16 { unsigned short bits; };
#define BF16 1
#define FLOAT 2
#if NUMBER == BF16
typedef bf16 number;
#else
typedef float number;
#endif

DEVICE float widen(float x) { return x; }
DEVICE float widen(bf16 x) { return __uint_as_float((u32)x.bits << 16); }

/// Rounded to nearest even; NaN stays NaN.
DEVICE bf16 narrow(float x) {
#ifdef __CUDA_ARCH__
    bf16 y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
#else
    u32 bits = __float_as_uint(x);
    if ((bits & 0x7fffffff) > 0x7f800000) return {(unsigned short)(bits >> 16 | 0x40)};
    return {(unsigned short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
#endif
}

DEVICE void put(float *to, float x) { *to = x; }
DEVICE void put(bf16 *to, float x) { *to = narrow(x); }

/// Two neighbours in one word, the first in its low half.
DEVICE u32 pack(float x, float y) { return (u32)narrow(y).bits << 16 | narrow(x).bits; }

/// Two neighbours; their address is a multiple of two numbers.
DEVICE float2 load2(const float *x) { return *(const float2 *)x; }
DEVICE float2 load2(const bf16 *x) {
    u32 both = *(const u32 *)x;
    return make_float2(__uint_as_float(both << 16), __uint_as_float(both & 0xffff0000));
}
DEVICE void store2(float *to, float2 x) { *(float2 *)to = x; }
DEVICE void store2(bf16 *to, float2 x) { *(u32 *)to = pack(x.x, x.y); }

DEVICE u32 lane() { return threadIdx.x & 31; }
DEVICE u32 warp() { return threadIdx.x >> 5; }

template <class V> DEVICE V warp_sum(V x) {
    for (int mask = 16; mask; mask >>= 1) x += __shfl_xor_sync(0xffffffff, x, mask);
    return x;
}

template <class V> DEVICE V warp_max(V x) {
    for (int mask = 16; mask; mask >>= 1) {
        V other = __shfl_xor_sync(0xffffffff, x, mask);
        x = other > x ? other : x;
    }
    return x;
}

/// The sum over a block of 256 threads, always in the same order; every thread gets it.
DEVICE double block_sum(double x) {
    __shared__ double sums[8];
    x = warp_sum(x);
    __syncthreads();
    if (lane() == 0) sums[warp()] = x;
    __syncthreads();
    x = 0;
    for (int i = 0; i < 8; i++) x += sums[i];
    return x;
}
