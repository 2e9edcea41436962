//! Command-line options that override or extend the task file; each can also be set by an environment variable.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::error::{Error, Result};
use crate::generator::llama::{
    ALL_LAYERS, Kernels, KvFormat, LlamaConfig, Weights, broken_back_ends, fits_on_gpus, load_back_ends, needs_gpu,
};
use crate::run::progress::Progress;
use crate::small::device::SmallDevice;
use crate::task::file::{ExtrapolateKeys, JudgeKind, TargetKind, Task};

/// What a run does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Recipe {
    /// What the task file says
    #[default]
    Task,
    /// Algorithms 1 and 2 as published: labels as written for, no judge, one text an error, nothing read, synthetic rows alone
    Paper,
}

/// Options of every command that runs a task.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// Recipe; other options still apply
    #[arg(long, env = "LACUNA_RECIPE", value_enum, default_value_t)]
    pub recipe: Recipe,
    /// Random seed of the run
    #[arg(long, env = "LACUNA_SEED", default_value_t = 0)]
    pub seed: u64,
    /// Number of gold rows to draw from the gold data
    #[arg(long, env = "LACUNA_GOLD_ROWS", value_name = "N")]
    pub gold_rows: Option<usize>,
    /// Unlabelled texts to read: a file, or "rest" for the texts that --gold-rows leaves out
    #[arg(long, env = "LACUNA_UNLABELLED", value_name = "FILE")]
    pub unlabelled: Option<String>,
    /// Most unlabelled texts to read; 0 reads none
    #[arg(long, env = "LACUNA_READ_ROWS", value_name = "N")]
    pub read_rows: Option<usize>,
    /// Number of accepted texts that continue lists of gold rows; 0 writes none
    #[arg(long, env = "LACUNA_LIST_ROWS", value_name = "N")]
    pub list_rows: Option<usize>,
    /// Number of accepted rows in the seed (round 0)
    #[arg(long, env = "LACUNA_SEED_ROWS", value_name = "N")]
    pub seed_rows: Option<usize>,
    /// Rationales per label; 0 writes without rationales
    #[arg(long, env = "LACUNA_RATIONALES", value_name = "N")]
    pub rationales: Option<usize>,
    /// Maximum number of extrapolation rounds; turns early stopping off
    #[arg(long, env = "LACUNA_ROUNDS", value_name = "N")]
    pub rounds: Option<usize>,
    /// Optimiser steps of every training, instead of some epochs
    #[arg(long, env = "LACUNA_STEPS", value_name = "N")]
    pub steps: Option<usize>,
    /// Rows to write for each error, instead of a fixed number per round
    #[arg(long, env = "LACUNA_ROWS_PER_ERROR", value_name = "N")]
    pub rows_per_error: Option<usize>,
    /// Folds of the gold rows that choose the delivered model, each with a twin of every candidate; 0 for no choice
    #[arg(long, env = "LACUNA_FOLDS", value_name = "N")]
    pub folds: Option<usize>,
    /// Training targets of synthetic rows
    #[arg(long, env = "LACUNA_TARGETS", value_name = "KIND")]
    pub targets: Option<TargetKind>,
    /// What the judge of soft targets learns from the gold rows
    #[arg(long, env = "LACUNA_JUDGE", value_name = "KIND")]
    pub judge: Option<JudgeKind>,
    /// Generator: a GGUF file or a fetched name
    #[arg(long, env = "LACUNA_GENERATOR", value_name = "GGUF")]
    pub generator: Option<String>,
    /// Small model: a folder with an encoder (BERT and its kin), or a fetched name
    #[arg(long, env = "LACUNA_SMALL_MODEL", value_name = "FOLDER")]
    pub small_model: Option<String>,
    /// Generator weights: as they are, or converted to a faster format if its measured perplexity is as good
    #[arg(long, env = "LACUNA_WEIGHTS", value_enum, default_value_t)]
    pub weights: Weights,
    #[command(flatten)]
    pub machine: Machine,
}

