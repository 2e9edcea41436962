//! Loads everything that a run needs, from the task file and the options. Whatever can be checked before the run is checked here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lacuna_models::{Device, activation_bytes, weight_files};
use serde_json::{Value, json};

use super::checks::Limit;
use super::contexts::Contexts;
use super::data::{Data, kept};
use super::options::{Machine, Options, apply};
use super::student::lengths_of;
use crate::data::answers::Answers;
use crate::data::example::{GoldRow, TaskKind};
use crate::data::label_sets::LabelSets;
use crate::data::labels::Labels;
use crate::data::read::ReadGold;
use crate::data::split::{Divide, Split};
use crate::data::unlabelled::Texts;
use crate::error::{Error, Result};
use crate::fetch::cache::locate;
use crate::fetch::shared_cache;
use crate::files::content::stands_in;
use crate::files::home::{home, shelf};
use crate::files::kept_sum::kept_sum;
use crate::files::sha256::sha256_of_bytes;
use crate::files::whole::write_json;
use crate::generator::Generate;
use crate::generator::llama::{
    Choice, Llama, LlamaConfig, Outline, Weights, Wishes, fastest_weights, first_part, free_memory, is_gguf, parts_of,
};
use crate::run::cost::Spent;
use crate::run::folder::{RunDir, TRAINING};
use crate::run::live;
use crate::run::manifest::{Manifest, Splits, flatten};
use crate::run::outlook::{ESTIMATE, duration};
use crate::run::progress::Progress;
use crate::run::review::Decisions;
use crate::run::stage::Stage;
use crate::run::summary::{Delivery, Method};
use crate::small::checkpoint::clear_all;
use crate::small::model::SmallModel;
use crate::synthesis::next::LoopRules;
use crate::synthesis::pace::Pace;
use crate::synthesis::stages::Stages;
use crate::synthesis::state::{Inputs, Synthesis};
use crate::task::file::{JudgeKind, Task};
use crate::task::prompts::{self, Cut, PromptHead, Prompts};

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
    /// Whether a finished run goes on with what was decided about its rows since.
    pub continues: bool,
    /// The pace of a run in the small that was made before this one.
    pub(super) trial: Option<Pace>,
    /// The contexts of a file; without one they come from the split's gold rows.
    contexts: Option<Texts>,
    /// How to load the generator, and the measurements that chose its weights; none for a setup of the student alone.
    generator: Option<(LlamaConfig, Option<Choice>)>,
    /// Cuts texts that are too long for the generator; none for a setup without one that can be read.
    cut: Option<Box<Cut>>,
    /// SHA-256 of data and models, by role.
    sums: BTreeMap<String, Value>,
    pub(super) loaded: ByHead,
}

/// What depends on the head of the task. Everything that [`Setup::run`] calls is generic over the head.
pub(super) enum ByHead {
    Labels(Loaded<Labels>),
    LabelSets(Loaded<LabelSets>),
    Answers(Loaded<Answers>),
}

/// The same expression for whatever head is loaded.
macro_rules! with_head {
    ($by_head:expr, $loaded:ident => $work:expr) => {
        match $by_head {
            ByHead::Labels($loaded) => $work,
            ByHead::LabelSets($loaded) => $work,
            ByHead::Answers($loaded) => $work,
        }
    };
}
pub(super) use with_head;

/// Gold rows, test rows and the small model.
pub(super) struct Loaded<H: Stages> {
    pub(super) data: Data<H>,
    pub(super) small: SmallModel<H>,
}

impl Setup {
    /// Reads the task file, applies the options, checks the data and loads the small model.
    pub fn new(task_path: &Path, options: &Options) -> Result<Setup> {
        let text = task_text(task_path)?;
        Setup::of_text(&text, task_path, options)
    }

    /// Like [`Setup::new`], without a generator.
    ///
    /// # Errors
    /// As [`Setup::new`].
    pub fn of_student(task_path: &Path, options: &Options) -> Result<Setup> {
        let text = task_text(task_path)?;
        Setup::of_parts(&text, task_path, options, Depth::Student)
    }

