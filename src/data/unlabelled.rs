//! Texts and pairs without labels: read from a file, or what a sample of gold rows leaves out.

use std::collections::HashSet;
use std::path::Path;

use super::example::{GoldRow, Input};
use super::fields::text_field;
use super::head::Head;
use super::near::NearCopies;
use super::read::read_objects;
use super::split::Split;
use crate::error::{Error, Result};
use crate::files::lines::Lines;

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

/// Reads unlabelled texts as [`read_texts`], each once.
///
/// # Errors
/// As [`read_texts`].
pub fn read_unlabelled(path: &Path, pairs: bool) -> Result<Vec<Unlabelled>> {
    let mut seen = HashSet::new();
    Ok(read_texts(path, pairs)?.into_iter().filter(|row| seen.insert(row.input().fingerprint())).collect())
}

/// Reads texts from JSON lines, `{"text": …}`, for pairs `{"text": …, "text_pair": …}`; from CSV with those columns, if the file's name
/// ends in `.csv`; or, if the first line is no JSON object and
/// the name does not end in `.json` or `.jsonl`, from plain lines, a text each. Other fields are ignored, blank lines skipped.
///
/// # Errors
/// Unreadable file, bad UTF-8, bad JSON or CSV, a missing or mistyped field, an empty text, plain lines where pairs are wanted, no rows.
pub fn read_texts(path: &Path, pairs: bool) -> Result<Vec<Unlabelled>> {
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv")) {
        return read_csv(path, pairs);
    }
    let lines = Lines::open(path)?;
    let first = lines.iter().find(|line| !line.trim_ascii().is_empty());
    let named_json = path.extension().is_some_and(|extension| ["json", "jsonl"].iter().any(|json| extension.eq_ignore_ascii_case(json)));
    if pairs || named_json || first.is_none_or(|line| line.trim_ascii_start().starts_with(b"{")) {
        let example = if pairs { r#"{"text": "…", "text_pair": "…"}"# } else { r#"{"text": "…"}"# };
        return read_objects(path, example, |object, line| {
            let text_pair = pairs.then(|| text_field(object, "text_pair")).transpose()?;
            Ok(Unlabelled { line, text: text_field(object, "text")?, text_pair })
        });
    }
    let row = |(line, bytes): (usize, &[u8])| {
        let text = std::str::from_utf8(bytes).map_err(|error| Error::data(path, line, format!("not UTF-8: {error}")))?;
        Ok(Unlabelled { line, text: text.trim().to_string(), text_pair: None })
    };
    (1..).zip(lines.iter()).filter(|(_, bytes)| !bytes.trim_ascii().is_empty()).map(row).collect()
}

fn read_csv(path: &Path, pairs: bool) -> Result<Vec<Unlabelled>> {
    let damaged = |line: usize, message: String| Error::data(path, line, message);
    let bad = |error: csv::Error| damaged(error.position().map_or(1, |at| at.line() as usize), error.to_string());
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let mut lines = LineOf { bytes: &bytes, at: 0, line: 1 };
    let mut reader = csv::Reader::from_reader(&bytes[..]);
    let header = reader.headers().map_err(bad)?.clone();
    let column = |name: &str| {
        let found = header.iter().position(|column| column.trim_start_matches('\u{feff}').trim() == name);
        found.ok_or_else(|| damaged(1, format!("there is no column {name:?} among {:?}", header.iter().collect::<Vec<_>>())))
    };
    let (text, text_pair) = (column("text")?, pairs.then(|| column("text_pair")).transpose()?);
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(bad)?;
        let line = record.position().map_or(0, |at| lines.of(at.byte() as usize));
        let field = |column: usize| match record.get(column).map(str::trim) {
            Some(field) if !field.is_empty() => Ok(field.to_string()),
            _ => Err(damaged(line, format!("the field {:?} is empty", &header[column]))),
        };
        rows.push(Unlabelled { line, text: field(text)?, text_pair: text_pair.map(field).transpose()? });
    }
    if rows.is_empty() { Err(damaged(1, "no rows".into())) } else { Ok(rows) }
}

