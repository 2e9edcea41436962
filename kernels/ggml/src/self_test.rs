//! A self-test at start, of a few milliseconds: every kernel against ggml's own, so that no wrong result gets into a data set.

use crate::attention::{self, Attention, Strided};
use crate::format::Format;
use crate::ggml::{self, AttentionInputs};
use crate::isa::Isa;
use crate::mul_mat::{Columns, Weights, mul_mat, work_len};

/// The most that a result may differ from ggml's, as a share of its length. Both round activations, each a little differently.
const TOLERANCE: f64 = 0.01;

/// Compares each kernel on `isa` with ggml's; says which one differs.
pub(crate) fn run(isa: Isa) -> Result<(), String> {
    for format in Format::ALL {
        for n in [1, 3, 19] {
            let name = format!("{format:?} product with {n} columns");
            check(&name, product(isa, format, n))?;
        }
    }
    for tokens in [1, 9] {
        check(&format!("attention of {tokens} tokens"), attend(isa, &inputs(tokens)))?;
    }
    Ok(())
}

/// Whether our result agrees with ggml's.
fn check(what: &str, (ours, theirs): (Vec<f32>, Vec<f32>)) -> Result<(), String> {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let error: f64 = ours.iter().zip(&theirs).map(|(a, b)| square(a - b)).sum();
    let length: f64 = theirs.iter().map(|&x| square(x)).sum();
    let relative = (error / length).sqrt();
    if relative <= TOLERANCE { Ok(()) } else { Err(format!("{what} differs from ggml's by {relative:.2e} of its length")) }
}

/// Numbers in [-1, 1), the same for the same seed.
fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xd1b5_4a32_d192_ed03;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1 << 23) as f32) - 1.0
    };
    std::iter::repeat_with(next).take(n).collect()
}

/// Our product and ggml's of the same random numbers.
fn product(isa: Isa, format: Format, n: usize) -> (Vec<f32>, Vec<f32>) {
    let (rows, k) = (41, 512);
    let weights = ggml::quantise(format, &random(rows * k, 1), k);
    let mut x = random(n * k, 2);
    let theirs = ggml::mul_mat(format, &weights, &x, k);
    let mut packed = vec![0; format.packed_len(rows, k)];
    format.pack(&weights, rows, k, &mut packed);
    let mut ours = vec![0.0; n * rows];
    let mut work = vec![0u8; work_len(k, n, 1)];
    let (x, y) = (Columns::new(x.as_mut_ptr(), n, k * 4), Columns::new(ours.as_mut_ptr(), n, rows * 4));
    // SAFETY: the machine has the instructions; columns and work space have their sizes; there is one thread.
    unsafe { mul_mat(isa, Weights { format, rows, k, packed: &packed }, x, y, (0, 1), work.as_mut_ptr(), || ()) };
    (ours, theirs)
}

/// Tokens that share 40 cells, with a few more each, and some cells that nobody sees.
fn inputs(tokens: usize) -> AttentionInputs {
    let (dim, heads, kv_heads, cells) = (32, 6, 2, 128);
    let half = |x: &f32| ((x.abs() * 1023.0) as u16) | (14 << 10) | if *x < 0.0 { 0x8000 } else { 0 };
    let halves = |seed| random(kv_heads * cells * dim, seed).iter().map(half).collect();
    let sees = |t: usize, cell: usize| cell < 40 || (cell < 120 && cell % tokens.max(2) == t);
    let mask = (0..tokens * cells).map(|i| if sees(i / cells, i % cells) { 0 } else { 0xfc00 }).collect();
    let q = random(heads * tokens * dim, 3).iter().map(|x| 3.0 * x).collect();
    AttentionInputs { dim, tokens, heads, kv_heads, cells, scale: 0.2, q, k: halves(4), v: halves(5), mask }
}

/// Our attention and ggml's of the same inputs.
fn attend(isa: Isa, inputs: &AttentionInputs) -> (Vec<f32>, Vec<f32>) {
    let theirs = ggml::attention(inputs);
    let mut ours = vec![0.0f32; theirs.len()];
    let operation = describe(inputs, &mut ours);
    let mut work = vec![0u8; operation.work_len(1)];
    // SAFETY: the machine has the instructions; the description is that of `inputs` and `ours`; there is one thread.
    unsafe { attention::attention(isa, &operation, (0, 1), work.as_mut_ptr()) };
    (ours, theirs)
}

/// The operation on `inputs` with results (tokens, heads, dim) to `out`.
fn describe(inputs: &AttentionInputs, out: &mut [f32]) -> Attention {
    let AttentionInputs { dim, tokens, heads, kv_heads, cells, scale, .. } = *inputs;
    let strided = |base: *mut u8, strides| Strided { base, strides };
    Attention {
        key_dim: dim,
        value_dim: dim,
        tokens,
        heads,
        kv_heads,
        cells,
        streams: 1,
        scale,
        q: strided(inputs.q.as_ptr().cast_mut().cast(), [dim * 4, tokens * dim * 4, 0]),
        k: strided(inputs.k.as_ptr().cast_mut().cast(), [dim * 2, cells * dim * 2, 0]),
        v: strided(inputs.v.as_ptr().cast_mut().cast(), [dim * 2, cells * dim * 2, 0]),
        mask: strided(inputs.mask.as_ptr().cast_mut().cast(), [cells * 2, 0, 0]),
        out: strided(out.as_mut_ptr().cast(), [heads * dim * 4, dim * 4, 0]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_passes_on_this_machine() {
        for isa in Isa::available() {
            run(isa).unwrap();
        }
    }

    #[test]
    fn a_wrong_result_is_named() {
        let error = check("x", (vec![1.0, 2.0], vec![1.0, 2.1])).unwrap_err();
        assert!(error.contains("x differs"), "{error}");
        assert!(check("x", (vec![f32::NAN, 2.0], vec![1.0, 2.0])).is_err());
    }
}
