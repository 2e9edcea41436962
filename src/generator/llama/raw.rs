//! llama.cpp's own context parameters, where llama-cpp-2 has no name for one.

use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_sys_2 as sys;

/// The parameters behind llama-cpp-2's.
pub(super) fn raw_params(params: &mut LlamaContextParams) -> &mut sys::llama_context_params {
    const { assert!(size_of::<LlamaContextParams>() == size_of::<sys::llama_context_params>()) };
    // SAFETY: llama-cpp-2 keeps llama.cpp's parameters as its only field, which is private; equal sizes leave it no other place.
    unsafe { &mut *std::ptr::from_mut(params).cast::<sys::llama_context_params>() }
}
