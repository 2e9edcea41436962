//! Decoding and prefill of a whole model, ours alternating with ggml's in one process; medians of steps.
//!
//! `LACUNA_TEST_GGUF=model.gguf cargo bench --bench decode -- [widths] [steps]`, for example `-- 1,32,64 24`. ggml runs with its own
//! repacking and flash attention, with one cache for all sequences and with one for each; the faster counts. Times are those that the
//! thread ran, so that other programs on the machine disturb less. The share of the peak is that of the multiplications with weights,
//! against 8-bit dot products alone in the same moments.

use lacuna_ggml_kernels::{install, set_enabled};
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use peak::peak;
use std::num::NonZeroU32;
use std::time::Instant;

mod peak;

/// Tokens of the shared prefix.
const PREFIX: usize = 228;
/// Tokens of the prompt in the measurement of prefill.
const PROMPT: usize = 512;

fn main() {
    let Ok(path) = std::env::var("LACUNA_TEST_GGUF") else { return eprintln!("SKIPPED: set LACUNA_TEST_GGUF to a GGUF model") };
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let widths = arguments.first().map_or("1,2,8,16,32,64", String::as_str);
    let widths: Vec<usize> = widths.split(',').map(|width| width.parse().expect("widths such as 1,32,64")).collect();
    let steps = arguments.get(1).map_or(24, |steps| steps.parse().expect("a number of steps"));
    println!("{path} on {:?}", install().map(|isa| isa.name()));
    let mut backend = LlamaBackend::init().expect("llama.cpp starts");
    backend.void_logs();
    let load = |ours: bool| {
        set_enabled(ours);
        let (begun, before) = (Instant::now(), own_memory());
        let model = LlamaModel::load_from_file(&backend, &path, &LlamaModelParams::default()).expect("the model loads");
        let (seconds, mebibytes) = (begun.elapsed().as_secs_f64(), (own_memory() - before) / 1024.0);
        println!("{}: loaded in {seconds:.2} s, {mebibytes:.0} MiB beside the mapped file", if ours { "ours" } else { "ggml" });
        model
    };
    let (ours, ggml) = (load(true), load(false));
    prefill(&backend, &ours, &ggml);
    for width in widths {
        decode(&backend, &ours, &ggml, width, steps);
    }
    two_cores(&backend, &ours, steps);
}

/// A context on one thread for `width` sequences after a prefix, and that prefix in all of them.
struct Batch<'m> {
    context: LlamaContext<'m>,
    ours: bool,
    width: usize,
    position: i32,
    state: u64,
    seconds: Vec<f64>,
}

impl<'m> Batch<'m> {
    fn new(backend: &LlamaBackend, model: &'m LlamaModel, ours: bool, unified: bool, width: usize, steps: usize) -> Self {
        set_enabled(ours);
        let cells = if unified { PREFIX + width * (steps + 2) } else { width * (PREFIX + steps + 2).next_multiple_of(256) };
        let mut context = context(backend, model, unified, width, cells.next_multiple_of(256));
        feed(&mut context, &tokens(model, PREFIX), 0);
        for sequence in 1..width {
            context.kv_cache_seq_cp(0, sequence as i32, None, None).expect("there is room");
        }
        Batch { context, ours, width, position: PREFIX as i32, state: 7, seconds: Vec::new() }
    }

    /// One token more for every sequence.
    fn step(&mut self) {
        set_enabled(self.ours);
        let mut batch = LlamaBatch::new(self.width, 1);
        for sequence in 0..self.width {
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let token = LlamaToken((self.state >> 40) as i32 % 20_000);
            batch.add(token, self.position, &[sequence as i32], true).expect("there is room");
        }
        let begun = now();
        self.context.decode(&mut batch).expect("it decodes");
        self.context.synchronize();
        self.seconds.push(now() - begun);
        self.position += 1;
    }

    fn median(&mut self) -> f64 {
        median(&mut self.seconds)
    }
}

/// KiB of memory that is not a mapped file; 0 where there is no /proc.
fn own_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0.0)
}

/// Seconds that this thread has run; where the system does not say, the clock's.
#[cfg(unix)]
fn now() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes the time it is given.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) }, 0, "the system counts a thread's time");
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

