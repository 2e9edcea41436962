//! exp and the normal distribution function by polynomials, in a form that vectorises.

/// Beyond this `exp` is 0: the smallest argument whose result is a normal number.
const EXP_LOWEST: f32 = -87.33;
/// Beyond this `exp` is infinite.
const EXP_HIGHEST: f32 = 88.37;
/// Added to a number below 2^21, it leaves the nearest integer in the low bits of the sum.
pub(crate) const ROUND: f32 = 12_582_912.0;

/// `a * b + c`, in one instruction where the processor has it (`FMA`; elsewhere `mul_add` would be a slow library call).
#[inline(always)]
pub fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// e^x with a relative error below 3e-7; 0 below -87.33, infinite above 88.37, NaN for NaN.
/// Cephes `expf`: x = n ln 2 + r, a polynomial of degree 7 for e^r, and n put into the exponent.
#[inline(always)]
pub fn exp<const FMA: bool>(x: f32) -> f32 {
    let shifted = fma::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fma::<FMA>(n, 2.121_944_4e-4, fma::<FMA>(n, -0.693_359_4, x));
    let p = fma::<FMA>(r, 1.987_569_1e-4, 1.398_2e-3);
    let p = fma::<FMA>(p, r, 8.333_452e-3);
    let p = fma::<FMA>(p, r, 4.166_579_6e-2);
    let p = fma::<FMA>(p, r, 1.666_666_5e-1);
    let p = fma::<FMA>(p, r, 0.5);
    let y = fma::<FMA>(p * r, r, r) + 1.0;
    // A NaN stays one: NaN times whatever power came out of its bits is NaN, and it fails both comparisons.
    let y = y * f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    let y = if x < EXP_LOWEST { 0.0 } else { y };
    if x > EXP_HIGHEST { f32::INFINITY } else { y }
}

/// (Φ(x), φ(x)): the standard normal distribution function and density, absolute errors below 3e-7 and 1e-7.
/// erf by Abramowitz and Stegun 7.1.26; the tail is taken directly, so that Φ does not cancel for negative x.
#[inline(always)]
pub fn normal<const FMA: bool>(x: f32) -> (f32, f32) {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / fma::<FMA>(0.327_591_1, z, 1.0);
    let gauss = exp::<FMA>(-z * z);
    let p = fma::<FMA>(t, 1.061_405_4, -1.453_152);
    let p = fma::<FMA>(p, t, 1.421_413_8);
    let p = fma::<FMA>(p, t, -0.284_496_72);
    let p = fma::<FMA>(p, t, 0.254_829_6) * t;
    let tail = 0.5 * p * gauss;
    let cdf = if x < 0.0 { tail } else { 1.0 - tail };
    (cdf, 0.398_942_3 * gauss)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_its_bound() {
        let mut worst: f64 = 0.0;
        for i in -870_000..880_000 {
            let x = i as f32 * 1e-4;
            let exact = (x as f64).exp();
            worst = worst.max((exp::<true>(x) as f64 - exact).abs() / exact).max((exp::<false>(x) as f64 - exact).abs() / exact);
        }
        assert!(worst < 3e-7, "relative error {worst}");
    }

    #[test]
    fn exp_at_its_ends() {
        for exp in [exp::<true>, exp::<false>] {
            assert_eq!(exp(f32::NEG_INFINITY), 0.0);
            assert_eq!(exp(-1e30), 0.0);
            assert_eq!(exp(f32::INFINITY), f32::INFINITY);
            assert_eq!(exp(0.0), 1.0);
            assert!(exp(f32::NAN).is_nan() && exp(-f32::NAN).is_nan());
        }
    }

    /// erf by its Taylor series, and by the continued fraction of erfc where the series cancels.
    fn normal_cdf(x: f64) -> f64 {
        let z = x.abs() / std::f64::consts::SQRT_2;
        let tail = if z < 2.5 {
            let (mut term, mut sum) = (z, z);
            for n in 1..120 {
                term *= -z * z / n as f64;
                sum += term / (2 * n + 1) as f64;
            }
            0.5 - sum / std::f64::consts::PI.sqrt()
        } else {
            let fraction = (1..200).rev().fold(z, |below, k| z + 0.5 * k as f64 / below);
            0.5 * (-z * z).exp() / (fraction * std::f64::consts::PI.sqrt())
        };
        if x < 0.0 { tail } else { 1.0 - tail }
    }

    #[test]
    fn normal_is_within_its_bounds() {
        for i in -120_000..120_000 {
            let x = i as f32 * 1e-4;
            let exact = normal_cdf(x as f64);
            let exact_density = (-0.5 * (x as f64).powi(2)).exp() / (2.0 * std::f64::consts::PI).sqrt();
            for (cdf, density) in [normal::<true>(x), normal::<false>(x)] {
                assert!((cdf as f64 - exact).abs() < 3e-7, "Phi({x}) = {cdf}, not {exact}");
                assert!((density as f64 - exact_density).abs() < 1e-7, "phi({x}) = {density}, not {exact_density}");
            }
        }
        let (cdf, density) = normal::<true>(f32::NAN);
        assert!(cdf.is_nan() && density.is_nan());
    }
}