/// Where both models run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DeviceChoice {
    /// A GPU where there is one, else the CPU
    #[default]
    Auto,
    /// The CPU; no GPU is touched
    Cpu,
    /// A GPU; without one, nothing runs
    Gpu,
}

/// How the machine is used; the requests to the models do not depend on it.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Machine {
    /// CPU threads; 0 for all cores. More than there are cores is slower
    #[arg(long, env = "LACUNA_THREADS", default_value = "0", value_name = "N", value_parser = threads_in_range)]
    pub threads: usize,
    /// Where both models run: on GPUs where there is one with a back end (`lacuna doctor` shows them), or on the CPU alone
    #[arg(long, env = "LACUNA_DEVICE", value_enum, default_value_t)]
    pub device: DeviceChoice,
    /// Generator layers to put on a GPU; 0 runs it on the CPU [default: all of them, where there is a GPU]
    #[arg(long, env = "LACUNA_GPU_LAYERS", value_name = "N")]
    pub gpu_layers: Option<u32>,
    /// Device for the small model, where it is not that of --device
    #[arg(long, env = "LACUNA_SMALL_DEVICE", value_enum, default_value_t)]
    pub small_device: SmallDevice,
    /// CPU kernels for the generator's matrix products and attention
    #[arg(long, env = "LACUNA_KERNELS", value_enum, default_value_t, value_name = "WHOSE")]
    pub kernels: Kernels,
    /// Texts that a thread, or one of a GPU's contexts, writes in parallel (slots) [default: measured]
    #[arg(long, env = "LACUNA_SLOTS", value_name = "N")]
    pub slots: Option<usize>,
    /// Number format of the generator's KV cache [default: measured]
    #[arg(long, env = "LACUNA_KV", value_enum)]
    pub kv: Option<KvFormat>,
    /// Whether a thread's slots share one KV cache [default: measured]
    #[arg(long, env = "LACUNA_KV_UNIFIED", value_name = "BOOL")]
    pub kv_unified: Option<bool>,
    /// Most tokens in one generator batch [default: measured]
    #[arg(long, env = "LACUNA_N_BATCH", value_name = "N")]
    pub n_batch: Option<usize>,
    /// Seconds between two checkpoints of a training, from which it goes on after a crash
    #[arg(long, env = "LACUNA_CHECKPOINT_EVERY", default_value_t = 120, value_name = "SECONDS")]
    pub checkpoint_every: u64,
    /// Show no progress, only results
    #[arg(long, short, env = "LACUNA_QUIET")]
    pub quiet: bool,
}

