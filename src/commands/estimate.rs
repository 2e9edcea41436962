//! `lacuna estimate`: how long a run takes and how much memory it needs, from a run in the small with the same models, prompts and data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use lacuna_models::Device;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::options::Options;
use super::report::table;
use super::setup::{ByHead, Loaded, Setup, with_head};
use crate::data::read::ReadGold;
use crate::data::split::Divide;
use crate::data::unlabelled::Texts;
use crate::error::{Error, Result};
use crate::files::home::shelf;
use crate::files::sha256::sha256_of_bytes;
use crate::files::whole::put;
use crate::generator::Generate;
use crate::generator::llama::{free_memory, gpu_memory, largest_memory};
use crate::run::live;
use crate::run::outlook::{Expected, Outlook, duration};
use crate::run::summary::Method;
use crate::synthesis::pace::Pace;
use crate::synthesis::plan::{Part, Sizes, Unit, parts};
use crate::synthesis::stages::Stages;
use crate::task::file::{Parents, Task};

/// In the small: texts that are written and judged, and of each label so many at least, so that none is given up; gold rows, rationales a
/// label, texts of a round, texts that are read, steps of a fit.
const TEXTS: std::ops::RangeInclusive<usize> = 32..=160;
const EACH: usize = 3;
const GOLD: usize = 48;
const RATIONALES: usize = 3;
const EXTRAPOLATED: usize = 16;
const READ: usize = 32;
const STEPS: usize = 12;
/// A run that writes and judges so many times the texts of the smallest trial takes much longer than that.
const LONG: usize = 20;

/// How long a run takes and how much memory it needs. Without a `generator`, the task's is loaded.
///
/// # Errors
/// What [`Setup::new`] finds wrong; those of a run.
pub fn estimate(task: &Path, options: &Options, generator: &mut Option<Box<dyn Generate>>) -> Result<String> {
    let begun = Instant::now();
    let mut setup = Setup::new(task, options)?.with_steps_of_a_run();
    let before = setup.gpus();
    let methods = setup.methods_of_run(options.recipe);
    let loads = generator.is_none();
    if loads {
        *generator = Some(setup.load_generator()?);
    }
    let starting = begun.elapsed().as_secs_f64();
    setup.machine.progress().say("making a run in the small, with the same models, prompts and data");
    let pace = setup.pace(generator)?;
    if loads {
        setup.keep_pace(generator.as_deref(), &pace);
    }
    let plan = setup.plan(&methods)?;
    Ok(times(&plan, &pace, starting) + &memory(&before, &setup.gpus()))
}

impl Setup {
    /// The free memory of GPUs, where one is used: no back end is loaded otherwise.
    fn gpus(&self) -> Vec<(String, u64)> {
        let small = with_head!(&self.loaded, loaded => loaded.small.base.device());
        if self.generator_on_gpu() || small != Device::Cpu { gpu_memory() } else { Vec::new() }
    }

    /// The parts of a run.
    pub(super) fn plan(&self, methods: &[Method]) -> Result<Vec<Part>> {
        with_head!(&self.loaded, loaded => self.plan_of(loaded, methods))
    }

    fn plan_of<H: Stages + Divide + ReadGold>(&self, loaded: &Loaded<H>, methods: &[Method]) -> Result<Vec<Part>> {
        let split = loaded.split(&self.task, self.seed)?;
        let sizes = Sizes {
            strata: loaded.small.head.strata(),
            mine: split.mine.len(),
            select: split.select.len(),
            test: loaded.data.test.as_ref().map_or(0, |(_, rows)| rows.len()),
            unlabelled: loaded.data.unlabelled(&split).filter(|_| self.task.reads()).as_ref().map_or(0, Texts::len),
        };
        let chooses = self.chooses && !matches!(self.loaded, ByHead::Answers(_));
        Ok(parts(&self.task, methods, chooses, sizes))
    }

    /// Whether a run is so long that a run in the small before it costs little.
    ///
    /// # Errors
    /// Gold rows that cannot be split.
    pub(super) fn is_worth_a_trial(&self, methods: &[Method]) -> Result<bool> {
        let written_or_judged = |unit: Unit| matches!(unit, Unit::Text | Unit::Extrapolation | Unit::Listed | Unit::Judged);
        let plan = self.plan(methods)?;
        let amounts = plan.iter().flat_map(|part| &part.amounts).filter(|(unit, _)| written_or_judged(*unit));
        Ok(amounts.map(|(_, count)| count).sum::<usize>() >= LONG * TEXTS.start())
    }

