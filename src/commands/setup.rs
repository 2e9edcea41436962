//! Loads everything that a run needs, from the task file and the options. Whatever can be checked before the run is checked here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::contexts::Contexts;
use super::data::Data;
use super::options::{Machine, Options, apply};
use crate::data::answers::Answers;
use crate::data::example::{GoldRow, TaskKind};
use crate::data::labels::Labels;
use crate::data::read::ReadGold;
use crate::data::split::{Divide, Split};
use crate::data::unlabelled::Texts;
use crate::error::{Error, Result};
use crate::fetch::cache::{Cache, locate};
use crate::files::sha256::sha256_of;
use crate::generator::Generate;
use crate::generator::llama::{Choice, Llama, LlamaConfig, Weights, Wishes, fastest_weights};
use crate::run::folder::{RunDir, TRAINING};
use crate::run::manifest::{Manifest, Splits, flatten};
use crate::run::progress::Progress;
use crate::run::stage::Stage;
use crate::run::summary::{Delivery, Method};
use crate::small::checkpoint::clear_all;
use crate::small::model::SmallModel;
use crate::synthesis::next::LoopRules;
use crate::synthesis::stages::Stages;
use crate::synthesis::state::{Inputs, Synthesis};
use crate::task::file::{JudgeKind, Task};
use crate::task::prompts::{self, Prompts};

/// A task with its data and models located and checked.
pub struct Setup {
    pub task: Task,
    /// The task file.
    path: PathBuf,
    pub seed: u64,
    /// Optimiser steps of what learns from unlabelled texts, where they are not those of `task`.
    pub steps_with_texts: Option<usize>,
    pub machine: Machine,
    /// Whether gold rows choose the delivered model and its temperature; a run that only compares does without.
    pub chooses: bool,
    /// The contexts of a file; without one they come from the split's gold rows.
    contexts: Option<Texts>,
    /// How to load the generator, and the measurements that chose its weights; none for a setup of the student alone.
    generator: Option<(LlamaConfig, Option<Choice>)>,
    /// SHA-256 of data and models, by role.
    sums: BTreeMap<String, Value>,
    pub(super) loaded: ByHead,
}

/// What depends on the head of the task. Everything that [`Setup::run`] calls is generic over the head.
pub(super) enum ByHead {
    Labels(Loaded<Labels>),
    Answers(Loaded<Answers>),
}

/// Gold rows, test rows and the small model.
pub(super) struct Loaded<H: Stages> {
    pub(super) data: Data<H>,
    pub(super) small: SmallModel<H>,
}

impl Setup {
    /// Reads the task file, applies the options, checks the data and loads the small model.
    pub fn new(task_path: &Path, options: &Options) -> Result<Setup> {
        let text = std::fs::read_to_string(task_path).map_err(Error::io("read", task_path))?;
        Setup::of_text(&text, task_path, options)
    }

    /// Like [`Setup::new`], without a generator.
    ///
    /// # Errors
    /// As [`Setup::new`].
    pub fn of_student(task_path: &Path, options: &Options) -> Result<Setup> {
        let text = std::fs::read_to_string(task_path).map_err(Error::io("read", task_path))?;
        Setup::of_parts(&text, task_path, options, false)
    }

    /// Like [`Setup::new`], for the text of a task file; relative paths are resolved as if it were at `task_path`.
    pub fn of_text(text: &str, task_path: &Path, options: &Options) -> Result<Setup> {
        Setup::of_parts(text, task_path, options, true)
    }

    fn of_parts(text: &str, task_path: &Path, options: &Options, with_generator: bool) -> Result<Setup> {
        let mut task = Task::parse(text, task_path)?;
        apply(options, &mut task);
        task.check_values(task_path)?;
        let task_error = |message: String| Error::Task { path: task_path.to_path_buf(), line: None, message };
        prompts::check(&task).map_err(task_error)?;
        let progress = options.machine.progress();
        match task.kind {
            TaskKind::Text | TaskKind::Pair => {
                let data = Data::read(&task.labels_head(), &task, task_path, progress)?;
                Setup::with(task.labels_head(), data, task, task_path, options, with_generator, ByHead::Labels)
            }
            TaskKind::ExtractiveQa => {
                let data = Data::read(&Answers, &task, task_path, progress)?;
                Setup::with(Answers, data, task, task_path, options, with_generator, ByHead::Answers)
            }
        }
    }

