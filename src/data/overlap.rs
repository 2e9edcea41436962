//! Test rows that are also in other files of a task.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::path::Path;

use super::example::{Context, GoldRow, Input, fingerprint};
use super::head::Head;
use crate::error::{Error, Result};

/// How many pairs of lines a message names.
const NAMED: usize = 3;

/// The test rows that are also in one other file.
pub struct Overlap<'a> {
    path: &'a Path,
    /// What of the test rows is in the file: nothing for whole rows, or "the first texts of ".
    what: &'static str,
    /// The line of each such test row, and the line of the other file.
    lines: Vec<(usize, usize)>,
}

impl<'a> Overlap<'a> {
    /// Compares whole rows, both texts of a pair.
    pub fn of_rows<'i, H: Head>(path: &'a Path, rows: impl IntoIterator<Item = (Input<'i>, usize)>, test: &[GoldRow<H>]) -> Self {
        let lines = common(rows.into_iter().map(|(input, line)| (input.fingerprint(), line)), test, |row| row.input().fingerprint());
        Overlap { path, what: "", lines }
    }

    /// Compares contexts with the first texts of the test rows: premises, passages.
    pub fn of_contexts<H: Head>(path: &'a Path, contexts: &[Context], test: &[GoldRow<H>]) -> Self {
        let lines = common(contexts.iter().map(|own| (fingerprint(&own.text), own.line)), test, |row| fingerprint(&row.text));
        Overlap { path, what: "the first texts of ", lines }
    }

    /// How many there are, where, and the first few pairs of lines.
    fn describe(&self) -> String {
        let mut named: Vec<String> = self.lines.iter().take(NAMED).map(|(test, own)| format!("line {test} is line {own} there")).collect();
        if self.lines.len() > NAMED {
            named.push("…".to_string());
        }
        let rows = if self.lines.len() == 1 { "row" } else { "rows" };
        format!("{}{} test {rows} in {} ({})", self.what, self.lines.len(), self.path.display(), named.join(", "))
    }
}

/// The lines of all test rows that have a key of `own`, with its line there.
fn common<H: Head>(own: impl Iterator<Item = (String, usize)>, test: &[GoldRow<H>], key: fn(&GoldRow<H>) -> String) -> Vec<(usize, usize)> {
    let own: HashMap<String, usize> = own.collect();
    test.iter().filter_map(|row| own.get(&key(row)).map(|line| (row.line, *line))).collect()
}

/// Refuses test rows that are also in other files: nothing that trains or prompts may see them.
///
/// # Errors
/// One message for all files: how many rows, the first pairs of lines of each file, what to do.
pub fn refuse(test_path: &Path, overlaps: &[Overlap]) -> Result<()> {
    let mut found = overlaps.iter().filter(|overlap| !overlap.lines.is_empty()).peekable();
    if found.peek().is_none() {
        return Ok(());
    }
    let mut message = "what a model is tested on must be in no other file:".to_string();
    for overlap in found {
        // Writing into a string cannot fail.
        let _ = write!(message, "\n  {}", overlap.describe());
    }
    message += "\nRemove those lines from the other files, or from the test file.";
    Err(Error::Data { path: test_path.to_path_buf(), line: None, message })
}

/// How many gold rows have the first text of a test row, but not its second.
pub fn shared_first_texts<H: Head>(gold: &[GoldRow<H>], test: &[GoldRow<H>]) -> usize {
    let of_test: HashSet<String> = test.iter().map(|row| fingerprint(&row.text)).collect();
    gold.iter().filter(|row| row.text_pair.is_some() && of_test.contains(&fingerprint(&row.text))).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::labels::{Label, Labels};

    fn row(line: usize, text: &str, text_pair: Option<&str>) -> GoldRow<Labels> {
        GoldRow { line, text: text.into(), text_pair: text_pair.map(str::to_string), gold: Label { label: 0 } }
    }

    fn inputs(rows: &[GoldRow<Labels>]) -> impl Iterator<Item = (Input<'_>, usize)> {
        rows.iter().map(|row| (row.input(), row.line))
    }

    #[test]
    fn all_overlaps_are_counted_and_three_of_each_file_named() {
        let gold: Vec<_> = (1..=9).map(|i| row(i, &format!("Text {i}"), None)).collect();
        let test: Vec<_> = (4..=9).map(|i| row(i + 20, &format!("text  {i}"), None)).chain([row(40, "text 4", None)]).collect();
        let contexts = [Context { line: 3, text: "TEXT 8".into(), answers: vec![] }];
        let (gold_path, contexts_path) = (Path::new("gold.jsonl"), Path::new("contexts.jsonl"));
        let overlaps = [
            Overlap::of_rows(gold_path, inputs(&gold), &test),
            Overlap::of_rows(Path::new("unlabelled.jsonl"), inputs(&gold[..2]), &test),
            Overlap::of_contexts(contexts_path, &contexts, &test),
        ];
        let expected = "test.jsonl: what a model is tested on must be in no other file:\n  \
            7 test rows in gold.jsonl (line 24 is line 4 there, line 25 is line 5 there, line 26 is line 6 there, …)\n  \
            the first texts of 1 test row in contexts.jsonl (line 28 is line 3 there)\n\
            Remove those lines from the other files, or from the test file.";
        assert_eq!(refuse(Path::new("test.jsonl"), &overlaps).unwrap_err().to_string(), expected);
    }

    #[test]
    fn a_pair_overlaps_only_with_both_texts_but_its_first_text_is_counted() {
        let (gold, test) = ([row(1, "a", Some("b")), row(2, "A", Some("c")), row(3, "d", Some("b"))], [row(7, "a", Some("d"))]);
        let path = Path::new("gold.jsonl");
        refuse(Path::new("test.jsonl"), &[Overlap::of_rows(path, inputs(&gold), &test)]).unwrap();
        assert_eq!(shared_first_texts(&gold, &test), 2);
        assert_eq!(shared_first_texts(&[row(1, "a", None)], &[row(7, "a", None)]), 0);
        let contexts = [Context { line: 3, text: "a".into(), answers: vec![] }];
        refuse(Path::new("test.jsonl"), &[Overlap::of_contexts(path, &contexts, &test)]).unwrap_err();
    }
}
