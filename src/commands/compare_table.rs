//! The table of a comparison: means over draws, intervals, differences, costs.

use super::methods::{Method, Writer, Writing};
use super::report::{interval_title, percent, table};
use crate::measure::interval::{self, Interval};
use crate::report::comparison::Line;
use crate::run::cost::Cost;
use crate::run::outcome::Outcome;
use crate::run::summary::Measured;
use crate::task::file::Task;

/// A method and its outcome on each draw.
pub struct Row {
    pub method: Method,
    pub outcomes: Vec<Outcome>,
}

/// The rows of the table for one number of gold rows. Methods that learn from the gold rows are compared with
/// S3 + gold, the others with S3.
pub fn summarise(task: &Task, gold_rows: usize, rows: Vec<Row>) -> Vec<Line> {
    let line = |row: &Row| {
        let reference = rows.iter().find(|other| other.method == reference_of(row.method));
        let of = |row: &Row, measure: &dyn Fn(&Measured) -> Vec<f64>| -> Vec<Vec<f64>> {
            row.outcomes.iter().map(|outcome| measure(&outcome.measured)).collect()
        };
        let less = |measure: &dyn Fn(&Measured) -> Vec<f64>| {
            let reference = reference.filter(|reference| reference.method != row.method)?;
            Some(interval::mean(&differences(&of(row, measure), &of(reference, measure))))
        };
        let f1 = |measured: &Measured| measured.answer_f1().map(<[f64]>::to_vec).unwrap_or_default();
        let questions = row.outcomes.iter().all(|outcome| outcome.measured.answer_f1().is_some());
        Line {
            method: row.method.name(task),
            gold_rows,
            reads: row.method.gold_use(task).in_words(),
            cost: Cost::mean(&row.outcomes.iter().map(|outcome| outcome.cost).collect::<Vec<_>>()),
            accuracy: interval::share(&of(row, &Measured::right)),
            reference: reference.map(|reference| reference.method.name(task)),
            less: less(&Measured::right),
            f1: questions.then(|| (interval::share(&of(row, &f1)), less(&f1))),
            worth: None,
            results: row.outcomes.clone(),
        }
    };
    rows.iter().map(line).collect()
}

fn reference_of(method: Method) -> Method {
    let gold = match method {
        Method::Baseline(baseline) => baseline.reads_gold(),
        Method::Writing(writing) => writing.gold,
    };
    Method::Writing(Writing { writer: Writer::S3, gold })
}

fn differences(own: &[Vec<f64>], reference: &[Vec<f64>]) -> Vec<Vec<f64>> {
    own.iter().zip(reference).map(|(own, reference)| own.iter().zip(reference).map(|(x, y)| x - y).collect()).collect()
}

/// The table in Markdown.
pub fn render(lines: &[Line]) -> String {
    let any = |has: fn(&Measured) -> bool| lines.iter().any(|line| line.results.iter().any(|outcome| has(&outcome.measured)));
    let (more, questions) = (any(Measured::needs_more_than_accuracy), any(|measured| measured.answer_f1().is_some()));
    let (labels, calibrated) = (any(|measured| measured.of_labels().is_some()), any(|measured| measured.calibration_error().is_some()));
    let worth = lines.iter().any(|line| line.worth.is_some());
    let mut header = vec!["method", "gold rows", "read for", "synthetic", "steps", "tokens computed", "sampled", "seconds", "TFLOP"];
    let first = lines.iter().flat_map(|line| &line.results).next().map(|outcome| &outcome.measured);
    let details: Vec<&str> = first.filter(|_| more).iter().flat_map(|first| first.details()).map(|(name, _)| name).collect();
    header.extend(&details);
    header.extend(labels.then_some("Brier"));
    header.extend(calibrated.then_some("ECE"));
    let draws = lines.iter().map(|line| line.results.len()).max().unwrap_or(0);
    let measure = first.map_or("accuracy", Measured::measure);
    let title = |what: &str| interval_title(what, draws);
    let titles = [title(measure), "each draw".to_string(), title("less S3, or S3 + gold"), title("F1")];
    header.extend(worth.then_some("worth human labels [95 %]"));
    header.extend(questions.then_some(titles[3].as_str()));
    header.extend([titles[0].as_str(), titles[1].as_str(), titles[2].as_str()]);
    let row = |line: &Line| {
        let mean = |of: &dyn Fn(&Measured) -> Option<f64>| format!("{:.3}", line.mean(|measured| of(measured).unwrap_or(f64::NAN)));
        let Cost { sampled, computed, seconds, flops } = line.cost;
        let mut row = vec![line.method.clone(), line.gold_rows.to_string(), line.reads.clone()];
        row.extend([format!("{:.0}", line.mean(|m| m.synthetic_rows as f64)), format!("{:.0}", line.mean(|m| m.steps as f64))]);
        row.extend([computed.to_string(), sampled.to_string(), format!("{:.0}", seconds), format!("{:.3}", flops / 1e12)]);
        row.extend((0..details.len()).map(|i| mean(&|measured| measured.details().get(i).map(|(_, x)| *x))));
        row.extend(labels.then(|| mean(&|measured| Some(measured.of_labels()?.brier))));
        row.extend(calibrated.then(|| mean(&Measured::calibration_error)));
        row.extend(worth.then(|| line.worth.clone().unwrap_or_default()));
        row.extend(questions.then(|| line.f1.map(|(f1, _)| percent(&f1)).unwrap_or_default()));
        row.push(percent(&line.accuracy));
        row.push(line.each_draw().iter().map(|share| format!("{:.1}", 100.0 * share)).collect::<Vec<_>>().join(" "));
        row.push(line.less.as_ref().map_or("–".to_string(), points));
        row
    };
    table(&header, &lines.iter().map(row).collect::<Vec<_>>())
}

/// `-3.1 [-4.0, -2.2]`, in percentage points.
pub fn points(interval: &Interval) -> String {
    format!("{:+.1} [{:+.1}, {:+.1}]", interval.mean * 100.0, interval.low * 100.0, interval.high * 100.0)
}
