//! From a task file and a person's options to everything that a run works with; all that can be checked is checked here, before anything runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::data::example::{Context, GoldRow, TaskKind};
use crate::data::read::{distinct, read_contexts, read_gold, refuse_overlap};
use crate::data::spans;
use crate::data::split::{Split, divide, sample};
use crate::error::{Error, Result};
use crate::fetch::cache::{Cache, locate};
use crate::fetch::registry::Registry;
use crate::files::sha256::sha256_of;
use crate::generator::Generate;
use crate::generator::llama::{Choice, Kernels, KvFormat, Llama, LlamaConfig, Weights, Wishes, fastest_weights};
use crate::run::folder::RunDir;
use crate::run::manifest::{Manifest, Splits, flatten};
use crate::run::progress::Progress;
use crate::run::stage::Stage;
use crate::run::summary::{Delivery, Method};
use crate::small::device::SmallDevice;
use crate::small::train::SmallModel;
use crate::synthesis::next::Limits;
use crate::synthesis::state::{Inputs, Synthesis};
use crate::task::file::{AnswersFrom, TargetKind, Task};
use crate::task::prompts::Prompts;

/// What a person may say on the command line in place of, or beside, the task file.
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

/// A task with its data and models found and checked.
pub struct Setup {
    pub task: Task,
    pub seed: u64,
    pub machine: Machine,
    gold_path: PathBuf,
    gold: Vec<GoldRow>,
    test: Test,
    /// Of a file; those of the gold rows follow from the split.
    contexts: Option<Vec<Context>>,
    generator_path: PathBuf,
    /// What was measured to choose the generator's weights.
    weights: Option<Choice>,
    /// SHA-256 of data and models, by what they are.
    sums: BTreeMap<String, Value>,
    small: SmallModel,
}

impl Setup {
    /// Reads the task file, applies the options, reads and checks the data, loads the small model.
    pub fn new(task_path: &Path, options: &Options) -> Result<Setup> {
        let text = std::fs::read_to_string(task_path).map_err(Error::io("read", task_path))?;
        Setup::of_text(&text, task_path, options)
    }

    /// As [`Setup::new`], for the text of a task file that would lie at `task_path`.
    pub fn of_text(text: &str, task_path: &Path, options: &Options) -> Result<Setup> {
        let mut task = Task::parse(text, task_path)?;
        apply(options, &mut task);
        task.check_values(task_path)?;
        let task_error = |message: String| Error::Task { path: task_path.to_path_buf(), line: None, message };
        Prompts::compile(&task).map_err(task_error)?;
        let progress = options.machine.progress();
        let (gold_path, test_path) = find_data(&task, task_path)?;
        let (gold, test) = read_data(&gold_path, test_path, &task, progress)?;
        let contexts_path = task.data.contexts.as_ref().filter(|named| *named != "gold").map(|named| Task::beside(task_path, named));
        let contexts = contexts_path.as_deref().map(read_contexts).transpose()?;
        let generator_path = find_model(&task.models.generator, task_path)?;
        if !generator_path.is_file() {
            return Err(Error::Model(format!("{}: not a file; the generator is one GGUF file", generator_path.display())));
        }
        let (generator_path, weights) = choose_weights(generator_path, options, progress)?;
        let small_path = find_model(&task.models.small, task_path)?;
        let mut small = SmallModel::load(&small_path, &task.label_names(), options.seed, options.machine.threads())?;
        small.encoder.set_reading(task.reading());
        options.machine.small_device.place(&mut small)?;
        let mut files = vec![("gold", gold_path.clone()), ("generator", generator_path.clone())];
        files.push(("small model", small_path.join("model.safetensors")));
        files.push(("small model's tokenizer", small_path.join("tokenizer.json")));
        files.extend(test.iter().map(|(path, _)| ("test", path.clone())));
        files.extend(contexts_path.map(|path| ("contexts", path)));
        let sum = |(name, path): (&str, PathBuf)| {
            let sum = sha256_of(&path).map_err(Error::io("read", &path))?;
            Ok((format!("sha256.{name}"), json!(sum)))
        };
        let sums = files.into_iter().map(sum).collect::<Result<_>>()?;
        Ok(Setup {
            task,
            seed: options.seed,
            machine: options.machine.clone(),
            gold_path,
            gold,
            test,
            contexts,
            generator_path,
            weights,
            sums,
            small,
        })
    }

