//! How fast the generator writes and judges with given settings, on a CPU or a GPU: a line of JSON for each number of slots and layout.
//! The executable runs anywhere without cargo, with a model and prompts from scripts/synthetic_gguf.py:
//!
//!     speed model.gguf --prompts prompts.txt --gpu-layers 99 --slots 64,128 --layout unified,streams
//!     speed model.gguf --prompts prompts.txt --gpu-layers 99 --against-cpu

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use lacuna::generator::llama::{KvFormat, Llama, LlamaConfig, Settings};
use lacuna::generator::{Completion, CompletionRequest, Generate, Posterior, PosteriorRequest, Prompt, Sampling};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Instant;

#[derive(Parser)]
struct Arguments {
    model: Option<PathBuf>,
    /// A file with one prompt a line
    #[arg(long)]
    prompts: Option<PathBuf>,
    /// Layers on GPUs
    #[arg(long, default_value_t = 0)]
    gpu_layers: u32,
    /// Requests that a context decodes together
    #[arg(long, value_delimiter = ',', default_value = "32")]
    slots: Vec<usize>,
    #[arg(long, value_delimiter = ',', value_enum, default_value = "unified")]
    layout: Vec<Layout>,
    /// Contexts on each GPU
    #[arg(long)]
    contexts: Option<usize>,
    /// Copy all logits to the host
    #[arg(long)]
    copy_logits: bool,
    #[arg(long, value_enum, default_value = "f16")]
    kv: KvFormat,
    #[arg(long, default_value_t = 512)]
    n_batch: usize,
    /// CPU threads, 0 for all cores
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Texts to write; 0 for none
    #[arg(long, default_value_t = 256)]
    texts: usize,
    /// Tokens of each text
    #[arg(long, default_value_t = 48)]
    tokens: u32,
    /// Draw from the k likeliest tokens, 0 for all
    #[arg(long, default_value_t = 40)]
    top_k: u32,
    /// Questions with two possible answers; 0 for none
    #[arg(long, default_value_t = 0)]
    questions: usize,
    /// Instead of speeds, compare greedy texts and answers with those of the CPU
    #[arg(long)]
    against_cpu: bool,
    /// `cargo bench` says so
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Layout {
    Unified,
    Streams,
}

/// All requests of one measurement.
struct Work {
    texts: Vec<CompletionRequest>,
    questions: Vec<PosteriorRequest>,
}

/// What the model wrote and answered, in the order of the requests.
struct Answers {
    texts: Vec<String>,
    log_probs: Vec<Vec<f32>>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let (Some(model), Some(prompts)) = (&arguments.model, &arguments.prompts) else {
        eprintln!("speed: nothing to measure; give a GGUF and --prompts (scripts/synthetic_gguf.py writes both)");
        return Ok(());
    };
    let prompts = std::fs::read_to_string(prompts).with_context(|| prompts.display().to_string())?;
    let prompts: Vec<&str> = prompts.lines().collect();
    ensure!(!prompts.is_empty(), "there are no prompts");
    if arguments.against_cpu {
        println!("{}", compare(&arguments, model, &prompts)?);
        return Ok(());
    }
    let work = arguments.work(&prompts, arguments.top_k, 1.0);
    let begun = Instant::now();
    let mut llama = arguments.load(model, arguments.gpu_layers)?;
    let load_seconds = begun.elapsed().as_secs_f64();
    for (&slots, &layout) in arguments.slots.iter().flat_map(|slots| arguments.layout.iter().map(move |layout| (slots, layout))) {
        let settings = arguments.settings(slots, layout);
        // One setting that does not fit leaves the others alone.
        let measured = measure(&mut llama, settings, &work).unwrap_or_else(|error| json!({"error": format!("{error:#}")}));
        let mut line = json!({
            "side": "lacuna", "model": model.file_name().unwrap_or_default().to_string_lossy(), "slots": slots,
            "layout": if settings.unified { "unified" } else { "streams" }, "gpu_layers": arguments.gpu_layers,
            "contexts": arguments.contexts, "logits": if arguments.copy_logits { "copied" } else { "in place" },
            "texts": work.texts.len(), "load_seconds": load_seconds, "top_k": arguments.top_k,
        });
        merge(&mut line, measured);
        merge(&mut line, json!({"record": llama.record()}));
        println!("{line}");
    }
    Ok(())
}

impl Arguments {
    fn settings(&self, slots: usize, layout: Layout) -> Settings {
        Settings { slots, kv: self.kv, unified: layout == Layout::Unified, n_batch: self.n_batch.max(slots) }
    }

    fn load(&self, model: &std::path::Path, gpu_layers: u32) -> Result<Llama> {
        let settings = self.settings(self.slots[0], self.layout[0]);
        let (threads, contexts_per_gpu, copy_logits) = (self.threads, self.contexts, self.copy_logits);
        let config = LlamaConfig { threads, gpu_layers, contexts_per_gpu, copy_logits, settings, n_ctx: 1024, ..LlamaConfig::new(model) };
        Ok(Llama::load(config)?)
    }