    /// Makes a run in the small if the pace of none like it is kept: after that the run knows how long it takes. Where that fails, it does
    /// not know, and begins all the same. Without a `generator`, the task's is loaded and left there.
    ///
    /// # Errors
    /// A generator that cannot be loaded; somebody who stops it.
    pub fn try_out(&mut self, methods: &[Method], generator: &mut Option<Box<dyn Generate>>) -> Result<()> {
        let loads = generator.is_none();
        let own = if loads { generator.insert(self.load_generator()?) } else { generator.as_mut().expect("it is there") };
        if self.outlook(methods, own.as_ref()).is_some() {
            return Ok(());
        }
        let progress = self.machine.progress();
        progress.say("how long it will take is measured first, by a run in the small with the same models, prompts and data");
        match live::without_events(|| self.pace(generator)) {
            Ok(pace) => {
                if loads {
                    self.keep_pace(generator.as_deref(), &pace);
                }
                self.trial = Some(pace);
            }
            Err(stopped @ Error::Stopped { .. }) => return Err(stopped),
            Err(error) => progress.say(format!("how long it takes could not be measured: {error}")),
        }
        Ok(())
    }

    /// Makes a run in the small in a folder that is removed again, and says how fast each kind of work was.
    fn pace(&mut self, generator: &mut Option<Box<dyn Generate>>) -> Result<Pace> {
        let folder = tempfile::tempdir().map_err(Error::io("make a folder in", &std::env::temp_dir()))?;
        let folder = folder.path().join("run");
        let (at_once, methods) = (generator.as_ref().map_or(1, |generator| generator.at_once()), [Method::GoldOnly, Method::Seed]);
        let (made, plan) = self.in_the_small(at_once, |setup| (setup.run(&folder, &methods, generator), setup.plan(&methods)));
        made?;
        let predicted = with_head!(&self.loaded, loaded => seconds_of_a_prediction(loaded, &self.task, self.seed)?);
        Pace::of_run(&folder, &plan?, predicted, at_once)
    }

    /// Does something with a task in the small, and without test rows: what a prediction takes is measured on gold rows.
    fn in_the_small<T>(&mut self, at_once: usize, work: impl FnOnce(&Setup) -> T) -> T {
        let whole = (self.task.clone(), self.chooses, self.machine.quiet);
        self.task = miniature(&self.task, self.gold_pool(), at_once);
        (self.chooses, self.machine.quiet) = (false, true);
        let tests = match &mut self.loaded {
            ByHead::Labels(loaded) => (loaded.data.test.take(), None, None),
            ByHead::LabelSets(loaded) => (None, loaded.data.test.take(), None),
            ByHead::Answers(loaded) => (None, None, loaded.data.test.take()),
        };
        let done = work(self);
        (self.task, self.chooses, self.machine.quiet) = whole;
        match &mut self.loaded {
            ByHead::Labels(loaded) => loaded.data.test = tests.0,
            ByHead::LabelSets(loaded) => loaded.data.test = tests.1,
            ByHead::Answers(loaded) => loaded.data.test = tests.2,
        }
        done
    }
}

/// A pace that is kept in `paces` of lacuna's home for the next run.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// The models, the machine and the prompts that it holds for.
    of: BTreeMap<String, Value>,
    pace: Pace,
}

impl Setup {
    /// How long a run takes, if the pace of one with these models, prompts and settings was measured here, or is kept.
    pub(super) fn outlook(&self, methods: &[Method], generator: &dyn Generate) -> Option<Outlook> {
        let plan = self.plan(methods).ok()?;
        let knows = |pace: &Pace| plan.iter().all(|part| pace.knows(part));
        let pace = self.trial.clone().or_else(|| self.kept_pace(generator)).filter(knows)?;
        let parts = plan.iter().map(|part| Expected { part: part.work, seconds: pace.of_part(part) });
        Some(Outlook { parts: parts.collect() })
    }

    fn kept_pace(&self, generator: &dyn Generate) -> Option<Pace> {
        let (of, file) = self.place_of_pace(generator)?;
        let kept: Kept = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
        (kept.of == of).then_some(kept.pace)
    }

    /// Keeps a pace; where that cannot be done, the next run does not know how long it takes.
    fn keep_pace(&self, generator: Option<&dyn Generate>, pace: &Pace) {
        let Some((of, file)) = generator.and_then(|generator| self.place_of_pace(generator)) else { return };
        let json = serde_json::to_vec_pretty(&Kept { of, pace: pace.clone() }).unwrap_or_default();
        if let Err(error) = put(&file, &json) {
            tracing::warn!("{}: the pace cannot be kept: {error}", file.display());
        }
    }

