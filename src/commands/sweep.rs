//! Learning curves: varies one setting at a time, such as the number of gold rows, seed rows, rounds or rationales.

use std::path::Path;
use std::str::FromStr;

use super::equal_steps::equal_steps;
use super::lend::{Judging, borrow_journals};
use super::options::{Options, apply};
use super::provenance::provenance;
use super::report::{interval_title, percent, table};
use super::setup::Setup;
use crate::error::{Error, Result};
use crate::files::whole::{write, write_json};
use crate::generator::Generate;
use crate::measure::interval;
use crate::report::curves::{Curves, SWEEP, write_curves};
use crate::report::made::Made;
use crate::report::sweep_line::SweepLine;
use crate::run::cost::Cost;
use crate::run::summary::{Measured, Method};
use crate::task::file::Task;

/// Sets an option to a value.
type Set = fn(&mut Options, usize);

/// The settings that can be varied: the name and the option that it sets.
const AXES: [(&str, Set); 5] = [
    ("gold-rows", |options, n| options.gold_rows = Some(n)),
    ("seed-rows", |options, n| options.seed_rows = Some(n)),
    ("rounds", |options, n| options.rounds = Some(n)),
    ("rows-per-error", |options, n| options.rows_per_error = Some(n)),
    ("rationales", |options, n| options.rationales = Some(n)),
];

/// A setting and its values, all others as in the task; written `rounds=0,1,2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    name: &'static str,
    values: Vec<usize>,
}

impl FromStr for Axis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = AXES.map(|(name, _)| name).join(", ");
        let (name, values) = text.split_once('=').ok_or_else(|| format!("write NAME=N,N…; names are {names}"))?;
        let (name, _) = AXES.iter().find(|(known, _)| *known == name).ok_or_else(|| format!("unknown name {name:?}; names are {names}"))?;
        let number = |value: &str| value.trim().parse().map_err(|_| format!("{value:?} is not a number"));
        Ok(Axis { name, values: values.split(',').map(number).collect::<Result<_, _>>()? })
    }
}

impl Axis {
    /// Whether the first point has sent the same requests for its seed, or the first of them, and can lend what it wrote: else the seed
    /// would vary too.
    fn keeps_the_seed(&self, value: usize, task: &Task) -> bool {
        match self.name {
            "rationales" => false,
            "gold-rows" => !task.seed_sees_gold(),
            "seed-rows" => value >= self.values[0],
            _ => true,
        }
    }

    fn at(&self, value: usize, options: &Options) -> Options {
        let mut options = options.clone();
        let (_, set) = AXES.iter().find(|(name, _)| *name == self.name).expect("an axis is one of those");
        set(&mut options, value);
        options
    }
}

/// The methods that a sweep compares at each point.
const METHODS: [Method; 4] = [Method::GoldOnly, Method::Seed, Method::S3, Method::S3Gold];

/// A sweep: the task and its options, the axes and the random seeds.
pub struct Sweep<'a> {
    pub task: &'a Path,
    pub options: &'a Options,
    pub axes: &'a [Axis],
    /// Number of random seeds, counted from the options' seed.
    pub seeds: u64,
    /// Folder for runs, table and curves.
    pub folder: &'a Path,
}

/// Runs the task at every point for every random seed, each in its own folder, so that a sweep resumes; writes `sweep.json`,
/// `sweep.md`, `sweep.svg` and `sweep.html` and returns the table. Without a `generator`, the task's generator is loaded when it is needed.
///
/// # Errors
/// Those of a run; a task without test rows.
pub fn sweep(sweep: &Sweep, generator: &mut Option<Box<dyn Generate>>) -> Result<String> {
    let points = sweep.axes.iter().flat_map(|axis| axis.values.iter().map(move |&value| axis.at(value, sweep.options)));
    let checked = points.map(|options| Setup::checked(sweep.task, &options).map(drop));
    Error::all(checked.filter_map(Result::err).flat_map(Error::into_problems).collect())?;
    let steps = steps_of_all(sweep)?;
    let (mut lines, mut made, mut test_rows): (Vec<SweepLine>, _, _) = (Vec::new(), Made::default(), 0);
    for axis in sweep.axes {
        for &value in &axis.values {
            let point = at_point(sweep, axis, value, steps, generator)?;
            lines.extend(point.lines);
            (made, test_rows) = (point.made, point.test_rows);
            write_json(&sweep.folder.join("sweep.json"), &lines)?;
        }
    }
    let text = made.in_markdown() + &render(&lines);
    write(&sweep.folder.join("sweep.md"), text.as_bytes())?;
    let task = Task::read(sweep.task)?;
    let page = Curves { kind: SWEEP, task: &task.name, about: task.about.as_deref(), made: &made, lines: &lines, test_rows };
    write_curves(sweep.folder, &page)?;
    Ok(text)
}

impl Sweep<'_> {
    /// The command line that makes it.
    fn command(&self) -> String {
        let values = |axis: &Axis| axis.values.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let axes: String = self.axes.iter().map(|axis| format!(" --vary {}={}", axis.name, values(axis))).collect();
        let seed = self.options.seed_in_words();
        let gold = self.options.gold_rows.map_or(String::new(), |rows| format!(" --gold-rows {rows}"));
        format!("lacuna sweep {}{axes} --seeds {}{seed}{gold}{}", self.task.display(), self.seeds, self.options.in_words())
    }
}

