//! What ggml calls: the functions that hook.cpp is given.

use llama_cpp_sys_2 as sys;
use std::ffi::{c_int, c_void};

/// Mirrors `lacuna_callbacks` of hook.cpp.
#[repr(C)]
pub(crate) struct Callbacks {
    pub weight_supported: unsafe extern "C" fn(*const sys::ggml_tensor) -> bool,
    pub packed_size: unsafe extern "C" fn(*const sys::ggml_tensor) -> usize,
    pub pack: unsafe extern "C" fn(*mut sys::ggml_tensor, *const c_void),
    pub work_size: unsafe extern "C" fn(*mut sys::ggml_tensor, c_int, *mut usize) -> bool,
    pub compute: unsafe extern "C" fn(*mut sys::ggml_tensor, c_int, c_int, *mut c_void, usize, *mut c_void) -> bool,
}
