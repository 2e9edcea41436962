//! Compares methods at equal numbers of synthetic and gold rows over several random seeds: one table with confidence intervals.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::options::Options;
use super::report::{percent, table};
use super::setup::Setup;
use crate::data::example::TaskKind;
use crate::error::{Error, Result};
use crate::files::whole::{write, write_json, write_json_lines};
use crate::generator::Generate;
use crate::measure::interval::{self, Interval};
use crate::run::cost::{Cost, SECONDS, Spent, Work};
use crate::run::summary::{Method, MethodResult};
use crate::task::file::{ExtrapolateKeys, Parents, TargetKind, Task};

/// The rows of the comparison, in the order of the table.
///
/// ZeroGen, as published, prompts with the bare label, without rationales or rounds, trains on hard labels and sees no gold row. Its
/// variants get what S3 also has: *select* rows that choose epoch and thresholds, then soft targets too, so that their effect is not
/// mistaken for that of rationales and errors. "Seed" is Algorithm 1 alone.
///
/// GoldGen extrapolates all *mine* rows, correct or not, in one round as large as all S3 rounds together.
const ROWS: [(&str, RowSource); 9] = [
    ("gold only", RowSource::OfS3Run(Method::GoldOnly)),
    ("embeddings + logistic regression", RowSource::OfS3Run(Method::Embeddings)),
    ("ZeroGen", RowSource::ZeroGen { name: ZEROGEN, targets: TargetKind::Hard, use_select: false }),
    ("ZeroGen, select", RowSource::ZeroGen { name: "zerogen-select", targets: TargetKind::Hard, use_select: true }),
    ("ZeroGen, select, soft targets", RowSource::ZeroGen { name: "zerogen-soft", targets: TargetKind::Soft, use_select: true }),
    ("seed with rationales", RowSource::SeedOnly),
    ("GoldGen", RowSource::GoldGen),
    ("S3", RowSource::OfS3Run(Method::S3)),
    ("S3 + gold", RowSource::OfS3Run(Method::S3Gold)),
];

/// The run whose synthetic rows all ZeroGen variants train on.
const ZEROGEN: &str = "zerogen";

/// The run that a row of the table comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
enum RowSource {
    OfS3Run(Method),
    ZeroGen { name: &'static str, targets: TargetKind, use_select: bool },
    SeedOnly,
    GoldGen,
}

/// The names of the rows, as `--methods` takes them.
pub fn method_names() -> Vec<&'static str> {
    ROWS.iter().map(|(name, _)| *name).collect()
}

impl RowSource {
    /// Whether the method exists for tasks of this kind. Question answering has no rationales, no soft targets and no classes for a
    /// logistic regression; without rationales, `SeedOnly` would repeat ZeroGen with *select*.
    fn fits(self, kind: TaskKind) -> bool {
        let of_labels = match self {
            RowSource::OfS3Run(method) => method == Method::Embeddings,
            RowSource::ZeroGen { targets, .. } => targets == TargetKind::Soft,
            RowSource::SeedOnly => true,
            RowSource::GoldGen => false,
        };
        kind != TaskKind::ExtractiveQa || !of_labels
    }
}

/// The methods named by `--methods`, in the order of the table; all that fit the kind of task if none is named.
fn chosen(names: &[String], kind: TaskKind) -> Result<Vec<(&'static str, RowSource)>> {
    if let Some(unknown) = names.iter().find(|name| !method_names().contains(&name.as_str())) {
        return Err(Error::Failed(format!("--methods: unknown method {unknown:?}; methods are {}", method_names().join(" | "))));
    }
    let rows: Vec<_> = ROWS.into_iter().filter(|(name, _)| names.is_empty() || names.iter().any(|n| n == name)).collect();
    match rows.iter().find(|(_, source)| !source.fits(kind)) {
        Some((name, _)) if !names.is_empty() => Err(Error::Failed(format!("--methods: {name:?} needs labels; this task has questions"))),
        _ => Ok(rows.into_iter().filter(|(_, source)| source.fits(kind)).collect()),
    }
}

