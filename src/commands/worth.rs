//! What an accuracy is worth: the number of human labels that give the same student the same accuracy, read from its learning curve.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::options::beside_runs;
use crate::error::{Error, Result};
use crate::math::random;
use crate::measure::isotonic::{Worth, worth};
use crate::report::comparison::Line;
use crate::run::manifest::changes;

/// The student's accuracy by number of human labels: `curve.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// What was trained and on which data: the small model, the gold and test files, the labels and `train`.
    pub student: BTreeMap<String, Value>,
    pub points: Vec<Point>,
}

/// One number of human labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    pub rows: usize,
    /// How right each test row is, in [0, 1], (draws, rows): 0 or 1, of several labels its F1. Earlier versions wrote false and true.
    #[serde(alias = "correct", deserialize_with = "numbers")]
    pub right: Vec<Vec<f64>>,
}

/// Numbers, or false and true.
fn numbers<'d, D: serde::Deserializer<'d>>(deserializer: D) -> std::result::Result<Vec<Vec<f64>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Right {
        Number(f64),
        Truth(bool),
    }
    let number = |right: Right| match right {
        Right::Number(x) => x,
        Right::Truth(right) => f64::from(u8::from(right)),
    };
    let draws = Vec::<Vec<Right>>::deserialize(deserializer)?;
    Ok(draws.into_iter().map(|of_draw| of_draw.into_iter().map(number).collect()).collect())
}

pub const CURVE: &str = "curve.json";

impl Curve {
    /// Reads the curve in `named`, or the one that `lacuna learning-curve` writes for this task by default; `None` if that is not there.
    ///
    /// # Errors
    /// A curve that was named but cannot be read; a damaged one.
    pub fn find(named: Option<&Path>, task: &Path) -> Result<Option<Curve>> {
        let path = named.map_or_else(|| Curve::place(task).join(CURVE), Path::to_path_buf);
        if named.is_none() && !path.exists() {
            return Ok(None);
        }
        let content = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let damaged = |e| Error::Run(format!("{}: not a learning curve ({e}); write it with lacuna learning-curve", path.display()));
        serde_json::from_slice(&content).map(Some).map_err(damaged)
    }

    /// # Errors
    /// A curve of another student, or measured on other rows; each difference named.
    pub fn check(&self, student: &BTreeMap<String, Value>) -> Result<()> {
        let changes = changes(&self.student, student);
        if changes.is_empty() {
            return Ok(());
        }
        let changes = changes.join("\n  ");
        Err(Error::Run(format!(
            "the learning curve is of another small model or of other rows; write it again with lacuna learning-curve:\n  {changes}"
        )))
    }

    /// The default folder of a task's learning curve.
    pub fn place(task: &Path) -> PathBuf {
        beside_runs("learning-curve", task)
    }
}

/// Bootstrap samples.
const RESAMPLES: usize = 400;

/// Says what each line's accuracy is worth: the estimate, and its 95 % interval over draws and test rows, of the curve and of the method.
pub fn add_worth(lines: &mut [Line], curve: &Curve) {
    for line in lines {
        let own: Vec<Vec<f64>> = line.results.iter().map(|outcome| outcome.measured.right()).collect();
        line.worth = Some(in_words(&own, curve));
    }
}

/// The number of human labels that a single model is worth, as the students of the curve learn them: `640 [420, 990]`.
pub fn worth_of(right: &[f64], curve: &Curve) -> String {
    in_words(&[right.to_vec()], curve)
}

