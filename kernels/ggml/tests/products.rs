//! Every product kernel on every instruction set of this machine against plain sums in F64.

use lacuna_ggml_kernels::Isa;
use lacuna_ggml_kernels::format::Format;
use lacuna_ggml_kernels::ggml;
use lacuna_ggml_kernels::mul_mat::{Columns, Weights, mul_mat, work_len};
use proptest::prelude::*;
use std::sync::Barrier;

/// Numbers in [-1, 1), the same for the same seed.
fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed ^ 0xd1b5_4a32_d192_ed03;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1 << 23) as f32) - 1.0
    };
    std::iter::repeat_with(next).take(n).collect()
}

/// A product and where its columns lie.
#[derive(Clone, Debug)]
struct Case {
    format: Format,
    rows: usize,
    k: usize,
    /// Columns in two dimensions.
    counts: [usize; 2],
    /// Numbers between a column's end and the next one's begin, in x and in y.
    gaps: [usize; 2],
    threads: usize,
    /// Powers of ten of the sizes of weights and activations.
    sizes: [i32; 2],
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let shape = (prop::sample::select(&Format::ALL[..]), 1..80usize, 1..5usize, prop_oneof![1..10usize, 1..257usize], 1..3usize);
    let rest = ([0..20usize, 0..20usize], 1..4usize, [-3..3i32, -3..4i32], any::<u64>());
    (shape, rest).prop_map(|((format, rows, blocks, n, outer), (gaps, threads, sizes, seed))| Case {
        format,
        rows,
        k: blocks * if seed % 2 == 0 { format.block_len() } else { format.block_len().max(64) },
        counts: [n.div_ceil(outer), outer],
        gaps,
        threads,
        sizes,
        seed,
    })
}

/// What a gap is filled with.
const UNTOUCHED: f32 = -77.0;

impl Case {
    fn n(&self) -> usize {
        self.counts[0] * self.counts[1]
    }

    /// Weights in ggml's layout, and activations (n, k + gap).
    fn inputs(&self) -> (Vec<u8>, Vec<f32>) {
        let [weight_size, x_size] = self.sizes.map(|power| 10f32.powi(power));
        let mut weights = random(self.rows * self.k, self.seed);
        weights.iter_mut().for_each(|w| *w *= weight_size);
        let mut x = random(self.n() * (self.k + self.gaps[0]), !self.seed);
        // Blocks of zeros and single large numbers are special.
        x.iter_mut().enumerate().for_each(|(i, x)| {
            *x *= if i / 32 % 7 == 3 {
                0.0
            } else if i % 211 == 0 {
                40.0 * x_size
            } else {
                x_size
            }
        });
        (ggml::quantise(self.format, &weights, self.k), x)
    }

    /// The kernel's result, (n, rows + gap).
    fn run(&self, isa: Isa, weights: &[u8], x: &[f32]) -> Vec<f32> {
        let Case { format, rows, k, counts, gaps, threads, .. } = *self;
        let mut packed = vec![0; format.packed_len(rows, k)];
        format.pack(weights, rows, k, &mut packed);
        let mut y = vec![UNTOUCHED; self.n() * (rows + gaps[1])];
        let mut work = vec![0xffu8; work_len(k, self.n(), threads)];
        let columns = |base: *mut f32, len: usize| Columns {
            base: base.cast(),
            counts: [counts[0], counts[1], 1],
            strides: [4 * len, 4 * len * counts[0], 0],
        };
        let addresses = (x.as_ptr() as usize, y.as_mut_ptr() as usize, work.as_mut_ptr() as usize);
        let barrier = Barrier::new(threads);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (packed, barrier) = (&packed, &barrier);
                scope.spawn(move || {
                    let (x, y) = (columns(addresses.0 as *mut f32, k + gaps[0]), columns(addresses.1 as *mut f32, rows + gaps[1]));
                    let wait = || {
                        barrier.wait();
                    };
                    // SAFETY: columns and work space have their sizes and outlive the threads; `isa` is available.
                    unsafe { mul_mat(isa, Weights { format, rows, k, packed }, x, y, (thread, threads), addresses.2 as *mut u8, wait) };
                });
            }
        });
        y
    }
}

/// 32 activations as the kernels round them, in F64.
fn rounded(x: &[f32]) -> Vec<f64> {
    let largest = x.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    if largest <= 1e-30 {
        return vec![0.0; x.len()];
    }
    x.iter().map(|x| f64::from((x * (127.0 / largest)).round_ties_even()) * f64::from(largest / 127.0)).collect()
}