    /// Finds, checks and loads the rest, once the data are read.
    fn with<H: Stages>(
        head: H,
        mut data: Data<H>,
        task: Task,
        task_path: &Path,
        options: &Options,
        with_generator: bool,
        wrap: fn(Loaded<H>) -> ByHead,
    ) -> Result<Setup> {
        let contexts = data.contexts.take();
        let generator = with_generator.then(|| find_generator(&task, task_path, options)).transpose()?;
        let small_path = find_model(&task.models.small, task_path)?;
        let mut small = SmallModel::load(&small_path, head, options.seed, options.machine.threads())?;
        small.reader.encoder.set_reading(task.reading());
        let on_gpu = generator.iter().filter(|(config, _)| config.gpu_layers > 0);
        let beside: u64 = on_gpu.filter_map(|(config, _)| std::fs::metadata(&config.path).ok()).map(|file| file.len()).sum();
        options.machine.small_device().place(&mut small, beside as usize)?;
        let mut files = vec![("gold", data.gold.path().to_path_buf())];
        files.extend(generator.iter().map(|(config, _)| ("generator", config.path.clone())));
        files.push(("small model", small_path.join("model.safetensors")));
        files.push(("small model's tokenizer", small_path.join("tokenizer.json")));
        files.extend(data.test.iter().map(|(path, _)| ("test", path.clone())));
        files.extend(contexts.iter().map(|contexts| ("contexts", contexts.path().to_path_buf())));
        let own = data.unlabelled.iter().filter(|_| task.data.unlabelled_file().is_some());
        files.extend(own.map(|texts| ("unlabelled", texts.path().to_path_buf())));
        let sums = sums(files)?;
        let loaded = wrap(Loaded { data, small });
        let (seed, machine) = (options.seed, options.machine.clone());
        Ok(Setup {
            task,
            path: task_path.to_path_buf(),
            seed,
            steps_with_texts: None,
            machine,
            chooses: true,
            contexts,
            generator,
            sums,
            loaded,
        })
    }

    /// The task's unlabelled texts, none of which is among the gold rows that are drawn; `None` if it has none.
    ///
    /// # Errors
    /// The gold rows cannot be drawn or split.
    pub fn unlabelled(&self) -> Result<Option<Texts>> {
        match &self.loaded {
            ByHead::Labels(loaded) => Ok(loaded.data.unlabelled(&loaded.split(&self.task, self.seed)?)),
            ByHead::Answers(loaded) => loaded.split(&self.task, self.seed).map(|_| None),
        }
    }

    /// How many unlabelled texts a method may read; 0 where the gold rows cannot be drawn.
    pub fn texts_to_read(&self) -> usize {
        if self.task.reads() { self.unlabelled().ok().flatten().map_or(0, |texts| texts.len()).min(self.task.read.rows) } else { 0 }
    }

    /// SHA-256 of the file with this role, such as `test`; `None` if there is none.
    pub fn sum(&self, role: &str) -> Option<&str> {
        self.sums.get(&format!("sha256.{role}")).and_then(Value::as_str)
    }

    /// What a student's accuracy on human labels depends on, but for their number and the steps.
    pub fn student(&self) -> BTreeMap<String, Value> {
        let own = ["sha256.gold", "sha256.test", "sha256.small model", "sha256.small model's tokenizer"];
        let mut student = self.fingerprint(&[]);
        student.retain(|name, _| {
            own.contains(&name.as_str())
                || name.starts_with("task.labels")
                || (name.starts_with("task.train.") && name != "task.train.steps")
        });
        student
    }

    /// Number of rows in the gold file.
    pub fn gold_pool(&self) -> usize {
        match &self.loaded {
            ByHead::Labels(loaded) => loaded.data.gold.len(),
            ByHead::Answers(loaded) => loaded.data.gold.len(),
        }
    }

    /// # Errors
    /// A model that cannot be loaded; a setup without a generator.
    pub(super) fn load_generator(&self) -> Result<Box<dyn Generate>> {
        let (config, _) = self.generator.as_ref().ok_or_else(|| Error::Failed("this was set up without a generator".into()))?;
        let mut llama = Llama::load(config.clone())?;
        let Machine { slots, kv, kv_unified: unified, n_batch, .. } = self.machine;
        let progress = self.machine.progress();
        llama.tune(&cache()?.root().join("probes"), Wishes { slots, kv, unified, n_batch }, &|what| progress.say(what))?;
        Ok(Box::new(llama))
    }

