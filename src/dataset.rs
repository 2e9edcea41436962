//! Gold rows from JSON lines, with messages that name the file, the line and the field.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::lines::Lines;
use crate::task::Kind;

/// What the small model reads: a text, or a pair of texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input<'t> {
    pub text: &'t str,
    pub text_pair: Option<&'t str>,
}

impl<'t> From<&'t str> for Input<'t> {
    fn from(text: &'t str) -> Self {
        Input { text, text_pair: None }
    }
}

impl Input<'_> {
    /// As [`fingerprint`], of both texts.
    fn fingerprint(&self) -> String {
        let pair = self.text_pair.map(fingerprint).unwrap_or_default();
        format!("{}\n{pair}", fingerprint(self.text))
    }
}

/// One real, labelled text, or pair of texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoldRow {
    /// Line in its file, from 1: the row's id in the manifest.
    pub line: usize,
    pub text: String,
    /// The second text of a pair.
    pub text_pair: Option<String>,
    /// Index into the task's labels.
    pub label: usize,
}

impl GoldRow {
    pub fn input(&self) -> Input<'_> {
        Input { text: &self.text, text_pair: self.text_pair.as_deref() }
    }

    /// The part that a generator writes: the second text of a pair, or the text.
    pub fn written(&self) -> &str {
        self.text_pair.as_deref().unwrap_or(&self.text)
    }
}

/// Reads rows `{"text": …, "label": …}`, for a pair `{"text": …, "text_pair": …, "label": …}`, one JSON object a line; other
/// fields are ignored, blank lines skipped.
///
/// A text that occurs twice with one label is kept once (returned as the second value, how many were dropped).
///
/// # Errors
/// Unreadable file, bad UTF-8, bad JSON, a missing or mistyped field, an empty text, an unknown label, a text with two
/// different labels, no rows at all.
pub fn read_gold(path: &Path, kind: Kind, labels: &[String]) -> Result<(Vec<GoldRow>, usize)> {
    let lines = Lines::open(path)?;
    let mut rows: Vec<GoldRow> = Vec::new();
    let mut seen: HashMap<String, (usize, usize)> = HashMap::new();
    let mut repeated = 0;
    for (index, raw) in lines.iter().enumerate() {
        let line = index + 1;
        if raw.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let row = parse_row(path, line, raw, kind, labels)?;
        match seen.insert(row.input().fingerprint(), (line, row.label)) {
            Some((first, label)) if label != row.label => {
                let message = format!("the text of line {first} again, with another label ({} there); remove one", labels[label]);
                return Err(Error::data(path, line, message));
            }
            Some(first) => {
                seen.insert(row.input().fingerprint(), first);
                repeated += 1;
            }
            None => rows.push(row),
        }
    }
    if rows.is_empty() {
        let message = format!("no rows; it needs lines such as {}", example_of(kind));
        return Err(Error::Data { path: path.to_path_buf(), line: None, message });
    }
    Ok((rows, repeated))
}

/// What two texts share that differ only in case and white space.
pub fn fingerprint(text: &str) -> String {
    text.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

/// A gold row as a person would write it.
fn example_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => r#"{"text": "…", "label": "…"}"#,
        Kind::Pair => r#"{"text": "…", "text_pair": "…", "label": "…"}"#,
    }
}

/// A text without a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Line in its file, from 1.
    pub line: usize,
    pub text: String,
}

