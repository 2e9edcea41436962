//! The part of CUDA that the kernels use, for the host: threads of a block are fibers of emulator.cpp.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

struct Index { unsigned x, y, z; };
struct float2 { float x, y; };
struct float4 { float x, y, z, w; };
struct uint4 { unsigned x, y, z, w; };
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

/// Of the running fiber.
extern Index threadIdx, blockIdx, blockDim, gridDim;

/// Waits for all threads of the block, or of the warp.
void sync_block();
void sync_warp();
/// Gives every lane of the warp a place of 64 bytes; what a lane writes before sync_warp, the others read after it. Two sets take turns.
char (*warp_places())[64];

typedef void (*Call)(const void *arguments);
/// A kernel by its name, with the size of its arguments.
struct Entry { const char *name; unsigned size; Call call; };
struct Table { Entry entries[128]; unsigned count; };

#define __shared__ static
#define __syncthreads sync_block
#define __syncwarp sync_warp
#define __restrict__ __restrict
#define DEVICE static inline
#define KERNEL(name, Arguments, threads)                                                                                    \
    static void name(Arguments a);                                                                                          \
    static const bool name##_listed = list(Entry{#name, sizeof(Arguments), [](const void *p) { name(*(const Arguments *)p); }}); \
    static void name(Arguments a)

static Table kernels;
static inline bool list(Entry entry) {
    kernels.entries[kernels.count++] = entry;
    return true;
}

template <class V> static inline V __shfl_xor_sync(unsigned, V value, int mask) {
    char(*places)[64] = warp_places();
    memcpy(places[threadIdx.x & 31], &value, sizeof(V));
    sync_warp();
    memcpy(&value, places[(threadIdx.x & 31) ^ mask], sizeof(V));
    return value;
}

static inline float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
static inline unsigned __float_as_uint(float x) {
    unsigned bits;
    memcpy(&bits, &x, 4);
    return bits;
}
/// Threads take turns at barriers alone.
static inline unsigned atomicAdd(unsigned *to, unsigned x) {
    unsigned before = *to;
    *to += x;
    return before;
}
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline float __fdividef(float x, float y) { return x / y; }
#define isfinite std::isfinite
