//! Compares methods on equal terms over several draws of the gold rows: each method's runs, and what they found.

use std::path::{Path, PathBuf};

use super::compare_table::{Row, render, summarise};
use super::lend::{Judging, borrow_journals};
use super::methods::{self, Budget, Extent, Method, Writer, Writing};
use super::options::{Options, apply};
use super::provenance::provenance;
use super::setup::Setup;
use super::worth::{Curve, add_worth};
use crate::baselines::Baseline;
use crate::error::{Error, Result};
use crate::files::whole::{write, write_json};
use crate::generator::Generate;
use crate::report::comparison::{self, Line, write_comparison};
use crate::report::made::Made;
use crate::run::cost::{Cost, Work, tokens};
use crate::run::outcome::Outcome;
use crate::run::summary::{Delivery, Method as Trained};
use crate::task::file::{SeedBudget, Task};

/// A comparison: the task and its options, draws, gold rows and methods.
pub struct Comparison<'a> {
    pub task: &'a Path,
    pub options: &'a Options,
    /// Number of draws, counted from the options' seed: each has its own gold rows and random seed.
    pub draws: u64,
    /// Numbers of gold rows; one table each.
    pub gold: &'a [usize],
    /// Methods to include, by name; all that fit the task if empty.
    pub methods: &'a [String],
    /// What the methods that write are made equal in.
    pub budget: Budget,
    /// The learning curve that says what accuracies are worth; the default place is used if it has one.
    pub curve: Option<&'a Path>,
    /// Folder for runs and tables.
    pub folder: &'a Path,
}

impl Comparison<'_> {
    /// The command line that makes it.
    fn command(&self) -> String {
        let gold: Vec<String> = self.gold.iter().map(usize::to_string).collect();
        let mut command = format!("lacuna compare {} --draws {} --gold {}", self.task.display(), self.draws, gold.join(","));
        command += &self.options.seed_in_words();
        if self.budget == Budget::Rows {
            command += " --budget rows";
        }
        command += &self.options.in_words();
        self.methods.iter().for_each(|method| command += &format!(" --methods {method:?}"));
        command
    }
}

/// Runs every method for each number of gold rows and each draw, each in its own folder, so that a comparison resumes; writes
/// `compare.json`, `compare.md` and `compare.html`, and returns the table.
/// Without a `generator`, the task's generator is loaded when it is needed.
///
/// # Errors
/// Those of a run; an unknown method, or one that does not fit the task; a task without test rows.
pub fn compare(comparison: &Comparison, generator: &mut Option<Box<dyn Generate>>) -> Result<String> {
    let Comparison { options, folder, .. } = *comparison;
    let gold: Vec<usize> =
        comparison.gold.iter().enumerate().filter(|(i, rows)| !comparison.gold[..*i].contains(rows)).map(|(_, rows)| *rows).collect();
    let mut task = Task::read(comparison.task)?;
    apply(options, &mut task);
    let rows = chosen(comparison.methods, &task)?;
    let curve = fitting_curve(comparison)?;
    let last = options.seed.checked_add(comparison.draws).filter(|_| comparison.draws > 0);
    let last = last.ok_or_else(|| Error::Failed("--draws must be at least 1, and --seed plus draws a number of 64 bits".into()))?;
    let checked = gold.iter().map(|&gold| Draw::new(comparison, gold, options.seed)?.check(&rows, curve.as_ref()));
    Error::all(checked.filter_map(Result::err).flat_map(Error::into_problems).collect())?;
    let mut lines: Vec<Line> = Vec::new();
    let mut made = Made::default();
    for gold in gold {
        let mut by_row = vec![Vec::new(); rows.len()];
        for seed in options.seed..last {
            let draw = Draw::new(comparison, gold, seed)?;
            made = provenance(comparison.command(), &draw.setup, options.seed..last);
            let outcomes = draw.outcomes(&rows, generator)?;
            by_row.iter_mut().zip(outcomes).for_each(|(row, outcome)| row.push(outcome));
        }
        let of_table = |(method, outcomes)| Row { method, outcomes };
        lines.extend(summarise(&task, gold, rows.iter().copied().zip(by_row).map(of_table).collect()));
        if let Some(curve) = &curve {
            add_worth(&mut lines, curve);
        }
        write_json(&folder.join("compare.json"), &lines)?;
    }
    let text = made.in_markdown() + &render(&lines);
    write(&folder.join("compare.md"), text.as_bytes())?;
    let page =
        comparison::Comparison { task: &task.name, about: task.about.as_deref(), made: &made, draws: comparison.draws, lines: &lines };
    write_comparison(folder, &page)?;
    Ok(text)
}