    /// Like [`Setup::new`], as far as checks go: no file is hashed, nothing is measured, converted or placed on a device. It cannot be run.
    ///
    /// # Errors
    /// As [`Setup::new`].
    pub fn checked(task_path: &Path, options: &Options) -> Result<Setup> {
        let text = task_text(task_path)?;
        let setup = Setup::of_parts(&text, task_path, options, Depth::Checks)?;
        setup.check_reading(setup.unlabelled()?.filter(|_| setup.task.reads()).map_or(0, |texts| texts.len()))?;
        Ok(setup)
    }

    /// Like [`Setup::new`], for the text of a task file; relative paths are resolved as if it were at `task_path`.
    pub fn of_text(text: &str, task_path: &Path, options: &Options) -> Result<Setup> {
        Setup::of_parts(text, task_path, options, Depth::Whole)
    }

    fn of_parts(text: &str, task_path: &Path, options: &Options, depth: Depth) -> Result<Setup> {
        let (mut task, mut errors) = Task::parse_all(text, task_path)?;
        if options.list_rows.is_some() && task.list.is_none() {
            let message = "--list-rows needs [list] with a `title`, the line that heads the lists".to_string();
            errors.push(Error::Task { path: task_path.to_path_buf(), line: None, message });
        }
        apply(options, &mut task);
        if errors.is_empty() {
            errors.extend(task.check_values(task_path).err().into_iter().flat_map(Error::into_problems));
        }
        let labels = if task.kind == TaskKind::MultiLabel { 1 } else { 2 };
        if task.kind == TaskKind::ExtractiveQa || task.labels.len() >= labels {
            let error = |message: String| Error::Task { path: task_path.to_path_buf(), line: None, message };
            errors.extend(prompts::check(&task).into_iter().map(error));
        }
        let parts = Parts { task, path: task_path, options, depth, errors };
        match parts.task.kind {
            TaskKind::Text | TaskKind::Pair => Setup::with(parts.task.labels_head(), parts, ByHead::Labels),
            TaskKind::MultiLabel => Setup::with(parts.task.label_sets_head(), parts, ByHead::LabelSets),
            TaskKind::ExtractiveQa => Setup::with(Answers, parts, ByHead::Answers),
        }
    }

    /// Reads the data, finds the models, and checks everything together. What is wrong with any of it is one error; only then is anything
    /// measured or converted.
    fn with<H: Stages + Divide + ReadGold>(head: H, parts: Parts, wrap: fn(Loaded<H>) -> ByHead) -> Result<Setup> {
        let Parts { task, path, options, depth, mut errors } = parts;
        let progress = options.machine.progress();
        let sound = errors.is_empty();
        let data = kept(Data::read(&head, &task, path, options.machine.threads(), progress), &mut errors);
        let small = kept(find_small(&head, &task, path, options), &mut errors);
        let found = if depth != Depth::Student { kept(find_generator(&task, path, options), &mut errors) } else { None };
        let split = data.as_ref().and_then(|data| kept(data.split(&head, &task, options.seed), &mut errors));
        // What is no GGUF file at all is told when it is loaded.
        let config = found.as_ref().filter(|config| sound && is_gguf(&config.path));
        let limit = config.and_then(|config| kept(limit(&task, &head, path, config), &mut errors));
        Error::all(errors)?;
        if let (Some(limit), Some(split)) = (&limit, &split) {
            limit.tell_of_long_rows(split.gold(), progress);
        }
        let (Some(mut data), Some((small_path, mut small))) = (data, small) else {
            return Err(Error::Failed("something is missing that no check found".into()));
        };
        let contexts = data.contexts.take();
        let mut sums = BTreeMap::new();
        let mut generator = found.map(|config| (config, None));
        if depth != Depth::Checks {
            generator = generator.map(|(config, _)| choose_weights(config, options, progress)).transpose()?;
            let on_gpu = generator.iter().filter(|(config, _)| config.gpu_layers > 0);
            let beside: u64 = on_gpu.filter_map(|(config, _)| std::fs::metadata(&config.path).ok()).map(|file| file.len()).sum();
            options.machine.small_device().place(&mut small, beside as usize)?;
            let test = data.test.as_ref().map(|(path, _)| path.as_path());
            let unlabelled = data.unlabelled.as_ref().filter(|_| task.data.unlabelled_file().is_some()).map(Texts::path);
            let of_data = [
                ("gold", Some(data.gold.path())),
                ("test", test),
                ("contexts", contexts.as_ref().map(Texts::path)),
                ("unlabelled", unlabelled),
            ];
            let of_data = of_data.into_iter().filter_map(|(name, path)| Some((name.to_string(), path?.to_path_buf())));
            let of_models = files_of(generator.as_ref().map(|(config, _)| config), &small_path);
            sums = sum_up(of_data.chain(of_models), progress)?;
            let template = generator.as_ref().and_then(|(config, _)| config.chat_template.as_ref());
            sums.extend(template.map(|source| ("sha256.chat template".to_string(), json!(sha256_of_bytes(source.as_bytes())))));
            flatten("small model's config", &config_of(&small_path), &mut sums);
        }
        let cut = limit.map(|limit| Box::new(move |text: &str, needed| limit.cut(text, needed)) as Box<Cut>);
        let loaded = wrap(Loaded { data, small });
        let (seed, machine) = (options.seed, options.machine.clone());
        let path = path.to_path_buf();
        Ok(Setup {
            task,
            path,
            seed,
            steps_with_texts: None,
            machine,
            chooses: true,
            continues: false,
            trial: None,
            contexts,
            generator,
            cut,
            sums,
            loaded,
        })
    }

