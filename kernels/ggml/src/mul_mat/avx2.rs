//! The product in 256-bit vectors: with AVX-VNNI, or with AVX2 alone, whose 16-bit sums saturate unless bytes are taken as signed.

use super::job::Job;
use super::quantised::Quantised;
use super::rounded::{Codes32, STEPS, inverse_and_scale};
use super::vector::Vector;
use super::{floats, tile};
use crate::format::IQ4_NL_BYTES;
use crate::packed::Codes;
use std::arch::x86_64::*;

/// Eight rows; `VNNI` says whether there is an 8-bit dot product.
pub(super) struct Ymm<const VNNI: bool>;

macro_rules! entries {
    ($name:ident, $vnni:literal, $features:literal) => {
        /// The kernels with these instructions enabled.
        pub(super) mod $name {
            use super::*;

            /// See [`tile::round`].
            #[target_feature(enable = $features)]
            pub(in crate::mul_mat) unsafe fn round(job: &Job, g: usize) {
                // SAFETY: as the caller says; the instructions are enabled here.
                unsafe { tile::round::<Ymm<$vnni>>(job, g) }
            }

            #[inline(never)]
            #[target_feature(enable = $features)]
            pub(super) unsafe fn tile_of<K: Quantised, const UNPACKED: bool, const C: usize>(job: &Job, p: usize, g: usize) {
                // SAFETY: as the caller says; the instructions are enabled here.
                unsafe { tile::tile::<Ymm<$vnni>, K, UNPACKED, C>(job, p, g) }
            }

            #[inline(never)]
            #[target_feature(enable = $features)]
            pub(super) unsafe fn floats_of<const UPPER: bool, const C: usize>(job: &Job, p: usize, g: usize) {
                // SAFETY: as the caller says; the instructions are enabled here.
                unsafe { floats::tile::<Ymm<$vnni>, UPPER, C>(job, p, g) }
            }

            #[inline(never)]
            #[target_feature(enable = $features)]
            pub(super) unsafe fn unpack_of<K: Quantised>(job: &Job, p: usize) {
                // SAFETY: as the caller says; the instructions are enabled here.
                unsafe { tile::unpack::<Ymm<$vnni>, K>(job, p) }
            }
        }
    };
}
entries!(vnni, true, "avx2,fma,f16c,avxvnni");
entries!(plain, false, "avx2,fma,f16c");

