//! The gold rows of a file. Each is read again when it is asked for: a pool may be larger than memory, and few of its rows are drawn.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use super::example::GoldRow;
use super::faults::{Faults, list};
use super::overlap::Tested;
use super::read::{OnFault, ReadGold, Rules, scan};
use super::split::places_of_sample;
use super::table::Table;
use crate::error::{Error, Result};

/// A file of gold rows, each text once: sixteen bytes a row beside those of its [`Table`].
pub struct GoldFile<H> {
    table: Arc<Table>,
    head: H,
    rows: Vec<Kept>,
    /// For a row, the rows with the same texts that say more: further answers to a question.
    again: HashMap<u32, Vec<u32>>,
}

/// Where a row stands in its table, and what is known of it without reading it.
#[derive(Clone, Copy)]
struct Kept {
    /// [`Input::key`](super::example::Input::key) of its texts.
    key: u64,
    row: u32,
    stratum: u32,
}

/// What a row is found to be.
struct Found {
    kept: Kept,
    shares_first_text: bool,
    /// All strata that it counts in.
    strata: Vec<usize>,
}

/// Lets each row of several strata count as one of that which has the fewest rows, so that a sample has some of each. `several` has such
/// rows' places and strata.
fn by_rarest(rows: &mut [Kept], several: Vec<(usize, Vec<usize>)>, strata: usize) {
    if several.is_empty() {
        return;
    }
    let mut counts = vec![0; strata];
    let have_several: HashSet<usize> = several.iter().map(|(place, _)| *place).collect();
    (0..rows.len()).filter(|place| !have_several.contains(place)).for_each(|place| counts[rows[place].stratum as usize] += 1);
    several.iter().flat_map(|(_, own)| own).for_each(|&stratum| counts[stratum] += 1);
    for (place, own) in several {
        rows[place].stratum = own.into_iter().min_by_key(|&stratum| counts[stratum]).expect("there are several") as u32;
    }
}

impl<H: ReadGold> GoldFile<H> {
    /// Reads gold rows: `{"text": …, "label": …}`, pairs `{"text": …, "text_pair": …, "label": …}`, or questions in SQuAD's format; other
    /// fields are ignored. Of rows with the same texts and label the first is kept; a question that is asked twice of a context keeps the
    /// answers of both. `say` is told how many were left out, and why.
    ///
    /// # Errors
    /// Everything that is wrong with the file, in one: rows that cannot be read, missing or mistyped fields, empty texts, unknown labels,
    /// answers that are not where they are said to be, one text with two labels, questions without an answer, test rows.
    pub fn open(path: &Path, head: &H, rules: Rules, tested: &Tested, say: &dyn Fn(String)) -> Result<Self> {
        let table = Arc::new(Table::open(path, head.shape())?);
        if !head.shape().fields.contains(&"text_pair") && table.row(0).is_ok_and(|row| row.contains_key("text_pair")) {
            say(format!("{}: it has a field text_pair, which is not read; for pairs of texts write kind = \"pair\"", path.display()));
        }
        let (mut faults, mut rows, mut unanswerable) = (Faults::default(), Vec::new(), Vec::new());
        let (mut overlap, mut shared, mut several) = (tested.rows_in(&table), 0, Vec::new());
        let parse = |row: &_, line| Ok(head.parse(row, line)?.map(|row| Self::look_at(&row, tested)));
        scan(&table, parse, &mut faults, |row, found| match found {
            None => unanswerable.push(table.line(row)),
            Some(Found { kept, .. }) if overlap.add(kept.key, table.line(row)) => {}
            Some(Found { kept, shares_first_text, strata }) => {
                shared += usize::from(shares_first_text);
                rows.push(Kept { row: row as u32, ..kept });
                several.extend((strata.len() > 1).then_some((rows.len() - 1, strata)));
            }
        });
        by_rarest(&mut rows, several, head.strata());
        let mut errors = faults.into_errors(&table);
        errors.extend(without_answer(&table, &unanswerable, rules.unanswerable, say));
        errors.extend(overlap.judge(rules.overlap, say));
        let mut gold = GoldFile { table, head: head.clone(), rows, again: HashMap::new() };
        errors.extend(gold.each_text_once(rules.conflicts, say));
        if shared > 0 {
            let (path, test, all) = (path.display(), tested.path().display(), gold.len());
            let shared = shared.min(all);
            say(format!("{path}: {shared} of {all} rows have a first text that is also in {test}, with other second texts; they stay"));
        }
        if errors.is_empty() && gold.is_empty() {
            errors.push(Error::Data { path: path.to_path_buf(), line: None, message: "no row is left".to_string() });
        }
        Error::all(errors).map(|()| gold)
    }

