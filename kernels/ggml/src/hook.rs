//! The callbacks for ggml: which weights are packed, which operations are ours, how much work space they need, and their results.

use crate::attention::{Attention, Strided, attention};
use crate::callbacks::Callbacks;
use crate::format::Format;
use crate::isa::Isa;
use crate::mul_mat::{Columns, Weights, mul_mat, work_len};
use crate::switch::{is_bypassed, is_enabled};
use crate::variant::variant;
use crate::{Unavailable, self_test};
use llama_cpp_sys_2 as sys;
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

static INSTALLED: OnceLock<Result<Isa, Unavailable>> = OnceLock::new();

/// Chooses ggml's CPU backend for this processor and the kernels for it, compares them in a few milliseconds and puts the kernels under
/// the backend. The first call does it, before any model may be loaded; later calls say how it went.
pub fn install() -> Result<Isa, Unavailable> {
    INSTALLED
        .get_or_init(|| {
            variant();
            let isa = Isa::best().ok_or(Unavailable::Processor)?;
            self_test::run(isa).map_err(Unavailable::SelfTest)?;
            let callbacks = Callbacks { weight_supported, packed_size, pack, work_size, compute };
            variant().install(&callbacks);
            Ok(isa)
        })
        .clone()
}

/// Marks attention that was planned as ours, in a parameter that ggml does not use: between planning an operation and computing it
/// the switch may have turned, and the two kernels need different work space.
const PLANNED: (usize, i32) = (15, 0x6c61_6375);

/// A weight matrix in a format of ours. One that is not loaded yet is ours only while we are enabled.
unsafe extern "C" fn weight_supported(weight: *const sys::ggml_tensor) -> bool {
    // SAFETY: ggml passes a valid tensor.
    let weight = unsafe { &*weight };
    let Some(format) = Format::from_ggml(weight.type_) else { return false };
    let (k, rows) = (weight.ne[0] as usize, weight.ne[1] as usize);
    let plain = weight.nb[1] == format.row_bytes(k) && weight.ne[2] == 1 && weight.ne[3] == 1;
    plain && rows > 0 && k > 0 && k.is_multiple_of(format.block_len()) && (is_enabled() || !weight.data.is_null())
}

/// The format, rows and row length of a weight in one of our buffers.
fn shape(weight: &sys::ggml_tensor) -> Option<(Format, usize, usize)> {
    Some((Format::from_ggml(weight.type_)?, weight.ne[1] as usize, weight.ne[0] as usize))
}

unsafe extern "C" fn packed_size(weight: *const sys::ggml_tensor) -> usize {
    // SAFETY: ggml passes a valid tensor.
    let weight = unsafe { &*weight };
    shape(weight).map_or(0, |(format, rows, k)| format.packed_len(rows, k))
}

unsafe extern "C" fn pack(weight: *mut sys::ggml_tensor, data: *const c_void) {
    // SAFETY: ggml passes a valid tensor.
    let weight = unsafe { &*weight };
    let Some((format, rows, k)) = shape(weight) else { return };
    // SAFETY: hook.cpp checked that `data` is the whole tensor; our buffer gave it `packed_size` bytes.
    unsafe {
        let source = std::slice::from_raw_parts(data.cast::<u8>(), rows * format.row_bytes(k));
        let packed = std::slice::from_raw_parts_mut(weight.data.cast::<u8>(), format.packed_len(rows, k));
        format.pack(source, rows, k, packed);
    }
}

unsafe extern "C" fn work_size(op: *mut sys::ggml_tensor, threads: c_int, size: *mut usize) -> bool {
    // SAFETY: ggml passes a valid operation with its sources and a place for the answer.
    unsafe {
        let threads = threads.max(1) as usize;
        if (*op).op == sys::GGML_OP_MUL_MAT {
            let (weight, x) = (&*(*op).src[0], &*(*op).src[1]);
            *size = work_len(weight.ne[0] as usize, columns(x).len(), threads);
            return true;
        }
        let ours = if is_enabled() && !is_bypassed() { attention_of(&*op) } else { None };
        (*op).op_params[PLANNED.0] = if ours.is_some() { PLANNED.1 } else { 0 };
        ours.is_some_and(|attention| {
            *size = attention.work_len(threads);
            true
        })
    }
}

unsafe extern "C" fn compute(
    op: *mut sys::ggml_tensor,
    ith: c_int,
    nth: c_int,
    work: *mut c_void,
    work_size: usize,
    threadpool: *mut c_void,
) -> bool {
    // SAFETY: ggml passes a valid operation, the work space that was planned, and calls this on each of `nth` threads.
    unsafe {
        let part = (ith as usize, nth as usize);
        if (*op).op == sys::GGML_OP_MUL_MAT {
            compute_mul_mat(&*op, part, work, threadpool)
        } else {
            compute_attention(&*op, part, work, work_size)
        }
    }
}