/// Result and cost of one method with one random seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    #[serde(flatten)]
    pub result: MethodResult,
    pub cost: Cost,
}

/// A comparison: the task and its options, random seeds, gold rows and methods.
pub struct Comparison<'a> {
    pub task: &'a Path,
    pub options: &'a Options,
    /// Number of random seeds, counted from the options' seed.
    pub seeds: u64,
    /// Numbers of gold rows; one table each.
    pub gold: &'a [usize],
    /// Methods to include, by name; all if empty.
    pub methods: &'a [String],
    /// Folder for runs and tables.
    pub folder: &'a Path,
}

/// One row of the table, for one number of gold rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    pub method: String,
    /// Gold rows that the method may use for anything.
    pub given_gold_rows: usize,
    /// One for each random seed.
    pub results: Vec<Outcome>,
    /// Mean over random seeds of sampled tokens and seconds of work, as if the method had been run alone.
    pub cost: Cost,
    /// Macro-F1, mean over random seeds; none for question answering.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub macro_f1: Option<f64>,
    /// Accuracy (for questions, exact match): mean over random seeds, interval over seeds and test rows.
    pub accuracy: Interval,
    /// Difference to S3 (this method − S3), paired by random seed and test row.
    pub less_s3: Interval,
    /// For questions: SQuAD F1, and its difference to S3, as above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub f1: Option<[Interval; 2]>,
}

/// Runs every method for each number of gold rows and each random seed, each in its own folder, so that a comparison resumes; writes
/// `compare.json` and `compare.md` and returns the table. Without a `generator`, the task's generator is loaded when it is needed.
///
/// # Errors
/// Those of a run; an unknown method; a task without test rows.
pub fn compare(comparison: &Comparison, generator: &mut Option<Box<dyn Generate>>) -> Result<String> {
    let Comparison { options, folder, .. } = *comparison;
    let rows = chosen(comparison.methods, Task::read(comparison.task)?.kind)?;
    let mut lines = Vec::new();
    for &gold in comparison.gold {
        let (mut by_row, mut s3) = (vec![Vec::new(); rows.len()], Vec::new());
        for seed in options.seed..options.seed + comparison.seeds {
            let place = Place { folder: folder.to_path_buf(), gold, seed };
            let (of_s3, results) = one_seed(comparison, &rows, &place, generator)?;
            by_row.iter_mut().zip(results).for_each(|(row, result)| row.push(result));
            s3.push(of_s3);
        }
        lines.extend(summarise(gold, &rows, by_row, &s3));
        write_json(&folder.join("compare.json"), &lines)?;
    }
    let text = render(&lines);
    write(&folder.join("compare.md"), text.as_bytes())?;
    Ok(text)
}

/// The place of the runs for one random seed and one number of gold rows.
struct Place {
    folder: PathBuf,
    gold: usize,
    seed: u64,
}

impl Place {
    fn of(&self, run: &str) -> PathBuf {
        self.folder.join(format!("gold-{}", self.gold)).join(format!("seed-{}", self.seed)).join(run)
    }
}

