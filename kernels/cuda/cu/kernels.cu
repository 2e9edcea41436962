//! All kernels in one number format.
#include "norm.cu"
#include "gelu.cu"
#if NUMBER == BF16
#include "attention_mma.cu"
#else
#include "attention.cu"
#endif
#include "head.cu"
#if NUMBER != BF16
#include "heads.cu"
#include "relative.cu"
#endif
#include "sums.cu"
#include "update.cu"

#ifndef __CUDACC__
#if NUMBER == BF16
extern "C" const Table *lacuna_emulated_bf16() { return &kernels; }
#else
extern "C" const Table *lacuna_emulated_f32() { return &kernels; }
#endif
#endif
