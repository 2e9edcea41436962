//! Our matrix products on one core, as a share of the core's 8-bit peak.
//!
//! `cargo bench --bench products -- [format] [isa]`, for example `-- Q4K avx2`. The shapes are those of SmolLM2-135M.

use lacuna_ggml_kernels::Isa;
use lacuna_ggml_kernels::format::Format;
use lacuna_ggml_kernels::ggml;
use lacuna_ggml_kernels::mul_mat::{Columns, Weights, mul_mat, work_len};
use peak::peak;
use std::time::Instant;

mod peak;

/// (rows, k)
const SHAPES: [(usize, usize); 4] = [(576, 576), (1536, 576), (576, 1536), (49152, 576)];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let named = |name: &String| Format::ALL.into_iter().find(|format| format!("{format:?}").eq_ignore_ascii_case(name));
    let format = arguments.first().map_or(Format::Q4_0, |name| named(name).expect("a format such as Q4_0"));
    let available = Isa::available();
    let isa = arguments.get(1).map_or(available.first(), |name| available.iter().find(|isa| isa.name() == name));
    let Some(&isa) = isa else { return eprintln!("SKIPPED: no kernels for this processor") };
    println!("{format:?} on {}, GOP/s, in brackets the share of what 8-bit dot products alone do in the same moments", isa.name());
    for (rows, k) in SHAPES {
        // Where a block is longer than k allows, the next length that fits.
        let k = k.next_multiple_of(format.block_len());
        let rates: Vec<String> = [1, 2, 8, 16, 32, 64, 512].map(|n| rate(isa, format, rows, k, n)).into();
        println!("{rows:5} x {k:4}, n = 1, 2, 8, 16, 32, 64, 512: {}", rates.join(", "));
    }
}

/// GOP/s of one product, the median of many, and its share of the peak.
fn rate(isa: Isa, format: Format, rows: usize, k: usize, n: usize) -> String {
    let numbers: Vec<f32> = (0..rows * k).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect();
    let weights = ggml::quantise(format, &numbers, k);
    let mut packed = vec![0; format.packed_len(rows, k)];
    format.pack(&weights, rows, k, &mut packed);
    let mut x: Vec<f32> = (0..n * k).map(|i| ((i * 104_729) % 1000) as f32 / 500.0 - 1.0).collect();
    let mut y = vec![0f32; n * rows];
    let mut work = vec![0u8; work_len(k, n, 1)];
    let operations = 2.0 * (rows * k * n) as f64;
    let runs = ((3e9 / operations) as usize).clamp(3, 400);
    let mut measured: Vec<(f64, f64)> = (0..runs)
        .map(|_| {
            let peak = peak();
            let (x, y) = (Columns::new(x.as_mut_ptr(), n, k * 4), Columns::new(y.as_mut_ptr(), n, rows * 4));
            let weights = Weights { format, rows, k, packed: &packed };
            let begun = Instant::now();
            // SAFETY: columns and work space have their sizes, `isa` is available, there is one thread.
            unsafe { mul_mat(isa, weights, x, y, (0, 1), work.as_mut_ptr(), || ()) };
            (operations / begun.elapsed().as_secs_f64() * 1e-9, peak)
        })
        .collect();
    measured.sort_by(|a, b| a.0.total_cmp(&b.0));
    let rate = measured[runs / 2].0;
    measured.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
    let share = measured[runs / 2].0 / measured[runs / 2].1;
    if share.is_finite() { format!("{rate:.0} ({:.0} %)", 100.0 * share) } else { format!("{rate:.0}") }
}
