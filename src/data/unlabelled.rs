//! Texts and pairs without labels: read from a file, or what a sample of gold rows leaves out.

use std::collections::HashSet;
use std::path::Path;

use super::example::{GoldRow, Input};
use super::fields::text_field;
use super::head::Head;
use super::read::read_objects;
use super::split::Split;
use crate::error::Result;

/// A text, or pair of texts, whose label nobody may look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlabelled {
    /// Line in its file, from 1.
    pub line: usize,
    pub text: String,
    /// The second text of a pair.
    pub text_pair: Option<String>,
}

impl Unlabelled {
    pub fn input(&self) -> Input<'_> {
        Input { text: &self.text, text_pair: self.text_pair.as_deref() }
    }
}

/// Reads texts `{"text": …}`, for pairs `{"text": …, "text_pair": …}`, one JSON object a line; other fields are ignored, blank lines
/// skipped, duplicates dropped.
///
/// # Errors
/// Unreadable file, bad UTF-8, bad JSON, a missing or mistyped field, an empty text, no rows at all.
pub fn read_unlabelled(path: &Path, pairs: bool) -> Result<Vec<Unlabelled>> {
    let example = if pairs { r#"{"text": "…", "text_pair": "…"}"# } else { r#"{"text": "…"}"# };
    let rows = read_objects(path, example, |object, line| {
        let text_pair = pairs.then(|| text_field(object, "text_pair")).transpose()?;
        Ok(Unlabelled { line, text: text_field(object, "text")?, text_pair })
    })?;
    let mut seen = HashSet::new();
    Ok(rows.into_iter().filter(|row| seen.insert(row.input().fingerprint())).collect())
}

/// The texts of gold rows, without their labels.
pub fn without_labels<H: Head>(gold: &[GoldRow<H>]) -> Vec<Unlabelled> {
    gold.iter().map(|row| Unlabelled { line: row.line, text: row.text.clone(), text_pair: row.text_pair.clone() }).collect()
}

/// `rows` less those whose text, or pair of texts, is a drawn gold row's.
pub fn beside<H: Head>(split: &Split<H>, mut rows: Vec<Unlabelled>) -> Vec<Unlabelled> {
    let drawn: HashSet<String> = split.gold().map(|row| row.input().fingerprint()).collect();
    rows.retain(|row| !drawn.contains(&row.input().fingerprint()));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::labels::{Label, Labels};

    fn row(line: usize, text: &str, text_pair: Option<&str>) -> Unlabelled {
        Unlabelled { line, text: text.into(), text_pair: text_pair.map(str::to_string) }
    }

    fn read(content: &str, pairs: bool) -> Result<Vec<Unlabelled>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("unlabelled.jsonl");
        std::fs::write(&path, content).unwrap();
        read_unlabelled(&path, pairs)
    }

    #[test]
    fn texts_and_pairs_are_read_once_each() {
        let rows = read("{\"text\":\" a b\"}\n\n{\"text\":\"A  b\"}\n{\"text\":\"c\",\"label\":3}\n", false).unwrap();
        assert_eq!(rows, [row(1, "a b", None), row(4, "c", None)]);
        let pairs = "{\"text\":\"a\",\"text_pair\":\"b\"}\n{\"text\":\"a\",\"text_pair\":\"c\"}\n{\"text\":\"A\",\"text_pair\":\" b \"}";
        assert_eq!(read(pairs, true).unwrap(), [row(1, "a", Some("b")), row(2, "a", Some("c"))]);
        let error = read("{\"text\":\"a\"}", true).unwrap_err().to_string();
        assert!(error.ends_with("unlabelled.jsonl:1: field \"text_pair\" is missing"), "{error}");
        assert!(read("\n", false).unwrap_err().to_string().contains("no rows"));
    }

    #[test]
    fn drawn_gold_rows_are_left_out() {
        let gold =
            |line: usize, text: &str| GoldRow::<Labels> { line, text: text.into(), text_pair: Some("b".into()), gold: Label { label: 0 } };
        let split = Split { mine: vec![gold(1, "One")], select: vec![gold(3, "three")] };
        let rest = beside(&split, without_labels(&[gold(1, "One"), gold(2, "two"), gold(3, "three")]));
        assert_eq!(rest, [row(2, "two", Some("b"))]);
        let others = vec![row(1, "one", Some("B")), row(2, "THREE", Some("c")), row(3, "four", Some("b"))];
        assert_eq!(beside(&split, others.clone()), others[1..]);
    }
}
