//! The page about a comparison: the methods beside each other for each number of gold rows, their differences and costs.

use std::path::Path;

use minijinja::context;
use minijinja::value::Serde;
use serde::{Deserialize, Serialize};

use super::estimates::{Estimate, differences, shares};
use super::made::Made;
use super::page::{Page, drawn};
use super::words::{difference, share, share_of_rows, thousands};
use crate::error::Result;
use crate::measure::interval::Interval;
use crate::run::cost::Cost;
use crate::run::outcome::Outcome;
use crate::run::summary::Measured;

/// One row of the table, for one number of gold rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    pub method: String,
    /// Gold rows of a draw.
    pub gold_rows: usize,
    /// What the method reads of them.
    pub reads: String,
    /// One for each draw.
    pub results: Vec<Outcome>,
    /// Mean over draws, as if the method had been run alone.
    pub cost: Cost,
    /// Accuracy (for questions, exact match): mean over draws, interval over draws and test rows; with one draw over test rows only.
    pub accuracy: Interval,
    /// Which method `less` is the difference to.
    pub reference: Option<String>,
    /// This method less the reference, paired by draw and test row.
    pub less: Option<Interval>,
    /// For questions: SQuAD F1, and its difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub f1: Option<(Interval, Option<Interval>)>,
    /// How many human labels the accuracy is worth: the estimate and its interval, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worth: Option<String>,
}

impl Line {
    /// The mean over draws.
    pub fn mean(&self, of: impl Fn(&Measured) -> f64) -> f64 {
        self.results.iter().map(|outcome| of(&outcome.measured)).sum::<f64>() / self.results.len().max(1) as f64
    }

    /// The share that each draw has right.
    pub fn each_draw(&self) -> Vec<f64> {
        self.results.iter().map(|outcome| outcome.measured.accuracy().mean).collect()
    }

    fn has(&self, what: impl Fn(&Measured) -> bool) -> bool {
        self.results.iter().any(|outcome| what(&outcome.measured))
    }

    fn test_rows(&self) -> usize {
        self.results.first().map_or(0, |outcome| outcome.measured.correct.len())
    }
}

/// What the page is about.
pub struct Comparison<'a> {
    pub task: &'a str,
    pub about: Option<&'a str>,
    pub made: &'a Made,
    /// Number of draws.
    pub draws: u64,
    pub lines: &'a [Line],
}

/// The page in the comparison's folder.
pub const FILE: &str = "compare.html";

const PAGE: Page = Page { file: FILE, template: include_str!("comparison.html") };

/// Writes the page into the comparison's folder.
///
/// # Errors
/// A file that cannot be written.
pub fn write_comparison(folder: &Path, comparison: &Comparison) -> Result<()> {
    let Comparison { task, about, made, draws, lines } = *comparison;
    let tables: Vec<Table> = lines.chunk_by(|a, b| a.gold_rows == b.gold_rows).map(Table::of).collect();
    let any = |what: fn(&Measured) -> bool| lines.iter().any(|line| line.has(what));
    let measure = lines.iter().flat_map(|line| &line.results).next().map_or("accuracy", |outcome| outcome.measured.measure());
    let context = context! {
        task, about, draws,
        made => minijinja::Value::from(Serde(made)),
        verdict => lines.chunk_by(|a, b| a.gold_rows == b.gold_rows).map(verdict).collect::<Vec<_>>(),
        test_rows => lines.first().map_or(0, Line::test_rows),
        questions => any(|measured| measured.answer_f1().is_some()),
        macro_f1 => any(Measured::needs_more_than_accuracy),
        labels => any(|measured| measured.calibration_error().is_some()),
        measure,
        share_of_rows => share_of_rows(measure),
        worth => lines.iter().any(|line| line.worth.is_some()),
        methods => tables.first().map_or(0, |table| table.rows.len()),
        tables => minijinja::Value::from(Serde(&tables)),
        share_charts => tables.iter().map(|table| drawn(table.share_chart.clone())).collect::<Vec<_>>(),
        difference_charts => tables.iter().map(|table| drawn(table.difference_chart.clone())).collect::<Vec<_>>(),
    };
    PAGE.write(folder, context).map(drop)
}