/// `640 [420, 990]`; below the first point of the curve `< 50`, above its last `> 7000`.
fn in_words(own: &[Vec<f64>], curve: &Curve) -> String {
    let rows = own.first().map_or(0, Vec::len);
    let all_once = vec![1.0; rows];
    let estimate = |draw: &mut dyn FnMut(&[Vec<f64>]) -> f64| {
        let points: Vec<(usize, f64)> = curve.points.iter().map(|point| (point.rows, draw(&point.right))).collect();
        worth(&points, draw(own))
    };
    let found = estimate(&mut |correct| mean(&accuracies(correct, &all_once)));
    let mut rng = random::rng(0, "worth", 0);
    let mut samples: Vec<Worth> = (0..RESAMPLES)
        .map(|_| {
            let mut weights = vec![0.0; rows];
            (0..rows).for_each(|_| weights[rng.random_range(0..rows)] += 1.0);
            estimate(&mut |correct| {
                let of_draws = accuracies(correct, &weights);
                let drawn: Vec<f64> = of_draws.iter().map(|_| of_draws[rng.random_range(0..of_draws.len())]).collect();
                // A sample of D draws spreads by (D − 1) / D of their variance.
                let stretch = (of_draws.len() as f64 / (of_draws.len() as f64 - 1.0).max(1.0)).sqrt();
                mean(&of_draws) + stretch * (mean(&drawn) - mean(&of_draws))
            })
        })
        .collect();
    samples.sort_by(|a, b| number(a).total_cmp(&number(b)));
    let at = |share: f64| words(&samples[((RESAMPLES - 1) as f64 * share).round() as usize]);
    format!("{} [{}, {}]", words(&found), at(0.025), at(0.975))
}

/// The accuracy of each draw, with each test row counted as often as its weight says.
fn accuracies(right: &[Vec<f64>], weights: &[f64]) -> Vec<f64> {
    let total: f64 = weights.iter().sum();
    right.iter().map(|of_draw| of_draw.iter().zip(weights).map(|(right, w)| right * w).sum::<f64>() / total).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// For sorting.
fn number(worth: &Worth) -> f64 {
    match worth {
        Worth::Below(_) => 0.0,
        Worth::Rows(rows) => *rows,
        Worth::Above(_) => f64::INFINITY,
    }
}

/// Two figures are as many as the estimate deserves.
fn words(worth: &Worth) -> String {
    match worth {
        Worth::Below(rows) => format!("< {rows}"),
        Worth::Above(rows) => format!("> {rows}"),
        Worth::Rows(rows) => {
            let unit = 10f64.powf((rows.log10().floor() - 1.0).max(0.0));
            format!("{:.0}", (rows / unit).round() * unit)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `right` of 1,000 test rows, other ones for each draw.
    fn correct(right: usize, draw: usize) -> Vec<f64> {
        (0..1000).map(|row| f64::from(u8::from((row * 7 + draw * 13) % 1000 < right))).collect()
    }

    fn curve() -> Curve {
        let point = |(rows, right): (usize, usize)| Point { rows, right: (0..5).map(|draw| correct(right + draw, draw)).collect() };
        Curve { student: BTreeMap::new(), points: [(100, 700), (1000, 800), (10000, 850)].map(point).to_vec() }
    }

    #[test]
    fn curves_of_earlier_versions_are_read() {
        let point: Point = serde_json::from_str(r#"{"rows": 5, "correct": [[true, false]]}"#).unwrap();
        assert_eq!(point.right, [[1.0, 0.0]]);
        assert_eq!(serde_json::from_str::<Point>(&serde_json::to_string(&point).unwrap()).unwrap(), point);
    }

    #[test]
    fn an_accuracy_between_two_points_lies_between_their_rows() {
        let of = |right: usize| in_words(&(0..3).map(|draw| correct(right, draw)).collect::<Vec<_>>(), &curve());
        let found = of(752);
        let numbers: Vec<f64> = found.split(['[', ']', ',']).filter_map(|part| part.trim().parse().ok()).collect();
        assert!((280.0..360.0).contains(&numbers[0]) && numbers[1] < numbers[0] && numbers[2] > numbers[0], "{found}");
        assert!(of(500).starts_with("< 100 [< 100, < 100]") && of(990).starts_with("> 10000 ["), "{} {}", of(500), of(990));
    }
}
