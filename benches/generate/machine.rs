//! The hardware: its name, and the peak rates to compare with.

use std::hint::black_box;
use std::time::Instant;

/// Peak rates of all threads together.
pub struct Peaks {
    /// 8-bit multiplications and additions per second; `None` without AVX-512 VNNI.
    pub int8_ops: Option<f64>,
    /// Bytes read from memory per second.
    pub bytes_per_second: f64,
}

impl std::fmt::Display for Peaks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let int8 = self.int8_ops.map_or("unknown (no AVX-512 VNNI)".into(), |ops| format!("{:.0} GOP/s", ops * 1e-9));
        write!(f, "int8 peak {int8}, memory bandwidth {:.1} GB/s", self.bytes_per_second * 1e-9)
    }
}

impl Peaks {
    /// The best of a few short trials on `threads` threads at once.
    pub fn measure(threads: usize) -> Self {
        let together = |work: fn() -> f64| {
            let trial = || {
                std::thread::scope(|scope| {
                    let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
                    threads.into_iter().map(|thread| thread.join().expect("no measurement panics")).sum::<f64>()
                })
            };
            (0..3).map(|_| trial()).fold(0.0, f64::max)
        };
        let int8_ops = has_vnni().then(|| together(int8_ops));
        Peaks { int8_ops, bytes_per_second: together(bytes_per_second) }
    }
}

/// CPU time of a process (`self` or its id) in seconds, more reliable than wall-clock time on a busy machine; 0 without /proc.
pub fn cpu_seconds(process: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields.get(11..13).unwrap_or_default().iter().filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn bytes_per_second() -> f64 {
    let block = vec![1u64; 32 << 20]; // 256 MiB, larger than most caches
    let begun = Instant::now();
    for _ in 0..4 {
        let mut sums = [0u64; 16];
        for chunk in block.as_chunks::<16>().0 {
            sums.iter_mut().zip(chunk).for_each(|(sum, value)| *sum = sum.wrapping_add(*value));
        }
        black_box(sums);
    }
    4.0 * 8.0 * block.len() as f64 / begun.elapsed().as_secs_f64()
}

#[cfg(target_arch = "x86_64")]
fn has_vnni() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni")
}

#[cfg(target_arch = "x86_64")]
fn int8_ops() -> f64 {
    const ROUNDS: usize = 10_000_000;
    let begun = Instant::now();
    // SAFETY: only called when `has_vnni` has said so.
    unsafe { dot_products(black_box(ROUNDS)) };
    (ROUNDS * 12 * 64 * 2) as f64 / begun.elapsed().as_secs_f64()
}

/// Twelve independent chains of `vpdpbusd`, enough to hide its latency.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn dot_products(rounds: usize) {
    use std::arch::x86_64::{_mm512_dpbusd_epi32, _mm512_set1_epi8, _mm512_setzero_si512};
    let (a, b) = (black_box(_mm512_set1_epi8(3)), black_box(_mm512_set1_epi8(5)));
    let mut sums = [_mm512_setzero_si512(); 12];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, a, b);
        }
    }
    black_box(sums);
}

#[cfg(not(target_arch = "x86_64"))]
fn has_vnni() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn int8_ops() -> f64 {
    0.0
}