#[cfg(not(unix))]
fn now() -> f64 {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    START.elapsed().as_secs_f64()
}

fn median(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn context<'m>(backend: &LlamaBackend, model: &'m LlamaModel, unified: bool, width: usize, cells: usize) -> LlamaContext<'m> {
    let params = LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(cells as u32))
        .with_n_batch(512)
        .with_n_ubatch(512)
        .with_n_seq_max(width as u32)
        .with_kv_unified(unified)
        .with_n_threads(1)
        .with_n_threads_batch(1)
        .with_no_perf(true);
    model.new_context(backend, params).expect("there is memory for a context")
}

/// `n` tokens of English.
fn tokens(model: &LlamaModel, n: usize) -> Vec<LlamaToken> {
    let text =
        "You write short movie reviews for a data set. Each is one to three sentences, natural and varied in vocabulary. ".repeat(40);
    model.vocab().tokenize(text.as_bytes(), true, false).into_iter().take(n).collect()
}

/// Prefills sequence 0.
fn feed(context: &mut LlamaContext, tokens: &[LlamaToken], from: i32) {
    let mut batch = LlamaBatch::new(tokens.len(), 1);
    for (i, &token) in tokens.iter().enumerate() {
        batch.add(token, from + i as i32, &[0], i + 1 == tokens.len()).expect("there is room");
    }
    context.decode(&mut batch).expect("it decodes");
    context.synchronize();
}

fn decode(backend: &LlamaBackend, ours: &LlamaModel, ggml: &LlamaModel, width: usize, steps: usize) {
    let mut batches = [
        Batch::new(backend, ours, true, true, width, steps),
        Batch::new(backend, ggml, false, true, width, steps),
        Batch::new(backend, ggml, false, false, width, steps),
    ];
    let mut peaks: Vec<f64> = Vec::new();
    for _ in 0..steps {
        batches.iter_mut().for_each(Batch::step);
        peaks.push(peak());
    }
    let [our_step, unified, streams] = batches.each_mut().map(Batch::median);
    let rate = |step: f64| width as f64 / step;
    // Each weight is multiplied and added once a token; those of the embedding, where it is not also the output, are counted too.
    let operations = 2.0 * ours.n_params() as f64 * rate(our_step);
    println!(
        "width {width:3}: ours {:7.1} tokens/s ({:6.1} ms, {:.0} % of the int8 peak), ggml {:6.1} unified, {:6.1} streams: {:.2}x",
        rate(our_step),
        our_step * 1e3,
        1e-7 * operations / median(&mut peaks),
        rate(unified),
        rate(streams),
        unified.min(streams) / our_step
    );
}

fn prefill(backend: &LlamaBackend, ours: &LlamaModel, ggml: &LlamaModel) {
    let mut seconds = [Vec::new(), Vec::new()];
    let mut contexts = [context(backend, ours, true, 1, PROMPT), context(backend, ggml, true, 1, PROMPT)];
    let prompt = tokens(ours, PROMPT);
    for _ in 0..5 {
        for (i, context) in contexts.iter_mut().enumerate() {
            set_enabled(i == 0);
            context.clear_kv_cache();
            let begun = now();
            feed(context, &prompt, 0);
            seconds[i].push(now() - begun);
        }
    }
    let [ours, ggml] = seconds.map(|mut seconds| median(&mut seconds));
    let rate = |step: f64| PROMPT as f64 / step;
    println!("prefill of {PROMPT}: ours {:.0} tokens/s, ggml {:.0}: {:.2}x", rate(ours), rate(ggml), ggml / ours);
}

/// Two contexts on two threads against one alone, at width 32.
fn two_cores(backend: &LlamaBackend, ours: &LlamaModel, steps: usize) {
    let batch = || Batch::new(backend, ours, true, true, 32, steps);
    let (mut alone, mut pair) = (batch(), [batch(), batch()]);
    (0..steps).for_each(|_| alone.step());
    std::thread::scope(|scope| {
        for batch in &mut pair {
            scope.spawn(move || (0..steps).for_each(|_| batch.step()));
        }
    });
    let rate = |batch: &mut Batch| 1.0 / batch.median();
    println!("two cores decode {:.2} times what one does", pair.each_mut().map(rate).iter().sum::<f64>() / rate(&mut alone));
}
