//! What one core can do with 8-bit integers.

#[cfg(target_arch = "x86_64")]
use lacuna_ggml_kernels::Isa;
#[cfg(target_arch = "x86_64")]
use std::time::Instant;

/// GOP/s of 8-bit dot products that stay in registers; 0 without AVX-512 VNNI.
pub fn peak() -> f64 {
    #[cfg(target_arch = "x86_64")]
    if Isa::available().contains(&Isa::Avx512Vnni) {
        let steps = 20_000;
        let begun = Instant::now();
        // SAFETY: the instructions are there.
        std::hint::black_box(unsafe { dots(steps) });
        return (steps * 16 * 128) as f64 / begun.elapsed().as_secs_f64() * 1e-9;
    }
    0.0
}

/// Sixteen independent chains of dot products.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn dots(steps: usize) -> i32 {
    use std::arch::x86_64::*;
    let (a, b) = (_mm512_set1_epi8(std::hint::black_box(3)), _mm512_set1_epi8(std::hint::black_box(5)));
    let mut sums = [_mm512_setzero_si512(); 16];
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, a, b);
        }
    }
    sums.into_iter().fold(0, |total, sum| total ^ _mm512_reduce_add_epi32(sum))
}