// SAFETY of all functions: the caller enables the instructions and gives the memory that the trait names.
impl<const VNNI: bool> Vector for Ymm<VNNI> {
    type Int = __m256i;
    type Float = __m256;
    const ROWS: usize = 8;
    const SIGNED_BYTES: bool = !VNNI;

    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> __m256i {
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store_bytes(codes: __m256i, to: *mut u8) {
        unsafe { _mm256_storeu_si256(to.cast(), codes) }
    }

    #[inline(always)]
    unsafe fn low_nibbles(bytes: __m256i) -> __m256i {
        unsafe { _mm256_and_si256(bytes, _mm256_set1_epi8(15)) }
    }

    #[inline(always)]
    unsafe fn high_nibbles(bytes: __m256i) -> __m256i {
        unsafe { _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), _mm256_set1_epi8(15)) }
    }

    #[inline(always)]
    unsafe fn lookup(nibbles: __m256i) -> __m256i {
        unsafe { _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(IQ4_NL_BYTES.as_ptr().cast())), nibbles) }
    }

    /// Spreads each bit over its byte: byte i gets the bits' byte i / 8, of which it keeps bit i % 8.
    #[inline(always)]
    unsafe fn add_bits<const VALUE: i8>(codes: __m256i, bits: *const u8) -> __m256i {
        unsafe {
            let bits = _mm256_set1_epi32(bits.cast::<i32>().read_unaligned());
            let byte_of = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
            let bit_of = _mm256_set1_epi64x(0x8040_2010_0804_0201u64 as i64);
            let set = _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(bits, byte_of), bit_of), bit_of);
            _mm256_add_epi8(codes, _mm256_and_si256(set, _mm256_set1_epi8(VALUE)))
        }
    }

    #[inline(always)]
    unsafe fn splat_int(x: i32) -> __m256i {
        unsafe { _mm256_set1_epi32(x) }
    }

    #[inline(always)]
    unsafe fn dot<K: Quantised>(sums: __m256i, codes: __m256i, x: __m256i) -> __m256i {
        unsafe {
            if VNNI {
                return _mm256_dpbusd_avx_epi32(sums, codes, x);
            }
            // Codes of up to 6 bits: two products are at most 2 · 63 · 127. Signed bytes: 2 · 128 · 127.
            let pairs = if matches!(K::CODES, Codes::Nibble { .. }) {
                _mm256_maddubs_epi16(codes, x)
            } else {
                let codes = _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
                _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes))
            };
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }

    #[inline(always)]
    unsafe fn as_float(bits: __m256i) -> __m256 {
        unsafe { _mm256_castsi256_ps(bits) }
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn mul_sub(a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmsub_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn halves(from: *const u8) -> __m256 {
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    unsafe fn upper_halves(from: *const u8) -> __m256 {
        unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast())))) }
    }

    #[inline(always)]
    unsafe fn unsigned(from: *const u8) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn signed(from: *const u8) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn store(numbers: __m256, to: *mut f32, count: usize) {
        unsafe {
            let places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            _mm256_maskstore_ps(to, _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), places), numbers);
        }
    }

    #[inline(always)]
    unsafe fn round(x: *const f32) -> Codes32 {
        unsafe {
            let mut parts = [_mm256_setzero_ps(); 4];
            let mut largest = _mm256_setzero_ps();
            for (i, part) in parts.iter_mut().enumerate() {
                *part = _mm256_loadu_ps(x.wrapping_add(8 * i));
                largest = _mm256_max_ps(_mm256_andnot_ps(_mm256_set1_ps(-0.0), *part), largest);
            }
            let mut each = [0f32; 8];
            _mm256_storeu_ps(each.as_mut_ptr(), largest);
            let largest = each.into_iter().fold(0f32, f32::max);
            let odd = |a, b| _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_UNORD_Q>(a, b)) != 0;
            let (inverse, scale) = inverse_and_scale(largest, odd(parts[0], parts[1]) || odd(parts[2], parts[3]));
            let mut codes = [_mm256_setzero_si256(); 4];
            for (codes, part) in codes.iter_mut().zip(parts) {
                *codes = _mm256_cvtps_epi32(_mm256_mul_ps(part, _mm256_set1_ps(inverse)));
            }
            // Packing goes by halves of 128 bits; the last permutation puts the groups of four in order.
            let halves = [_mm256_packs_epi32(codes[0], codes[1]), _mm256_packs_epi32(codes[2], codes[3])];
            let bytes = _mm256_packs_epi16(halves[0], halves[1]);
            let bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
            let mut rounded = Codes32 { codes: [0; STEPS], scale, sums: [0; 2] };
            _mm256_storeu_si256(rounded.codes.as_mut_ptr().cast(), bytes);
            let pair = [_mm256_add_epi32(codes[0], codes[1]), _mm256_add_epi32(codes[2], codes[3])];
            for (sum, pair) in rounded.sums.iter_mut().zip(pair) {
                let mut each = [0i32; 8];
                _mm256_storeu_si256(each.as_mut_ptr().cast(), pair);
                *sum = each.into_iter().fold(0, i32::wrapping_add);
            }
            rounded
        }
    }

    unsafe fn tile<K: Quantised, const UNPACKED: bool, const C: usize>(job: &Job, p: usize, g: usize) {
        unsafe { if VNNI { vnni::tile_of::<K, UNPACKED, C>(job, p, g) } else { plain::tile_of::<K, UNPACKED, C>(job, p, g) } }
    }

    unsafe fn unpack<K: Quantised>(job: &Job, p: usize) {
        unsafe { if VNNI { vnni::unpack_of::<K>(job, p) } else { plain::unpack_of::<K>(job, p) } }
    }

    unsafe fn floats<const UPPER: bool, const C: usize>(job: &Job, p: usize, g: usize) {
        unsafe { if VNNI { vnni::floats_of::<UPPER, C>(job, p, g) } else { plain::floats_of::<UPPER, C>(job, p, g) } }
    }
}
