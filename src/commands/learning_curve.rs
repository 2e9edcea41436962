//! `lacuna learning-curve`: the student's accuracy on more and more human labels, the currency that methods are counted in.

use std::collections::BTreeMap;
use std::path::Path;

use super::options::Options;
use super::provenance::provenance;
use super::report::{interval_title, percent, table};
use super::setup::Setup;
use super::worth::{CURVE, Curve, Point};
use crate::error::{Error, Result};
use crate::files::whole::{write, write_json};
use crate::measure::interval;
use crate::report::curves::{Curves, LEARNING_CURVE, write_curves};
use crate::report::made::Made;
use crate::report::sweep_line::SweepLine;
use crate::run::cost::Cost;
use crate::run::outcome::Outcome;
use crate::run::summary::{Measured, Method};
use crate::task::file::Task;

/// A learning curve: the task and its options, numbers of rows and draws.
pub struct LearningCurve<'a> {
    pub task: &'a Path,
    pub options: &'a Options,
    /// Numbers of human labels; more than the gold file has are all that it has, too few for its labels are left out.
    pub rows: &'a [usize],
    /// Number of draws, counted from the options' seed.
    pub draws: u64,
    /// Folder for results, table and curve.
    pub folder: &'a Path,
}

/// Trains the student on each number of gold rows and each draw, each kept in a file, so that a curve resumes; writes `curve.json`,
/// `curve.md`, `curve.svg` and `curve.html` and returns the table. No generator is needed.
///
/// # Errors
/// Those of a fit; a task without test rows; no number of rows that the gold file has.
pub fn learning_curve(curve: &LearningCurve) -> Result<String> {
    let mut points: Vec<(usize, Vec<Outcome>)> = Vec::new();
    let (mut student, mut made) = (BTreeMap::new(), Made::default());
    let progress = curve.options.machine.progress();
    for rows in numbers_of_rows(curve)? {
        let mut outcomes = Vec::new();
        for seed in curve.options.seed..curve.options.seed.saturating_add(curve.draws) {
            let options = Options { seed, gold_rows: Some(rows), ..curve.options.clone() };
            let setup = Setup::of_student(curve.task, &options)?;
            setup.sum("test").ok_or_else(|| needs_test(curve.task))?;
            student = setup.student();
            made = provenance(curve.command(), &setup, curve.options.seed..curve.options.seed.saturating_add(curve.draws));
            progress.say(format!("— {rows} human labels, draw {seed}"));
            outcomes.push(setup.gold_only(&curve.folder.join(format!("rows-{rows}/draw-{seed}.json")))?);
        }
        if !outcomes.is_empty() {
            points.push((rows, outcomes));
        }
    }
    if points.is_empty() {
        return Err(Error::Failed("--rows: none of these numbers of rows is there, or --draws is 0".into()));
    }
    let right = |outcomes: &[Outcome]| outcomes.iter().map(|outcome| outcome.measured.right()).collect();
    let kept = points.iter().map(|(rows, outcomes)| Point { rows: *rows, right: right(outcomes) }).collect();
    write_json(&curve.folder.join(CURVE), &Curve { student, points: kept })?;
    let lines: Vec<SweepLine> = points.iter().map(|(rows, outcomes)| line(*rows, outcomes)).collect();
    let task = Task::read(curve.task)?;
    let test_rows = points.first().and_then(|(_, outcomes)| outcomes.first()).map_or(0, |outcome| outcome.measured.correct.len());
    let page = Curves { kind: LEARNING_CURVE, task: &task.name, about: task.about.as_deref(), made: &made, lines: &lines, test_rows };
    write_curves(curve.folder, &page)?;
    let text = made.in_markdown() + &render(&points);
    write(&curve.folder.join("curve.md"), text.as_bytes())?;
    Ok(text)
}

/// The numbers of rows that the gold file can give, each once, in order.
fn numbers_of_rows(curve: &LearningCurve) -> Result<Vec<usize>> {
    let setup = Setup::of_student(curve.task, curve.options)?;
    let (pool, least) = (setup.gold_pool(), 2 * setup.task.labels.len().max(1));
    let mut rows: Vec<usize> = curve.rows.iter().map(|&rows| rows.min(pool)).filter(|&rows| rows >= least).collect();
    rows.sort_unstable();
    rows.dedup();
    Ok(rows)
}

impl LearningCurve<'_> {
    /// The command line that makes it.
    fn command(&self) -> String {
        let rows: Vec<String> = self.rows.iter().map(usize::to_string).collect();
        let seed = self.options.seed_in_words();
        format!(
            "lacuna learning-curve {} --draws {} --rows {}{seed}{}",
            self.task.display(),
            self.draws,
            rows.join(","),
            self.options.in_words()
        )
    }
}

fn needs_test(task: &Path) -> Error {
    Error::Task { path: task.to_path_buf(), line: None, message: "a learning curve needs test rows: add data.test".to_string() }
}

fn line(rows: usize, outcomes: &[Outcome]) -> SweepLine {
    let right: Vec<Vec<f64>> = outcomes.iter().map(|outcome| outcome.measured.right()).collect();
    SweepLine {
        axis: "human labels".to_string(),
        value: rows,
        method: Method::GoldOnly,
        synthetic_rows: 0.0,
        steps: outcomes.first().map_or(0, |outcome| outcome.measured.steps),
        cost: Cost::mean(&outcomes.iter().map(|outcome| outcome.cost).collect::<Vec<_>>()),
        measure: outcomes.first().map_or("accuracy", |outcome| outcome.measured.measure()).to_string(),
        accuracy: interval::share(&right),
        draws: outcomes.iter().map(|outcome| outcome.measured.accuracy().mean).collect(),
        f1: None,
    }
}

fn render(points: &[(usize, Vec<Outcome>)]) -> String {
    let row = |(rows, outcomes): &(usize, Vec<Outcome>)| {
        let right: Vec<Vec<f64>> = outcomes.iter().map(|outcome| outcome.measured.right()).collect();
        let of_draw = |measured: &Measured| format!("{:.1}", 100.0 * measured.accuracy().mean);
        let draws: Vec<String> = outcomes.iter().map(|outcome| of_draw(&outcome.measured)).collect();
        let steps = outcomes.first().map_or(0, |outcome| outcome.measured.steps);
        vec![rows.to_string(), steps.to_string(), percent(&interval::share(&right)), draws.join(" ")]
    };
    let measure = points.iter().flat_map(|(_, outcomes)| outcomes).next().map_or("accuracy", |outcome| outcome.measured.measure());
    let title = interval_title(measure, points.iter().map(|(_, outcomes)| outcomes.len()).max().unwrap_or(0));
    table(&["human labels", "steps", &title, "each draw"], &points.iter().map(row).collect::<Vec<_>>())
}
