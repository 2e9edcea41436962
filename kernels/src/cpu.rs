//! Which vector instructions for 16-bit products this CPU has.

/// Whether the CPU (and the system) has the 512-bit vectors that packing uses.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx512() -> bool {
    let has = std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512bw");
    has && std::arch::is_x86_feature_detected!("avx512dq")
        && std::arch::is_x86_feature_detected!("avx512vl")
        && std::arch::is_x86_feature_detected!("fma")
}

/// Whether the CPU has `vpdpwssd`.
pub(crate) fn has_vnni() -> bool {
    #[cfg(target_arch = "x86_64")]
    return has_avx512() && std::arch::is_x86_feature_detected!("avx512vnni");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Whether the CPU has `vdpbf16ps`.
pub(crate) fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return has_avx512() && std::arch::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}