    /// The generator's file; none for a setup of the student alone.
    pub fn generator_path(&self) -> Option<&Path> {
        self.generator.as_ref().map(|(config, _)| config.path.as_path())
    }

    /// Whether the generator has layers on a GPU.
    pub(super) fn generator_on_gpu(&self) -> bool {
        self.generator.as_ref().is_some_and(|(config, _)| config.gpu_layers > 0)
    }

    /// The task's prompts, in which texts that are too long for the generator are cut.
    ///
    /// # Errors
    /// As [`Prompts::compile`].
    pub(super) fn prompts<H: PromptHead>(&self, head: &H) -> Result<Prompts<'_, H>> {
        Ok(Prompts::compile(&self.task, head).map_err(Error::Failed)?.cutting(self.cut.as_deref()))
    }

    /// The task's unlabelled texts, none of which is among the gold rows that are drawn; `None` if it has none.
    ///
    /// # Errors
    /// The gold rows cannot be drawn or split.
    pub fn unlabelled(&self) -> Result<Option<Texts>> {
        match &self.loaded {
            ByHead::Labels(loaded) => Ok(loaded.data.unlabelled(&loaded.split(&self.task, self.seed)?)),
            ByHead::LabelSets(loaded) => Ok(loaded.data.unlabelled(&loaded.split(&self.task, self.seed)?)),
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
        with_head!(&self.loaded, loaded => loaded.data.gold.len())
    }

    /// # Errors
    /// A model that cannot be loaded; a setup without a generator.
    pub(super) fn load_generator(&self) -> Result<Box<dyn Generate>> {
        let (config, _) = self.generator.as_ref().ok_or_else(|| Error::Failed("this was set up without a generator".into()))?;
        let mut llama = Llama::load(config.clone())?;
        let Machine { slots, kv, kv_unified: unified, n_batch, .. } = self.machine;
        let progress = self.machine.progress();
        llama
            .tune(home().map(|home| home.join("probes")).as_deref(), Wishes { slots, kv, unified, n_batch }, &|what| progress.say(what))?;
        Ok(Box::new(llama))
    }

    /// Like [`Setup::load_generator`], with the default settings where none are given, and nothing measured.
    ///
    /// # Errors
    /// As [`Setup::load_generator`].
    pub(super) fn load_generator_as_it_is(&self) -> Result<Box<dyn Generate>> {
        let (config, _) = self.generator.as_ref().ok_or_else(|| Error::Failed("this was set up without a generator".into()))?;
        Ok(Box::new(Llama::load(config.clone())?))
    }

    /// Whether there is memory to train the small model, where that is the CPU's work.
    ///
    /// # Errors
    /// There is not.
    pub(super) fn check_training_memory<H: Stages + Divide + ReadGold>(&self, loaded: &Loaded<H>) -> Result<()> {
        if loaded.small.base.device() != Device::Cpu {
            return Ok(());
        }
        let (small, keys) = (&loaded.small, &self.task.train);
        let mut lengths = lengths_of(small, &loaded.drawn(&self.task, self.seed)?)?;
        lengths.iter_mut().for_each(|length| *length = (*length).min(small.reader.max_tokens(keys.max_tokens)));
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        let (tokens, longest) = (lengths.iter().take(keys.batch).sum(), lengths.first().copied().unwrap_or(0));
        let kept = activation_bytes(&small.base, tokens, longest) as u64;
        // A fit has parameters of its own, gradients and two moments.
        check_memory(&find_model(&self.task.models.small, &self.path)?, 4, kept, "training it")
    }

    /// The contexts of a file, if there is one.
    pub(super) fn contexts(&self) -> Option<&Texts> {
        self.contexts.as_ref()
    }

    /// Runs or resumes the task in `folder`. Without a `generator`, the task's generator is loaded if work is left, and kept in
    /// `generator` for the next run.
    pub fn run(&self, folder: &Path, methods: &[Method], generator: &mut Option<Box<dyn Generate>>) -> Result<Delivery> {
        with_head!(&self.loaded, loaded => self.run_with(loaded, folder, methods, generator))
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
        if !run.is_locked() {
            let folder = folder.display();
            let what = format!("{folder}: this file system has no locks; see to it that no other process works in this folder");
            self.machine.progress().say(what);
        }
        let inputs = self.fingerprint(methods);
        let mut manifest = match Manifest::resume(&run, &inputs)? {
            Some(manifest) => manifest.check_splits(&run, &loaded.splits(&split)).map(|()| manifest)?,
            None => self.begin(&run, methods, inputs, loaded.splits(&split), texts)?,
        };
        if self.continues {
            self.go_on(&run, &mut manifest, loaded, &split, LoopRules::of(&self.task, methods, texts).first())?;
        }
        if let Some(missing) = delivered_files(&run).find(|file| !file.exists()).filter(|_| manifest.stage == Stage::Done) {
            self.machine.progress().say(format!("{}: missing, and made again", missing.display()));
            manifest.stage = Stage::Deliver;
        }
        if manifest.stage == Stage::Done {
            // A crash may have come between the last line of the manifest and this.
            clear_all(&run.join(TRAINING), &|what| self.machine.progress().say(what));
            if !self.continues && Decisions::wait(folder)? {
                self.machine.progress().say("decisions about its rows wait: the same command with --continue goes on with them");
            }
            return Delivery::read(&run);
        }
        self.check_training_memory(loaded)?;
        let head = &loaded.small.head;
        let decisions = Decisions::heeded(folder)?;
        let (drawn, split) = (&split, split.heeding(head, &decisions));
        let prompts = self.prompts(head)?;
        let contexts = head.contexts(&self.task, self.contexts.as_ref(), drawn, self.seed)?;
        let inputs = Inputs {
            task: &self.task,
            prompts: &prompts,
            split: &split,
            drawn,
            decisions: &decisions,
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
        let loads = generator.is_none();
        if loads {
            *generator = Some(self.load_generator()?);
        }
        let generator = generator.as_mut().expect("loaded above");
        if manifest.loaded(json!({"run": generator.record(), "weights": self.generator.as_ref().map(|(_, weights)| weights)})) {
            let what = "the generator runs otherwise than when this run was begun (see generator_before in manifest.json): what is written from \
                        here on may differ in its last digits";
            self.machine.progress().say(what);
        }
        // What a continued run has done before is not done again.
        let outlook = if decisions.is_empty() { self.outlook(methods, generator.as_ref()) } else { None };
        let progress = self.machine.progress();
        match &outlook {
            Some(outlook) => {
                write_json(&run.join(ESTIMATE), outlook)?;
                progress.say(format!("{}: a whole run takes about {}, all rounds made", self.task.name, duration(outlook.whole())));
            }
            None if !loads || !decisions.is_empty() => {}
            None => progress.say("how long this takes is not known: lacuna estimate measures it beforehand"),
        }
        live::begin(&self.task.name, outlook, Spent::read(folder));
        let delivery = Synthesis::new(inputs, generator.as_mut(), &run, manifest).run();
        live::end();
        progress.end();
        delivery
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
            generator_before: Vec::new(),
            calibrations: Vec::new(),
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
        for place in [
            "task.data.gold",
            "task.data.test",
            "task.data.contexts",
            "task.models.generator",
            "task.models.small",
            "task.models.chat_template",
        ] {
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
            kind @ (JudgeKind::Stack | JudgeKind::States) if !self.task.prompts.judge.is_empty() => {
                inputs.insert("task.targets.judge".to_string(), json!(kind));
            }
            _ => drop(inputs.remove("task.targets.judge")),
        }
        if self.task.judge_kind() != JudgeKind::States {
            inputs.remove("task.targets.depth");
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
        self.data.drawn(task, seed)
    }

    /// The splits for this task and random seed.
    pub(super) fn split(&self, task: &Task, seed: u64) -> Result<Split<H>> {
        self.data.split(&self.small.head, task, seed)
    }
}

/// What a finished run has delivered.
fn delivered_files(run: &RunDir) -> impl Iterator<Item = PathBuf> {
    ["dataset.jsonl", "summary.json", "model/config.json", "model/model.safetensors"].map(|name| run.join(name)).into_iter()
}

/// A task file with the options applied, and what is wrong with it.
struct Parts<'p> {
    task: Task,
    path: &'p Path,
    options: &'p Options,
    depth: Depth,
    errors: Vec<Error>,
}

/// How much is set up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// All but the generator.
    Student,
    /// What checks need.
    Checks,
    /// Everything.
    Whole,
}

