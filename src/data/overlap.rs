//! Test rows that are also in other files of a task: nothing that trains or prompts may see them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::example::{GoldRow, key_of};
use super::head::Head;
use super::read::OnFault;
use super::table::Table;
use crate::error::Error;

/// How many pairs of lines a message names.
const NAMED: usize = 3;

/// What the test rows are, so that each is known again in other files.
#[derive(Default)]
pub struct Tested {
    path: PathBuf,
    /// What counts them: lines, questions or rows.
    unit: &'static str,
    /// Their lines by [`Input::key`](super::example::Input::key).
    rows: HashMap<u64, Vec<usize>>,
    /// Their lines by the key of the first text.
    first_texts: HashMap<u64, Vec<usize>>,
}

impl Tested {
    /// The rows of the file at `path`, in which `unit` counts them.
    pub fn of<H: Head>(path: &Path, unit: &'static str, test: &[GoldRow<H>]) -> Tested {
        let mut tested = Tested { path: path.to_path_buf(), unit, ..Tested::default() };
        for row in test {
            tested.rows.entry(row.input().key()).or_default().push(row.line);
            tested.first_texts.entry(key_of(&row.text)).or_default().push(row.line);
        }
        tested
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a test row has this first text.
    pub fn has_first(&self, text: &str) -> bool {
        self.first_texts.contains_key(&key_of(text))
    }

    /// To be filled with the rows of the file that are test rows, both texts of a pair.
    pub fn rows_in<'t>(&'t self, file: &'t Table) -> Overlap<'t> {
        Overlap { tested: self, file, of: &self.rows, what: "", lines: BTreeMap::new(), left_out: HashSet::new() }
    }

    /// To be filled with the contexts in the file that are first texts of test rows: premises, passages.
    pub fn first_texts_in<'t>(&'t self, file: &'t Table) -> Overlap<'t> {
        Overlap { of: &self.first_texts, what: "the first texts of ", ..self.rows_in(file) }
    }
}

/// The test rows that are also in one other file.
pub struct Overlap<'t> {
    tested: &'t Tested,
    file: &'t Table,
    of: &'t HashMap<u64, Vec<usize>>,
    /// What of the test rows is in the file: nothing for whole rows, or "the first texts of ".
    what: &'static str,
    /// The line of each such test row, and the line of the other file.
    lines: BTreeMap<usize, usize>,
    /// The lines of the other file.
    left_out: HashSet<usize>,
}

impl Overlap<'_> {
    /// Adds a line of the other file, if its key is that of a test row; returns whether it is.
    pub fn add(&mut self, key: u64, line: usize) -> bool {
        let Some(tested) = self.of.get(&key) else { return false };
        for test in tested {
            self.lines.entry(*test).or_insert(line);
        }
        self.left_out.insert(line);
        true
    }

    /// An error that says how many there are, names the first pairs of lines, and says what to do; or a word that they are left out.
    pub fn judge(self, rule: OnFault, say: &dyn Fn(String)) -> Option<Error> {
        let (path, test) = (self.file.path().display(), self.tested.path.display());
        if self.lines.is_empty() {
            return None;
        }
        if rule == OnFault::Drop {
            say(format!("{path}: {} rows left out that are also in {test}", self.left_out.len()));
            return None;
        }
        let (of_test, of_file) = (self.tested.unit, self.file.unit());
        let pair = |(test, own): (&usize, &usize)| format!("{of_test} {test} is {of_file} {own} there");
        let mut named: Vec<String> = self.lines.iter().take(NAMED).map(pair).collect();
        if self.lines.len() > NAMED {
            named.push("…".to_string());
        }
        let (what, count) = (self.what, self.lines.len());
        let rows = if count == 1 { "row" } else { "rows" };
        let are = if count == 1 && what.is_empty() { "is" } else { "are" };
        let message = format!(
            "{what}{count} test {rows} {are} also in {path} ({}); what a model is tested on must be in no other file: remove them \
             from {path}, or set data.overlap = \"drop\" to leave them out of it",
            named.join(", ")
        );
        Some(Error::Data { path: self.tested.path.clone(), line: None, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::labels::{Label, Labels};
    use crate::data::table::Shape;

    fn row(line: usize, text: &str, text_pair: Option<&str>) -> GoldRow<Labels> {
        GoldRow { line, text: text.into(), text_pair: text_pair.map(str::to_string), gold: Label { label: 0 } }
    }

    fn overlap(test: &[GoldRow<Labels>], own: &[(u64, usize)], contexts: bool) -> Option<String> {
        let tested = Tested::of(Path::new("test.json"), "question", test);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other.txt");
        std::fs::write(&path, "a").unwrap();
        let file = Table::open(&path, Shape { example: "", fields: &["text"], plain: true }).unwrap();
        let mut overlap = if contexts { tested.first_texts_in(&file) } else { tested.rows_in(&file) };
        for (key, line) in own {
            overlap.add(*key, *line);
        }
        overlap.judge(OnFault::Error, &|_| ()).map(|error| error.to_string().replace(&path.display().to_string(), "other.txt"))
    }

    #[test]
    fn all_overlaps_are_counted_and_three_named() {
        let own: Vec<_> = (1..=9).map(|i| (row(i, &format!("Text {i}"), None).input().key(), i)).collect();
        let test: Vec<_> = (4..=9).map(|i| row(i + 20, &format!("text  {i}"), None)).chain([row(40, "text 4", None)]).collect();
        let expected = "test.json: 7 test rows are also in other.txt (question 24 is line 4 there, question 25 is line 5 there, question 26 is \
            line 6 there, …); what a model is tested on must be in no other file: remove them from other.txt, or set data.overlap = \"drop\" to leave them out of it";
        assert_eq!(overlap(&test, &own, false).unwrap(), expected);
        assert_eq!(overlap(&test, &own[..2], false), None);
        let context = overlap(&test, &[(key_of("TEXT 8"), 3)], true).unwrap();
        assert!(
            context.starts_with("test.json: the first texts of 1 test row are also in other.txt (question 28 is line 3 there)"),
            "{context}"
        );
    }

    #[test]
    fn a_pair_overlaps_only_with_both_texts_but_its_first_text_is_known() {
        let (gold, test) = ([row(1, "a", Some("b")), row(2, "A", Some("c")), row(3, "d", Some("b"))], [row(7, "a", Some("d"))]);
        let own: Vec<_> = gold.iter().map(|row| (row.input().key(), row.line)).collect();
        assert_eq!(overlap(&test, &own, false), None);
        let tested = Tested::of(Path::new("test.jsonl"), "line", &test);
        assert_eq!(gold.iter().filter(|row| tested.has_first(&row.text)).count(), 2);
        assert!(overlap(&test, &[(key_of("a"), 3)], true).is_some());
    }
}
