//! Texts per second compared with llama.cpp's server on the same cores, alternating. Started by `scripts/bench-generate.sh`, which
//! documents the settings.

mod machine;
mod server;
mod stages;

use anyhow::{Context, Result, ensure};
use lacuna::generator::llama::{Host, Llama, LlamaConfig, Stats, Wishes, fastest_weights, q4_0_copy};
use lacuna::generator::{Completion, Generate, Posterior};
use machine::Peaks;
use server::Server;
use stages::{Stage, Work};
use std::path::PathBuf;
use std::time::Instant;

/// The results of one side for a stage.
#[derive(Clone, Debug, Default)]
pub struct Run {
    pub texts: usize,
    pub seconds: f64,
    pub cpu_seconds: f64,
    /// New tokens.
    pub tokens: u64,
    /// Tokens of all prompts, shared or not.
    pub prompt_tokens: u64,
    /// For posteriors: the log-probability of every word of every request, `None` where the server does not report it.
    pub log_probs: Vec<Vec<Option<f32>>>,
}

impl Run {
    fn rate(&self) -> f64 {
        self.texts as f64 / self.seconds
    }
}

/// The versions of the model.
struct Models {
    /// As it was published.
    shipped: PathBuf,
    /// The version that lacuna runs instead.
    fast: PathBuf,
    /// Q4_0, for stages where both sides use the same file.
    same: PathBuf,
}

/// Settings from the environment.
struct Settings {
    texts: usize,
    alternations: usize,
    stages: Vec<String>,
    slots: Vec<usize>,
    threads: usize,
    shipped: PathBuf,
    server: String,
}