    fn load_generator(&self) -> Result<Box<dyn Generate>> {
        let (threads, gpu_layers, kernels) = (self.machine.threads(), self.machine.gpu_layers, self.machine.kernels);
        let mut llama = Llama::load(LlamaConfig { threads, gpu_layers, kernels, ..LlamaConfig::new(&self.generator_path) })?;
        let Machine { slots, kv, kv_unified: unified, n_batch, .. } = self.machine;
        let progress = self.machine.progress();
        llama.tune(&cache()?.root().join("probes"), Wishes { slots, kv, unified, n_batch }, &|what| progress.say(what))?;
        Ok(Box::new(llama))
    }

    /// The splits for this task and seed.
    pub fn split(&self) -> Result<Split> {
        let labels = self.task.label_names();
        let data_error = |message: String| Error::Data { path: self.gold_path.clone(), line: None, message };
        let rows = self.task.data.gold_rows.unwrap_or(self.gold.len());
        let drawn = sample(&self.gold, rows, &labels, self.seed).map_err(data_error)?;
        divide(&drawn, self.task.data.select_share, &labels, self.seed).map_err(data_error)
    }

    /// The first texts for pairs and the contexts of questions, with their answers: of the file, or of the rows in *mine*.
    fn contexts(&self, split: &Split) -> Vec<Context> {
        let of_mine = || split.mine.iter().map(|row| Context { line: row.line, text: row.text.clone(), answers: Vec::new() });
        let contexts = || self.contexts.clone().unwrap_or_else(|| distinct(of_mine()));
        match self.task.kind {
            TaskKind::Text => Vec::new(),
            TaskKind::Pair => contexts(),
            TaskKind::ExtractiveQa => contexts().into_iter().map(|context| self.with_answers(context, split)).collect(),
        }
    }

    /// A context and what may be asked for: the answers of its own questions in *mine*, or runs of its words.
    fn with_answers(&self, context: Context, split: &Split) -> Context {
        let answers = match self.task.answers_from() {
            AnswersFrom::Gold => {
                let own = split.mine.iter().filter(|row| row.text == context.text);
                let mut answers: Vec<_> = own.filter_map(|row| row.goal.answer()).cloned().collect();
                answers.sort_by(|a, b| (a.start, &a.text).cmp(&(b.start, &b.text)));
                answers.dedup();
                answers
            }
            AnswersFrom::Found => spans::candidates(&context.text),
        };
        Context { answers, ..context }
    }

    /// Runs, or goes on with, the task in `folder`. Without a `generator` the task's own is loaded, if there is something
    /// left to do, and put there for the next run.
    pub fn run(&self, folder: &Path, methods: &[Method], generator: &mut Option<Box<dyn Generate>>) -> Result<Delivery> {
        let run = RunDir::open(folder)?;
        let split = self.split()?;
        let inputs = self.fingerprint(methods);
        let mut manifest = match Manifest::resume(&run, &inputs)? {
            Some(manifest) => manifest,
            None => self.begin(&run, inputs, &split)?,
        };
        let prompts = Prompts::compile(&self.task).map_err(Error::Failed)?;
        let contexts = self.contexts(&split);
        let inputs = Inputs {
            task: &self.task,
            prompts: &prompts,
            split: &split,
            contexts: &contexts,
            test: self.test.as_ref().map(|(_, rows)| rows.as_slice()),
            small: &self.small,
            methods,
            seed: self.seed,
            progress: self.machine.progress(),
        };
        if manifest.stage == Stage::Done {
            return Delivery::read(&run);
        }
        if generator.is_none() {
            *generator = Some(self.load_generator()?);
        }
        let generator = generator.as_mut().expect("loaded above");
        manifest.generator = Some(json!({"run": generator.record(), "weights": self.weights}));
        Synthesis::new(inputs, generator.as_mut(), &run, manifest).run()
    }

