//! The product in 512-bit vectors, with AVX-512 VNNI.

use super::Job;
use super::tile::{self, Kind, STEPS};
use super::vector::{Codes32, Vector, inverse_and_scale};
use crate::format::IQ4_NL_BYTES;
use std::arch::x86_64::*;

/// Sixteen rows.
pub(super) struct Zmm;

/// [`tile::round`] with the instructions enabled.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn round(job: &Job, g: usize) {
    // SAFETY: as the caller says; the instructions are enabled here.
    unsafe { tile::round::<Zmm>(job, g) }
}

#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn tile_of<K: Kind, const UNPACKED: bool, const C: usize>(job: &Job, p: usize, g: usize) {
    // SAFETY: as the caller says; the instructions are enabled here.
    unsafe { tile::tile::<Zmm, K, UNPACKED, C>(job, p, g) }
}

#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn unpack_of<K: Kind>(job: &Job, p: usize) {
    // SAFETY: as the caller says; the instructions are enabled here.
    unsafe { tile::unpack::<Zmm, K>(job, p) }
}

// SAFETY of all functions: the caller enables the instructions and gives the memory that the trait names.
impl Vector for Zmm {
    type Int = __m512i;
    type Float = __m512;
    const ROWS: usize = 16;
    const SIGNED_BYTES: bool = false;

    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store_bytes(codes: __m512i, to: *mut u8) {
        unsafe { _mm512_storeu_si512(to.cast(), codes) }
    }

    #[inline(always)]
    unsafe fn low_nibbles(bytes: __m512i) -> __m512i {
        unsafe { _mm512_and_si512(bytes, _mm512_set1_epi8(15)) }
    }

    #[inline(always)]
    unsafe fn high_nibbles(bytes: __m512i) -> __m512i {
        unsafe { _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), _mm512_set1_epi8(15)) }
    }

    #[inline(always)]
    unsafe fn lookup(nibbles: __m512i) -> __m512i {
        unsafe { _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(IQ4_NL_BYTES.as_ptr().cast())), nibbles) }
    }

    #[inline(always)]
    unsafe fn add_bits<const VALUE: i8>(codes: __m512i, bits: *const u8) -> __m512i {
        unsafe { _mm512_mask_add_epi8(codes, bits.cast::<u64>().read_unaligned(), codes, _mm512_set1_epi8(VALUE)) }
    }

    #[inline(always)]
    unsafe fn splat_int(x: i32) -> __m512i {
        unsafe { _mm512_set1_epi32(x) }
    }

    #[inline(always)]
    unsafe fn dot<K: Kind>(sums: __m512i, codes: __m512i, x: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, codes, x) }
    }

    #[inline(always)]
    unsafe fn as_float(bits: __m512i) -> __m512 {
        unsafe { _mm512_castsi512_ps(bits) }
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn mul_sub(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmsub_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn halves(from: *const u8) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn unsigned(from: *const u8) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn signed(from: *const u8) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn store(numbers: __m512, to: *mut f32, count: usize) {
        unsafe { _mm512_mask_storeu_ps(to, ((1u32 << count) - 1) as u16, numbers) }
    }

    #[inline(always)]
    unsafe fn round(x: *const f32) -> Codes32 {
        unsafe {
            let (low, high) = (_mm512_loadu_ps(x), _mm512_loadu_ps(x.add(16)));
            let largest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
            let odd = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(low, high) != 0;
            let (inverse, scale) = inverse_and_scale(largest, odd);
            let low = _mm512_cvtps_epi32(_mm512_mul_ps(low, _mm512_set1_ps(inverse)));
            let high = _mm512_cvtps_epi32(_mm512_mul_ps(high, _mm512_set1_ps(inverse)));
            let bytes = _mm256_set_m128i(_mm512_cvtepi32_epi8(high), _mm512_cvtepi32_epi8(low));
            // Sums of four codes, then of all four such sums in each half.
            let sums = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), bytes);
            let sums = _mm256_add_epi32(sums, _mm256_shuffle_epi32::<0b0100_1110>(sums));
            let sums = _mm256_add_epi32(sums, _mm256_shuffle_epi32::<0b1011_0001>(sums));
            let mut codes = [0i32; STEPS];
            _mm256_storeu_si256(codes.as_mut_ptr().cast(), bytes);
            Codes32 { codes, scale, sums: [_mm256_extract_epi32::<0>(sums), _mm256_extract_epi32::<4>(sums)] }
        }
    }

    unsafe fn tile<K: Kind, const UNPACKED: bool, const C: usize>(job: &Job, p: usize, g: usize) {
        unsafe { tile_of::<K, UNPACKED, C>(job, p, g) }
    }

    unsafe fn unpack<K: Kind>(job: &Job, p: usize) {
        unsafe { unpack_of::<K>(job, p) }
    }
}
