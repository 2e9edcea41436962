//! All kernels in one number format.
#include "norm.cu"
#include "gelu.cu"
#if NUMBER == BF16
#include "attention_mma.cu"
#else
#include "attention.cu"
#endif
KERNEL(attention_32, Attention, 128) { attend<32, false>(a); }
KERNEL(attention_64, Attention, 128) { attend<64, false>(a); }
KERNEL(attention_biased_32, Attention, 128) { attend<32, true>(a); }
KERNEL(attention_biased_64, Attention, 128) { attend<64, true>(a); }
KERNEL(attention_backward_32, AttentionBackward, 128) { attend_backward<32, false>(a); }
KERNEL(attention_backward_64, AttentionBackward, 128) { attend_backward<64, false>(a); }
KERNEL(attention_backward_biased_32, AttentionBackward, 128) { attend_backward<32, true>(a); }
KERNEL(attention_backward_biased_64, AttentionBackward, 128) { attend_backward<64, true>(a); }
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