/// Reads unlabelled texts `{"text": …}`, one JSON object a line; a text that occurs again is kept once.
///
/// # Errors
/// As [`read_gold`].
pub fn read_contexts(path: &Path) -> Result<Vec<Context>> {
    let lines = Lines::open(path)?;
    let mut contexts = Vec::new();
    for (index, raw) in lines.iter().enumerate().filter(|(_, raw)| !raw.iter().all(u8::is_ascii_whitespace)) {
        let object = parse_object(path, index + 1, raw, r#"{"text": "…"}"#)?;
        let text = text_field(&object, "text").map_err(|message| Error::data(path, index + 1, message))?;
        contexts.push(Context { line: index + 1, text });
    }
    if contexts.is_empty() {
        let message = r#"no rows; it needs lines such as {"text": "…"}"#.to_string();
        return Err(Error::Data { path: path.to_path_buf(), line: None, message });
    }
    Ok(distinct(contexts))
}

/// The first of each text.
pub fn distinct(contexts: impl IntoIterator<Item = Context>) -> Vec<Context> {
    let mut seen = HashSet::new();
    contexts.into_iter().filter(|context| seen.insert(fingerprint(&context.text))).collect()
}

fn parse_object(path: &Path, line: usize, raw: &[u8], example: &str) -> Result<serde_json::Map<String, Value>> {
    let fail = |message: String| Error::data(path, line, message);
    let raw = std::str::from_utf8(raw)
        .map_err(|e| fail(format!("not UTF-8 (byte {} of the line); save the file as UTF-8", e.valid_up_to() + 1)))?;
    let value: Value = serde_json::from_str(raw).map_err(|e| fail(format!("not JSON (column {}): {e}", e.column())))?;
    match value {
        Value::Object(object) => Ok(object),
        _ => Err(fail(format!("not an object {example}"))),
    }
}

fn parse_row(path: &Path, line: usize, raw: &[u8], kind: Kind, labels: &[String]) -> Result<GoldRow> {
    let fail = |message: String| Error::data(path, line, message);
    let object = parse_object(path, line, raw, example_of(kind))?;
    let text = text_field(&object, "text").map_err(&fail)?;
    let text_pair = match kind {
        Kind::Text => None,
        Kind::Pair => Some(text_field(&object, "text_pair").map_err(&fail)?),
    };
    let label = string_field(&object, "label").map_err(&fail)?;
    let label = labels
        .iter()
        .position(|name| *name == label)
        .ok_or_else(|| fail(format!("field \"label\" is {label:?}; the task's labels are {}", quoted(labels))))?;
    Ok(GoldRow { line, text, text_pair, label })
}

fn text_field(object: &serde_json::Map<String, Value>, name: &str) -> Result<String, String> {
    let text = string_field(object, name)?.trim();
    if text.is_empty() { Err(format!("field {name:?} is empty")) } else { Ok(text.to_string()) }
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
    let lines: HashMap<String, usize> = gold.iter().map(|row| (row.input().fingerprint(), row.line)).collect();
    for row in test {
        if let Some(line) = lines.get(&row.input().fingerprint()) {
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

    fn row(line: usize, text: &str, label: usize) -> GoldRow {
        GoldRow { line, text: text.into(), text_pair: None, label }
    }

    fn file(content: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gold.jsonl");
        std::fs::write(&path, content).unwrap();
        (folder, path)
    }

    #[test]
    fn a_pair_is_two_texts_and_repeats_only_as_a_pair() {
        let (_folder, path) = file(
            b"{\"text\":\"a\",\"text_pair\":\" b \",\"label\":\"positive\"}\n{\"text\":\"a\",\"text_pair\":\"c\",\"label\":\"negative\"}\n\
              {\"text\":\"A\",\"text_pair\":\"B\",\"label\":\"positive\"}",
        );
        let (rows, repeated) = read_gold(&path, Kind::Pair, &labels()).unwrap();
        assert_eq!((rows.len(), repeated), (2, 1));
        assert_eq!((rows[0].written(), rows[1].input()), ("b", Input { text: "a", text_pair: Some("c") }));
        let (_folder, path) = file(b"{\"text\":\"a\",\"label\":\"positive\"}");
        assert!(read_gold(&path, Kind::Pair, &labels()).unwrap_err().to_string().contains(":1: field \"text_pair\" is missing"));
    }

    #[test]
    fn contexts_are_texts_without_labels() {
        let (_folder, path) = file(b"{\"text\":\"a b\"}\n\n{\"text\":\"A  b\"}\n{\"text\":\"c\",\"label\":3}\n");
        let context = |line, text: &str| Context { line, text: text.into() };
        assert_eq!(read_contexts(&path).unwrap(), [context(1, "a b"), context(4, "c")]);
        let (_folder, path) = file(b"{\"text\":\"a b\"}\n{\"txt\":\"\"}");
        assert!(read_contexts(&path).unwrap_err().to_string().contains(":2: field \"text\" is missing"));
    }

    fn read(content: &[u8]) -> Result<(Vec<GoldRow>, usize)> {
        let (_folder, path) = file(content);
        read_gold(&path, Kind::Text, &labels())
    }

    #[test]
    fn reads_rows_and_keeps_their_lines() {
        let (rows, repeated) =
            read(b"\xef\xbb\xbf{\"text\": \" Fine. \", \"label\": \"positive\"}\r\n\n{\"label\":\"negative\",\"text\":\"Dull\",\"n\":1}\n")
                .unwrap();
        assert_eq!(repeated, 0);
        assert_eq!(rows, [row(1, "Fine.", 0), row(3, "Dull", 1)]);
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
        let gold = [row(4, "Same text", 0)];
        let test = [row(9, "same  text", 0)];
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
            prop_assert_eq!(&rows[0], &row(1, text.trim(), label));
        }
    }
}