    fn look_at(row: &GoldRow<H>, tested: &Tested) -> Found {
        let input = row.input();
        let kept = Kept { key: input.key(), row: 0, stratum: row.stratum() as u32 };
        let shares_first_text = input.text_pair.is_some() && tested.has_first(input.text);
        Found { kept, shares_first_text, strata: H::strata_of(&row.goal()) }
    }

    /// Leaves each text once; says how many were dropped, and what contradicts.
    fn each_text_once(&mut self, conflicts: OnFault, say: &dyn Fn(String)) -> Vec<Error> {
        let mut by_key: Vec<(u64, u32)> = (0..).zip(&self.rows).map(|(i, kept)| (kept.key, i)).collect();
        by_key.par_sort_unstable();
        let (mut errors, mut repeated, mut contradictions) = (Vec::new(), 0, BTreeMap::new());
        let mut stays = vec![true; self.rows.len()];
        for same in by_key.chunk_by(|a, b| a.0 == b.0).filter(|same| same.len() > 1) {
            let same: Vec<u32> = same.iter().map(|(_, i)| *i).collect();
            same[1..].iter().for_each(|&i| stays[i as usize] = false);
            match self.merged(&same) {
                Ok(Ok(more)) => {
                    repeated += same.len() - 1;
                    if !more.is_empty() {
                        self.again.insert(self.rows[same[0] as usize].row, more);
                    }
                }
                Ok(Err(what)) => {
                    stays[same[0] as usize] = false;
                    contradictions.insert(same[0], (same, what));
                }
                Err(error) => errors.push(error),
            }
        }
        let all = std::mem::take(&mut self.rows);
        self.rows = all.iter().zip(stays).filter(|(_, stays)| *stays).map(|(kept, _)| *kept).collect();
        if repeated > 0 {
            say(format!("{}: {repeated} duplicate rows left out", self.table.path().display()));
        }
        errors.extend(self.contradict(&all, contradictions.into_values().collect(), conflicts, say));
        errors
    }

    /// The rows besides the first that say more than it does, of some with the same texts; or what they say, if they contradict.
    fn merged(&self, same: &[u32]) -> Result<Result<Vec<u32>, String>> {
        let mut first = self.parsed(self.rows[same[0] as usize].row)?;
        let mut more = Vec::new();
        for &i in &same[1..] {
            let (row, before) = (self.rows[i as usize].row, first.gold.clone());
            if let Err(what) = self.head.merge(&mut first, self.parsed(row)?) {
                return Ok(Err(what));
            }
            if first.gold != before {
                more.push(row);
            }
        }
        Ok(Ok(more))
    }

    /// Names or counts the texts with two labels.
    fn contradict(&self, all: &[Kept], found: Vec<(Vec<u32>, String)>, conflicts: OnFault, say: &dyn Fn(String)) -> Option<Error> {
        const NAMED: usize = 24;
        let (path, texts) = (self.table.path(), found.len());
        let rows: usize = found.iter().map(|(same, _)| same.len()).sum();
        if texts == 0 {
            return None;
        }
        if conflicts == OnFault::Drop {
            say(format!("{}: {texts} texts with different labels in their rows left out ({rows} rows)", path.display()));
            return None;
        }
        let places = |same: &[u32]| {
            list(self.table.unit(), &same.iter().map(|i| self.table.line(all[*i as usize].row as usize)).collect::<Vec<_>>())
        };
        let named: String = found.iter().take(NAMED).map(|(same, what)| format!("\n  {} ({what})", places(same))).collect();
        let more = if texts > NAMED { format!("\n  and {} more", texts - NAMED) } else { String::new() };
        let what = match texts {
            1 => "one text has different labels in its rows".to_string(),
            _ => format!("{texts} texts have different labels in their rows"),
        };
        let message =
            format!("{what} ({rows} rows):{named}{more}\nKeep one row of each, or set data.conflicts = \"drop\" to leave all of them out");
        Some(Error::Data { path: path.to_path_buf(), line: None, message })
    }

