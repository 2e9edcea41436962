//! How fast llama.cpp decodes when nothing is sampled and nothing is scheduled, as its own llama-batched-bench measures it: a prompt for
//! each sequence, then steps of one token for each. This is what a speed of scripts/gpu-check.sh is compared with; a line of JSON for
//! each number of slots.
//!
//!     decode model.gguf --gpu-layers 99 --slots 64,128 --prompt 83 --tokens 48

use anyhow::{Context, Result, ensure};
use clap::Parser;
use llama_cpp_sys_2 as sys;
use serde_json::json;
use std::ffi::CString;
use std::path::PathBuf;
use std::time::Instant;

#[derive(Parser)]
struct Arguments {
    model: Option<PathBuf>,
    /// Layers on GPUs
    #[arg(long, default_value_t = 0)]
    gpu_layers: i32,
    /// Sequences that are decoded together
    #[arg(long, value_delimiter = ',', default_value = "32")]
    slots: Vec<usize>,
    /// Tokens of each prompt
    #[arg(long, default_value_t = 83)]
    prompt: usize,
    /// One prompt for all sequences, with one KV cache for all
    #[arg(long)]
    shared: bool,
    /// Tokens of each text
    #[arg(long, default_value_t = 48)]
    tokens: usize,
    /// CPU threads, 0 for all cores
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// `cargo bench` says so
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let Some(path) = &arguments.model else {
        eprintln!("decode: nothing to measure; give a GGUF (scripts/synthetic_gguf.py writes one)");
        return Ok(());
    };
    lacuna::generator::llama::load_back_ends().map_err(anyhow::Error::msg)?;
    let model = Model::load(path, arguments.gpu_layers)?;
    for &slots in &arguments.slots {
        let mut context = Decoder::new(&model, slots, &arguments)?;
        context.step(1, 0, 16)?;
        let begun = Instant::now();
        context.prefill(slots, &arguments)?;
        let prefill = begun.elapsed().as_secs_f64();
        for position in 0..arguments.tokens {
            context.step(slots, arguments.prompt + position, 1)?;
        }
        let (seconds, tokens) = (begun.elapsed().as_secs_f64(), (slots * arguments.tokens) as f64);
        let line = json!({
            "side": "decoding alone", "model": path.file_name().unwrap_or_default().to_string_lossy(), "slots": slots,
            "layout": if arguments.shared { "unified" } else { "streams" }, "gpu_layers": arguments.gpu_layers, "contexts": 1,
            "prefill_seconds": prefill, "seconds": seconds, "steps": arguments.tokens, "new_tokens": tokens,
            "tokens_per_second": tokens / seconds, "tokens_per_second_after_prefill": tokens / (seconds - prefill),
        });
        println!("{line}");
    }
    Ok(())
}

struct Model(*mut sys::llama_model);

impl Model {
    fn load(path: &std::path::Path, gpu_layers: i32) -> Result<Self> {
        let name = CString::new(path.to_str().context("the path is not UTF-8")?)?;
        // SAFETY: the parameters are llama.cpp's own but for a number, the path ends with a zero.
        let model = unsafe {
            sys::llama_backend_init();
            let params = sys::llama_model_params { n_gpu_layers: gpu_layers, ..sys::llama_model_default_params() };
            sys::llama_model_load_from_file(name.as_ptr(), params)
        };
        ensure!(!model.is_null(), "{} cannot be loaded", path.display());
        Ok(Self(model))
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: it is not null, and every context borrows it.
        unsafe { sys::llama_model_free(self.0) }
    }
}

/// A context with a batch that is filled anew for every step.
struct Decoder<'a> {
    context: *mut sys::llama_context,
    batch: sys::llama_batch,
    n_batch: usize,
    vocabulary: i32,
    random: u32,
    model: std::marker::PhantomData<&'a Model>,
}