/// The learning curve, if there is one: one that was not named and is of another small model or other rows is told and left out.
fn fitting_curve(comparison: &Comparison) -> Result<Option<Curve>> {
    let found = Curve::find(comparison.curve, comparison.task)?;
    let (Some(curve), None) = (&found, comparison.curve) else { return Ok(found) };
    // What keeps a draw from being made is told with all else.
    let Some(Ok(draw)) = comparison.gold.first().map(|&gold| Draw::new(comparison, gold, comparison.options.seed)) else {
        return Ok(found);
    };
    if let Err(error) = curve.check(&draw.setup.student()) {
        comparison.options.machine.progress().say(format!("what accuracies are worth in human labels is not told: {error}"));
        return Ok(None);
    }
    Ok(found)
}

/// The methods named by `--methods`, in the order of the table; all that fit the task if none is named.
fn chosen(names: &[String], task: &Task) -> Result<Vec<Method>> {
    let all = methods::of_task(task);
    if names.is_empty() {
        return Ok(all);
    }
    let fitting: Vec<String> = all.iter().map(|method| method.name(task)).collect();
    let missing: Vec<&String> = names.iter().filter(|name| !fitting.contains(name)).collect();
    if !missing.is_empty() {
        let message = format!("--methods: {missing:?} are not among the methods of this task: {}", fitting.join(" | "));
        return Err(Error::Failed(message));
    }
    Ok(all.into_iter().zip(fitting).filter(|(_, name)| names.contains(name)).map(|(method, _)| method).collect())
}

/// What each run trains: the best round's rows alone, and with the gold rows.
const TRAINED: [Trained; 2] = [Trained::S3, Trained::S3Gold];

/// One draw: its gold rows, its random seed, and the place of its runs.
struct Draw<'c> {
    comparison: &'c Comparison<'c>,
    setup: Setup,
    /// The task with the options applied and the steps that all methods have.
    task: Task,
    gold: usize,
    seed: u64,
}

impl<'c> Draw<'c> {
    fn new(comparison: &'c Comparison, gold: usize, seed: u64) -> Result<Self> {
        let options = Options { seed, gold_rows: Some(gold), ..comparison.options.clone() };
        let mut setup = Setup::new(comparison.task, &options)?.with_equal_steps();
        let test = setup.sum("test");
        if test.is_none() {
            let message = "a comparison needs test rows: add data.test".to_string();
            return Err(Error::Task { path: comparison.task.to_path_buf(), line: None, message });
        }
        setup.chooses = false;
        let task = setup.task.clone();
        Ok(Draw { comparison, setup, task, gold, seed })
    }

    /// Whether its rows can be drawn and split, and the methods and the curve fit it: before hours of work.
    fn check(&self, methods: &[Method], curve: Option<&Curve>) -> Result<()> {
        let unlabelled = self.setup.unlabelled()?;
        if unlabelled.is_none_or(|texts| texts.is_empty()) && methods.iter().any(|method| method.needs_unlabelled()) {
            let message = format!(
                "with {} gold rows no unlabelled text is left for the methods that learn from it; leave them out with --methods",
                self.gold
            );
            return Err(Error::Failed(message));
        }
        curve.map_or(Ok(()), |curve| curve.check(&self.setup.student()))
    }

    fn folder(&self, gold: usize) -> PathBuf {
        self.comparison.folder.join(format!("gold-{gold}")).join(format!("draw-{}", self.seed))
    }