/// The methods with one number of gold rows.
#[derive(Serialize)]
struct Table {
    gold_rows: usize,
    #[serde(skip)]
    share_chart: String,
    /// Empty where nothing is compared.
    #[serde(skip)]
    difference_chart: String,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    method: String,
    reads: String,
    synthetic: f64,
    steps: f64,
    cost: Cost,
    macro_f1: Option<f64>,
    calibration_error: Option<f64>,
    f1: Option<f64>,
    accuracy: Interval,
    less: Option<Interval>,
    reference: Option<String>,
    worth: Option<String>,
    /// Whether others are compared with it.
    is_reference: bool,
}

impl Table {
    fn of(lines: &[Line]) -> Table {
        let is_reference = |line: &Line| lines.iter().any(|other| other.less.is_some() && other.reference.as_ref() == Some(&line.method));
        let rows: Vec<Row> = lines.iter().map(|line| Row::of(line, is_reference(line))).collect();
        let estimate = |(line, row): (&Line, &Row)| {
            let draws = if line.results.len() > 1 { line.each_draw() } else { Vec::new() };
            Estimate { name: line.method.clone(), interval: line.accuracy, draws, own: row.is_reference }
        };
        let estimates: Vec<Estimate> = lines.iter().zip(&rows).map(estimate).collect();
        let less = |line: &Line| Some(Estimate { name: line.method.clone(), interval: line.less?, draws: Vec::new(), own: false });
        let less: Vec<Estimate> = lines.iter().filter_map(less).collect();
        let gold_rows = lines[0].gold_rows;
        let with = format!("With {gold_rows} gold rows");
        Table {
            gold_rows,
            share_chart: shares(&estimates, &format!("{with}: share of the test rows that each method has right, with 95 % intervals")),
            difference_chart: differences(&less, &format!("{with}: differences in points, with 95 % intervals")),
            rows,
        }
    }
}

impl Row {
    fn of(line: &Line, is_reference: bool) -> Row {
        let mean = |of: fn(&Measured) -> Option<f64>| {
            let has = line.results.iter().any(|outcome| of(&outcome.measured).is_some());
            has.then(|| line.mean(|measured| of(measured).unwrap_or(f64::NAN)))
        };
        Row {
            method: line.method.clone(),
            reads: line.reads.clone(),
            synthetic: line.mean(|measured| measured.synthetic_rows as f64),
            steps: line.mean(|measured| measured.steps as f64),
            cost: line.cost,
            macro_f1: mean(|measured| measured.details().iter().find(|(name, _)| *name == "macro-F1").map(|(_, x)| *x)),
            calibration_error: mean(Measured::calibration_error),
            f1: line.f1.map(|(f1, _)| f1.mean),
            accuracy: line.accuracy,
            less: line.less,
            reference: line.reference.clone(),
            worth: line.worth.clone(),
            is_reference,
        }
    }
}

/// Which method was right most often with one number of gold rows, and how far that can be told.
fn verdict(lines: &[Line]) -> String {
    let Some(best) = most(lines.iter()) else { return String::new() };
    let ties = lines.iter().filter(|line| line.accuracy.mean == best.accuracy.mean).count();
    let alone = if ties > 1 { format!(" (and {} others as often)", ties - 1) } else { String::new() };
    let (rows, name, methods) = (best.gold_rows, &best.method, lines.len());
    let (found, of) = (share(best.accuracy), thousands(best.test_rows() as u64));
    let mut text = match best.has(|measured| measured.of_label_sets().is_some()) {
        true => format!(
            "With {rows} gold rows {name}{alone} was best of {methods} methods: a mean F1 of {found} over the labels of {of} test rows."
        ),
        false => format!("With {rows} gold rows {name}{alone} was right most often of {methods} methods, on {found} of {of} test rows."),
    };
    if let (Some(less), Some(reference)) = (best.less, &best.reference) {
        text += &format!(" Against {reference} that is {}.", difference(less));
    } else if let Some(next) = most(lines.iter().filter(|line| line.less.is_some() && line.reference.as_ref() == Some(&best.method))) {
        let less = next.less.expect("it was looked for");
        let ahead = Interval { mean: -less.mean, low: -less.high, high: -less.low };
        text += &format!(" Against {}, the next of those that it is compared with, that is {}.", next.method, difference(ahead));
    }
    text
}

