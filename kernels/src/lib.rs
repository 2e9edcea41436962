//! The operations of a small transformer, forward and backward, over packed tokens.
//!
//! One file an operation. Every function works on flat `f32` slices, checks their lengths (a wrong length is a bug of the caller
//! and panics), runs on the calling thread and allocates nothing that grows with the batch unless it says so. Sequences of different
//! lengths lie one after the other without padding: `cu_seqlens` holds their `rows + 1` boundaries, in tokens.
//!
//! The inner loops are plain Rust in a form that vectorises; they are compiled for several kinds of processors, and the one for this
//! machine is chosen at run time (`cpu.rs`).
//!
//! With the feature `candle`, an operation's `composed` function computes the same with candle's differentiable operations, for candle's
//! devices without kernels of ours. Its gradients are candle's; tests check that values and gradients agree. Operations that are a
//! single call of candle's (ReLU, tanh) have no `composed`.

pub mod adamw;
pub mod approx;
pub mod attention;
pub mod binary_cross_entropy;
pub mod cpu;
pub mod cross_entropy;
pub mod dropout;
pub mod embedding;
pub mod geglu;
pub mod gelu;
pub mod half;
pub mod layer_norm;
pub mod linear;
pub mod mat;
pub mod matmul;
pub mod packed;
#[cfg(feature = "candle")]
pub mod padding;
pub mod prefetch;
pub mod relative_bias;
pub mod relu;
pub mod rotary;
pub mod sum;
pub mod tanh;
mod tile;

#[cfg(test)]
mod testing;