impl Machine {
    pub fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        if self.threads == 0 { cores() } else { self.threads }
    }

    /// How to load the generator.
    ///
    /// # Errors
    /// A GPU that was asked for and is not there; options that contradict each other.
    pub fn generator(&self, path: &Path) -> Result<LlamaConfig> {
        self.check_device()?;
        let gpu_layers = match (self.gpu_layers, self.device) {
            (_, DeviceChoice::Cpu) => 0,
            (Some(layers), _) => layers,
            (None, DeviceChoice::Gpu) => ALL_LAYERS,
            (None, DeviceChoice::Auto) => self.layers_that_fit(path)?,
        };
        Ok(LlamaConfig { threads: self.threads(), gpu_layers, kernels: self.kernels, ..LlamaConfig::new(path) })
    }

    /// Whether there is a GPU, if one was asked for.
    ///
    /// # Errors
    /// There is none, says why; or the options contradict each other.
    pub fn check_device(&self) -> Result<()> {
        match (self.gpu_layers, self.device) {
            (Some(layers @ 1..), DeviceChoice::Cpu) => Err(Error::Model(format!(
                "--device cpu uses no GPU, and --gpu-layers {layers} asks for one: leave one of them out (LACUNA_DEVICE and \
                 LACUNA_GPU_LAYERS are the same)"
            ))),
            (Some(0), DeviceChoice::Gpu) => Err(Error::Model("--gpu-layers 0 puts nothing on the GPU of --device gpu".into())),
            (Some(1..), _) | (None, DeviceChoice::Gpu) => needs_gpu().map_err(Error::Model),
            (Some(0), _) | (None, _) => Ok(()),
        }
    }

    /// All layers, if there is a GPU that holds them.
    fn layers_that_fit(&self, path: &Path) -> Result<u32> {
        match fits_on_gpus(path)? {
            None => {
                broken_back_ends().iter().for_each(|why| self.progress().say(format!("{why}; the generator runs on the CPU")));
                Ok(0)
            }
            Some(Ok(())) => Ok(ALL_LAYERS),
            Some(Err(reason)) => {
                self.progress().say(format!("{}: runs on the CPU: {reason}", path.display()));
                Ok(0)
            }
        }
    }

    /// The device for the small model. Where that may be a GPU, the generator's back ends are loaded: CUDA's knows where cublasLt lies.
    pub fn small_device(&self) -> SmallDevice {
        match (self.device, self.small_device) {
            (DeviceChoice::Cpu, SmallDevice::Auto) | (_, SmallDevice::Cpu) => SmallDevice::Cpu,
            // With --gpu-layers 0 none is loaded.
            (_, device) if self.gpu_layers == Some(0) => device,
            (_, device) => {
                if let Err(reason) = load_back_ends() {
                    tracing::warn!("{reason}");
                }
                device
            }
        }
    }

    pub fn progress(&self) -> Progress {
        Progress::detect(self.quiet)
    }
}

impl Options {
    /// The seed as on a command line; nothing for the first.
    pub fn seed_in_words(&self) -> String {
        if self.seed > 0 { format!(" --seed {}", self.seed) } else { String::new() }
    }

    /// The options that differ from their defaults, as on a command line; the number of gold rows and the seed are left to the caller.
    pub fn in_words(&self) -> String {
        let Options {
            read_rows,
            list_rows,
            seed_rows,
            rationales,
            rounds,
            rows_per_error,
            steps,
            folds,
            targets,
            judge,
            generator,
            small_model,
            unlabelled,
            weights,
            machine,
            recipe,
            ..
        } = self;
        let recipe = (*recipe == Recipe::Paper).then(|| " --recipe paper".to_string());
        let number = |name: &'static str, value: &Option<usize>| value.map(|value| format!(" --{name} {value}"));
        let text = |name: &'static str, value: &Option<String>| value.as_ref().map(|value| format!(" --{name} {value}"));
        let judge = judge.and_then(|kind| kind.to_possible_value()).map(|kind| format!(" --judge {}", kind.get_name()));
        let kind = targets.map(|kind| format!(" --targets {}", if kind == TargetKind::Hard { "hard" } else { "soft" }));
        let as_is = (*weights == Weights::AsIs).then(|| " --weights as-is".to_string());
        let unified = machine.kv_unified.map(|unified| format!(" --kv-unified {unified}"));
        let kv = machine.kv.and_then(|kv| kv.to_possible_value()).map(|kv| format!(" --kv {}", kv.get_name()));
        let threads = (machine.threads > 0).then(|| format!(" --threads {}", machine.threads));
        let all = [
            recipe,
            text("generator", generator),
            text("small-model", small_model),
            text("unlabelled", unlabelled),
            number("read-rows", read_rows),
            number("list-rows", list_rows),
            number("seed-rows", seed_rows),
            number("rationales", rationales),
            number("rounds", rounds),
            number("rows-per-error", rows_per_error),
            number("steps", steps),
            number("folds", folds),
            kind,
            judge,
            as_is,
            threads,
            number("slots", &machine.slots),
            kv,
            unified,
            number("n-batch", &machine.n_batch),
        ];
        all.into_iter().flatten().collect()
    }
}

/// The most threads that may be asked for: beyond any machine's cores, and within what systems allow.
const MOST_THREADS: usize = 1024;