    fn work(&self, prompts: &[&str], top_k: u32, temperature: f32) -> Work {
        let prompt = |i: usize, answer_start: &str| {
            let user = prompts[i % prompts.len()].to_string();
            Prompt { system: None, user, answer_start: answer_start.into(), plain: false }
        };
        let sampling = Sampling { temperature, top_k, ..Sampling::PLAIN };
        let text = |i| {
            let (prompt, stop, max_tokens) = (prompt(i, ""), Vec::new(), self.tokens);
            CompletionRequest { id: i as u64, prompt, sampling, seed: i as u64, max_tokens, stop, form: None }
        };
        let question =
            |i| PosteriorRequest { id: i as u64, prompt: prompt(i, "It is"), words: vec![" positive".into(), " negative".into()] };
        Work { texts: (0..self.texts).map(text).collect(), questions: (0..self.questions).map(question).collect() }
    }
}

/// Runs a little of the work, which is not counted, then all of it.
fn measure(llama: &mut Llama, settings: Settings, work: &Work) -> Result<Value> {
    llama.set(settings)?;
    let short = |request: &CompletionRequest| CompletionRequest { max_tokens: 8, ..request.clone() };
    llama.complete(&work.texts.iter().take(settings.slots).map(short).collect::<Vec<_>>(), &mut |_| Ok(()))?;
    let mut result = json!({});
    if !work.texts.is_empty() {
        let (before, begun, mut tokens) = (llama.stats(), Instant::now(), 0);
        llama.complete(&work.texts, &mut |text: Completion| {
            tokens += u64::from(text.tokens);
            Ok(())
        })?;
        let (seconds, after) = (begun.elapsed().as_secs_f64(), llama.stats());
        merge(
            &mut result,
            json!({
                "seconds": seconds, "new_tokens": tokens, "tokens_per_second": tokens as f64 / seconds,
                "texts_per_second": work.texts.len() as f64 / seconds, "steps": after.steps - before.steps,
                "prompt_tokens": after.prompt_tokens - before.prompt_tokens,
                "prefilled_tokens": after.prefilled_tokens - before.prefilled_tokens,
            }),
        );
    }
    if !work.questions.is_empty() {
        let (before, begun) = (llama.stats(), Instant::now());
        llama.posteriors(&work.questions, &[], &mut |_| Ok(()))?;
        let (seconds, after) = (begun.elapsed().as_secs_f64(), llama.stats());
        merge(
            &mut result,
            json!({
                "questions": work.questions.len(), "questions_per_second": work.questions.len() as f64 / seconds,
                "prefilled_per_second": (after.prefilled_tokens - before.prefilled_tokens) as f64 / seconds,
            }),
        );
    }
    Ok(result)
}

/// How far greedy texts and answers are from the CPU's. A text that differs goes its own way from the first difference on.
fn compare(arguments: &Arguments, model: &std::path::Path, prompts: &[&str]) -> Result<Value> {
    let work = arguments.work(prompts, 0, 0.0);
    let cpu = answers(&mut arguments.load(model, 0)?, &work)?;
    let gpu = answers(&mut arguments.load(model, arguments.gpu_layers)?, &work)?;
    let same = cpu.texts.iter().zip(&gpu.texts).filter(|(a, b)| a == b).count();
    let start = |(a, b): (&String, &String)| {
        let common = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
        common as f64 / a.len().max(b.len()).max(1) as f64
    };
    let differences = || cpu.log_probs.iter().flatten().zip(gpu.log_probs.iter().flatten()).map(|(a, b)| f64::from((a - b).abs()));
    Ok(json!({
        "side": "lacuna", "model": model.file_name().unwrap_or_default().to_string_lossy(), "gpu_layers": arguments.gpu_layers,
        "layout": if arguments.layout[0] == Layout::Unified { "unified" } else { "streams" }, "texts": work.texts.len(),
        "same_texts": same, "same_start": cpu.texts.iter().zip(&gpu.texts).map(start).sum::<f64>() / cpu.texts.len().max(1) as f64,
        "questions": work.questions.len(), "finite": gpu.log_probs.iter().flatten().all(|log_prob| log_prob.is_finite()),
        "mean_log_prob_difference": differences().sum::<f64>() / differences().count().max(1) as f64,
        "largest_log_prob_difference": differences().fold(0.0, f64::max), "example": gpu.texts.first(),
    }))
}

fn answers(llama: &mut Llama, work: &Work) -> Result<Answers> {
    let mut answers = Answers { texts: vec![String::new(); work.texts.len()], log_probs: vec![Vec::new(); work.questions.len()] };
    llama.complete(&work.texts, &mut |text: Completion| {
        answers.texts[text.id as usize] = text.text;
        Ok(())
    })?;
    llama.posteriors(&work.questions, &[], &mut |posterior: Posterior| {
        answers.log_probs[posterior.id as usize] = posterior.log_probs;
        Ok(())
    })?;
    Ok(answers)
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}
