//! ggml's CPU back end, compiled for several kinds of processors (see build.rs): the one for this processor takes the portable one's place.

use crate::callbacks::Callbacks;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use lacuna_kernels::cpu::{Level, level};
use llama_cpp_sys_2 as sys;
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

/// One build of the back end.
pub(crate) struct Variant {
    name: &'static str,
    functions: &'static Functions,
}

/// Mirrors `lacuna_cpu` of hook.cpp.
#[repr(C)]
struct Functions {
    registration: unsafe extern "C" fn() -> sys::ggml_backend_reg_t,
    compute: unsafe extern "C" fn(*mut sys::ggml_context, *mut sys::ggml_cgraph, c_int) -> sys::ggml_status,
    install: unsafe extern "C" fn(*const Callbacks),
    barrier: unsafe extern "C" fn(*mut c_void),
}

unsafe extern "C" {
    static lacuna_cpu_portable: Functions;
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
unsafe extern "C" {
    static lacuna_cpu_haswell: Functions;
    static lacuna_cpu_icelake: Functions;
}

/// The variant for this processor. The first call puts it in place of the one that ggml registered, before any model is loaded.
pub(crate) fn variant() -> &'static Variant {
    static CHOSEN: OnceLock<Variant> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let chosen = choose();
        // SAFETY: both registrations live as long as the process; no model holds the old one's devices yet.
        unsafe {
            let (old, new) = (sys::ggml_backend_reg_by_name(c"CPU".as_ptr()), (chosen.functions.registration)());
            if old != new {
                sys::ggml_backend_unload(old);
                sys::ggml_backend_register(new);
            }
        }
        chosen
    })
}

/// The first variant whose instructions the processor has.
fn choose() -> Variant {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    {
        let vnni = is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512vbmi") && is_x86_feature_detected!("avx512cd");
        // SAFETY: constants that nothing writes.
        unsafe {
            match level() {
                Level::Avx512 if vnni => return Variant::new("icelake", &raw const lacuna_cpu_icelake),
                Level::Avx512 | Level::Avx2 => return Variant::new("haswell", &raw const lacuna_cpu_haswell),
                Level::Portable => {}
            }
        }
    }
    // SAFETY: as above.
    unsafe { Variant::new("portable", &raw const lacuna_cpu_portable) }
}

impl Variant {
    unsafe fn new(name: &'static str, functions: *const Functions) -> Self {
        // SAFETY: the caller passes one of the constants.
        Variant { name, functions: unsafe { &*functions } }
    }

    /// Its name: a processor that has its instructions.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Hooks our kernels in.
    pub fn install(&self, callbacks: &Callbacks) {
        // SAFETY: the callbacks match hook.cpp, which copies them.
        unsafe { (self.functions.install)(callbacks) };
    }

    /// Waits for the other threads of an operation.
    ///
    /// # Safety
    /// The threads of this pool are all computing the operation, and all call this.
    pub unsafe fn barrier(&self, threadpool: *mut c_void) {
        // SAFETY: the caller's.
        unsafe { (self.functions.barrier)(threadpool) };
    }

    /// Computes a graph on one thread of ggml's own; the graph's tensors live in the context's memory.
    ///
    /// # Safety
    /// The graph is of this context, which has room for the work space.
    pub unsafe fn compute(&self, context: *mut sys::ggml_context, graph: *mut sys::ggml_cgraph) -> sys::ggml_status {
        // SAFETY: the caller's.
        unsafe { (self.functions.compute)(context, graph, 1) }
    }
}

#[cfg(test)]
mod tests {
    use crate::format::Format;
    use crate::ggml;

    /// ggml's own product on this processor: the test of the portable variant on emulated ones.
    #[test]
    fn the_variant_computes_a_product() {
        let (rows, k) = (5, 64);
        let number = |i: usize| ((i * 37) % 64) as f32 / 32.0 - 1.0;
        let (weights, x): (Vec<f32>, Vec<f32>) = ((0..rows * k).map(number).collect(), (0..k).map(|i| number(i + 11)).collect());
        let found = ggml::mul_mat(Format::F16, &ggml::quantise(Format::F16, &weights, k), &x, k);
        for (row, found) in weights.chunks(k).zip(found) {
            let exact: f32 = row.iter().zip(&x).map(|(w, x)| w * x).sum();
            assert!((found - exact).abs() < 0.05, "{found}, not {exact}");
        }
    }
}