/// The files of both models, by role.
fn files_of(generator: Option<&LlamaConfig>, small: &Path) -> Vec<(String, PathBuf)> {
    let parts = generator.map(|config| parts_of(&config.path)).unwrap_or_default();
    let named = |(i, path)| (if i == 0 { "generator".to_string() } else { format!("generator, part {}", i + 1) }, path);
    let mut files: Vec<(String, PathBuf)> = parts.into_iter().enumerate().map(named).collect();
    let weights = weight_files(small).unwrap_or_default().into_iter().enumerate();
    let shard = |(i, path)| (if i == 0 { "small model".to_string() } else { format!("small model, part {}", i + 1) }, path);
    files.extend(weights.map(shard));
    let tokenizer = ["tokenizer.json", "vocab.txt"].map(|name| small.join(name)).into_iter().find(|path| path.exists());
    files.extend(tokenizer.map(|path| ("small model's tokenizer".to_string(), path)));
    files
}

/// SHA-256 of files, by role.
fn sum_up(files: impl Iterator<Item = (String, PathBuf)>, progress: Progress) -> Result<BTreeMap<String, Value>> {
    let sum = |(name, path): (String, PathBuf)| {
        let sum = kept_sum(&path, &|what| progress.say(what)).map_err(Error::io("read", &path))?;
        Ok((format!("sha256.{name}"), json!(sum)))
    };
    files.map(sum).collect()
}