impl<'a> Decoder<'a> {
    fn new(model: &'a Model, slots: usize, arguments: &Arguments) -> Result<Self> {
        let threads = if arguments.threads == 0 { std::thread::available_parallelism()?.get() } else { arguments.threads } as i32;
        // A stream has whole blocks of 256 cells.
        let cells =
            if arguments.shared { arguments.prompt + slots * arguments.tokens } else { slots * (arguments.prompt + arguments.tokens) };
        let room = if arguments.shared { cells.next_multiple_of(256) } else { slots * (cells / slots).next_multiple_of(256) };
        let n_batch = 2048.max(slots);
        // SAFETY: llama.cpp's own parameters but for numbers; the model outlives the context, which borrows it.
        let (context, vocabulary) = unsafe {
            let params = sys::llama_context_params {
                n_ctx: room as u32,
                n_batch: n_batch as u32,
                n_ubatch: 512,
                n_seq_max: slots as u32,
                n_threads: threads,
                n_threads_batch: threads,
                kv_unified: arguments.shared,
                ..sys::llama_context_default_params()
            };
            (sys::llama_init_from_model(model.0, params), sys::llama_vocab_n_tokens(sys::llama_model_get_vocab(model.0)))
        };
        ensure!(!context.is_null(), "there is no room for {slots} sequences");
        // SAFETY: room for a token of one sequence in each cell.
        let batch = unsafe { sys::llama_batch_init(room as i32, 0, 1) };
        Ok(Self { context, batch, n_batch, vocabulary, random: 1, model: std::marker::PhantomData })
    }

    /// Decodes a prompt for each sequence, or one for all.
    fn prefill(&mut self, slots: usize, arguments: &Arguments) -> Result<()> {
        // SAFETY: the context is there as long as self.
        let memory = unsafe { sys::llama_get_memory(self.context) };
        // SAFETY: as above.
        unsafe { sys::llama_memory_clear(memory, false) };
        self.batch.n_tokens = 0;
        for sequence in 0..if arguments.shared { 1 } else { slots } {
            (0..arguments.prompt).for_each(|position| self.add(sequence, position, position + 1 == arguments.prompt));
        }
        self.decode()?;
        for sequence in 1..if arguments.shared { slots } else { 1 } {
            // SAFETY: both sequences are below n_seq_max.
            unsafe { sys::llama_memory_seq_cp(memory, 0, sequence as i32, -1, -1) };
        }
        Ok(())
    }

    /// Decodes `tokens` tokens of each of the first `sequences`, from a position on; the logits of all come to the host.
    fn step(&mut self, sequences: usize, position: usize, tokens: usize) -> Result<()> {
        self.batch.n_tokens = 0;
        for sequence in 0..sequences {
            (0..tokens).for_each(|i| self.add(sequence, position + i, true));
        }
        self.decode()
    }

    /// Adds a random token: what it is changes no time.
    fn add(&mut self, sequence: usize, position: usize, logits: bool) {
        let at = self.batch.n_tokens as usize;
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // SAFETY: the batch has room for as many tokens as the context has cells, and of one sequence each.
        unsafe {
            *self.batch.token.add(at) = ((self.random >> 8) % self.vocabulary as u32) as i32;
            *self.batch.pos.add(at) = position as i32;
            *self.batch.n_seq_id.add(at) = 1;
            **self.batch.seq_id.add(at) = sequence as i32;
            *self.batch.logits.add(at) = i8::from(logits);
        }
        self.batch.n_tokens += 1;
    }

    fn decode(&mut self) -> Result<()> {
        let all = self.batch.n_tokens as usize;
        for first in (0..all).step_by(self.n_batch) {
            let n_tokens = self.n_batch.min(all - first) as i32;
            // SAFETY: a view of the batch that ends where it ends.
            let code = unsafe {
                let view = sys::llama_batch {
                    n_tokens,
                    token: self.batch.token.add(first),
                    embd: std::ptr::null_mut(),
                    pos: self.batch.pos.add(first),
                    n_seq_id: self.batch.n_seq_id.add(first),
                    seq_id: self.batch.seq_id.add(first),
                    logits: self.batch.logits.add(first),
                };
                let code = sys::llama_decode(self.context, view);
                sys::llama_synchronize(self.context);
                code
            };
            ensure!(code == 0, "llama_decode returned {code}");
        }
        Ok(())
    }
}

impl Drop for Decoder<'_> {
    fn drop(&mut self) {
        // SAFETY: both were made in `new` and are used no more.
        unsafe {
            sys::llama_batch_free(self.batch);
            sys::llama_free(self.context);
        }
    }
}
