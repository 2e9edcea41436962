//! Gold rows, test rows and contexts from JSON lines, with messages that name the file, the line and the field.

use std::collections::HashSet;
use std::collections::hash_map::{Entry, HashMap};
use std::path::Path;

use serde_json::{Map, Value};

use super::example::{Context, GoldRow, fingerprint};
use super::fields::text_field;
use super::head::Head;
use crate::error::{Error, Result};
use crate::files::lines::Lines;

/// How the gold rows of a task are read.
pub trait ReadGold: Head {
    /// A sample line of a gold file, for messages.
    fn example(&self) -> &'static str;

    /// Parses one object of a gold file.
    ///
    /// # Errors
    /// Which field is missing or wrong.
    fn parse(&self, object: &Map<String, Value>, line: usize) -> Result<GoldRow<Self>, String>;

    /// Merges a later line with the same texts into `row`.
    ///
    /// # Errors
    /// The two lines contradict each other.
    fn merge(&self, row: &mut GoldRow<Self>, again: GoldRow<Self>) -> Result<(), String>;
}

/// Reads gold rows `{"text": …, "label": …}`, for pairs `{"text": …, "text_pair": …, "label": …}`, for questions in SQuAD's format
/// `{"context": …, "question": …, "answers": {"text": […], "answer_start": […]}}`, one JSON object a line; other fields are ignored,
/// blank lines skipped.
///
/// Of rows with the same text and label only the first is kept; the second value is the number dropped. A question that is asked
/// twice of a context keeps the answers of both lines.
///
/// # Errors
/// Unreadable file, bad UTF-8, bad JSON, a missing or mistyped field, an empty text, an unknown label, a text with two
/// different labels, an answer that is not where it is said to be, no rows at all.
pub fn read_gold<H: ReadGold>(path: &Path, head: &H) -> Result<(Vec<GoldRow<H>>, usize)> {
    let mut rows: Vec<GoldRow<H>> = Vec::new();
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut repeated = 0;
    for row in read_test(path, head)? {
        match seen.entry(row.input().fingerprint()) {
            Entry::Occupied(first) => {
                let line = row.line;
                head.merge(&mut rows[*first.get()], row).map_err(|message| Error::data(path, line, message))?;
                repeated += 1;
            }
            Entry::Vacant(place) => {
                place.insert(rows.len());
                rows.push(row);
            }
        }
    }
    Ok((rows, repeated))
}

/// Reads test rows, which look like gold rows, and keeps every line: published accuracies count all rows of a test set, so a text that
/// is in it twice counts twice, and one that has two labels is right once.
///
/// # Errors
/// As [`read_gold`], but lines may contradict each other.
pub fn read_test<H: ReadGold>(path: &Path, head: &H) -> Result<Vec<GoldRow<H>>> {
    read_objects(path, head.example(), |object, line| head.parse(object, line))
}

/// Reads unlabelled texts `{"text": …}`, one JSON object a line; duplicates are dropped.
///
/// # Errors
/// As [`read_gold`].
pub fn read_contexts(path: &Path) -> Result<Vec<Context>> {
    let contexts = read_objects(path, r#"{"text": "…"}"#, |object, line| {
        Ok(Context { line, text: text_field(object, "text")?, answers: Vec::new() })
    })?;
    Ok(distinct(contexts))
}

/// Parses each line that is not blank: a JSON object like `example`, and the number of its line.
///
/// # Errors
/// Unreadable file, bad UTF-8, bad JSON, what `parse` refuses, no rows at all.
pub(super) fn read_objects<T>(
    path: &Path,
    example: &str,
    parse: impl Fn(&Map<String, Value>, usize) -> Result<T, String>,
) -> Result<Vec<T>> {
    let lines = Lines::open(path)?;
    let mut rows = Vec::new();
    for (index, raw) in lines.iter().enumerate().filter(|(_, raw)| !raw.iter().all(u8::is_ascii_whitespace)) {
        let object = parse_object(path, index + 1, raw, example)?;
        rows.push(parse(&object, index + 1).map_err(|message| Error::data(path, index + 1, message))?);
    }
    if rows.is_empty() {
        let message = format!("no rows; lines must look like {example}");
        return Err(Error::Data { path: path.to_path_buf(), line: None, message });
    }
    Ok(rows)
}