    fn begin(&self, run: &RunDir, inputs: BTreeMap<String, Value>, split: &Split) -> Result<Manifest> {
        let test = self.test.as_ref().map(|(path, rows)| (path.as_path(), rows.as_slice()));
        let manifest = Manifest {
            lacuna: env!("CARGO_PKG_VERSION").to_string(),
            stage: Limits::of(&self.task).first(),
            inputs,
            splits: Splits::new(split, &self.gold_path, test),
            generator: None,
            calibration: None,
            rounds: Vec::new(),
            best_round: None,
        };
        manifest.write(run)?;
        Ok(manifest)
    }

    /// Everything that decides what a run writes. Where files lie does not; what is in them does.
    fn fingerprint(&self, methods: &[Method]) -> BTreeMap<String, Value> {
        let mut inputs = self.sums.clone();
        flatten("task", &json!(self.task), &mut inputs);
        for place in ["task.data.gold", "task.data.test", "task.data.contexts", "task.models.generator", "task.models.small"] {
            inputs.remove(place);
        }
        inputs.insert("seed".to_string(), json!(self.seed));
        flatten("methods", &json!(methods), &mut inputs);
        inputs
    }
}

fn apply(options: &Options, task: &mut Task) {
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

fn read(path: &Path, task: &Task, progress: Progress) -> Result<Vec<GoldRow>> {
    let (rows, repeated) = read_gold(path, task.kind, &task.label_names())?;
    if repeated > 0 {
        progress.say(format!("{}: {repeated} rows repeat an earlier text and are left out", path.display()));
    }
    Ok(rows)
}

/// The test rows, and the file they are from.
type Test = Option<(PathBuf, Vec<GoldRow>)>;

/// The gold rows and the test rows, none of them in both.
fn read_data(gold_path: &Path, test_path: Option<PathBuf>, task: &Task, progress: Progress) -> Result<(Vec<GoldRow>, Test)> {
    let gold = read(gold_path, task, progress)?;
    let Some(test_path) = test_path else { return Ok((gold, None)) };
    let test = read(&test_path, task, progress)?;
    refuse_overlap(&gold, gold_path, &test, &test_path)?;
    Ok((gold, Some((test_path, test))))
}

/// The gold file, and the test file if there is one.
fn find_data(task: &Task, task_path: &Path) -> Result<(PathBuf, Option<PathBuf>)> {
    let gold = Task::beside(task_path, &task.data.gold);
    let test = task.data.test.as_ref().map(|named| Task::beside(task_path, named));
    if gold.exists() || Registry::built_in().entry(&task.data.gold).is_err() {
        return Ok((gold, test));
    }
    let folder = locate(&task.data.gold).map_err(|e| Error::Model(e.to_string()))?;
    Ok((folder.join("gold.jsonl"), test.or(Some(folder.join("test.jsonl")))))
}

/// The generator's file, or on a CPU a copy of it in a format that is faster and as good, and what was measured to choose it.
fn choose_weights(path: PathBuf, options: &Options, progress: Progress) -> Result<(PathBuf, Option<Choice>)> {
    if options.weights == Weights::AsIs {
        return Ok((path, None));
    }
    let Machine { gpu_layers, kernels, .. } = options.machine;
    let config = LlamaConfig { threads: options.machine.threads(), gpu_layers, kernels, ..LlamaConfig::new(&path) };
    let (fast, choice) = fastest_weights(&config, &cache()?.root().join("weights"), &|what| progress.say(what))?;
    if fast != path {
        let (own, copy) = (path.display(), fast.display());
        progress.say(format!("{own}: its format is slow here; using {copy} (--weights as-is for the original)"));
    }
    Ok((fast, Some(choice)))
}

fn cache() -> Result<Cache> {
    Cache::from_env().map_err(|e| Error::Model(e.to_string()))
}

fn find_model(named: &str, task_path: &Path) -> Result<PathBuf> {
    let beside = Task::beside(task_path, named);
    if beside.exists() {
        return Ok(beside);
    }
    locate(named).map_err(|e| Error::Model(e.to_string()))
}