    /// The outcome of each method. S3 comes first if any method writes: it sets the budget of the others.
    fn outcomes(mut self, methods: &[Method], generator: &mut Option<Box<dyn Generate>>) -> Result<Vec<Outcome>> {
        let s3 = methods.iter().any(|method| matches!(method, Method::Writing(_)));
        let s3 = if s3 { Some(self.run(Writer::S3, &Writer::S3.task(&self.task, &NOTHING), generator)?) } else { None };
        let mut runs: Vec<(Writer, Delivery)> = s3.map(|delivery| (Writer::S3, delivery)).into_iter().collect();
        let mut outcomes: Vec<Option<Outcome>> = vec![None; methods.len()];
        for (&method, outcome) in methods.iter().zip(&mut outcomes) {
            let Method::Writing(writing) = method else { continue };
            if !runs.iter().any(|(writer, _)| *writer == writing.writer) {
                let mut task = writing.writer.task(&self.task, &self.extent(writing.writer, &runs[0].1.rounds));
                if writing.writer == Writer::S3Read {
                    task.train.steps = self.setup.steps_with_texts;
                }
                runs.push((writing.writer, self.run(writing.writer, &task, generator)?));
            }
            let (_, delivery) = runs.iter().find(|(writer, _)| *writer == writing.writer).expect("it was run above");
            *outcome = Some(self.outcome(writing, delivery));
        }
        self.setup.task = self.task.clone();
        let baselines: Vec<Baseline> = methods.iter().filter_map(|method| method.baseline()).collect();
        self.say("baselines");
        let judged = self.comparison.folder.join("judged");
        let mut found = self.setup.baselines(&baselines, &self.folder(self.gold), &judged, generator)?.into_iter();
        Ok(outcomes.into_iter().map(|outcome| outcome.or_else(|| found.next()).expect("a method writes or is a baseline")).collect())
    }

    fn say(&self, what: &str) {
        self.comparison.options.machine.progress().say(format!("— {what}, {} gold rows, draw {}", self.gold, self.seed));
    }

    fn run(&mut self, writer: Writer, task: &Task, generator: &mut Option<Box<dyn Generate>>) -> Result<Delivery> {
        self.say(writer.folder());
        let folder = self.folder(self.gold).join(writer.folder());
        if let Some(lender) = self.lender(writer) {
            let same_gold = lender.starts_with(self.folder(self.gold));
            borrow_journals(&lender, &folder, task.seed.budget, Judging::of(task, same_gold))?;
        }
        self.setup.task = task.clone();
        self.setup.run(&folder, &TRAINED, generator)
    }

    /// A run that has sent the same requests for its seed: the first ZeroGen for the others, S3 for the seed and GoldGen; for those
    /// two themselves the same run with the first number of gold rows, unless the prompts depend on the gold rows.
    fn lender(&self, writer: Writer) -> Option<PathBuf> {
        let own = self.folder(self.gold);
        match writer {
            Writer::ZeroGenSelect | Writer::ZeroGenTargets => Some(own.join(Writer::ZeroGen.folder())),
            Writer::Seed | Writer::GoldGen | Writer::S3Read => Some(own.join(Writer::S3.folder())),
            Writer::ZeroGen | Writer::S3 => {
                let first = *self.comparison.gold.first()?;
                (first != self.gold && !self.task.seed_sees_gold()).then(|| self.folder(first).join(writer.folder()))
            }
        }
    }

    fn outcome(&self, writing: Writing, delivery: &Delivery) -> Outcome {
        let trained = writing.trained();
        let result = delivery.results.iter().find(|result| result.method == trained).expect("it was among the run's methods");
        let cost = Cost::read(&self.folder(self.gold).join(writing.writer.folder()), trained);
        Outcome { measured: result.measured.clone(), cost }
    }

    /// How much a method may write, so that its generator computes as many tokens as S3's did, or it has as many rows.
    fn extent(&self, writer: Writer, rounds: &[usize]) -> Extent {
        let (all, later): (usize, usize) = (rounds.iter().sum(), rounds.iter().skip(1).sum());
        let after_seed = rounds.len().saturating_sub(1);
        let mut extent = Extent { seed_rows: all, budget: None, rounds: after_seed, rows_of_round: later.div_ceil(after_seed.max(1)) };
        if self.comparison.budget == Budget::Tokens {
            let s3 = self.folder(self.gold).join(Writer::S3.folder());
            let of = |chosen: &dyn Fn(Work) -> bool| tokens(&s3, chosen).1;
            let (judges, reasons) = writer.needs(&self.task);
            let fixed = of(&|part| (part == Work::Rationales && reasons) || (part == Work::Calibration && judges));
            let tokens = of(&|part| !matches!(part, Work::Model(_) | Work::Trained(_))).saturating_sub(fixed);
            let judging = if judges { of(&|part| part == Work::Judged(0)) as f64 / rounds[0].max(1) as f64 } else { 0.0 };
            (extent.seed_rows, extent.budget) = (MOST_ROWS * all, Some(SeedBudget { tokens, judging }));
        }
        extent
    }
}

/// Of which S3 needs nothing: it is what others are made equal to.
const NOTHING: Extent = Extent { seed_rows: 0, budget: None, rounds: 0, rows_of_round: 0 };

/// A seed within a budget has at most so many times the rows of S3.
const MOST_ROWS: usize = 20;