/// The columns of a tensor: all dimensions but the first.
fn columns(tensor: &sys::ggml_tensor) -> Columns {
    let [_, n1, n2, n3] = tensor.ne.map(|n| n as usize);
    Columns { base: tensor.data.cast(), counts: [n1, n2, n3], strides: [tensor.nb[1], tensor.nb[2], tensor.nb[3]] }
}

unsafe fn compute_mul_mat(op: &sys::ggml_tensor, part: (usize, usize), work: *mut c_void, threadpool: *mut c_void) -> bool {
    // SAFETY: the sources are valid; the first lies packed in one of our buffers.
    unsafe {
        let (weight, x) = (&*op.src[0], &*op.src[1]);
        let (Some((format, rows, k)), Some(Ok(isa))) = (shape(weight), INSTALLED.get()) else { return false };
        let packed = std::slice::from_raw_parts(weight.data.cast::<u8>().cast_const(), format.packed_len(rows, k));
        let barrier = || {
            if part.1 > 1 {
                variant().barrier(threadpool)
            }
        };
        mul_mat(*isa, Weights { format, rows, k, packed }, columns(x), columns(op), part, work.cast(), barrier);
        true
    }
}

unsafe fn compute_attention(op: &sys::ggml_tensor, part: (usize, usize), work: *mut c_void, work_size: usize) -> bool {
    if op.op_params[PLANNED.0] != PLANNED.1 {
        return false;
    }
    // SAFETY: ggml passes a valid operation.
    let (Some(description), Some(Ok(isa))) = (unsafe { attention_of(op) }, INSTALLED.get()) else { return false };
    assert!(work_size >= description.work_len(part.1), "attention was planned for other sizes");
    // SAFETY: the description is that of the operation, which was planned with this work space.
    unsafe { attention(*isa, &description, part, work.cast()) };
    true
}

/// Describes an attention operation that our kernel can compute.
unsafe fn attention_of(op: &sys::ggml_tensor) -> Option<Attention> {
    let [q, k, v, mask] = [op.src[0], op.src[1], op.src[2], op.src[3]];
    if mask.is_null() || !op.src[4].is_null() {
        return None;
    }
    // SAFETY: attention has these sources, and the mask is there.
    let (q, k, v, mask) = unsafe { (&*q, &*k, &*v, &*mask) };
    let [scale, alibi, softcap] = [0, 1, 2].map(|i| f32::from_bits(op.op_params[i] as u32));
    let halves = [k, v, mask].iter().all(|tensor| tensor.type_ == sys::GGML_TYPE_F16 && tensor.nb[0] == 2);
    let floats = [q, op].iter().all(|tensor| tensor.type_ == sys::GGML_TYPE_F32 && tensor.nb[0] == 4);
    let [key_dim, tokens, heads, streams] = q.ne.map(|n| n as usize);
    let [value_dim, cells, kv_heads, _] = v.ne.map(|n| n as usize);
    let fits = k.ne[1] == v.ne[1] && k.ne[2] == v.ne[2] && k.ne[3] == q.ne[3] && v.ne[3] == q.ne[3];
    let divides = key_dim % 16 == 0 && value_dim % 16 == 0 && kv_heads > 0 && heads % kv_heads == 0;
    let masked = mask.ne[0] >= k.ne[1] && mask.ne[1] >= q.ne[1] && mask.ne[2] == 1 && (mask.ne[3] == 1 || mask.ne[3] == q.ne[3]);
    if !(halves && floats && fits && divides && masked && alibi == 0.0 && softcap == 0.0) {
        return None;
    }
    let strided = |tensor: &sys::ggml_tensor, [i, j]: [usize; 2]| Strided {
        base: tensor.data.cast(),
        strides: [tensor.nb[i], tensor.nb[j], tensor.nb[3]],
    };
    let mask_stream = if mask.ne[3] == 1 { 0 } else { mask.nb[3] };
    Some(Attention {
        key_dim,
        value_dim,
        tokens,
        heads,
        kv_heads,
        cells,
        streams,
        scale,
        q: strided(q, [1, 2]),
        k: strided(k, [1, 2]),
        v: strided(v, [1, 2]),
        mask: Strided { base: mask.data.cast(), strides: [mask.nb[1], 0, mask_stream] },
        out: strided(op, [2, 1]),
    })
}
