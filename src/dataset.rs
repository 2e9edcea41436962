//! Gold rows from JSON lines, with messages that name the file, the line and the field.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::lines::Lines;

/// One real, labelled text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoldRow {
    /// Line in its file, from 1: the row's id in the manifest.
    pub line: usize,
    pub text: String,
    /// Index into the task's labels.
    pub label: usize,
}

/// Reads rows `{"text": …, "label": …}`, one JSON object a line; other fields are ignored, blank lines skipped.
///
/// A text that occurs twice with one label is kept once (returned as the second value, how many were dropped).
///
/// # Errors
/// Unreadable file, bad UTF-8, bad JSON, a missing or mistyped field, an empty text, an unknown label, a text with two
/// different labels, no rows at all.
pub fn read_gold(path: &Path, labels: &[String]) -> Result<(Vec<GoldRow>, usize)> {
    let lines = Lines::open(path)?;
    let mut rows: Vec<GoldRow> = Vec::new();
    let mut seen: HashMap<String, (usize, usize)> = HashMap::new();
    let mut repeated = 0;
    for (index, raw) in lines.iter().enumerate() {
        let line = index + 1;
        if raw.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let row = parse_row(path, line, raw, labels)?;
        match seen.insert(fingerprint(&row.text), (line, row.label)) {
            Some((first, label)) if label != row.label => {
                let message = format!("the text of line {first} again, with another label ({} there); remove one", labels[label]);
                return Err(Error::data(path, line, message));
            }
            Some(first) => {
                seen.insert(fingerprint(&row.text), first);
                repeated += 1;
            }
            None => rows.push(row),
        }
    }
    if rows.is_empty() {
        let message = r#"no rows; it needs lines such as {"text": "…", "label": "…"}"#.to_string();
        return Err(Error::Data { path: path.to_path_buf(), line: None, message });
    }
    Ok((rows, repeated))
}

/// What two texts share that differ only in case and white space.
pub fn fingerprint(text: &str) -> String {
    text.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

fn parse_row(path: &Path, line: usize, raw: &[u8], labels: &[String]) -> Result<GoldRow> {
    let fail = |message: String| Error::data(path, line, message);
    let raw = std::str::from_utf8(raw)
        .map_err(|e| fail(format!("not UTF-8 (byte {} of the line); save the file as UTF-8", e.valid_up_to() + 1)))?;
    let value: Value = serde_json::from_str(raw).map_err(|e| fail(format!("not JSON (column {}): {e}", e.column())))?;
    let Value::Object(object) = value else { return Err(fail(r#"not an object {"text": …, "label": …}"#.into())) };
    let text = string_field(&object, "text").map_err(&fail)?;
    let label = string_field(&object, "label").map_err(&fail)?;
    if text.trim().is_empty() {
        return Err(fail("field \"text\" is empty".into()));
    }
    let label = labels
        .iter()
        .position(|name| *name == label)
        .ok_or_else(|| fail(format!("field \"label\" is {label:?}; the task's labels are {}", quoted(labels))))?;
    Ok(GoldRow { line, text: text.trim().to_string(), label })
}

fn string_field<'a>(object: &'a serde_json::Map<String, Value>, name: &str) -> Result<&'a str, String> {
    match object.get(name) {
        Some(Value::String(value)) => Ok(value),
        Some(other) => Err(format!("field {name:?} must be a string, not {}", kind_of(other))),
        None => Err(format!("field {name:?} is missing")),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

/// Refuses a gold text that is also in the test file: nothing that trains may see the test rows.
///
/// # Errors
/// Names the first pair of lines.
pub fn refuse_overlap(gold: &[GoldRow], gold_path: &Path, test: &[GoldRow], test_path: &Path) -> Result<()> {
    let lines: HashMap<String, usize> = gold.iter().map(|row| (fingerprint(&row.text), row.line)).collect();
    for row in test {
        if let Some(line) = lines.get(&fingerprint(&row.text)) {
            let message = format!("this test row is also in {}, line {line}; a row may be in one split only", gold_path.display());
            return Err(Error::data(test_path, row.line, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels() -> Vec<String> {
        vec!["positive".into(), "negative".into()]
    }

    fn read(content: &[u8]) -> Result<(Vec<GoldRow>, usize)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gold.jsonl");
        std::fs::write(&path, content).unwrap();
        read_gold(&path, &labels())
    }

    #[test]
    fn reads_rows_and_keeps_their_lines() {
        let (rows, repeated) =
            read(b"\xef\xbb\xbf{\"text\": \" Fine. \", \"label\": \"positive\"}\r\n\n{\"label\":\"negative\",\"text\":\"Dull\",\"n\":1}\n")
                .unwrap();
        assert_eq!(repeated, 0);
        assert_eq!(rows, [GoldRow { line: 1, text: "Fine.".into(), label: 0 }, GoldRow { line: 3, text: "Dull".into(), label: 1 }]);
    }

    #[test]
    fn a_text_twice_is_kept_once_unless_its_labels_differ() {
        let (rows, repeated) = read(b"{\"text\":\"a b\",\"label\":\"positive\"}\n{\"text\":\"A  b\",\"label\":\"positive\"}").unwrap();
        assert_eq!((rows.len(), repeated), (1, 1));
        let error = read(b"{\"text\":\"a b\",\"label\":\"positive\"}\n{\"text\":\"A  b\",\"label\":\"negative\"}").unwrap_err();
        assert!(error.to_string().contains(":2: the text of line 1 again"), "{error}");
    }

    #[test]
    fn every_bad_row_is_named_by_line_and_field() {
        let good = "{\"text\":\"fine\",\"label\":\"positive\"}\n".as_bytes();
        for (bad, expected) in [
            (&b"{\"text\":\"x\"}"[..], ":2: field \"label\" is missing"),
            (b"{\"label\":\"positive\"}", ":2: field \"text\" is missing"),
            (b"{\"text\":3,\"label\":\"positive\"}", ":2: field \"text\" must be a string, not a number"),
            (b"{\"text\":\"  \",\"label\":\"positive\"}", ":2: field \"text\" is empty"),
            (b"{\"text\":\"x\",\"label\":\"good\"}", ":2: field \"label\" is \"good\"; the task's labels are \"positive\", \"negative\""),
            (b"[1]", ":2: not an object"),
            (b"{\"text\":", ":2: not JSON"),
            (b"{\"text\":\"\xff\",\"label\":\"positive\"}", ":2: not UTF-8 (byte 10 of the line)"),
        ] {
            let error = read(&[good, bad].concat()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error:?} should contain {expected:?}");
        }
        assert!(read(b" \n").unwrap_err().to_string().contains("no rows"));
    }

    #[test]
    fn a_row_in_gold_and_test_is_refused() {
        let gold = [GoldRow { line: 4, text: "Same text".into(), label: 0 }];
        let test = [GoldRow { line: 9, text: "same  text".into(), label: 0 }];
        let error = refuse_overlap(&gold, Path::new("gold.jsonl"), &test, Path::new("test.jsonl")).unwrap_err();
        assert_eq!(error.to_string(), "test.jsonl:9: this test row is also in gold.jsonl, line 4; a row may be in one split only");
    }

    proptest! {
        #[test]
        fn never_panics(content in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&content);
        }

        #[test]
        fn reads_back_what_serde_writes(text in "\\PC{0,40}[a-z]", label in 0usize..2) {
            let line = serde_json::json!({"text": text, "label": labels()[label]}).to_string();
            let (rows, _) = read(line.as_bytes()).unwrap();
            prop_assert_eq!(&rows[0], &GoldRow { line: 1, text: text.trim().to_string(), label });
        }
    }
}