/// The results of S3 and of the chosen methods for one random seed. S3 runs first: it sets the number of rows for all methods.
fn one_seed(
    comparison: &Comparison,
    rows: &[(&'static str, RowSource)],
    place: &Place,
    generator: &mut Option<Box<dyn Generate>>,
) -> Result<(MethodResult, Vec<Outcome>)> {
    let options = Options { seed: place.seed, gold_rows: Some(place.gold), ..comparison.options.clone() };
    let mut setup = Setup::new(comparison.task, &options)?;
    let progress = options.machine.progress();
    let task = setup.task.clone();
    // The seed can be borrowed from the runs with another number of gold rows, unless its prompts depend on the gold rows.
    let gold = if task.seed_sees_gold() { place.gold } else { comparison.gold[0] };
    let first = Place { folder: place.folder.clone(), gold, seed: place.seed };
    let mut run = |name: &str, lender: Option<PathBuf>, task: Task, methods: &[Method]| {
        progress.say(format!("— {name}, {} gold rows, seed {}", place.gold, place.seed));
        setup.task = task;
        let folder = place.of(name);
        if let Some(lender) = lender {
            borrow_journals(&lender, &folder)?;
        }
        setup.run(&folder, methods, generator)
    };
    let wanted: Vec<Method> = [Method::GoldOnly, Method::Embeddings, Method::S3, Method::S3Gold]
        .into_iter()
        .filter(|&method| RowSource::OfS3Run(method).fits(task.kind))
        .collect();
    let s3 = run("s3", Some(first.of("s3")), task.clone(), &wanted)?;
    if s3.results.is_empty() {
        let message = "a comparison needs test rows: add data.test".to_string();
        return Err(Error::Task { path: comparison.task.to_path_buf(), line: None, message });
    }
    let of_s3 = |method| s3.results.iter().find(|r| r.method == method).expect("asked for above").clone();
    let mut outcomes = Vec::new();
    for &(_, source) in rows {
        let (name, lender, task, method) = match source {
            RowSource::OfS3Run(method) => {
                outcomes.push(Outcome { result: of_s3(method), cost: Cost::read(&place.of("s3"), method) });
                continue;
            }
            RowSource::ZeroGen { name, targets, use_select } => {
                let lender = if name == ZEROGEN { first.of(name) } else { place.of(ZEROGEN) };
                let mut task = without_rounds(&task, s3.dataset_rows);
                task.seed.rationales = 0;
                task.seed.rationale_candidates = None;
                task.targets.kind = targets;
                task.train.use_select = use_select;
                (name, lender, task, Method::S3)
            }
            RowSource::SeedOnly => ("seed", place.of("s3"), without_rounds(&task, s3.dataset_rows), Method::S3),
            RowSource::GoldGen => ("goldgen", place.of("s3"), goldgen(&task, s3.dataset_rows), Method::LastRound),
        };
        let methods: &[Method] = if method == Method::LastRound { &[Method::S3, Method::LastRound] } else { &[Method::S3] };
        let results = run(name, Some(lender), task, methods)?.results;
        let result = results.into_iter().find(|result| result.method == method).expect("asked for above");
        outcomes.push(Outcome { result, cost: Cost::read(&place.of(name), method) });
    }
    Ok((of_s3(Method::S3), outcomes))
}

fn without_rounds(task: &Task, rows: usize) -> Task {
    let mut task = task.clone();
    task.seed.rows = rows;
    task.extrapolate.max_rounds = 0;
    task
}

/// The same seed, then one round from all *mine* rows, as large as all S3 rounds together.
fn goldgen(task: &Task, rows: usize) -> Task {
    let mut task = task.clone();
    let extrapolated = rows.saturating_sub(task.seed.rows);
    task.extrapolate = ExtrapolateKeys {
        from: Parents::Mine,
        rows: (extrapolated > 0).then_some(extrapolated),
        rows_per_error: 1,
        max_rounds: usize::from(extrapolated > 0),
        ..task.extrapolate
    };
    task
}

/// Starts a run with the rationales, the seed and their judgements that another run wrote for the same requests.
///
/// A request is a function of the run's random seed and the request's number (and, for pairs and questions, of the contexts), so the
/// same texts would be written again. A run that has started keeps its own journals.
fn borrow_journals(lender: &Path, borrower: &Path) -> Result<()> {
    if borrower.join("manifest.json").exists() || lender == borrower {
        return Ok(());
    }
    for name in ["rationales.jsonl", "judge-rationales.jsonl", "round-0.jsonl", "judge-0.jsonl"] {
        let from = lender.join("journal").join(name);
        if from.exists() {
            let content = std::fs::read(&from).map_err(Error::io("read", &from))?;
            write(&borrower.join("journal").join(name), &content)?;
        }
    }
    borrow_seconds(lender, borrower)
}

/// Counts the lender's time for the borrowed rows as the borrower's.
fn borrow_seconds(lender: &Path, borrower: &Path) -> Result<()> {
    let borrowed = Spent::read(lender).into_iter().filter(|spent| matches!(spent.part, Work::Written(0)));
    write_json_lines(&borrower.join(SECONDS), borrowed)
}

fn summarise(gold: usize, rows: &[(&'static str, RowSource)], by_row: Vec<Vec<Outcome>>, s3: &[MethodResult]) -> Vec<Line> {
    let line = |((name, source), results): (&(&str, RowSource), Vec<Outcome>)| {
        let given_gold_rows = if matches!(source, RowSource::ZeroGen { use_select: false, .. }) { 0 } else { gold };
        let own: Vec<&MethodResult> = results.iter().map(|outcome| &outcome.result).collect();
        let [accuracy, less_s3] = against(&own, s3, MethodResult::right);
        let f1_of = |result: &MethodResult| result.answer_f1().map(<[f64]>::to_vec);
        let f1 = own.iter().all(|result| f1_of(result).is_some()).then(|| against(&own, s3, |result| f1_of(result).unwrap_or_default()));
        let mean = |of: &dyn Fn(&Outcome) -> f64| results.iter().map(of).sum::<f64>() / results.len() as f64;
        let cost = Cost { tokens: mean(&|o| o.cost.tokens as f64).round() as u64, seconds: mean(&|o| o.cost.seconds) };
        let macro_f1: Option<Vec<f64>> = own.iter().map(|result| result.macro_f1()).collect();
        let macro_f1 = macro_f1.map(|of_seeds| of_seeds.iter().sum::<f64>() / of_seeds.len() as f64);
        Line { method: name.to_string(), given_gold_rows, results, cost, macro_f1, accuracy, less_s3, f1 }
    };
    rows.iter().zip(by_row).map(line).collect()
}

/// The interval of a measure over seeds and test rows, and that of its difference to S3.
fn against(own: &[&MethodResult], s3: &[MethodResult], measure: impl Fn(&MethodResult) -> Vec<f64>) -> [Interval; 2] {
    let own: Vec<Vec<f64>> = own.iter().map(|result| measure(result)).collect();
    let less = |(own, s3): (&Vec<f64>, &MethodResult)| own.iter().zip(measure(s3)).map(|(x, y)| x - y).collect();
    let difference: Vec<Vec<f64>> = own.iter().zip(s3).map(less).collect();
    [interval::share(&own), interval::mean(&difference)]
}

fn render(lines: &[Line]) -> String {
    let many_labels = lines.iter().any(|line| line.results.iter().any(|outcome| outcome.result.many_labels()));
    let row = |line: &Line| {
        let mean = |of: fn(&MethodResult) -> usize| {
            (line.results.iter().map(|outcome| of(&outcome.result)).sum::<usize>() as f64 / line.results.len() as f64).round().to_string()
        };
        let mut row = vec![
            line.method.clone(),
            line.given_gold_rows.to_string(),
            mean(|r| r.synthetic_rows),
            mean(|r| r.gold_rows),
            mean(|r| r.steps),
            line.cost.tokens.to_string(),
            format!("{:.0}", line.cost.seconds),
        ];
        row.extend(line.macro_f1.filter(|_| many_labels).map(|f1| format!("{f1:.3}")));
        let less_s3 = |less: &Interval| if line.method == "S3" { "–".to_string() } else { points(less) };
        row.extend([percent(&line.accuracy), less_s3(&line.less_s3)]);
        row.extend(line.f1.iter().flat_map(|[f1, less]| [percent(f1), less_s3(less)]));
        row
    };
    let mut header = vec!["method", "gold given", "synthetic", "gold trained on", "steps", "tokens", "seconds"];
    header.extend(many_labels.then_some("macro-F1"));
    match lines.iter().any(|line| line.f1.is_some()) {
        true => header.extend(["EM [95 %]", "EM less S3 [95 %]", "F1 [95 %]", "F1 less S3 [95 %]"]),
        false => header.extend(["accuracy [95 %]", "less S3 [95 %]"]),
    }
    table(&header, &lines.iter().map(row).collect::<Vec<_>>())
}

/// `-3.1 [-4.0, -2.2]`, in percentage points.
fn points(interval: &Interval) -> String {
    format!("{:+.1} [{:+.1}, {:+.1}]", interval.mean * 100.0, interval.low * 100.0, interval.high * 100.0)
}