/// Parses a number of threads.
pub fn threads_in_range(text: &str) -> std::result::Result<usize, String> {
    let threads: usize = text.parse().map_err(|error| format!("{error}"))?;
    if threads <= MOST_THREADS { Ok(threads) } else { Err(format!("at most {MOST_THREADS}")) }
}

/// Overrides the task file's keys with the options.
pub fn apply(options: &Options, task: &mut Task) {
    if options.recipe == Recipe::Paper {
        as_published(task);
    }
    if let Some(rows) = options.gold_rows {
        task.data.gold_rows = Some(rows);
    }
    if let Some(rows) = options.read_rows {
        task.read.rows = rows;
    }
    if let (Some(rows), Some(list)) = (options.list_rows, &mut task.list) {
        list.rows = rows;
    }
    if let Some(rows) = options.seed_rows {
        task.seed.rows = rows;
    }
    if let Some(rationales) = options.rationales {
        task.seed.rationale_candidates = task.seed.rationale_candidates.filter(|&candidates| rationales > 0 && candidates >= rationales);
        task.seed.rationales_per_example = task.seed.rationales_per_example.min(rationales.max(1));
        task.seed.rationales = rationales;
    }
    if let Some(rounds) = options.rounds {
        (task.extrapolate.max_rounds, task.extrapolate.patience) = (rounds, rounds + 1);
    }
    if let Some(rows) = options.rows_per_error {
        (task.extrapolate.rows_per_error, task.extrapolate.rows) = (rows, None);
    }
    if let Some(folds) = options.folds {
        task.deliver.folds = folds;
    }
    if let Some(steps) = options.steps {
        task.train.steps = Some(steps);
    }
    if let Some(judge) = options.judge {
        task.targets.judge = Some(judge);
    }
    if let Some(kind) = options.targets {
        task.targets.kind = kind;
    }
    if let Some(unlabelled) = &options.unlabelled {
        task.data.unlabelled = Some(absolute(unlabelled));
    }
    if let Some(generator) = &options.generator {
        task.models.generator = absolute(generator);
    }
    if let Some(small) = &options.small_model {
        task.models.small = absolute(small);
    }
}

/// Makes a task that of the paper (arXiv 2310.13671): rationales, a seed, an extrapolation of each error, all with the labels that they
/// were written for. Prompts, rows and models stay the task's.
fn as_published(task: &mut Task) {
    task.data.unlabelled = None;
    task.read.rows = 0;
    task.list = None;
    task.seed.rationale_candidates = None;
    task.extrapolate = ExtrapolateKeys::default();
    task.targets.kind = TargetKind::Hard;
    task.train.use_select = false;
    task.prompts.judge.clear();
}

/// The default folder of a command that makes many runs.
pub fn beside_runs(command: &str, task: &Path) -> PathBuf {
    Path::new("runs").join(named_after(command, task))
}

/// `WHAT-NAME`, after the task file, or after its folder where the file is called `task.toml`, as `lacuna init` calls each.
pub fn named_after(what: &str, task: &Path) -> String {
    let stem = task.file_stem().unwrap_or_default();
    let folder = std::path::absolute(task).ok().and_then(|path| path.parent()?.file_name().map(|name| name.to_os_string()));
    let name = if stem == "task" { folder.unwrap_or(stem.to_os_string()) } else { stem.to_os_string() };
    format!("{what}-{}", name.to_string_lossy())
}

/// A path on the command line is relative to the working directory, not to the task file.
fn absolute(named: &str) -> String {
    let path = Path::new(named);
    if path.exists() { std::path::absolute(path).unwrap_or(path.to_path_buf()).display().to_string() } else { named.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_named_after_the_task_or_its_folder() {
        assert_eq!(named_after("compare", Path::new("tasks/movies.toml")), "compare-movies");
        assert_eq!(named_after("compare", Path::new("tickets/task.toml")), "compare-tickets");
        assert_eq!(named_after("sweep", Path::new("/data/mine/task.toml")), "sweep-mine");
        assert_eq!(named_after("sweep", Path::new("/task.toml")), "sweep-task");
    }
}
