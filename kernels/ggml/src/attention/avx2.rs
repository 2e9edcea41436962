//! Attention in 256-bit vectors.

use super::lanes::{Lanes, Product};
use super::operation::Attention;
use super::product::product;
use super::tile;
use super::work::Work;
use std::arch::x86_64::*;

/// See [`tile::run`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn run(attention: &Attention, work: &mut Work, ith: usize, nth: usize) {
    // SAFETY: as the caller says; the instructions are enabled here.
    unsafe { tile::run::<Ymm>(attention, work, ith, nth) }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn product_of_ymm(p: Product) {
    // SAFETY: as the caller says; the instructions are enabled here.
    unsafe { product::<Ymm>(p) }
}

/// Eight numbers.
#[derive(Clone, Copy)]
struct Ymm(__m256);

// SAFETY of all functions: the caller enables AVX2, FMA and F16C and gives memory of the vector's length.
impl Lanes for Ymm {
    const LEN: usize = 8;
    const STRIP: usize = 2;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        unsafe { Ymm(_mm256_set1_ps(x)) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Ymm(_mm256_loadu_ps(from)) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn halves(from: *const u16) -> Self {
        unsafe { Ymm(_mm256_cvtph_ps(_mm_loadu_si128(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { Ymm(_mm256_add_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe { Ymm(_mm256_sub_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { Ymm(_mm256_mul_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, more: Self) -> Self {
        unsafe { Ymm(_mm256_fmadd_ps(self.0, factor.0, more.0)) }
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        unsafe { Ymm(_mm256_max_ps(self.0, other.0)) }
    }

    /// 2ⁿ · eᶠ with n whole and |f| ≤ ln 2 / 2; the Taylor series of eᶠ to the sixth power.
    #[inline(always)]
    unsafe fn exp(self) -> Self {
        unsafe {
            // The exponent of a float ends at −126; below −87.3 the result is 0.
            // NaN, as the second operand, stays NaN.
            let x = _mm256_max_ps(_mm256_set1_ps(-87.3), self.0);
            let n = _mm256_round_ps::<0>(_mm256_mul_ps(x, _mm256_set1_ps(std::f32::consts::LOG2_E)));
            let f = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693_359_4), x);
            let f = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.121_944_4e-4), f);
            let mut e = _mm256_set1_ps(1.0 / 720.0);
            for coefficient in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
                e = _mm256_fmadd_ps(e, f, _mm256_set1_ps(coefficient));
            }
            let power = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)));
            let vanishes = _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, _mm256_set1_ps(-87.3));
            Ymm(_mm256_andnot_ps(vanishes, _mm256_mul_ps(e, _mm256_castsi256_ps(power))))
        }
    }

    #[inline(always)]
    unsafe fn keep(self, bits: u32, other: Self) -> Self {
        unsafe {
            let bit_of = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            let set = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(bits as i32), bit_of), bit_of);
            Ymm(_mm256_blendv_ps(other.0, self.0, _mm256_castsi256_ps(set)))
        }
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let mut each = [0f32; 8];
        unsafe { _mm256_storeu_ps(each.as_mut_ptr(), self.0) };
        (each[0] + each[4]) + (each[1] + each[5]) + ((each[2] + each[6]) + (each[3] + each[7]))
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        let mut each = [0f32; 8];
        unsafe { _mm256_storeu_ps(each.as_mut_ptr(), self.0) };
        each.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }

    #[inline(always)]
    unsafe fn dots(rows: *const f32, other: *const f32, len: usize) -> Self {
        unsafe {
            let mut sums = [_mm256_setzero_ps(); 8];
            for d in (0..len).step_by(8) {
                let x = _mm256_loadu_ps(other.add(d));
                for (r, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm256_fmadd_ps(_mm256_loadu_ps(rows.add(r * len + d)), x, *sum);
                }
            }
            let two = |i: usize| _mm256_hadd_ps(sums[i], sums[i + 1]);
            let four = |i: usize| _mm256_hadd_ps(two(i), two(i + 2));
            let (low, high) = (four(0), four(4));
            let crossed = _mm256_permute2f128_ps::<0x21>(low, high);
            Ymm(_mm256_add_ps(crossed, _mm256_blend_ps::<0xf0>(low, high)))
        }
    }

    #[inline(always)]
    unsafe fn product(p: Product) {
        unsafe { product_of_ymm(p) }
    }
}