    /// Runs or resumes the task in `folder`. Without a `generator`, the task's generator is loaded if work is left, and kept in
    /// `generator` for the next run.
    pub fn run(&self, folder: &Path, methods: &[Method], generator: &mut Option<Box<dyn Generate>>) -> Result<Delivery> {
        match &self.loaded {
            ByHead::Labels(loaded) => self.run_with(loaded, folder, methods, generator),
            ByHead::Answers(loaded) => self.run_with(loaded, folder, methods, generator),
        }
    }

    fn run_with<H: Stages + Divide + ReadGold + Contexts>(
        &self,
        loaded: &Loaded<H>,
        folder: &Path,
        methods: &[Method],
        generator: &mut Option<Box<dyn Generate>>,
    ) -> Result<Delivery> {
        let split = loaded.split(&self.task, self.seed)?;
        let unlabelled = loaded.to_read(&self.task, &split);
        let texts = unlabelled.as_ref().map_or(0, Texts::len);
        self.check_reading(texts)?;
        let run = RunDir::open(folder)?;
        let inputs = self.fingerprint(methods);
        let mut manifest = match Manifest::resume(&run, &inputs)? {
            Some(manifest) => manifest.check_splits(&run, &loaded.splits(&split)).map(|()| manifest)?,
            None => self.begin(&run, methods, inputs, loaded.splits(&split), texts)?,
        };
        if manifest.stage == Stage::Done {
            // A crash may have come between the last line of the manifest and this.
            clear_all(&run.join(TRAINING), &|what| self.machine.progress().say(what));
            return Delivery::read(&run);
        }
        let head = &loaded.small.head;
        let prompts = Prompts::compile(&self.task, head).map_err(Error::Failed)?;
        let contexts = head.contexts(&self.task, self.contexts.as_ref(), &split, self.seed)?;
        let inputs = Inputs {
            task: &self.task,
            prompts: &prompts,
            split: &split,
            contexts: &contexts,
            unlabelled: unlabelled.as_ref(),
            test: loaded.data.test.as_ref().map(|(_, rows)| rows.as_slice()),
            small: &loaded.small,
            methods,
            chooses: self.chooses,
            seed: self.seed,
            progress: self.machine.progress(),
            checkpoint_every: Duration::from_secs(self.machine.checkpoint_every),
        };
        if generator.is_none() {
            *generator = Some(self.load_generator()?);
        }
        let generator = generator.as_mut().expect("loaded above");
        manifest.generator = Some(json!({"run": generator.record(), "weights": self.generator.as_ref().map(|(_, weights)| weights)}));
        Synthesis::new(inputs, generator.as_mut(), &run, manifest).run()
    }

    /// # Errors
    /// Texts are to be read, and there are none, or no judge for them.
    fn check_reading(&self, texts: usize) -> Result<()> {
        let error = |message: &str| Err(Error::Task { path: self.path.clone(), line: None, message: message.to_string() });
        match self.task.reads() {
            true if self.task.prompts.judge.is_empty() => {
                error("data.unlabelled is labelled by the judge, and there is none: write a [[prompts.judge]], or set read.rows = 0")
            }
            true if texts == 0 => error(
                "no text of data.unlabelled is left to read: all are drawn gold rows (with \"rest\", set data.gold_rows lower) or near-copies of test rows",
            ),
            _ => Ok(()),
        }
    }

    fn begin(&self, run: &RunDir, methods: &[Method], inputs: BTreeMap<String, Value>, splits: Splits, texts: usize) -> Result<Manifest> {
        let manifest = Manifest {
            lacuna: env!("CARGO_PKG_VERSION").to_string(),
            stage: LoopRules::of(&self.task, methods, texts).first(),
            inputs,
            splits,
            generator: None,
            calibration: None,
            judge: None,
            rounds: Vec::new(),
            best_round: None,
        };
        manifest.write(run)?;
        Ok(manifest)
    }