    /// What a pace depends on, and the file for it.
    fn place_of_pace(&self, generator: &dyn Generate) -> Option<(BTreeMap<String, Value>, PathBuf)> {
        let decides = |name: &str| {
            let whole = ["task.prompts.", "task.sampling.", "task.labels", "task.targets.", "sha256.generator", "small model's config"];
            let train = ["batch", "max_tokens", "doc_stride", "pooling", "linear_start", "precision"];
            whole.iter().any(|start| name.starts_with(start)) || train.iter().any(|key| name.strip_prefix("task.train.") == Some(key))
        };
        let mut of = self.fingerprint(&[]);
        of.retain(|name, _| decides(name));
        of.insert("generator".to_string(), generator.record());
        of.insert("small device".to_string(), json!(format!("{:?}", self.machine.small_device())));
        let name = sha256_of_bytes(json!(of).to_string().as_bytes());
        shelf("paces").map(|folder| (of, folder.join(format!("{}.json", &name[..16]))))
    }
}

/// A task that takes a minute and does all that the whole one does.
fn miniature(task: &Task, pool: usize, at_once: usize) -> Task {
    let mut small = task.clone();
    let strata = task.labels.len().max(1);
    let gold = GOLD.max(4 * strata);
    small.data.gold_rows = Some(task.data.gold_rows.unwrap_or(pool).min(gold));
    small.seed.rationales = task.seed.rationales.min(RATIONALES);
    small.seed.rationale_candidates = None;
    small.seed.rationales_per_example = task.seed.rationales_per_example.min(small.seed.rationales.max(1));
    small.seed.rows = at_once.clamp(*TEXTS.start(), *TEXTS.end()).max(EACH * strata).min(task.seed.rows);
    small.seed.budget = None;
    small.extrapolate.rows = Some(EXTRAPOLATED);
    // So that there is a round even where the model makes no error.
    small.extrapolate.from = Parents::Mine;
    small.extrapolate.max_rounds = task.extrapolate.max_rounds.min(1);
    (small.read.rows, small.read.later_share) = (task.read.rows.min(READ), 0.0);
    if let Some(list) = &mut small.list {
        list.rows = list.rows.min(READ);
    }
    small.deliver.folds = 0;
    small.train.steps = Some(STEPS);
    small
}

/// Seconds for a prediction of the small model, from the gold rows.
fn seconds_of_a_prediction<H: Stages + Divide + ReadGold>(loaded: &Loaded<H>, task: &Task, seed: u64) -> Result<f64> {
    let gold = loaded.drawn(task, seed)?;
    let begun = Instant::now();
    loaded.small.outputs(&loaded.small.base, &gold)?;
    Ok(begun.elapsed().as_secs_f64() / gold.len().max(1) as f64)
}

/// A table of the parts and their times.
fn times(plan: &[Part], pace: &Pace, starting: f64) -> String {
    let mut rows = vec![vec!["starting".to_string(), String::new(), duration(starting)]];
    for part in plan {
        let amounts: Vec<String> = part.amounts.iter().filter_map(|&(unit, count)| named(unit, count)).collect();
        rows.push(vec![part.work.in_words(), amounts.join(", "), duration(pace.of_part(part))]);
    }
    let seconds = |last_round: usize| {
        starting + plan.iter().filter(|part| part.work.round() <= last_round).map(|part| pace.of_part(part)).sum::<f64>()
    };
    let rounds = plan.iter().map(|part| part.work.round()).max().unwrap_or(0);
    let whole = duration(seconds(rounds));
    let short =
        if rounds > 1 { format!("; {} if the first round brings nothing and is the last", duration(seconds(1))) } else { String::new() };
    format!("{}\ntime         about {whole}{short}\n", table(&["part", "amount", "time"], &rows))
}

/// What is worth telling of an amount.
fn named(unit: Unit, count: usize) -> Option<String> {
    let name = match unit {
        Unit::Rationale => "rationales",
        Unit::Text | Unit::Extrapolation | Unit::Listed => "accepted texts",
        Unit::Gold => "gold rows",
        Unit::Judged => "texts judged",
        Unit::Step | Unit::GoldStep | Unit::Learnt | Unit::Predicted | Unit::Saved => return None,
    };
    (count > 0).then(|| format!("{count} {name}"))
}

/// The most of the machine's memory that the run in the small took, and what is in use of GPUs after it.
fn memory(before: &[(String, u64)], after: &[(String, u64)]) -> String {
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
    let mut text = String::new();
    if let Some(most) = largest_memory() {
        let free = free_memory().map_or(String::new(), |free| format!("; {} are free beside it", gib(free)));
        text += &format!("memory       {} of the machine's, the models' files included{free}\n", gib(most));
    }
    for ((name, free), (_, before)) in after.iter().zip(before) {
        text += &format!("             {} of {name}'s; {} are free beside it\n", gib(before.saturating_sub(*free)), gib(*free));
    }
    text
}