/// Drops later contexts with the same text.
pub fn distinct(contexts: impl IntoIterator<Item = Context>) -> Vec<Context> {
    let mut seen = HashSet::new();
    contexts.into_iter().filter(|context| seen.insert(fingerprint(&context.text))).collect()
}

fn parse_object(path: &Path, line: usize, raw: &[u8], example: &str) -> Result<Map<String, Value>> {
    let fail = |message: String| Error::data(path, line, message);
    let raw = std::str::from_utf8(raw)
        .map_err(|e| fail(format!("not UTF-8 (byte {} of the line); save the file as UTF-8", e.valid_up_to() + 1)))?;
    let value: Value = serde_json::from_str(raw).map_err(|e| fail(format!("not JSON (column {}): {e}", e.column())))?;
    match value {
        Value::Object(object) => Ok(object),
        _ => Err(fail(format!("not a JSON object like {example}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::answers::{Answers, GoldAnswers};
    use crate::data::example::{Answer, Input};
    use crate::data::labels::{Label, Labels};
    use proptest::prelude::*;

    fn labels(pairs: bool) -> Labels {
        Labels { names: vec!["positive".into(), "negative".into()], pairs }
    }

    fn row(line: usize, text: &str, label: usize) -> GoldRow<Labels> {
        GoldRow { line, text: text.into(), text_pair: None, gold: Label { label } }
    }

    fn file(content: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gold.jsonl");
        std::fs::write(&path, content).unwrap();
        (folder, path)
    }

    #[test]
    fn a_pair_is_a_duplicate_only_if_both_texts_are() {
        let (_folder, path) = file(
            b"{\"text\":\"a\",\"text_pair\":\" b \",\"label\":\"positive\"}\n{\"text\":\"a\",\"text_pair\":\"c\",\"label\":\"negative\"}\n\
              {\"text\":\"A\",\"text_pair\":\"B\",\"label\":\"positive\"}",
        );
        let (rows, repeated) = read_gold(&path, &labels(true)).unwrap();
        assert_eq!((rows.len(), repeated), (2, 1));
        assert_eq!((rows[0].written(), rows[1].input()), ("b", Input { text: "a", text_pair: Some("c") }));
        let (_folder, path) = file(b"{\"text\":\"a\",\"label\":\"positive\"}");
        assert!(read_gold(&path, &labels(true)).unwrap_err().to_string().contains(":1: field \"text_pair\" is missing"));
    }

    #[test]
    fn contexts_are_texts_without_labels() {
        let (_folder, path) = file(b"{\"text\":\"a b\"}\n\n{\"text\":\"A  b\"}\n{\"text\":\"c\",\"label\":3}\n");
        let context = |line, text: &str| Context { line, text: text.into(), answers: vec![] };
        assert_eq!(read_contexts(&path).unwrap(), [context(1, "a b"), context(4, "c")]);
        let (_folder, path) = file(b"{\"text\":\"a b\"}\n{\"txt\":\"\"}");
        assert!(read_contexts(&path).unwrap_err().to_string().contains(":2: field \"text\" is missing"));
    }

    fn read_questions(content: &str) -> Result<(Vec<GoldRow<Answers>>, usize)> {
        let (_folder, path) = file(content.as_bytes());
        read_gold(&path, &Answers)
    }

    #[test]
    fn a_question_has_answers_in_its_context_counted_in_characters() {
        let line = r#"{"id": "7", "context": " Zoë née Šťastná, 42 ", "question": " Who? ", "answers": {"text": ["Šťastná", "née Šťastná"], "answer_start": [9, 5]}}"#;
        let (rows, _) = read_questions(line).unwrap();
        let expected = GoldRow {
            line: 1,
            text: " Zoë née Šťastná, 42 ".into(),
            text_pair: Some("Who?".into()),
            gold: GoldAnswers { answer: Answer { text: "Šťastná".into(), start: 9 }, others: vec!["née Šťastná".into()] },
        };
        assert_eq!(rows, [expected]);
        let accepts = |text: &str| rows[0].accepts(&text.to_string());
        assert!(accepts("the Née šťastná.") && accepts("Šťastná") && !accepts("née"));
        assert_eq!((rows[0].gold.f1("née"), rows[0].gold.f1("42")), (2.0 / 3.0, 0.0));
    }

    #[test]
    fn a_question_asked_twice_has_both_answers() {
        let line = |answer: &str, start: usize| {
            serde_json::json!({"context": "a b c", "question": "Which?", "answers": {"text": [answer], "answer_start": [start]}})
                .to_string()
        };
        let (rows, repeated) = read_questions(&[line("a", 0), line("c", 4), line("a", 0)].join("\n")).unwrap();
        assert_eq!((rows.len(), repeated, rows[0].gold.references()), (1, 2, vec!["a", "c"]));
    }

    #[test]
    fn a_bad_question_is_reported_with_line_and_field() {
        for (change, expected) in [
            (
                r#""answers": {"text": ["x"], "answer_start": [1]}"#,
                r#"field "answers": "x" is not at character 1 of the context (and nowhere else in it)"#,
            ),
            (
                r#""answers": {"text": ["née"], "answer_start": [5]}"#,
                "(it begins at character 4; answer_start counts characters, not bytes)",
            ),
            (r#""answers": {"text": ["née"], "answer_start": [400]}"#, "is not at character 400"),
            (r#""answers": {"text": [], "answer_start": []}"#, r#"field "answers.text" is empty; every question needs an answer"#),
            (r#""answers": {"text": ["née"], "answer_start": []}"#, r#"field "answers" has 1 in "text", but 0 in "answer_start""#),
            (r#""answers": {"text": [" "], "answer_start": [3]}"#, r#"field "answers.text" has an empty answer"#),
            (r#""answers": {"text": [1], "answer_start": [3]}"#, r#"field "answers.text" must hold strings, not a number"#),
            (
                r#""answers": {"text": ["née"], "answer_start": [-4]}"#,
                r#"field "answers.answer_start" must hold whole numbers from 0, not -4"#,
            ),
            (r#""answers": {"text": "née", "answer_start": 4}"#, r#"field "answers.text" must be a list, not a string"#),
            (r#""answers": {"text": ["née"]}"#, r#"field "answers.answer_start" is missing"#),
            (r#""answers": ["née"]"#, r#"field "answers" must be an object, not a list"#),
            (r#""answer": "née""#, r#"field "answers" is missing"#),
        ] {
            let line = |answers: &str| format!(r#"{{"context": "Zoë née Šťastná", "question": "Who?", {answers}}}"#);
            let good = line(r#""answers": {"text": ["Zoë"], "answer_start": [0]}"#);
            let error = read_questions(&format!("{good}\n{}", line(change))).unwrap_err().to_string();
            assert!(error.contains(":2: ") && error.contains(expected), "{error:?} should contain {expected:?}");
        }
        for (line, expected) in [
            (r#"{"context": " ", "question": "Who?"}"#, r#":1: field "context" is empty"#),
            (r#"{"context": "a"}"#, r#":1: field "question" is missing"#),
            (r#"{"text": "a"}"#, r#":1: field "context" is missing"#),
        ] {
            let error = read_questions(line).unwrap_err().to_string();
            assert!(error.contains(expected), "{error:?} should contain {expected:?}");
        }
    }

    fn read(content: &[u8]) -> Result<(Vec<GoldRow<Labels>>, usize)> {
        let (_folder, path) = file(content);
        read_gold(&path, &labels(false))
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
    fn a_duplicate_text_is_dropped_unless_its_labels_differ() {
        let (rows, repeated) = read(b"{\"text\":\"a b\",\"label\":\"positive\"}\n{\"text\":\"A  b\",\"label\":\"positive\"}").unwrap();
        assert_eq!((rows.len(), repeated), (1, 1));
        let error = read(b"{\"text\":\"a b\",\"label\":\"positive\"}\n{\"text\":\"A  b\",\"label\":\"negative\"}").unwrap_err();
        assert!(error.to_string().contains(":2: same text as line 1, but another label"), "{error}");
    }

    #[test]
    fn a_bad_row_is_reported_with_line_and_field() {
        let good = "{\"text\":\"fine\",\"label\":\"positive\"}\n".as_bytes();
        for (bad, expected) in [
            (&b"{\"text\":\"x\"}"[..], ":2: field \"label\" is missing"),
            (b"{\"label\":\"positive\"}", ":2: field \"text\" is missing"),
            (b"{\"text\":3,\"label\":\"positive\"}", ":2: field \"text\" must be a string, not a number"),
            (b"{\"text\":\"  \",\"label\":\"positive\"}", ":2: field \"text\" is empty"),
            (b"{\"text\":\"x\",\"label\":\"good\"}", ":2: field \"label\" is \"good\"; the task's labels are \"positive\", \"negative\""),
            (b"[1]", ":2: not a JSON object like {"),
            (b"{\"text\":", ":2: not JSON"),
            (b"{\"text\":\"\xff\",\"label\":\"positive\"}", ":2: not UTF-8 (byte 10 of the line)"),
        ] {
            let error = read(&[good, bad].concat()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error:?} should contain {expected:?}");
        }
        assert!(read(b" \n").unwrap_err().to_string().contains("no rows"));
    }

    #[test]
    fn every_line_of_a_test_file_is_a_row() {
        let (_folder, path) = file(
            b"{\"text\":\"a b\",\"label\":\"positive\"}\n\n{\"text\":\"A  b\",\"label\":\"positive\"}\n\
              {\"text\":\"a b\",\"label\":\"negative\"}",
        );
        assert_eq!(read_test(&path, &labels(false)).unwrap(), [row(1, "a b", 0), row(3, "A  b", 0), row(4, "a b", 1)]);
        let (_folder, path) = file(b"{\"text\":\"a\",\"label\":\"good\"}");
        assert!(read_test(&path, &labels(false)).unwrap_err().to_string().contains(":1: field \"label\" is \"good\""));
        let (_folder, path) = file(b"\n");
        assert!(read_test(&path, &labels(false)).unwrap_err().to_string().contains("no rows"));
    }

    #[test]
    fn a_question_twice_in_a_test_file_keeps_its_own_answers() {
        let line = |answer: &str, start: usize| {
            serde_json::json!({"context": "a b c", "question": "Which?", "answers": {"text": [answer], "answer_start": [start]}})
                .to_string()
        };
        let (_folder, path) = file([line("a", 0), line("c", 4)].join("\n").as_bytes());
        let rows = read_test(&path, &Answers).unwrap();
        assert_eq!(rows.iter().map(|row| row.gold.references()).collect::<Vec<_>>(), [["a"], ["c"]]);
    }

    proptest! {
        #[test]
        fn never_panics(content in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&content);
        }

        #[test]
        fn reads_back_what_serde_writes(text in "\\PC{0,40}[a-z]", label in 0usize..2) {
            let line = serde_json::json!({"text": text, "label": labels(false).names[label]}).to_string();
            let (rows, _) = read(line.as_bytes()).unwrap();
            prop_assert_eq!(&rows[0], &row(1, text.trim(), label));
        }

        /// A span of any text is found again at its own position, and only there.
        #[test]
        fn an_answer_is_where_it_was_taken_from(text in "\\PC{1,40}", a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>()) {
            let ends: Vec<usize> = text.char_indices().map(|(byte, _)| byte).chain([text.len()]).collect();
            let (a, b) = (a.index(ends.len()), b.index(ends.len()));
            let bytes = ends[a.min(b)]..ends[a.max(b)];
            let answer = Answer::at(&text, bytes.clone()).unwrap();
            prop_assert_eq!(answer.start, a.min(b));
            prop_assert_eq!(answer.bytes_in(&text), Some(bytes));
            let beyond = Answer { start: ends.len(), ..answer };
            prop_assert_eq!(beyond.bytes_in(&text), None);
        }
    }
}
