//! The product in 512-bit vectors, with AVX-512 VNNI.

use super::job::Job;
use super::quantised::Quantised;
use super::rounded::{Codes32, SMALLEST, STEPS, inverse_and_scale};
use super::vector::Vector;
use super::{floats, tile};
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
unsafe fn tile_of<K: Quantised, const UNPACKED: bool, const C: usize>(job: &Job, p: usize, g: usize) {
    // SAFETY: as the caller says; the instructions are enabled here.
    unsafe { tile::tile::<Zmm, K, UNPACKED, C>(job, p, g) }
}

#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn unpack_of<K: Quantised>(job: &Job, p: usize) {
    // SAFETY: as the caller says; the instructions are enabled here.
    unsafe { tile::unpack::<Zmm, K>(job, p) }
}

#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn floats_of<const UPPER: bool, const C: usize>(job: &Job, p: usize, g: usize) {
    // SAFETY: as the caller says; the instructions are enabled here.
    unsafe { floats::tile::<Zmm, UPPER, C>(job, p, g) }
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
    unsafe fn dot<K: Quantised>(sums: __m512i, codes: __m512i, x: __m512i) -> __m512i {
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
    unsafe fn upper_halves(from: *const u8) -> __m512 {
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast())))) }
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

    #[inline(always)]
    unsafe fn round4(x: *const f32) -> [Codes32; 4] {
        unsafe {
            let mut vectors = [_mm512_setzero_ps(); 8];
            for (i, vector) in vectors.iter_mut().enumerate() {
                *vector = _mm512_loadu_ps(x.add(16 * i));
            }
            let (inverse, scale) = inverses_and_scales(largest_of_four(vectors));
            let mut codes = [_mm512_setzero_si512(); 8];
            for (i, codes) in codes.iter_mut().enumerate() {
                *codes = _mm512_cvtps_epi32(_mm512_mul_ps(vectors[i], _mm512_set1_ps(inverse[i / 2])));
            }
            let pairs = [pack([codes[0], codes[1], codes[2], codes[3]]), pack([codes[4], codes[5], codes[6], codes[7]])];
            let sums = [sum_lanes(pairs[0]), sum_lanes(pairs[1])];
            let pairs = std::mem::transmute::<[__m512i; 2], [[[i32; STEPS]; 2]; 2]>(pairs);
            std::array::from_fn(|b| Codes32 {
                codes: pairs[b / 2][b % 2],
                scale: scale[b],
                sums: [sums[b / 2][b % 2 * 8], sums[b / 2][b % 2 * 8 + 4]],
            })
        }
    }

    unsafe fn tile<K: Quantised, const UNPACKED: bool, const C: usize>(job: &Job, p: usize, g: usize) {
        unsafe { tile_of::<K, UNPACKED, C>(job, p, g) }
    }

    unsafe fn unpack<K: Quantised>(job: &Job, p: usize) {
        unsafe { unpack_of::<K>(job, p) }
    }

    unsafe fn floats<const UPPER: bool, const C: usize>(job: &Job, p: usize, g: usize) {
        unsafe { floats_of::<UPPER, C>(job, p, g) }
    }
}

/// The bits of the largest magnitude in each of four pairs of vectors. Without the sign, bits are in the order of the numbers, and
/// those of what is not a number above all others.
#[inline(always)]
unsafe fn largest_of_four(x: [__m512; 8]) -> __m128i {
    unsafe {
        let magnitude = |i: usize| _mm512_and_si512(_mm512_castps_si512(x[i]), _mm512_set1_epi32(0x7fff_ffff));
        let of_two = |i: usize| _mm512_max_epu32(magnitude(i), magnitude(i + 1));
        let (a, b, c, d) = (of_two(0), of_two(2), of_two(4), of_two(6));
        let by_two = |a, b| _mm512_max_epu32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (ab, cd) = (by_two(a, b), by_two(c, d));
        let lanes = _mm512_max_epu32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
        let halves = _mm256_max_epu32(_mm512_castsi512_si256(lanes), _mm512_extracti64x4_epi64::<1>(lanes));
        _mm_max_epu32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves))
    }
}

/// [`inverse_and_scale`] of four blocks, whose largest magnitudes have these bits.
#[inline(always)]
unsafe fn inverses_and_scales(largest: __m128i) -> ([f32; 4], [f32; 4]) {
    unsafe {
        let odd = _mm_cmpge_epu32_mask(largest, _mm_castps_si128(_mm_set1_ps(f32::INFINITY)));
        let largest = _mm_castsi128_ps(largest);
        let counts = _mm_cmp_ps_mask::<_CMP_GT_OQ>(largest, _mm_set1_ps(SMALLEST));
        let inverse = _mm_maskz_div_ps(counts & !odd, _mm_set1_ps(127.0), largest);
        let scale = _mm_mask_mov_ps(_mm_maskz_div_ps(counts, largest, _mm_set1_ps(127.0)), odd, _mm_set1_ps(f32::NAN));
        (std::mem::transmute::<__m128, [f32; 4]>(inverse), std::mem::transmute::<__m128, [f32; 4]>(scale))
    }
}

/// The codes of two blocks, from their four vectors, as bytes in their order.
#[inline(always)]
unsafe fn pack(codes: [__m512i; 4]) -> __m512i {
    unsafe {
        // Packing works within lanes of 128 bits: lane i then has four bytes of each vector.
        let bytes = _mm512_packs_epi16(_mm512_packs_epi32(codes[0], codes[1]), _mm512_packs_epi32(codes[2], codes[3]));
        _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), bytes)
    }
}

/// The sum of each 16 bytes, four times over.
#[inline(always)]
unsafe fn sum_lanes(bytes: __m512i) -> [i32; 16] {
    unsafe {
        let sums = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), bytes);
        let sums = _mm512_add_epi32(sums, _mm512_shuffle_epi32::<0b0100_1110>(sums));
        let sums = _mm512_add_epi32(sums, _mm512_shuffle_epi32::<0b1011_0001>(sums));
        std::mem::transmute::<__m512i, [i32; 16]>(sums)
    }
}