/// The steps of all models at all points: those of the point that needs the most.
fn steps_of_all(sweep: &Sweep) -> Result<usize> {
    let setup = Setup::of_student(sweep.task, sweep.options)?;
    let (pool, texts) = (setup.gold_pool(), setup.texts_to_read());
    let task = Task::read(sweep.task)?;
    let points = sweep.axes.iter().flat_map(|axis| axis.values.iter().map(move |&value| axis.at(value, sweep.options)));
    let steps = points.map(|options| {
        let mut task = task.clone();
        apply(&options, &mut task);
        equal_steps(&task, pool, texts)
    });
    Ok(steps.max().unwrap_or(0))
}

/// A point of an axis: its lines, where they come from, and how many test rows there are.
struct Point {
    lines: Vec<SweepLine>,
    made: Made,
    test_rows: usize,
}

/// A method's result and cost with one random seed.
type OfSeed = (Measured, Cost);

fn at_point(sweep: &Sweep, axis: &Axis, value: usize, steps: usize, generator: &mut Option<Box<dyn Generate>>) -> Result<Point> {
    let (mut made, mut test_rows) = (Made::default(), 0);
    let seeds = sweep.options.seed..sweep.options.seed + sweep.seeds;
    let mut by_method: Vec<Vec<OfSeed>> = vec![Vec::new(); METHODS.len()];
    for seed in seeds.clone() {
        let options = Options { seed, ..axis.at(value, sweep.options) };
        options.machine.progress().say(format!("— {} {value}, seed {seed}", axis.name));
        let run = sweep.folder.join(format!("{}-{value}", axis.name)).join(format!("seed-{seed}"));
        let mut setup = Setup::new(sweep.task, &options)?;
        made = provenance(sweep.command(), &setup, seeds.clone());
        setup.chooses = false;
        setup.task.train.steps = Some(steps);
        let first = sweep.folder.join(format!("{}-{}", axis.name, axis.values[0])).join(format!("seed-{seed}"));
        if first != run && axis.keeps_the_seed(value, &setup.task) {
            borrow_journals(&first, &run, None, Judging::of(&setup.task, axis.name != "gold-rows"))?;
        }
        let delivery = setup.run(&run, &METHODS, generator)?;
        if delivery.results.is_empty() {
            let message = "a sweep needs test rows: add data.test".to_string();
            return Err(Error::Task { path: sweep.task.to_path_buf(), line: None, message });
        }
        test_rows = delivery.results[0].measured.correct.len();
        for (own, result) in by_method.iter_mut().zip(delivery.results) {
            let cost = Cost::read(&run, result.method);
            own.push((result.measured, cost));
        }
    }
    let lines = METHODS.iter().zip(by_method).map(|(&method, own)| line_of(axis.name, value, method, own)).collect();
    Ok(Point { lines, made, test_rows })
}

fn line_of(axis: &str, value: usize, method: Method, own: Vec<OfSeed>) -> SweepLine {
    let n = own.len() as f64;
    let cost = Cost::mean(&own.iter().map(|(_, cost)| *cost).collect::<Vec<_>>());
    let synthetic_rows = own.iter().map(|(result, _)| result.synthetic_rows as f64).sum::<f64>() / n;
    let over_seeds = |measure: &dyn Fn(&Measured) -> Vec<f64>| interval::share(&own.iter().map(|(r, _)| measure(r)).collect::<Vec<_>>());
    let accuracy = over_seeds(&Measured::right);
    let f1: Option<Vec<Vec<f64>>> = own.iter().map(|(result, _)| result.answer_f1().map(<[f64]>::to_vec)).collect();
    let f1 = f1.map(|of_seeds| interval::share(&of_seeds));
    let draws = own.iter().map(|(measured, _)| measured.accuracy().mean).collect();
    let steps = own.first().map_or(0, |(result, _)| result.steps);
    let measure = own.first().map_or("accuracy", |(result, _)| result.measure()).to_string();
    SweepLine { axis: axis.to_string(), value, method, synthetic_rows, cost, steps, measure, accuracy, draws, f1 }
}

fn render(lines: &[SweepLine]) -> String {
    let row = |line: &SweepLine| {
        let SweepLine { axis, value, method, synthetic_rows, cost, steps, accuracy, draws, f1, .. } = line;
        let draws = draws.iter().map(|draw| format!("{:.1}", 100.0 * draw)).collect::<Vec<_>>().join(" ");
        let mut row = vec![method.name().to_string(), axis.clone(), value.to_string(), format!("{synthetic_rows:.0}")];
        row.extend([steps.to_string(), cost.computed.to_string(), format!("{:.0}", cost.seconds), draws, percent(accuracy)]);
        row.extend(f1.iter().map(percent));
        row
    };
    let mut header = vec!["method", "varied", "value", "synthetic", "steps", "tokens computed", "seconds"];
    let questions = lines.iter().any(|line| line.f1.is_some());
    let draws = lines.first().map_or(0, |line| line.draws.len());
    let titles = [interval_title(lines.first().map_or("accuracy", SweepLine::measure), draws), interval_title("F1", draws)];
    header.extend(["each draw", titles[0].as_str()]);
    header.extend(questions.then_some(titles[1].as_str()));
    table(&header, &lines.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_is_a_name_and_numbers() {
        let axis: Axis = "rounds=0,1, 2".parse().unwrap();
        assert_eq!(axis, Axis { name: "rounds", values: vec![0, 1, 2] });
        assert_eq!(axis.at(2, &Options::default()).rounds, Some(2));
        assert!("rows=1".parse::<Axis>().unwrap_err().starts_with("unknown name \"rows\"; names are gold-rows, "));
        assert_eq!("rounds=x".parse::<Axis>().unwrap_err(), "\"x\" is not a number");
        assert!("rounds".parse::<Axis>().is_err());
    }
}
