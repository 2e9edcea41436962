//! Converts a published data set into gold data: tab-separated ratings become `gold.jsonl` and `test.jsonl`.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::registry::{Convert, GOLD, RatedTsv, TEST};
use crate::files::whole::{keep, unfinished};

/// Why a published file does not match the registry's description.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    #[error("{}: {error}", .path.display())]
    Io { path: PathBuf, error: std::io::Error },
    #[error("line {line}: {found} columns, expected {expected}")]
    Columns { line: usize, found: usize, expected: usize },
    #[error("line {line}: the rating `{found}` is not a number")]
    Rating { line: usize, found: String },
    #[error("line {line}: no text")]
    NoText { line: usize },
    #[error("{rows} rows are left, too few for {test_rows} test rows and any gold rows")]
    TooFew { rows: usize, test_rows: usize },
}

/// Counts of the converted and the dropped rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Converted {
    pub rows: usize,
    /// Dropped because the rating is too close to 0 for a label.
    pub undecided: usize,
    /// Dropped because an earlier row has the same text up to case and spaces.
    pub duplicates: usize,
    pub gold: usize,
    pub test: usize,
}

impl fmt::Display for Converted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Converted { rows, undecided, duplicates, gold, test } = self;
        write!(f, "{rows} rows: {gold} in {GOLD}, {test} in {TEST}; dropped: {undecided} undecided, {duplicates} duplicates")
    }
}

/// A row of gold data.
#[derive(Debug, Serialize)]
struct Row<'a> {
    text: String,
    label: &'a str,
}

/// Reads the published file in `folder` and writes [`GOLD`] and [`TEST`] beside it.
pub fn convert(folder: &Path, convert: &Convert) -> Result<Converted, ConvertError> {
    let Convert::RatedTsv(format) = convert;
    let path = folder.join(&format.file);
    let published = fs::read_to_string(&path).map_err(|error| ConvertError::Io { path, error })?;
    let (rows, mut converted) = labelled(&published, format)?;
    let is_test = draw_test(&rows, format)?;
    let (test, gold): (Vec<_>, Vec<_>) = rows.iter().zip(is_test).partition(|(_, is_test)| *is_test);
    (converted.gold, converted.test) = (gold.len(), test.len());
    write_rows(folder, GOLD, gold.into_iter().map(|(row, _)| row))?;
    write_rows(folder, TEST, test.into_iter().map(|(row, _)| row))?;
    Ok(converted)
}

/// The labelled rows without duplicates, in file order.
fn labelled<'a>(published: &str, format: &'a RatedTsv) -> Result<(Vec<Row<'a>>, Converted), ConvertError> {
    let mut rows = Vec::new();
    let mut converted = Converted::default();
    let mut seen = HashSet::new();
    for (index, line) in published.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let (rating, text) = rated(index + 1, line, format)?;
        converted.rows += 1;
        if rating == 0.0 || rating.abs() < format.undecided_below {
            converted.undecided += 1;
        } else if !seen.insert(text.to_lowercase()) {
            converted.duplicates += 1;
        } else {
            let label = if rating > 0.0 { &format.positive } else { &format.negative };
            rows.push(Row { text, label });
        }
    }
    Ok((rows, converted))
}

fn rated(line: usize, columns: &str, format: &RatedTsv) -> Result<(f64, String), ConvertError> {
    let columns: Vec<&str> = columns.split('\t').collect();
    if columns.len() != format.columns {
        return Err(ConvertError::Columns { line, found: columns.len(), expected: format.columns });
    }
    let written = columns[format.rating_column - 1];
    let rating = written.trim().parse().ok().filter(|rating: &f64| rating.is_finite());
    let rating = rating.ok_or_else(|| ConvertError::Rating { line, found: written.to_string() })?;
    let text = tidy(columns[format.text_column - 1]);
    if text.is_empty() { Err(ConvertError::NoText { line }) } else { Ok((rating, text)) }
}

/// Removes artefacts of web pages: escaped ampersands and repeated spaces.
fn tidy(text: &str) -> String {
    text.replace("&amp;", "&").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Chooses the test rows, stratified by label: those with the smallest SHA-256 of seed and text.
///
/// A hash instead of a random number generator keeps the draw independent of library versions.
fn draw_test(rows: &[Row], format: &RatedTsv) -> Result<Vec<bool>, ConvertError> {
    if rows.len() <= format.test_rows {
        return Err(ConvertError::TooFew { rows: rows.len(), test_rows: format.test_rows });
    }
    let (mut positive, mut negative): (Vec<usize>, Vec<usize>) = (0..rows.len()).partition(|&i| rows[i].label == format.positive);
    let positive_share = (format.test_rows * positive.len() + rows.len() / 2) / rows.len();
    let draw = |i: &usize| <[u8; 32]>::from(Sha256::digest(format!("{} {}", format.seed, rows[*i].text)));
    positive.sort_by_cached_key(draw);
    negative.sort_by_cached_key(draw);
    let mut is_test = vec![false; rows.len()];
    let drawn = positive.iter().take(positive_share).chain(negative.iter().take(format.test_rows - positive_share));
    drawn.for_each(|&i| is_test[i] = true);
    Ok(is_test)
}

fn write_rows<'a>(folder: &Path, name: &str, rows: impl Iterator<Item = &'a Row<'a>>) -> Result<(), ConvertError> {
    let path = folder.join(name);
    let written = || -> std::io::Result<()> {
        let mut file = unfinished(folder)?;
        let mut lines = Vec::new();
        for row in rows {
            serde_json::to_writer(&mut lines, row)?;
            lines.push(b'\n');
        }
        file.write_all(&lines)?;
        keep(file, &path)
    };
    written().map_err(|error| ConvertError::Io { path: path.clone(), error })
}
