//! Attention in 512-bit vectors.

use super::lanes::{Lanes, Product};
use super::operation::Attention;
use super::product::product;
use super::tile;
use super::work::Work;
use std::arch::x86_64::*;

/// See [`tile::run`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn run(attention: &Attention, work: &mut Work, ith: usize, nth: usize) {
    // SAFETY: as the caller says; the instructions are enabled here.
    unsafe { tile::run::<Zmm>(attention, work, ith, nth) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn product_of_zmm(p: Product) {
    // SAFETY: as the caller says; the instructions are enabled here.
    unsafe { product::<Zmm>(p) }
}

/// Sixteen numbers.
#[derive(Clone, Copy)]
struct Zmm(__m512);

// SAFETY of all functions: the caller enables AVX-512 and gives memory of the vector's length.
impl Lanes for Zmm {
    const LEN: usize = 16;
    const STRIP: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        unsafe { Zmm(_mm512_set1_ps(x)) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Zmm(_mm512_loadu_ps(from)) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn halves(from: *const u16) -> Self {
        unsafe { Zmm(_mm512_cvtph_ps(_mm256_loadu_si256(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { Zmm(_mm512_add_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe { Zmm(_mm512_sub_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { Zmm(_mm512_mul_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, more: Self) -> Self {
        unsafe { Zmm(_mm512_fmadd_ps(self.0, factor.0, more.0)) }
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        unsafe { Zmm(_mm512_max_ps(self.0, other.0)) }
    }

    /// 2ⁿ · eᶠ with n whole and |f| ≤ ln 2 / 2; the Taylor series of eᶠ to the sixth power.
    #[inline(always)]
    unsafe fn exp(self) -> Self {
        unsafe {
            // Below −110 the result is 0.
            // NaN, as the second operand, stays NaN.
            let x = _mm512_max_ps(_mm512_set1_ps(-110.0), self.0);
            let n = _mm512_roundscale_ps::<0>(_mm512_mul_ps(x, _mm512_set1_ps(std::f32::consts::LOG2_E)));
            let f = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693_359_4), x);
            let f = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.121_944_4e-4), f);
            let mut e = _mm512_set1_ps(1.0 / 720.0);
            for coefficient in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
                e = _mm512_fmadd_ps(e, f, _mm512_set1_ps(coefficient));
            }
            Zmm(_mm512_scalef_ps(e, n))
        }
    }

    #[inline(always)]
    unsafe fn keep(self, bits: u32, other: Self) -> Self {
        unsafe { Zmm(_mm512_mask_blend_ps(bits as u16, other.0, self.0)) }
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        unsafe { _mm512_reduce_add_ps(self.0) }
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        unsafe { _mm512_reduce_max_ps(self.0) }
    }

    #[inline(always)]
    unsafe fn dots(rows: *const f32, other: *const f32, len: usize) -> Self {
        unsafe {
            let mut sums = [_mm512_setzero_ps(); 16];
            for d in (0..len).step_by(16) {
                let x = _mm512_loadu_ps(other.add(d));
                for (r, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm512_fmadd_ps(_mm512_loadu_ps(rows.add(r * len + d)), x, *sum);
                }
            }
            Zmm(sum_each(sums))
        }
    }

    #[inline(always)]
    unsafe fn product(p: Product) {
        unsafe { product_of_zmm(p) }
    }
}

/// The sum of vector `i` at place `i`: four rounds that halve the number of vectors.
#[inline(always)]
unsafe fn sum_each(v: [__m512; 16]) -> __m512 {
    unsafe {
        let by_two = |a, b| _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
        let by_four = |a, b| {
            let (a, b) = (_mm512_castps_pd(a), _mm512_castps_pd(b));
            _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)))
        };
        let by_lane = |a, b| _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
        let four = |i: usize| by_four(by_two(v[i], v[i + 1]), by_two(v[i + 2], v[i + 3]));
        by_lane(by_lane(four(0), four(4)), by_lane(four(8), four(12)))
    }
}