    fn parsed(&self, row: u32) -> Result<GoldRow<H>> {
        let changed = || "it has no answer any more; the file has changed".to_string();
        self.table.parsed(row as usize, |row, line| self.head.parse(row, line)?.ok_or_else(changed))
    }

    /// A [sample] of the rows.
    ///
    /// # Errors
    /// As [`sample`] and [`GoldFile::row`].
    ///
    /// [sample]: super::split::sample
    /// [`sample`]: super::split::sample
    pub fn sample(&self, rows: usize, seed: u64) -> Result<Vec<GoldRow<H>>> {
        let error = |message: String| Error::Data { path: self.path().to_path_buf(), line: None, message };
        let strata = self.rows.iter().map(|kept| kept.stratum as usize);
        let places = places_of_sample(&self.head, strata, rows, seed).map_err(error)?;
        places.into_iter().map(|place| self.row(place)).collect()
    }

    /// Reads row `i`.
    ///
    /// # Errors
    /// The file has changed since it was opened.
    pub fn row(&self, i: usize) -> Result<GoldRow<H>> {
        let place = self.rows[i].row;
        let mut row = self.parsed(place)?;
        for again in self.again.get(&place).into_iter().flatten() {
            self.head.merge(&mut row, self.parsed(*again)?).map_err(|what| self.table.error(row.line, what))?;
        }
        Ok(row)
    }

    /// Reads all rows.
    ///
    /// # Errors
    /// As [`GoldFile::row`].
    pub fn all(&self) -> Result<Vec<GoldRow<H>>> {
        (0..self.len()).map(|i| self.row(i)).collect()
    }
}

impl<H> GoldFile<H> {
    pub fn path(&self) -> &Path {
        self.table.path()
    }

    /// Number of rows with different texts.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Its table, and for each row its place there and its key.
    pub(super) fn texts(&self) -> (Arc<Table>, Vec<(u32, u64)>) {
        (self.table.clone(), self.rows.iter().map(|kept| (kept.row, kept.key)).collect())
    }
}

/// Reads test rows, which look like gold rows, and keeps every row: published accuracies count all rows of a test set, so a text that is
/// in it twice counts twice, and one that has two labels is right once. Questions without an answer are left out where the rules say so.
/// With the rows comes what counts them: lines, questions or rows.
///
/// # Errors
/// As [`GoldFile::open`], but rows may contradict each other.
pub fn read_test<H: ReadGold>(path: &Path, head: &H, rules: Rules, say: &dyn Fn(String)) -> Result<(Vec<GoldRow<H>>, &'static str)> {
    let table = Table::open(path, head.shape())?;
    let (mut faults, mut rows, mut unanswerable) = (Faults::default(), Vec::new(), Vec::new());
    scan(
        &table,
        |row, line| head.parse(row, line),
        &mut faults,
        |i, row| match row {
            Some(row) => rows.push(row),
            None => unanswerable.push(table.line(i)),
        },
    );
    let mut errors = faults.into_errors(&table);
    errors.extend(without_answer(&table, &unanswerable, rules.unanswerable, say));
    Error::all(errors).map(|()| (rows, table.unit()))
}