/// `rows` less near-copies of test rows, and how many those are: a model is tested on texts that it has not seen.
pub fn beside_test<H: Head>(mut rows: Vec<Unlabelled>, test: &[GoldRow<H>]) -> (Vec<Unlabelled>, usize) {
    let (tested, before) = (NearCopies::of(test.iter().map(GoldRow::input)), rows.len());
    rows.retain(|row| !tested.has(row.input()));
    let left_out = before - rows.len();
    (rows, left_out)
}

/// The line of a byte. (The reader of CSV counts some line ends twice or not at all: CR LF behind a quoted one, CR alone.)
struct LineOf<'b> {
    bytes: &'b [u8],
    at: usize,
    line: usize,
}

impl LineOf<'_> {
    /// The line of the first byte from `from` on that is no line end; each call must go further than the one before.
    fn of(&mut self, from: usize) -> usize {
        while let Some(&byte) = self.bytes.get(self.at).filter(|byte| self.at < from || b"\r\n".contains(byte)) {
            self.at += 1;
            self.line += usize::from(byte == b'\n' || (byte == b'\r' && self.bytes.get(self.at) != Some(&b'\n')));
        }
        self.line
    }
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
    fn texts_come_from_csv_and_plain_lines_too() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str, content: &[u8], pairs: bool| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            read_texts(&path, pairs)
        };
        assert_eq!(
            read("a.txt", b"\xef\xbb\xbf one two \r\n\none two\n", false).unwrap(),
            [row(1, "one two", None), row(3, "one two", None)]
        );
        let csv = "\u{feff}id,text,text_pair\n1,\"a, \"\"b\"\"\nand c\",d\n2,e,f\n";
        assert_eq!(read("a.csv", csv.as_bytes(), false).unwrap(), [row(2, "a, \"b\"\nand c", None), row(4, "e", None)]);
        assert_eq!(read("a.CSV", csv.as_bytes(), true).unwrap()[1], row(4, "e", Some("f")));
        let wide = read("a.csv", b"id,text\r\n1,\"a\r\nb\"\r\n\r\n2,c\r\n3,d\r\n", false).unwrap();
        assert_eq!(wide.iter().map(|row| row.line).collect::<Vec<_>>(), [2, 5, 6]);
        assert_eq!(read("a.csv", b"text\rone\rtwo\r", false).unwrap(), [row(2, "one", None), row(3, "two", None)]);
        let refused = |name, content: &[u8], pairs| read(name, content, pairs).unwrap_err().to_string();
        assert!(refused("b.csv", b"id,texts\n1,a\n", false).contains("b.csv:1: there is no column \"text\" among [\"id\", \"texts\"]"));
        assert!(refused("b.csv", b"text\na\n \n", false).contains("b.csv:3: the field \"text\" is empty"));
        assert!(refused("b.csv", b"text,b\na\n", false).contains("b.csv:2"));
        assert!(refused("b.txt", b"a\n\xff\n", false).contains("b.txt:2: not UTF-8"));
        assert!(refused("b.txt", b"plain\n", true).contains("b.txt:1") && refused("b.jsonl", b"[1]\n", false).contains("b.jsonl:1"));
    }

    #[test]
    fn near_copies_of_test_rows_are_left_out() {
        let tested = "A long walk by the sea that ends where it began, in the rain.";
        let test = [GoldRow::<Labels> { line: 1, text: tested.into(), text_pair: None, gold: Label { label: 0 } }];
        let near = "a long walk by the sea that ends where it began, in the rain!!";
        let rows = vec![row(1, near, None), row(2, "A long walk by the river.", None)];
        assert_eq!(beside_test(rows.clone(), &test), (rows[1..].to_vec(), 1));
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