fn check(case: &Case) -> Result<(), TestCaseError> {
    let (weights, x) = case.inputs();
    let dense: Vec<f64> =
        weights.chunks_exact(case.format.block_bytes()).flat_map(|block| case.format.dequantise(block)).map(f64::from).collect();
    for isa in Isa::available() {
        let y = case.run(isa, &weights, &x);
        for c in 0..case.n() {
            let column = &x[c * (case.k + case.gaps[0])..][..case.k];
            let as_rounded: Vec<f64> = if case.format.is_quantised() {
                column.chunks(32).flat_map(rounded).collect()
            } else {
                column.iter().copied().map(f64::from).collect()
            };
            let y = &y[c * (case.rows + case.gaps[1])..][..case.rows + case.gaps[1]];
            prop_assert!(y[case.rows..].iter().all(|&y| y == UNTOUCHED), "{isa:?}: wrote behind column {c}");
            for (r, row) in dense.chunks(case.k).enumerate() {
                let sum: f64 = row.iter().zip(&as_rounded).map(|(w, x)| w * x).sum();
                // Formats with a minimum add up large terms to small weights: what counts is the largest weight of a block.
                let largest_weight = |w: &[f64]| w.iter().fold(0f64, |largest, w| largest.max(w.abs()));
                let blocks = row.chunks(32).zip(as_rounded.chunks(32));
                let size: f64 = blocks.map(|(w, x)| largest_weight(w) * x.iter().map(|x| x.abs()).sum::<f64>()).sum();
                let error = (f64::from(y[r]) - sum).abs();
                prop_assert!(error <= 4e-6 * size + 1e-30, "{isa:?}: row {r} of column {c} is {}, expected {sum}", y[r]);
                // What rounding may do: half a step for each activation.
                let exact: f64 = row.iter().zip(column).map(|(w, &x)| w * f64::from(x)).sum();
                let blocks = row.chunks(32).zip(column.chunks(32));
                let bound: f64 = blocks.map(|(w, x)| w.iter().map(|w| w.abs()).sum::<f64>() * largest(x) / 253.0).sum();
                prop_assert!((f64::from(y[r]) - exact).abs() <= bound + 4e-6 * size + 1e-30, "{isa:?}: rounding took too much");
            }
        }
    }
    Ok(())
}

fn largest(x: &[f32]) -> f64 {
    f64::from(x.iter().fold(0f32, |largest, x| largest.max(x.abs())))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn products_are_those_of_rounded_activations(case in cases()) {
        check(&case)?;
    }
}

#[test]
fn every_format_at_every_small_width() {
    for format in Format::ALL {
        for n in 1..=18 {
            let case = Case { format, rows: 33, k: 512, counts: [n, 1], gaps: [0, 0], threads: 1, sizes: [0, 0], seed: n as u64 };
            check(&case).unwrap();
        }
    }
}

#[test]
fn what_is_not_a_number_stays_so() {
    for format in [Format::Q4_0, Format::F16, Format::Bf16] {
        let case = Case { format, rows: 5, k: 64, counts: [2, 1], gaps: [0, 0], threads: 1, sizes: [0, 0], seed: 1 };
        let (weights, mut x) = case.inputs();
        x[3] = f32::NAN;
        x[64 + 40] = f32::INFINITY;
        for isa in Isa::available() {
            assert!(case.run(isa, &weights, &x).iter().all(|y| !y.is_finite()), "{format:?} on {isa:?}");
        }
    }
}

/// Both round activations to 8 bits; ggml's scales are rounded to half precision too, or shared by 256 activations.
#[test]
fn no_farther_from_the_exact_product_than_ggml() {
    for format in Format::ALL {
        let case = Case { format, rows: 96, k: 1024, counts: [24, 1], gaps: [0, 0], threads: 1, sizes: [0, 0], seed: 3 };
        let (weights, x) = case.inputs();
        let dense: Vec<f64> =
            weights.chunks_exact(format.block_bytes()).flat_map(|block| format.dequantise(block)).map(f64::from).collect();
        let exact = |c: usize, r: usize| -> f64 {
            let (row, column) = (&dense[r * case.k..][..case.k], &x[c * case.k..][..case.k]);
            row.iter().zip(column).map(|(w, &x)| w * f64::from(x)).sum()
        };
        let exact: Vec<f64> = (0..case.n()).flat_map(|c| (0..case.rows).map(move |r| (c, r))).map(|(c, r)| exact(c, r)).collect();
        let error = |y: &[f32]| y.iter().zip(&exact).map(|(&y, e)| (f64::from(y) - e).powi(2)).sum::<f64>().sqrt();
        let theirs = error(&ggml::mul_mat(format, &weights, &x, case.k));
        for isa in Isa::available() {
            let ours = error(&case.run(isa, &weights, &x));
            assert!(ours <= 1.05 * theirs, "{format:?} on {isa:?}: our error is {ours:.3e}, ggml's {theirs:.3e}");
        }
    }
}
