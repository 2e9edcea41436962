//! Small graphs that ggml computes by itself: what our kernels are compared with, at start and in tests.

use crate::format::Format;
use crate::switch::bypass;
use crate::variant::variant;
use llama_cpp_sys_2 as sys;

/// A ggml context with room for a few tensors, freed when dropped.
struct Context(*mut sys::ggml_context);

impl Context {
    fn new(bytes: usize) -> Self {
        let params = sys::ggml_init_params { mem_size: bytes + (1 << 20), mem_buffer: std::ptr::null_mut(), no_alloc: false };
        // SAFETY: ggml allocates its own memory; it aborts if there is none.
        Context(unsafe { sys::ggml_init(params) })
    }

    /// A new tensor with these contents.
    fn tensor(&self, ggml_type: sys::ggml_type, ne: [usize; 3], data: &[u8]) -> *mut sys::ggml_tensor {
        // SAFETY: the context has room; the tensor is contiguous.
        unsafe {
            let tensor = sys::ggml_new_tensor_3d(self.0, ggml_type, ne[0] as i64, ne[1] as i64, ne[2] as i64);
            assert_eq!(sys::ggml_nbytes(tensor), data.len());
            std::ptr::copy_nonoverlapping(data.as_ptr(), (*tensor).data.cast(), data.len());
            tensor
        }
    }

    /// Computes `result` on one thread with ggml's kernels.
    fn compute(&self, result: *mut sys::ggml_tensor) -> Vec<f32> {
        // SAFETY: `result` is an F32 operation of this context.
        bypass(|| unsafe {
            let graph = sys::ggml_new_graph(self.0);
            sys::ggml_build_forward_expand(graph, result);
            let status = variant().compute(self.0, graph);
            assert_eq!(status, sys::GGML_STATUS_SUCCESS, "ggml could not compute its own graph");
            std::slice::from_raw_parts((*result).data.cast::<f32>(), sys::ggml_nelements(result) as usize).to_vec()
        })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: it was made by `ggml_init`.
        unsafe { sys::ggml_free(self.0) };
    }
}

fn bytes<T: Copy>(numbers: &[T]) -> &[u8] {
    // SAFETY: numbers are readable as bytes.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), std::mem::size_of_val(numbers)) }
}

/// Weights (rows, k) in ggml's layout of a format.
pub fn quantise(format: Format, weights: &[f32], k: usize) -> Vec<u8> {
    let rows = weights.len() / k;
    assert!(weights.len() == rows * k && k.is_multiple_of(format.block_len()));
    let mut quantised = vec![0u8; rows * format.row_bytes(k)];
    // SAFETY: source and destination have the sizes of `rows` rows of `k` weights.
    let written = unsafe {
        let to = quantised.as_mut_ptr().cast();
        sys::ggml_quantize_chunk(format.to_ggml(), weights.as_ptr(), to, 0, rows as i64, k as i64, std::ptr::null())
    };
    assert_eq!(written, quantised.len());
    quantised
}

/// ggml's product of quantised weights (rows, k) with columns `x` (n, k): (n, rows).
pub fn mul_mat(format: Format, weights: &[u8], x: &[f32], k: usize) -> Vec<f32> {
    let (rows, n) = (weights.len() / format.row_bytes(k), x.len() / k);
    let context = Context::new(weights.len() + 8 * (x.len() + rows * n));
    let weights = context.tensor(format.to_ggml(), [k, rows, 1], weights);
    let x = context.tensor(sys::GGML_TYPE_F32, [k, n, 1], bytes(x));
    // SAFETY: both tensors are of this context and fit.
    context.compute(unsafe { sys::ggml_mul_mat(context.0, weights, x) })
}

/// The inputs of an attention operation, contiguous: q (heads, tokens, dim), k and v (kv_heads, cells, dim) and the mask (tokens,
/// cells) in half precision.
#[derive(Clone, Debug)]
pub struct AttentionInputs {
    pub dim: usize,
    pub tokens: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub cells: usize,
    pub scale: f32,
    pub q: Vec<f32>,
    pub k: Vec<u16>,
    pub v: Vec<u16>,
    pub mask: Vec<u16>,
}

/// ggml's attention: (tokens, heads, dim).
pub fn attention(inputs: &AttentionInputs) -> Vec<f32> {
    let AttentionInputs { dim, tokens, heads, kv_heads, cells, .. } = *inputs;
    let context = Context::new(16 * (inputs.q.len() + inputs.k.len() + inputs.mask.len()));
    let q = context.tensor(sys::GGML_TYPE_F32, [dim, tokens, heads], bytes(&inputs.q));
    let k = context.tensor(sys::GGML_TYPE_F16, [dim, cells, kv_heads], bytes(&inputs.k));
    let v = context.tensor(sys::GGML_TYPE_F16, [dim, cells, kv_heads], bytes(&inputs.v));
    let mask = context.tensor(sys::GGML_TYPE_F16, [cells, tokens, 1], bytes(&inputs.mask));
    // SAFETY: all tensors are of this context and fit.
    context.compute(unsafe { sys::ggml_flash_attn_ext(context.0, q, k, v, mask, inputs.scale, 0.0, 0.0) })
}
