//! Whether this processor has the instructions that the binary was built for: without them it would die of an illegal one, in silence.

/// Instruction sets that the binary was built to use and this processor lacks, by name.
#[cfg(target_arch = "x86_64")]
pub fn missing() -> Vec<&'static str> {
    use std::arch::x86_64::{__cpuid, __cpuid_count};

    // `is_x86_feature_detected!` believes what the build was told, so the processor itself is asked.
    let most = __cpuid(0).eax;
    let (one, seven) = (__cpuid(1), if most >= 7 { __cpuid_count(7, 0) } else { __cpuid(0) });
    let has = |register: u32, bit: u32| register >> bit & 1 == 1;
    let seven_has = |register: u32, bit: u32| most >= 7 && has(register, bit);
    let all = [
        ("SSE4.2", cfg!(target_feature = "sse4.2"), has(one.ecx, 20)),
        ("AVX", cfg!(target_feature = "avx"), has(one.ecx, 28)),
        ("FMA", cfg!(target_feature = "fma"), has(one.ecx, 12)),
        ("F16C", cfg!(target_feature = "f16c"), has(one.ecx, 29)),
        ("AVX2", cfg!(target_feature = "avx2"), seven_has(seven.ebx, 5)),
        ("BMI2", cfg!(target_feature = "bmi2"), seven_has(seven.ebx, 8)),
        ("AVX-512F", cfg!(target_feature = "avx512f"), seven_has(seven.ebx, 16)),
        ("AVX-512BW", cfg!(target_feature = "avx512bw"), seven_has(seven.ebx, 30)),
        ("AVX-512VNNI", cfg!(target_feature = "avx512vnni"), seven_has(seven.ecx, 11)),
    ];
    all.into_iter().filter(|(_, built, there)| *built && !there).map(|(name, ..)| name).collect()
}

#[cfg(not(target_arch = "x86_64"))]
pub fn missing() -> Vec<&'static str> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_processor_that_built_it_has_all() {
        assert!(super::missing().is_empty());
    }
}