/// How long a text may be for the generator, whose prompts are checked.
fn limit<H: PromptHead>(task: &Task, head: &H, task_path: &Path, model: &LlamaConfig) -> Result<Limit> {
    Limit::of(task, head, task_path, Outline::open(&model.path, model.chat_template.as_deref())?).map_err(Error::Several)
}

/// What of a small model's config.json decides what it computes: all of it but where it came from.
fn config_of(folder: &Path) -> Value {
    let content = std::fs::read(folder.join("config.json")).unwrap_or_default();
    let mut config = serde_json::from_slice(&content).unwrap_or(Value::Null);
    if let Some(fields) = config.as_object_mut() {
        fields.retain(|name, _| {
            !name.starts_with('_') && !["transformers_version", "architectures", "torch_dtype", "dtype"].contains(&name.as_str())
        });
    }
    config
}

/// How to load the generator: its file, or on a CPU a faster copy of the same quality, with the measurements that chose it.
fn choose_weights(config: LlamaConfig, options: &Options, progress: Progress) -> Result<(LlamaConfig, Option<Choice>)> {
    if options.weights == Weights::AsIs {
        return Ok((config, None));
    }
    let Some(folder) = shelf("weights") else {
        progress.say("nothing can be kept, as there is no folder for it (LACUNA_HOME or HOME): the generator's file is used as it is");
        return Ok((config, None));
    };
    let (fast, choice) = fastest_weights(&config, &folder, &|what| progress.say(what))?;
    if fast != config.path {
        let (own, copy) = (config.path.display(), fast.display());
        progress.say(format!("{own}: its format is slow on this machine; using {copy} (--weights as-is for the original)"));
    }
    Ok((LlamaConfig { path: fast, ..config }, Some(choice)))
}