/// The line with the highest accuracy; the first of several.
fn most<'l>(lines: impl Iterator<Item = &'l Line>) -> Option<&'l Line> {
    lines.reduce(|best, line| if line.accuracy.mean > best.accuracy.mean { line } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::summary::Measures;
    use crate::run::summary::OfLabels;

    fn line(method: &str, mean: f64, reference: Option<(&str, f64, f64)>) -> Line {
        let correct: Vec<bool> = (0..1000).map(|i| (i as f64) < 1000.0 * mean).collect();
        let measured =
            Measured { synthetic_rows: 400, gold_rows: 100, steps: 150, correct, measures: Measures::Labels(OfLabels::default()) };
        let outcome = Outcome { measured, cost: Cost::default() };
        Line {
            method: method.into(),
            gold_rows: 100,
            reads: "training".into(),
            results: vec![outcome.clone(), outcome],
            cost: Cost { sampled: 0, computed: 1_234_567, seconds: 75.0, flops: 0.0 },
            accuracy: Interval { mean, low: mean - 0.02, high: mean + 0.02 },
            reference: reference.map(|(name, ..)| name.to_string()),
            less: reference.map(|(_, less, half)| Interval { mean: less, low: less - half, high: less + half }),
            f1: None,
            worth: None,
        }
    }

    #[test]
    fn the_verdict_says_what_can_be_told() {
        let nearest = |half| [line("S3 + gold", 0.78, None), line("gold only", 0.75, Some(("S3 + gold", -0.03, half)))];
        assert_eq!(
            verdict(&nearest(0.01)),
            "With 100 gold rows S3 + gold was right most often of 2 methods, on 78.0 % [76.0, 80.0] of 1,000 test rows. Against gold only, \
             the next of those that it is compared with, that is +3.0 points [+2.0, +4.0]."
        );
        assert!(verdict(&nearest(0.04)).ends_with("+3.0 points [-1.0, +7.0], which is not told from no difference."));
        let beaten = [line("S3 + gold", 0.75, None), line("SetFit", 0.78, Some(("S3 + gold", 0.03, 0.01)))];
        assert!(verdict(&beaten).ends_with("Against S3 + gold that is +3.0 points [+2.0, +4.0]."));
        assert!(verdict(&[line("gold only", 0.7, None)]).ends_with("of 1,000 test rows."));
        assert!(verdict(&[line("S3", 0.7, None), line("seed", 0.7, None)]).contains("S3 (and 1 others as often) was right"));
    }

    #[test]
    fn a_page_has_charts_and_a_table_for_each_number_of_gold_rows() {
        let folder = tempfile::tempdir().unwrap();
        let mut lines = vec![line("S3 + gold", 0.78, None), line("<gold> only", 0.75, Some(("S3 + gold", -0.03, 0.01)))];
        lines.extend(lines.clone().into_iter().map(|line| Line { gold_rows: 300, ..line }));
        let made = Made { command: "lacuna compare task.toml".into(), facts: vec!["lacuna 0".into(), "8 threads".into()] };
        let comparison = Comparison { task: "movies", about: None, made: &made, draws: 2, lines: &lines };
        write_comparison(folder.path(), &comparison).unwrap();
        let page = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert_eq!((page.matches("<svg").count(), page.matches("<table>").count()), (4, 2));
        for words in ["lacuna compare task.toml", "1,234,567", "&lt;gold&gt; only", "-3.0 [-4.0, -2.0]", "1 min 15 s"] {
            assert!(page.contains(words), "{words:?} should stand in {page}");
        }
        assert!(!page.contains("://"), "it asks for nothing");
    }
}
