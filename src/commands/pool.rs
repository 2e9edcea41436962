//! `lacuna pool`: the mean of comparisons over several data sets, with an interval over data sets and the number of sets won.

use std::path::PathBuf;

use super::compare_table::points;
use super::report::{percent as in_percent, table};
use crate::error::{Error, Result};
use crate::measure::interval::{Interval, over_data_sets};
use crate::report::comparison::Line;

/// Reads `compare.json` in each folder, one a data set, and returns the table. A method is pooled over the sets that have it with the
/// same number of gold rows; a set is won where the method's mean is above that of its reference, S3 or S3 + gold.
///
/// # Errors
/// A folder without a finished comparison; fewer than two folders.
pub fn pool(folders: &[PathBuf]) -> Result<String> {
    let twice = folders.iter().enumerate().any(|(i, folder)| folders[..i].contains(folder));
    if folders.len() < 2 || twice {
        return Err(Error::Failed("give the folders of two comparisons or more, each once, one a data set".into()));
    }
    let read = |folder: &PathBuf| -> Result<Vec<Line>> {
        let path = folder.join("compare.json");
        let content = std::fs::read(&path).map_err(Error::io("read", &path))?;
        serde_json::from_slice(&content).map_err(|e| Error::Run(format!("{}: not a comparison ({e})", path.display())))
    };
    let sets: Vec<Vec<Line>> = folders.iter().map(read).collect::<Result<_>>()?;
    let mut keys: Vec<(usize, String)> = Vec::new();
    for line in sets.iter().flatten() {
        let key = (line.gold_rows, line.method.clone());
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys.sort_by_key(|(gold_rows, _)| *gold_rows);
    let rows: Vec<Vec<String>> = keys.iter().map(|key| row(key, &sets)).collect();
    Ok(table(
        &["method", "gold rows", "sets", "mean [95 % over sets]", "each set", "sets won", "less S3, or S3 + gold [95 % over sets]"],
        &rows,
    ))
}

fn row((gold_rows, method): &(usize, String), sets: &[Vec<Line>]) -> Vec<String> {
    let of_set = |set: &Vec<Line>| set.iter().find(|line| line.gold_rows == *gold_rows && line.method == *method).cloned();
    let own: Vec<Line> = sets.iter().filter_map(of_set).collect();
    let percent = |line: &Line| 100.0 * line.accuracy.mean;
    let means: Vec<f64> = own.iter().map(|line| line.accuracy.mean).collect();
    let alone = format!("{:.1} %", own.iter().map(percent).sum::<f64>() / own.len().max(1) as f64);
    let mean = over_data_sets(&means)
        .as_ref()
        .map_or(alone, |found| in_percent(&Interval { low: found.low.max(0.0), high: found.high.min(1.0), ..*found }));
    let less: Vec<f64> = own.iter().filter_map(|line| line.less.map(|less: Interval| less.mean)).collect();
    let won = less.iter().filter(|less| **less > 0.0).count();
    vec![
        method.clone(),
        gold_rows.to_string(),
        own.len().to_string(),
        mean,
        own.iter().map(|line| format!("{:.1}", percent(line))).collect::<Vec<_>>().join(" "),
        if less.is_empty() { "–".to_string() } else { format!("{won} of {}", less.len()) },
        over_data_sets(&less).as_ref().map_or("–".to_string(), points),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::cost::Cost;

    #[test]
    fn sets_are_counted_and_averaged() {
        let folder = tempfile::tempdir().unwrap();
        let line = |method: &str, mean: f64, less: Option<f64>| Line {
            method: method.to_string(),
            gold_rows: 100,
            reads: String::new(),
            results: vec![],
            cost: Cost::default(),
            accuracy: Interval { mean, low: mean, high: mean },
            reference: None,
            less: less.map(|mean| Interval { mean, low: mean, high: mean }),
            f1: None,
            worth: None,
        };
        let sets = [(0.80, 0.02), (0.70, -0.01), (0.90, 0.05)]
            .map(|(mean, less)| [line("ZeroGen", mean, Some(less)), line("S3", mean - less, None)]);
        let folders: Vec<PathBuf> = (0..3).map(|i| folder.path().join(i.to_string())).collect();
        for (folder, lines) in folders.iter().zip(&sets) {
            crate::files::whole::write_json(&folder.join("compare.json"), lines).unwrap();
        }
        let text = pool(&folders).unwrap();
        // Student's t with two degrees of freedom on 2, −1 and 5 points.
        for cells in ["80.0 % [55.2, 100.0] | 80.0 70.0 90.0 |", "2 of 3 | +2.0 [-5.5, +9.5]"] {
            assert!(
                text.contains(cells),
                "{cells}
{text}"
            );
        }
        assert!(pool(&folders[..1]).is_err());
    }
}
