//! Methods side by side: equal synthetic rows, equal gold rows, several seeds, one table with intervals.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::generator::Generate;
use crate::metrics::{Interval, bootstrap};
use crate::report::{percent, table};
use crate::run_dir::{write_atomically, write_json};
use crate::setup::{Options, Setup};
use crate::synthesis::{Method, MethodResult};
use crate::task::{TargetKind, Task};

/// The rows of the comparison, in the order of the table.
///
/// ZeroGen writes from the bare label, without rationales and rounds, trains on the labels that it asked for, and sees no gold
/// row, as it was published. Then it is given what S3 is given besides: gold rows that choose epoch and thresholds, and
/// soft targets too, so that neither is mistaken for what rationales and errors add. "Seed" is Algorithm 1 alone.
const ROWS: [(&str, Plan); 7] = [
    ("gold only", Plan::OfS3Run(Method::GoldOnly)),
    ("ZeroGen", Plan::ZeroGen { name: ZEROGEN, targets: TargetKind::Hard, use_select: false }),
    ("ZeroGen, select", Plan::ZeroGen { name: "zerogen-select", targets: TargetKind::Hard, use_select: true }),
    ("ZeroGen, select, soft targets", Plan::ZeroGen { name: "zerogen-soft", targets: TargetKind::Soft, use_select: true }),
    ("seed with rationales", Plan::SeedOnly),
    ("S3", Plan::OfS3Run(Method::S3)),
    ("S3 + gold", Plan::OfS3Run(Method::S3Gold)),
];

/// The run that writes what all ZeroGen rows learn from.
const ZEROGEN: &str = "zerogen";

/// Which run a row of the table comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Plan {
    OfS3Run(Method),
    ZeroGen { name: &'static str, targets: TargetKind, use_select: bool },
    SeedOnly,
}

/// One row of the table, for one number of gold rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    pub method: String,
    /// Gold rows that the method may use in any way.
    pub given_gold_rows: usize,
    /// For each seed.
    pub results: Vec<MethodResult>,
    /// Mean over seeds, interval over seeds and test rows.
    pub accuracy: Interval,
    /// This method less S3, paired by seed and test row.
    pub less_s3: Interval,
}

/// Runs all methods for each number of gold rows and each seed `0..seeds` (offset by the options' seed), each in a folder of
/// its own under `folder`, so that it resumes; writes `compare.json` and `compare.md` and returns the table.
///
/// # Errors
/// As a run; and a task without test rows.
pub fn compare(task_path: &Path, options: &Options, seeds: u64, gold_rows: &[usize], folder: &Path) -> Result<String> {
    let mut generator = None;
    let mut lines = Vec::new();
    for &gold in gold_rows {
        let mut by_row: Vec<Vec<MethodResult>> = vec![Vec::new(); ROWS.len()];
        for seed in options.seed..options.seed + seeds {
            let place = Place { folder: folder.to_path_buf(), gold, seed };
            let results = one_seed(task_path, options, &place, gold_rows[0], &mut generator)?;
            by_row.iter_mut().zip(results).for_each(|(row, result)| row.push(result));
        }
        lines.extend(summarise(gold, by_row));
        write_json(&folder.join("compare.json"), &lines)?;
    }
    let text = render(&lines);
    write_atomically(&folder.join("compare.md"), text.as_bytes())?;
    Ok(text)
}

/// Where the runs of one seed and one number of gold rows lie.
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