/// How to load the generator, whose file is found and whose device is chosen once.
fn find_generator(task: &Task, task_path: &Path, options: &Options) -> Result<LlamaConfig> {
    let path = find_model(&task.models.generator, task_path)?;
    if !path.is_file() {
        return Err(Error::Model(format!("{}: not a file; the generator is one GGUF file", path.display())));
    }
    stands_in(&path).map_or(Ok(()), |what| Err(Error::Model(format!("{}: {what}", path.display()))))?;
    let path = first_part(&path).map_err(|reason| Error::Model(format!("{}: {reason}", path.display())))?;
    let own = task.models.chat_template.as_ref().map(|named| Task::beside(task_path, named));
    let chat_template = own.map(|path| std::fs::read_to_string(&path).map_err(Error::io("read", &path))).transpose()?;
    Ok(LlamaConfig { chat_template, ..options.machine.generator(&path)? })
}

/// The folder of the small model, and the model.
fn find_small<H: Stages>(head: &H, task: &Task, task_path: &Path, options: &Options) -> Result<(PathBuf, SmallModel<H>)> {
    let path = find_model(&task.models.small, task_path)?;
    if !path.is_dir() {
        let path = path.display();
        return Err(Error::Model(format!(
            "{path}: not a folder; the small model is one with config.json, model.safetensors and tokenizer.json"
        )));
    }
    let weights = weight_files(&path).map_err(|e| Error::Model(e.to_string()))?;
    for file in [path.join("config.json"), path.join("tokenizer.json")].into_iter().chain(weights) {
        stands_in(&file).map_or(Ok(()), |what| Err(Error::Model(format!("{}: {what}", file.display()))))?;
    }
    // The file, and the parameters that are made of it.
    check_memory(&path, 2, 0, "reading it")?;
    let mut small = SmallModel::load(&path, head.clone(), options.seed, options.machine.threads())?;
    small.reader.encoder.set_reading(task.reading());
    small.set_pooling(task.train.pooling, &path, options.seed)?;
    Ok((path, small))
}

/// Memory for texts and the program.
const BESIDE_PARAMETERS: u64 = 48 << 20;

/// Whether there is memory for a small model's parameters, so many times, and for what a step keeps of its longest batch.
///
/// # Errors
/// There is not; the system would end the process without a word.
fn check_memory(folder: &Path, times: u64, activations: u64, doing: &str) -> Result<()> {
    let size = |path: PathBuf| std::fs::metadata(path).map_or(0, |file| file.len());
    let parameters: u64 = weight_files(folder).unwrap_or_default().into_iter().map(size).sum();
    let needed = times * parameters + activations + BESIDE_PARAMETERS;
    let smaller_batch = if activations > parameters { ", lower train.batch or train.max_tokens" } else { "" };
    match free_memory().filter(|free| *free < needed) {
        None => Ok(()),
        Some(free) => Err(Error::Model(format!(
            "{}: {doing} takes {} MiB, and {} MiB are free (a container's limit and ulimit -v count): give it more memory{smaller_batch}, or \
             use a smaller model",
            folder.display(),
            needed >> 20,
            free >> 20
        ))),
    }
}

/// The text of a task file.
///
/// # Errors
/// A folder or a table in its place, with what was meant; a file that cannot be read.
fn task_text(path: &Path) -> Result<String> {
    let error = |message: String| Error::Task { path: path.to_path_buf(), line: None, message };
    if path.is_dir() {
        let inside = path.join("task.toml");
        let meant = if inside.exists() { format!(": did you mean {}?", inside.display()) } else { String::new() };
        return Err(error(format!("a folder, where a task file is needed{meant}")));
    }
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    if path.exists() && ["csv", "tsv", "xlsx", "xls", "ods", "json", "jsonl", "parquet"].contains(&ending.as_str()) {
        return Err(error(format!("a table, where a task file is needed: lacuna init {} makes one", path.display())));
    }
    std::fs::read_to_string(path).map_err(Error::io("read", path))
}

fn find_model(named: &str, task_path: &Path) -> Result<PathBuf> {
    let beside = shared_cache::meant(&Task::beside(task_path, named));
    if beside.exists() {
        return Ok(beside);
    }
    locate(named).map_err(|e| Error::Model(e.to_string()))
}