    /// Everything that determines a run's output: the content of files, not their paths.
    pub(super) fn fingerprint(&self, methods: &[Method]) -> BTreeMap<String, Value> {
        let mut inputs = self.sums.clone();
        flatten("task", &json!(self.task), &mut inputs);
        for place in ["task.data.gold", "task.data.test", "task.data.contexts", "task.models.generator", "task.models.small"] {
            inputs.remove(place);
        }
        if self.task.data.unlabelled_file().is_some() {
            inputs.remove("task.data.unlabelled");
        }
        if !methods.is_empty() && !self.task.reads() {
            inputs.retain(|name, _| name != "task.data.unlabelled" && name != "sha256.unlabelled");
        }
        if self.task.reads() {
            flatten("task.read", &json!(self.task.read), &mut inputs);
        } else {
            inputs.retain(|name, _| !name.starts_with("task.read."));
        }
        // What earlier versions did by default is not written down: they did not.
        match self.task.judge_kind() {
            JudgeKind::Stack if !self.task.prompts.judge.is_empty() => {
                inputs.insert("task.targets.judge".to_string(), json!(JudgeKind::Stack));
            }
            _ => drop(inputs.remove("task.targets.judge")),
        }
        inputs.insert("seed".to_string(), json!(self.seed));
        flatten("methods", &json!(methods), &mut inputs);
        inputs
    }
}

impl<H: Stages> Loaded<H> {
    /// The texts that a run reads: none where the task does not say so.
    fn to_read(&self, task: &Task, split: &Split<H>) -> Option<Texts> {
        self.data.unlabelled(split).filter(|_| task.reads())
    }

    /// The lines of each split, for the manifest.
    fn splits(&self, split: &Split<H>) -> Splits {
        let test = self.data.test.as_ref().map(|(path, rows)| (path.as_path(), rows.as_slice()));
        Splits::new(split, self.data.gold.path(), test)
    }
}

impl<H: Stages + Divide + ReadGold> Loaded<H> {
    /// The gold rows of this task and random seed.
    pub(super) fn drawn(&self, task: &Task, seed: u64) -> Result<Vec<GoldRow<H>>> {
        let rows = task.data.gold_rows.unwrap_or(self.data.gold.len());
        self.data.gold.sample(rows, seed)
    }

    /// The splits for this task and random seed.
    fn split(&self, task: &Task, seed: u64) -> Result<Split<H>> {
        let data_error = |message: String| Error::Data { path: self.data.gold.path().to_path_buf(), line: None, message };
        let head = &self.small.head;
        let drawn = self.drawn(task, seed)?;
        head.divide(&drawn, task.data.select_share, seed).map_err(data_error)
    }
}

/// SHA-256 of all files that determine a run's output, by role.
fn sums(files: Vec<(&str, PathBuf)>) -> Result<BTreeMap<String, Value>> {
    let sum = |(name, path): (&str, PathBuf)| {
        let sum = sha256_of(&path).map_err(Error::io("read", &path))?;
        Ok((format!("sha256.{name}"), json!(sum)))
    };
    files.into_iter().map(sum).collect()
}

/// How to load the generator: its file, or on a CPU a faster copy of the same quality, with the measurements that chose it.
fn choose_weights(config: LlamaConfig, options: &Options, progress: Progress) -> Result<(LlamaConfig, Option<Choice>)> {
    if options.weights == Weights::AsIs {
        return Ok((config, None));
    }
    let (fast, choice) = fastest_weights(&config, &cache()?.root().join("weights"), &|what| progress.say(what))?;
    if fast != config.path {
        let (own, copy) = (config.path.display(), fast.display());
        progress.say(format!("{own}: its format is slow on this machine; using {copy} (--weights as-is for the original)"));
    }
    Ok((LlamaConfig { path: fast, ..config }, Some(choice)))
}

fn cache() -> Result<Cache> {
    Cache::from_env().map_err(|e| Error::Model(e.to_string()))
}

/// How to load the generator, whose file is checked and whose device is chosen once, and the measurements that chose its weights.
fn find_generator(task: &Task, task_path: &Path, options: &Options) -> Result<(LlamaConfig, Option<Choice>)> {
    let path = find_model(&task.models.generator, task_path)?;
    if !path.is_file() {
        return Err(Error::Model(format!("{}: not a file; the generator is one GGUF file", path.display())));
    }
    options.machine.check_device()?;
    choose_weights(options.machine.generator(&path)?, options, options.machine.progress())
}

fn find_model(named: &str, task_path: &Path) -> Result<PathBuf> {
    let beside = Task::beside(task_path, named);
    if beside.exists() {
        return Ok(beside);
    }
    locate(named).map_err(|e| Error::Model(e.to_string()))
}
