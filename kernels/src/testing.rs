//! What the tests of the operations share: seeded numbers, comparison, and gradients by finite differences.

/// Numbers in [-1, 1), the same for the same seed.
pub fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xd1b5_4a32_d192_ed03;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1 << 23) as f32) - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// Every number within `tolerance`, relative to the larger of 1 and the expected size.
#[track_caller]
pub fn assert_close(actual: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), expected.len());
    for (i, (&a, &e)) in actual.iter().zip(expected).enumerate() {
        assert!((a as f64 - e).abs() <= tolerance * e.abs().max(1.0), "element {i}: {a}, expected {e}");
    }
}

/// The gradient of `f` at `x` by central differences in f64.
pub fn gradient(x: &[f32], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let mut x: Vec<f64> = x.iter().map(|&v| v as f64).collect();
    let step = 1e-5;
    (0..x.len())
        .map(|i| {
            let at = x[i];
            x[i] = at + step;
            let above = f(&x);
            x[i] = at - step;
            let below = f(&x);
            x[i] = at;
            (above - below) / (2.0 * step)
        })
        .collect()
}

/// Σ y · dy: the scalar whose gradient a backward with the output gradient `dy` has to give.
pub fn dot(y: &[f64], dy: &[f32]) -> f64 {
    y.iter().zip(dy).map(|(y, &d)| y * d as f64).sum()
}

/// f32 to f64.
pub fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| v as f64).collect()
}

/// A trainable tensor of candle's.
#[cfg(feature = "candle")]
pub fn var(x: &[f32], shape: impl Into<candle_core::Shape>) -> candle_core::Var {
    candle_core::Var::from_slice(x, shape, &candle_core::Device::Cpu).unwrap()
}

/// candle's gradients of each of `vars` for the output gradient `dy`; every variable must have one.
#[cfg(feature = "candle")]
#[track_caller]
pub fn gradients(y: &candle_core::Tensor, dy: &[f32], vars: &[candle_core::Var]) -> Vec<candle_core::Tensor> {
    let dy = candle_core::Tensor::from_slice(dy, y.shape(), y.device()).unwrap();
    let mut gradients = (y * dy).unwrap().sum_all().unwrap().backward().unwrap();
    vars.iter().map(|var| gradients.remove(var).expect("a gradient for every tensor")).collect()
}

/// [`assert_close`] for a tensor of any shape.
#[cfg(feature = "candle")]
#[track_caller]
pub fn assert_tensor(actual: &candle_core::Tensor, expected: &[f32], tolerance: f64) {
    assert_close(&actual.flatten_all().unwrap().to_vec1::<f32>().unwrap(), &wide(expected), tolerance);
}