fn main() -> Result<()> {
    let Ok(server) = std::env::var("LACUNA_BENCH_SERVER") else {
        eprintln!("generate: nothing to compare with; scripts/bench-generate.sh installs llama.cpp's server and starts this");
        return Ok(());
    };
    let settings = Settings::from_env(server)?;
    let weights = lacuna::fetch::cache::Cache::from_env()?.root().join("weights");
    let config = LlamaConfig { threads: settings.threads, ..LlamaConfig::new(&settings.shipped) };
    let (fast, choice) = fastest_weights(&config, &weights, &|what| eprintln!("{what}"))?;
    let models = Models { shipped: settings.shipped.clone(), fast, same: q4_0_copy(&settings.shipped, &weights)? };
    let peaks = Peaks::measure(settings.threads);
    println!(
        "{}\n{} threads, {} texts a stage, {} alternations",
        Host::examine().map_err(anyhow::Error::msg)?.processor,
        settings.threads,
        settings.texts,
        settings.alternations
    );
    println!("{peaks}");
    println!("shipped: {}\nfast:    {}", models.shipped.display(), models.fast.display());
    for format in &choice.measured {
        println!("         {} {:.0} tokens/s, perplexity {:.3}", format.format, format.tokens_per_second, format.perplexity);
    }
    println!("| stage | lacuna | llama-server (slots) | one at a time | against the server | against one at a time |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let mut notes = Vec::new();
    for stage in stages::all(settings.texts)? {
        if settings.stages.iter().any(|wanted| stage.name.contains(wanted.as_str())) {
            notes.push(measure(&stage, &settings, &models, &peaks)?);
        }
    }
    println!("\n{}", notes.join("\n"));
    Ok(())
}

impl Settings {
    fn from_env(server: String) -> Result<Self> {
        let number = |name: &str, default: usize| match std::env::var(name) {
            Ok(text) => text.parse().with_context(|| format!("{name} is {text:?}, not a number")),
            Err(_) => Ok(default),
        };
        let list = |name: &str, default: &str| -> Vec<String> {
            std::env::var(name).unwrap_or(default.into()).split(',').map(|word| word.trim().to_string()).collect()
        };
        let slots =
            list("LACUNA_BENCH_SLOTS", "8,16,32").iter().map(|word| word.parse().context("LACUNA_BENCH_SLOTS")).collect::<Result<_>>()?;
        let shipped = match std::env::var_os("LACUNA_BENCH_GGUF") {
            Some(path) => path.into(),
            None => lacuna::fetch::cache::locate("smollm2-135m-instruct")?,
        };
        Ok(Settings {
            texts: number("LACUNA_BENCH_TEXTS", 1000)?,
            alternations: number("LACUNA_BENCH_ALTERNATIONS", 5)?,
            stages: list("LACUNA_BENCH_STAGES", ""),
            slots,
            threads: number("LACUNA_BENCH_THREADS", std::thread::available_parallelism().map_or(1, usize::from))?,
            shipped,
            server,
        })
    }

    fn start(&self, model: &std::path::Path, slots: usize) -> Result<Server> {
        Server::start(&self.server, model, slots, self.threads)
    }
}

/// Measures a stage and prints its row; returns further notes.
fn measure(stage: &Stage, settings: &Settings, models: &Models, peaks: &Peaks) -> Result<String> {
    let (mine, model) = if stage.same_file { (&models.same, &models.same) } else { (&models.fast, &models.shipped) };
    let mut ours = Llama::load(LlamaConfig { threads: settings.threads, ..LlamaConfig::new(mine) })?;
    let tuned =
        ours.tune(Some(&lacuna::fetch::cache::Cache::from_env()?.root().join("probes")), Wishes::default(), &|what| eprintln!("{what}"))?;
    eprintln!("{}: {tuned:?}", stage.name);
    let server = best_server(stage, settings, model)?;
    let alone = settings.start(model, 1)?;
    let few = stage.work.first(settings.texts.div_ceil(8));
    run_ours(&mut ours, &stage.work.first(16))?;
    server.run(&stage.work.first(16))?;
    let before = ours.stats();
    let mut runs = Vec::new();
    for _ in 0..settings.alternations {
        runs.push((run_ours(&mut ours, &stage.work)?, server.run(&stage.work)?, alone.run(&few)?));
    }
    let rate = |of: &dyn Fn(&(Run, Run, Run)) -> f64| median(runs.iter().map(of).collect());
    println!(
        "| {} | {:.2} | {:.2} ({}) | {:.2} | **{:.2}x** | **{:.2}x** |",
        stage.name,
        rate(&|run| run.0.rate()),
        rate(&|run| run.1.rate()),
        server.slots(),
        rate(&|run| run.2.rate()),
        rate(&|run| run.0.rate() / run.1.rate()),
        rate(&|run| run.0.rate() / run.2.rate()),
    );
    let by_cpu = rate(&|run| run.1.cpu_seconds / run.0.cpu_seconds);
    let (mine, theirs, _) = &runs[runs.len() - 1];
    ensure!(mine.prompt_tokens == theirs.prompt_tokens, "the two sides read different prompts: {mine:?} {theirs:?}");
    Ok(format!("{}; {by_cpu:.2}x by CPU time", notes(stage, &ours, &before, mine, theirs, peaks)))
}

/// Notes on tokens, prefix sharing, hardware utilisation, and how far the two sides' log-probabilities differ.
fn notes(stage: &Stage, ours: &Llama, before: &Stats, mine: &Run, theirs: &Run, peaks: &Peaks) -> String {
    let (stats, model) = (ours.stats(), ours.description());
    let seconds = stats.seconds - before.seconds;
    let computed = (stats.decoded_tokens + stats.prefilled_tokens - before.decoded_tokens - before.prefilled_tokens) as f64;
    let prompt = (stats.prompt_tokens - before.prompt_tokens) as f64;
    let prefilled = (stats.prefilled_tokens - before.prefilled_tokens) as f64;
    let steps = (stats.steps - before.steps) as f64;
    let mean = |run: &Run| run.tokens as f64 / run.texts as f64;
    let mut note = format!(
        "{}: {:.1} new tokens a text (server {:.1}); {:.0} tokens/s computed, {:.0} new; {:.0} % of the prompt tokens computed; {:.1} tokens a step",
        stage.name,
        mean(mine),
        mean(theirs),
        computed / seconds,
        mine.tokens as f64 / mine.seconds,
        100.0 * prefilled / prompt,
        computed / steps,
    );
    if let Some(int8) = peaks.int8_ops {
        note += &format!("; {:.1} % of the int8 peak", 100.0 * 2.0 * model.n_params as f64 * computed / seconds / int8);
    }
    note += &format!(
        "; {:.1} % of the memory bandwidth for the weights",
        100.0 * model.bytes as f64 * steps / seconds / peaks.bytes_per_second
    );
    let pairs = mine.log_probs.iter().flatten().zip(theirs.log_probs.iter().flatten());
    let differences: Vec<f32> = pairs.filter_map(|(a, b)| Some((a.as_ref()? - b.as_ref()?).abs())).collect();
    if !differences.is_empty() {
        let mean = differences.iter().sum::<f32>() / differences.len() as f32;
        note += &format!("; log-probabilities differ from the server's by {mean:.3} in the mean of {}", differences.len());
    }
    note
}

/// The server with the number of slots that is fastest on a part of the stage.
fn best_server(stage: &Stage, settings: &Settings, model: &std::path::Path) -> Result<Server> {
    let part = stage.work.first(settings.texts.div_ceil(4).max(2 * settings.slots.iter().max().unwrap_or(&32)));
    let mut best: Option<(f64, Server)> = None;
    for &slots in &settings.slots {
        let server = settings.start(model, slots)?;
        server.run(&stage.work.first(16))?;
        let rate = server.run(&part)?.rate();
        eprintln!("{}: llama-server, {slots} slots: {rate:.2} texts/s", stage.name);
        if best.as_ref().is_none_or(|(fastest, _)| rate > *fastest) {
            best = Some((rate, server));
        }
    }
    best.map(|(_, server)| server).context("LACUNA_BENCH_SLOTS is empty")
}

fn run_ours(llama: &mut Llama, work: &Work) -> Result<Run> {
    let (before, begun, cpu) = (llama.stats(), Instant::now(), machine::cpu_seconds("self"));
    let mut run = Run { texts: work.len(), ..Run::default() };
    match work {
        Work::Write(requests) => llama.complete(requests, &mut |completion: Completion| {
            run.tokens += u64::from(completion.tokens);
            Ok(())
        })?,
        Work::Posterior(requests) => {
            run.log_probs = vec![Vec::new(); requests.len()];
            llama.posteriors(requests, &[], &mut |posterior: Posterior| {
                run.log_probs[posterior.id as usize] = posterior.log_probs.into_iter().map(Some).collect();
                Ok(())
            })?;
            run.tokens = requests.len() as u64;
        }
    }
    run.seconds = begun.elapsed().as_secs_f64();
    run.cpu_seconds = machine::cpu_seconds("self") - cpu;
    run.prompt_tokens = llama.stats().prompt_tokens - before.prompt_tokens;
    Ok(run)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}