/// Names or counts the questions without an answer.
fn without_answer(table: &Table, places: &[usize], unanswerable: OnFault, say: &dyn Fn(String)) -> Option<Error> {
    let (first, count) = (*places.first()?, places.len());
    if unanswerable == OnFault::Drop {
        say(format!("{}: {count} questions without an answer left out", table.path().display()));
        return None;
    }
    let (what, places) = (if count == 1 { "1 question has" } else { &format!("{count} questions have") }, list(table.unit(), places));
    let message = format!("{what} no answer in the context ({places}): set data.unanswerable = \"drop\" to leave such out");
    Some(table.error(first, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::answers::{Answers, GoldAnswers};
    use crate::data::example::{Answer, Input};
    use crate::data::label_sets::LabelSets;
    use crate::data::labels::{Label, Labels};
    use proptest::prelude::*;
    use std::cell::RefCell;

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

    /// A label that always stands behind a commoner one is in every sample all the same, and samples keep their size.
    #[test]
    fn a_rare_label_among_several_is_in_every_sample() {
        let head = LabelSets { names: ["toxic", "severe", "threat"].map(String::from).to_vec() };
        let labels = |i: usize| match i {
            _ if i.is_multiple_of(97) => "toxic|severe",
            _ if i.is_multiple_of(61) => "toxic|threat",
            _ if i.is_multiple_of(4) => "toxic",
            _ => "[]",
        };
        let rows: String = (1..400).map(|i| format!("{}\n", serde_json::json!({"text": format!("t{i}"), "labels": labels(i)}))).collect();
        let (_folder, path) = file(rows.as_bytes());
        let gold =
            GoldFile::open(&path, &head, Rules::default(), &Tested::of(Path::new("t"), "line", &[] as &[GoldRow<LabelSets>]), &|_| ())
                .unwrap();
        for seed in 0..40 {
            let drawn = gold.sample(30, seed).unwrap();
            assert_eq!(drawn.len(), 30);
            assert!((0..3).all(|label| drawn.iter().any(|row| row.gold.has(label))), "{seed}");
        }
        assert!(gold.sample(3, 0).unwrap_err().to_string().contains("raise it to at least 4, because each label needs a row"));
    }

    /// All rows of a file of these bytes, and what is said of it.
    fn read_with<H: ReadGold>(content: &[u8], head: &H, rules: Rules, test: &[GoldRow<H>]) -> Result<(Vec<GoldRow<H>>, Vec<String>)> {
        let (_folder, path) = file(content);
        let said = RefCell::new(Vec::new());
        let say = |what: String| said.borrow_mut().push(what);
        let gold = GoldFile::open(&path, head, rules, &Tested::of(Path::new("test.jsonl"), "line", test), &say)?;
        let rows = gold.all()?;
        assert_eq!(rows.len(), gold.len());
        Ok((rows, said.take()))
    }

    /// All rows of a file of these bytes, and the number of duplicates.
    fn read_gold<H: ReadGold>(content: &[u8], head: &H) -> Result<(Vec<GoldRow<H>>, usize)> {
        let (rows, said) = read_with(content, head, Rules::default(), &[])?;
        let duplicates = |what: &String| what.strip_suffix(" duplicate rows left out")?.rsplit(' ').next()?.parse::<usize>().ok();
        Ok((rows, said.iter().find_map(duplicates).unwrap_or(0)))
    }

    fn tested<H: ReadGold>(content: &[u8], head: &H) -> Result<Vec<GoldRow<H>>> {
        let (_folder, path) = file(content);
        read_test(&path, head, Rules::default(), &|_| ()).map(|(rows, _)| rows)
    }

    #[test]
    fn a_pair_is_a_duplicate_only_if_both_texts_are() {
        let (rows, repeated) = read_gold(
            b"{\"text\":\"a\",\"text_pair\":\" b \",\"label\":\"positive\"}\n{\"text\":\"a\",\"text_pair\":\"c\",\"label\":\"negative\"}\n\
              {\"text\":\"A\",\"text_pair\":\"B\",\"label\":\"positive\"}",
            &labels(true),
        )
        .unwrap();
        assert_eq!((rows.len(), repeated), (2, 1));
        assert_eq!((rows[0].written(), rows[1].input()), ("b", Input { text: "a", text_pair: Some("c") }));
        let lacking = read_gold(b"{\"text\":\"a\",\"label\":\"positive\"}", &labels(true));
        assert!(lacking.unwrap_err().to_string().contains(":1: field \"text_pair\" is missing"));
    }

    fn read_questions(content: &str) -> Result<(Vec<GoldRow<Answers>>, usize)> {
        read_gold(content.as_bytes(), &Answers)
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
                r#""answers": {"text": ["née"], "answer_start": [6]}"#,
                "(it begins at character 4; answer_start counts characters, not bytes)",
            ),
            (r#""answers": {"text": ["née"], "answer_start": [400]}"#, "is not at character 400"),
            (
                r#""answers": {"text": [], "answer_start": []}"#,
                r#"1 question has no answer in the context (line 2): set data.unanswerable"#,
            ),
            (r#""answers": {"text": ["née"], "answer_start": []}"#, r#"field "answers" has 1 in "text", but 0 in "answer_start""#),
            (r#""answers": {"text": [" "], "answer_start": [3]}"#, r#"field "answers.text" has an empty answer"#),
            (r#""answers": {"text": [1], "answer_start": [3]}"#, r#"field "answers.text" must hold strings, not a number"#),
            (
                r#""answers": {"text": ["née"], "answer_start": [-4]}"#,
                r#"field "answers.answer_start" must hold whole numbers from 0, not -4"#,
            ),
            (r#""answers": {"text": "née", "answer_start": 4}"#, r#"field "answers.text" must be a list, not a string"#),
            (r#""answers": {"text": ["née"]}"#, r#"field "answers.answer_start" is missing"#),
            (r#""answers": ["née"]"#, r#"field "answers" must hold objects like {"text": "…", "answer_start": 0}, not a string"#),
            (r#""answers": "née""#, r#"field "answers" must be an object or a list, not a string"#),
            (r#""answer": "n""#, r#"field "answer_start" is missing, and "n" stands in the context 2 times"#),
            (r#""answer": "š""#, r#"stands in the context 0 times"#),
            (r#""reply": "née""#, r#"field "answers" is missing"#),
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
        read_gold(content, &labels(false))
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
        let contradicting = b"{\"text\":\"a b\",\"label\":\"positive\"}\n{\"text\":\"c\",\"label\":\"negative\"}\n\
            {\"text\":\"A  b\",\"label\":\"negative\"}\n{\"text\":\"C\",\"label\":\"positive\"}\n{\"text\":\"d\",\"label\":\"positive\"}";
        let error = read(contradicting).unwrap_err().to_string();
        let expected = ": 2 texts have different labels in their rows (4 rows):\n  lines 1, 3 (positive, negative)\n  lines 2, 4 (negative, positive)\n\
            Keep one row of each, or set data.conflicts = \"drop\"";
        assert!(error.contains(expected), "{error}");
        let rules = Rules { conflicts: OnFault::Drop, ..Rules::default() };
        let (rows, said) = read_with(contradicting, &labels(false), rules, &[]).unwrap();
        assert_eq!(rows, [row(5, "d", 0)]);
        assert!(said[0].ends_with("2 texts with different labels in their rows left out (4 rows)"), "{said:?}");
    }

    #[test]
    fn a_bad_row_is_reported_with_line_and_field() {
        let good = "{\"text\":\"fine\",\"label\":\"positive\"}\n".as_bytes();
        for (bad, expected) in [
            (&b"{\"text\":\"x\"}"[..], ":2: field \"label\" is missing"),
            (b"{\"label\":\"positive\"}", ":2: field \"text\" is missing"),
            (b"{\"text\":\"\\ud83d\",\"label\":\"positive\"}", ":2: half of a UTF-16 surrogate pair stands alone"),
            (b"{\"text\":3,\"label\":\"positive\"}", ":2: field \"text\" must be a string, not a number"),
            (b"{\"text\":\"  \",\"label\":\"positive\"}", ":2: field \"text\" is empty"),
            (b"{\"text\":\"x\",\"label\":\"good\"}", ":2: field \"label\" is \"good\"; the task's labels are \"positive\", \"negative\""),
            (b"[1]", ":2: not a JSON object"),
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
        let content = b"{\"text\":\"a b\",\"label\":\"positive\"}\n\n{\"text\":\"A  b\",\"label\":\"positive\"}\n\
              {\"text\":\"a b\",\"label\":\"negative\"}";
        assert_eq!(tested(content, &labels(false)).unwrap(), [row(1, "a b", 0), row(3, "A  b", 0), row(4, "a b", 1)]);
        let refused = |content: &[u8]| tested(content, &labels(false)).unwrap_err().to_string();
        assert!(refused(b"{\"text\":\"a\",\"label\":\"good\"}").contains(":1: field \"label\" is \"good\""));
        assert!(refused(b"\n").contains("no rows"));
    }

    #[test]
    fn a_question_twice_in_a_test_file_keeps_its_own_answers() {
        let line = |answer: &str, start: usize| {
            serde_json::json!({"context": "a b c", "question": "Which?", "answers": {"text": [answer], "answer_start": [start]}})
                .to_string()
        };
        let rows = tested([line("a", 0), line("c", 4)].join("\n").as_bytes(), &Answers).unwrap();
        assert_eq!(rows.iter().map(|row| row.gold.references()).collect::<Vec<_>>(), [["a"], ["c"]]);
    }

    #[test]
    fn all_faults_are_told_in_one_message() {
        let content = b"{\"text\":\"a\",\"label\":\"positive\"}\n{\"text\":\"a\",\"label\":\"negative\"}\n{\"label\":\"positive\"}\nx\n\
            {\"label\":\"negative\"}\n{\"text\":\"tested\",\"label\":\"negative\"}";
        let error = read_with(content, &labels(false), Rules::default(), &[row(7, "Tested", 0)]).unwrap_err().to_string();
        for expected in [
            "4 things are wrong:\n",
            ":3: field \"text\" is missing (and 1 more: line 5)\n",
            ":4: not JSON",
            "test.jsonl: 1 test row is also in ",
            "one text has different labels in its rows (2 rows):\n    lines 1, 2 (positive, negative)",
        ] {
            assert!(error.contains(expected), "{error}\nshould contain {expected:?}");
        }
        let rules = Rules { overlap: OnFault::Drop, ..Rules::default() };
        let (rows, said) = read_with(
            b"{\"text\":\"tested\",\"label\":0}\n{\"text\":\"b\",\"label\":0}",
            &Labels { names: vec!["0".into(), "1".into()], pairs: false },
            rules,
            &[row(7, "Tested", 0)],
        )
        .unwrap();
        assert_eq!(rows, [row(2, "b", 0)]);
        assert!(said[0].ends_with("1 rows left out that are also in test.jsonl"), "{said:?}");
    }

    #[test]
    fn questions_come_in_many_shapes() {
        let context = "The bridge was finished in 1871 and carried coal.";
        let lists = r#"{"context": C, "question": "When?", "answers": {"text": ["1871"], "answer_start": [27]}}"#;
        let objects = r#"{"context": C, "question": "When?", "answers": [{"text": "1871", "answer_start": 27}]}"#;
        let flat = r#"{"context": C, "question": "When?", "answer": "1871", "answer_start": 27}"#;
        let bare = r#"{"context": C, "question": "When?", "answer": "1871"}"#;
        let official = r#"{"version": "1.1", "data": [{"title": "T", "paragraphs": [{"context": C,
            "qas": [{"id": "1", "question": "When?", "answers": [{"text": "1871", "answer_start": 27}]}]}]}]}"#;
        let array = format!("[{objects}]");
        let csv = "context,question,answer,answer_start\nC,When?,1871,27\n";
        for shape in [lists, objects, flat, bare, official, &array, csv] {
            let context = if shape == csv { context.to_string() } else { format!("{context:?}") };
            let (rows, _) = read_questions(&shape.replace('C', &context)).unwrap();
            assert_eq!(rows[0].gold.answer, Answer { text: "1871".into(), start: 27 }, "{shape}");
        }
        let unanswerable = r#"{"data": [{"paragraphs": [{"context": "a b", "qas": [{"question": "Which?", "answers": [{"text": "a", "answer_start": 0}]},
            {"question": "Who?", "answers": [], "is_impossible": true}]}]}]}"#;
        let error = read_questions(unanswerable).unwrap_err().to_string();
        assert!(error.contains(": question 2: 1 question has no answer in the context (question 2)"), "{error}");
        let rules = Rules { unanswerable: OnFault::Drop, ..Rules::default() };
        assert_eq!(read_with(unanswerable.as_bytes(), &Answers, rules, &[]).unwrap().0.len(), 1);
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