/// The results of all [`ROWS`] for one seed. S3 goes first: its number of rows is everyone's.
fn one_seed(
    task_path: &Path,
    options: &Options,
    place: &Place,
    first_gold: usize,
    generator: &mut Option<Box<dyn Generate>>,
) -> Result<Vec<MethodResult>> {
    let options = Options { seed: place.seed, gold_rows: Some(place.gold), ..options.clone() };
    let mut setup = Setup::new(task_path, &options)?;
    let progress = options.machine.progress();
    let task = setup.task.clone();
    let first = Place { folder: place.folder.clone(), gold: first_gold, seed: place.seed };
    let mut run = |name: &str, lender: Option<PathBuf>, task: Task, methods: &[Method]| {
        progress.say(format!("— {name}, {} gold rows, seed {}", place.gold, place.seed));
        setup.task = task;
        let folder = place.of(name);
        if let Some(lender) = lender {
            borrow_journals(&lender, &folder)?;
        }
        setup.run(&folder, methods, generator)
    };
    let s3 = run("s3", Some(first.of("s3")), task.clone(), &[Method::GoldOnly, Method::S3, Method::S3Gold])?;
    if s3.results.is_empty() {
        let message = "a comparison needs test rows: add data.test".to_string();
        return Err(Error::Task { path: task_path.to_path_buf(), line: None, message });
    }
    let mut results = Vec::new();
    for (_, plan) in ROWS {
        results.push(match plan {
            Plan::OfS3Run(method) => s3.results.iter().find(|r| r.method == method).expect("asked for above").clone(),
            Plan::ZeroGen { name, targets, use_select } => {
                let lender = if name == ZEROGEN { first.of(name) } else { place.of(ZEROGEN) };
                let mut task = without_rounds(&task, s3.dataset_rows);
                task.seed.rationales = 0;
                task.targets.kind = targets;
                task.train.use_select = use_select;
                run(name, Some(lender), task, &[Method::S3])?.results.remove(0)
            }
            Plan::SeedOnly => run("seed", Some(place.of("s3")), without_rounds(&task, s3.dataset_rows), &[Method::S3])?.results.remove(0),
        });
    }
    Ok(results)
}

fn without_rounds(task: &Task, rows: usize) -> Task {
    let mut task = task.clone();
    task.seed.rows = rows;
    task.extrapolate.max_rounds = 0;
    task
}

/// Starts a run with what another wrote for the same requests: rationales and the seed, and how they were judged.
///
/// A request is a function of the run's seed and its number, and neither depends on the gold rows, so the same would be
/// written again. A run that has begun keeps its own.
fn borrow_journals(lender: &Path, borrower: &Path) -> Result<()> {
    if borrower.join("manifest.json").exists() || lender == borrower {
        return Ok(());
    }
    for name in ["rationales.jsonl", "judge-rationales.jsonl", "round-0.jsonl", "judge-0.jsonl"] {
        let from = lender.join("journal").join(name);
        if from.exists() {
            let content = std::fs::read(&from).map_err(Error::io("read", &from))?;
            write_atomically(&borrower.join("journal").join(name), &content)?;
        }
    }
    Ok(())
}

fn summarise(gold: usize, by_row: Vec<Vec<MethodResult>>) -> Vec<Line> {
    let values = |results: &[MethodResult]| -> Vec<Vec<f64>> {
        results.iter().map(|r| r.correct.iter().map(|&c| f64::from(u8::from(c))).collect()).collect()
    };
    let s3 = ROWS.iter().position(|(_, plan)| *plan == Plan::OfS3Run(Method::S3)).expect("S3 is a row");
    let s3 = values(&by_row[s3]);
    let line = |((name, plan), results): (&(&str, Plan), Vec<MethodResult>)| {
        let given_gold_rows = if matches!(plan, Plan::ZeroGen { use_select: false, .. }) { 0 } else { gold };
        let own = values(&results);
        let difference: Vec<Vec<f64>> = own.iter().zip(&s3).map(|(a, b)| a.iter().zip(b).map(|(x, y)| x - y).collect()).collect();
        Line { method: name.to_string(), given_gold_rows, results, accuracy: bootstrap(&own), less_s3: bootstrap(&difference) }
    };
    ROWS.iter().zip(by_row).map(line).collect()
}

fn render(lines: &[Line]) -> String {
    let row = |line: &Line| {
        let mean = |of: fn(&MethodResult) -> usize| {
            (line.results.iter().map(of).sum::<usize>() as f64 / line.results.len() as f64).round().to_string()
        };
        let of_s3 = line.method == "S3";
        vec![
            line.method.clone(),
            line.given_gold_rows.to_string(),
            mean(|r| r.synthetic_rows),
            mean(|r| r.gold_rows),
            mean(|r| r.steps),
            percent(&line.accuracy),
            if of_s3 { "–".to_string() } else { points(&line.less_s3) },
        ]
    };
    let header = ["method", "gold given", "synthetic", "gold trained on", "steps", "accuracy [95 %]", "less S3 [95 %]"];
    table(&header, &lines.iter().map(row).collect::<Vec<_>>())
}

/// `-3.1 [-4.0, -2.2]`, in points.
fn points(interval: &Interval) -> String {
    format!("{:+.1} [{:+.1}, {:+.1}]", interval.mean * 100.0, interval.low * 100.0, interval.high * 100.0)
}
