//! What a person may say on the command line in place of, or beside, the task file; each has a twin in the environment.

use std::path::Path;

use crate::generator::llama::{Kernels, KvFormat, Weights};
use crate::run::progress::Progress;
use crate::small::device::SmallDevice;
use crate::task::file::{TargetKind, Task};

/// Options of all commands that run a task.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// Seed of everything drawn at random
    #[arg(long, env = "LACUNA_SEED", default_value_t = 0)]
    pub seed: u64,
    /// Gold rows to draw from the gold data
    #[arg(long, env = "LACUNA_GOLD_ROWS", value_name = "N")]
    pub gold_rows: Option<usize>,
    /// Accepted rows of the seed
    #[arg(long, env = "LACUNA_SEED_ROWS", value_name = "N")]
    pub seed_rows: Option<usize>,
    /// Rationales for each label; 0 writes without them
    #[arg(long, env = "LACUNA_RATIONALES", value_name = "N")]
    pub rationales: Option<usize>,
    /// Rounds of extrapolation at most, whether they pay or not
    #[arg(long, env = "LACUNA_ROUNDS", value_name = "N")]
    pub rounds: Option<usize>,
    /// Rows to write for each error, in place of a fixed number a round
    #[arg(long, env = "LACUNA_ROWS_PER_ERROR", value_name = "N")]
    pub rows_per_error: Option<usize>,
    /// What the small model learns from a synthetic row
    #[arg(long, env = "LACUNA_TARGETS", value_name = "KIND")]
    pub targets: Option<TargetKind>,
    /// The generator: a GGUF file or a fetched name
    #[arg(long, env = "LACUNA_GENERATOR", value_name = "GGUF")]
    pub generator: Option<String>,
    /// The small model: a folder with a BERT or DistilBERT, or a fetched name
    #[arg(long, env = "LACUNA_SMALL_MODEL", value_name = "FOLDER")]
    pub small_model: Option<String>,
    /// The generator's weights: as they are, or in a faster format that is as good by measurement
    #[arg(long, env = "LACUNA_WEIGHTS", value_enum, default_value_t)]
    pub weights: Weights,
    #[command(flatten)]
    pub machine: Machine,
}

/// How much of the machine to use; no effect on what is asked of the models.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Machine {
    /// CPU threads; 0 for all cores
    #[arg(long, env = "LACUNA_THREADS", default_value_t = 0, value_name = "N")]
    pub threads: usize,
    /// Layers of the generator to put on a GPU (needs a build with cuda, metal or vulkan)
    #[arg(long, env = "LACUNA_GPU_LAYERS", default_value_t = 0, value_name = "N")]
    pub gpu_layers: u32,
    /// Where the small model is trained and run
    #[arg(long, env = "LACUNA_SMALL_DEVICE", value_enum, default_value_t)]
    pub small_device: SmallDevice,
    /// Whose products and attention the generator runs on a CPU
    #[arg(long, env = "LACUNA_KERNELS", value_enum, default_value_t, value_name = "WHOSE")]
    pub kernels: Kernels,
    /// Texts that a thread writes together [default: by a measurement]
    #[arg(long, env = "LACUNA_SLOTS", value_name = "N")]
    pub slots: Option<usize>,
    /// Numbers in the generator's KV cache [default: by a measurement]
    #[arg(long, env = "LACUNA_KV", value_enum)]
    pub kv: Option<KvFormat>,
    /// Whether the texts that are written together share one KV cache [default: by a measurement]
    #[arg(long, env = "LACUNA_KV_UNIFIED", value_name = "BOOL")]
    pub kv_unified: Option<bool>,
    /// Tokens that the generator computes at a time, at most [default: by a measurement]
    #[arg(long, env = "LACUNA_N_BATCH", value_name = "N")]
    pub n_batch: Option<usize>,
    /// Seconds between two checkpoints of a training, from which it goes on after a crash
    #[arg(long, env = "LACUNA_CHECKPOINT_EVERY", default_value_t = 120, value_name = "SECONDS")]
    pub checkpoint_every: u64,
    /// No progress, only results
    #[arg(long, short, env = "LACUNA_QUIET")]
    pub quiet: bool,
}

impl Machine {
    pub fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        if self.threads == 0 { cores() } else { self.threads }
    }

    pub fn progress(&self) -> Progress {
        Progress::detect(self.quiet)
    }
}

/// Puts the options in the place of the task file's keys.
pub fn apply(options: &Options, task: &mut Task) {
    if let Some(rows) = options.gold_rows {
        task.data.gold_rows = Some(rows);
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
    if let Some(kind) = options.targets {
        task.targets.kind = kind;
    }
    if let Some(generator) = &options.generator {
        task.models.generator = absolute(generator);
    }
    if let Some(small) = &options.small_model {
        task.models.small = absolute(small);
    }
}

/// A path on the command line is relative to where the person stands, not to the task file.
fn absolute(named: &str) -> String {
    let path = Path::new(named);
    if path.exists() { std::path::absolute(path).unwrap_or(path.to_path_buf()).display().to_string() } else { named.to_string() }
}
