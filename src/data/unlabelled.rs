//! Texts and pairs without labels, and contexts: in a file, or what a sample of gold rows leaves out. A text is read when it is asked for.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use serde_json::Value;

use super::example::{Context, GoldRow, Input, key_of};
use super::faults::Faults;
use super::fields::text_field;
use super::gold_file::GoldFile;
use super::head::Head;
use super::near::NearCopies;
use super::overlap::Tested;
use super::read::{OnFault, scan};
use super::split::Split;
use super::table::{Row, Shape, Table};
use crate::error::{Error, Result};

/// A text, or pair of texts, whose label nobody may look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlabelled {
    /// Line in its file, from 1.
    pub line: usize,
    pub text: String,
    /// The second text of a pair.
    pub text_pair: Option<String>,
    /// The row's field `id`.
    pub id: Option<Value>,
}

impl Unlabelled {
    pub fn input(&self) -> Input<'_> {
        Input { text: &self.text, text_pair: self.text_pair.as_deref() }
    }
}

/// Texts of a file, in its order: sixteen bytes a text beside those of its [`Table`].
#[derive(Clone)]
pub struct Texts {
    table: Arc<Table>,
    pairs: bool,
    /// For each text its row in the table and its [`Input::key`].
    rows: Vec<(u32, u64)>,
}

impl Texts {
    /// Finds every text of a file, also those that are there twice: JSON lines or a JSON array with `text`, for pairs also `text_pair`;
    /// CSV or TSV with those columns; or plain lines, a text each. Other fields are ignored, blank lines skipped.
    ///
    /// # Errors
    /// A file that cannot be read, and all its rows that cannot be; a missing or mistyped field, an empty text, plain lines where pairs are
    /// wanted, no rows.
    pub fn open(path: &Path, pairs: bool) -> Result<Texts> {
        let shape = match pairs {
            true => Shape { example: r#"{"text": "…", "text_pair": "…"}"#, fields: &["text", "text_pair"], plain: false },
            false => Shape { example: r#"{"text": "…"}"#, fields: &["text"], plain: true },
        };
        let table = Arc::new(Table::open(path, shape)?);
        let (mut faults, mut rows) = (Faults::default(), Vec::new());
        let parse = |row: &Row, line| Ok(parse(row, line, pairs)?.input().key());
        scan(&table, parse, &mut faults, |row, key| rows.push((row as u32, key)));
        Error::all(faults.into_errors(&table)).map(|()| Texts { table, pairs, rows })
    }

    /// The texts of all gold rows, without their labels.
    pub fn of_gold<H>(gold: &GoldFile<H>, pairs: bool) -> Texts {
        let (table, rows) = gold.texts();
        Texts { table, pairs, rows }
    }

    /// Each text once.
    #[must_use]
    pub fn distinct(mut self) -> Texts {
        let mut seen = HashSet::new();
        self.rows.retain(|(_, key)| seen.insert(*key));
        self
    }

    /// Those that are no test rows, or no first texts of such.
    ///
    /// # Errors
    /// There are some, and the rule does not say to drop them.
    pub fn beside_tested(mut self, tested: &Tested, contexts: bool, rule: OnFault, say: &dyn Fn(String)) -> Result<Texts> {
        let table = self.table.clone();
        let mut overlap = if contexts { tested.first_texts_in(&table) } else { tested.rows_in(&table) };
        let mut firsts = if contexts { self.map(|text| key_of(&text.text))? } else { Vec::new() }.into_iter();
        self.rows.retain(|(row, key)| !overlap.add(firsts.next().unwrap_or(*key), table.line(*row as usize)));
        Error::all(overlap.judge(rule, say).into_iter().collect()).map(|()| self)
    }

    /// Those that are no near-copies of test rows, and how many are: a model is tested on texts that it has not seen.
    ///
    /// # Errors
    /// As [`Texts::get`].
    pub fn unlike_tested<H: Head>(mut self, test: &[GoldRow<H>]) -> Result<(Texts, usize)> {
        let (tested, before) = (NearCopies::of(test.iter().map(GoldRow::input)), self.len());
        let near = self.map(|text| tested.has(text.input()))?;
        let mut near = near.into_iter();
        self.rows.retain(|_| !near.next().expect("one for each text"));
        let left_out = before - self.len();
        Ok((self, left_out))
    }

    /// Those whose text, or pair of texts, is not a drawn gold row's.
    #[must_use]
    pub fn beside<H: Head>(&self, split: &Split<H>) -> Texts {
        let drawn: HashSet<u64> = split.gold().map(|row| row.input().key()).collect();
        let rows = self.rows.iter().filter(|(_, key)| !drawn.contains(key)).copied().collect();
        Texts { table: self.table.clone(), pairs: self.pairs, rows }
    }

    pub fn path(&self) -> &Path {
        self.table.path()
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The line of text `i`, from 1.
    pub fn line(&self, i: usize) -> usize {
        self.table.line(self.rows[i].0 as usize)
    }

    /// Reads text `i`.
    ///
    /// # Errors
    /// The file has changed since it was opened.
    pub fn get(&self, i: usize) -> Result<Unlabelled> {
        self.table.parsed(self.rows[i].0 as usize, |row, line| parse(row, line, self.pairs))
    }

    /// Reads the text of a line; `None` if none of these stands there.
    ///
    /// # Errors
    /// As [`Texts::get`].
    pub fn of_line(&self, line: usize) -> Result<Option<Unlabelled>> {
        let place = self.rows.partition_point(|(row, _)| self.table.line(*row as usize) < line);
        if place < self.len() && self.line(place) == line { self.get(place).map(Some) } else { Ok(None) }
    }

    /// Reads some texts, by their places.
    ///
    /// # Errors
    /// As [`Texts::get`].
    pub fn read(&self, places: impl IntoIterator<Item = usize>) -> Result<Vec<Unlabelled>> {
        places.into_iter().map(|place| self.get(place)).collect()
    }

    /// Reads text `i` as a context.
    ///
    /// # Errors
    /// As [`Texts::get`].
    pub fn context(&self, i: usize) -> Result<Context> {
        self.get(i).map(|Unlabelled { line, text, .. }| Context { line, text, answers: Vec::new() })
    }

    /// What `of` says of each text, over the threads of the current pool.
    fn map<T: Send>(&self, of: impl Fn(Unlabelled) -> T + Sync) -> Result<Vec<T>> {
        (0..self.len()).into_par_iter().map(|i| self.get(i).map(&of)).collect()
    }
}

fn parse(row: &Row, line: usize, pairs: bool) -> Result<Unlabelled, String> {
    let text_pair = pairs.then(|| text_field(row, "text_pair")).transpose()?;
    Ok(Unlabelled { line, text: text_field(row, "text")?, text_pair, id: row.get("id").cloned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::labels::{Label, Labels};
    use crate::data::read::Rules;
    use serde_json::json;

    /// A file of these texts.
    fn texts(all: &[&str]) -> (tempfile::TempDir, Texts) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("texts.txt");
        std::fs::write(&path, all.join("\n")).unwrap();
        let texts = Texts::open(&path, false).unwrap();
        (folder, texts)
    }

    fn row(line: usize, text: &str, text_pair: Option<&str>) -> Unlabelled {
        Unlabelled { line, text: text.into(), text_pair: text_pair.map(str::to_string), id: None }
    }

    fn read(content: &str, pairs: bool) -> Result<Vec<Unlabelled>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("unlabelled.jsonl");
        std::fs::write(&path, content).unwrap();
        let texts = Texts::open(&path, pairs)?.distinct();
        texts.read(0..texts.len())
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
            let texts = Texts::open(&path, pairs)?;
            texts.read(0..texts.len())
        };
        assert_eq!(
            read("a.txt", b"\xef\xbb\xbf one two \r\n\none two\n", false).unwrap(),
            [row(1, "one two", None), row(3, "one two", None)]
        );
        let of = |id: &str, row| Unlabelled { id: Some(json!(id)), ..row };
        let csv = "\u{feff}id,text,text_pair\n1,\"a, \"\"b\"\"\nand c\",d\n2,e,f\n";
        assert_eq!(read("a.csv", csv.as_bytes(), false).unwrap(), [of("1", row(2, "a, \"b\"\nand c", None)), of("2", row(4, "e", None))]);
        assert_eq!(read("a.CSV", csv.as_bytes(), true).unwrap()[1], of("2", row(4, "e", Some("f"))));
        let wide = read("a.csv", b"id,text\r\n1,\"a\r\nb\"\r\n\r\n2,c\r\n3,d\r\n", false).unwrap();
        assert_eq!(wide.iter().map(|row| row.line).collect::<Vec<_>>(), [2, 5, 6]);
        assert_eq!(read("a.csv", b"text\rone\rtwo\r", false).unwrap(), [row(2, "one", None), row(3, "two", None)]);
        let refused = |name, content: &[u8], pairs| read(name, content, pairs).unwrap_err().to_string();
        assert!(refused("b.csv", b"id,texts\n1,a\n", false).contains("b.csv:1: begins with \"id,texts\""));
        assert!(refused("b.csv", b"text\na\n \n", false).contains("b.csv:3: field \"text\" is empty"));
        let open = refused("b.csv", b"text\na\n\"b\nc\nd\n", false);
        assert!(open.contains("b.csv:3: a quotation mark that opens here is never closed"), "{open}");
        assert!(refused("b.csv", b"text,b\na\n", false).contains("b.csv:2"));
        assert!(refused("b.txt", b"a\n\xff\n", false).contains("b.txt:2: not UTF-8"));
        assert!(refused("b.txt", b"plain\n", true).contains("b.txt:1") && refused("b.jsonl", b"[1]\n", false).contains("b.jsonl:1"));
    }

    #[test]
    fn near_copies_of_test_rows_are_left_out() {
        let tested = "A long walk by the sea that ends where it began, in the rain.";
        let test = [GoldRow::<Labels> { line: 1, text: tested.into(), text_pair: None, gold: Label { label: 0 } }];
        let near = "a long walk by the sea that ends where it began, in the rain!!";
        let (_folder, texts) = texts(&[near, "A long walk by the river."]);
        let (kept, left_out) = texts.unlike_tested(&test).unwrap();
        assert_eq!((kept.read(0..1).unwrap(), kept.len(), left_out), (vec![row(2, "A long walk by the river.", None)], 1, 1));
    }

    #[test]
    fn drawn_gold_rows_are_left_out() {
        let gold =
            |line: usize, text: &str| GoldRow::<Labels> { line, text: text.into(), text_pair: Some("b".into()), gold: Label { label: 0 } };
        let split = Split { mine: vec![gold(1, "One")], select: vec![gold(3, "three")] };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("texts.jsonl");
        let of = |rows: &[(&str, &str)]| {
            let line =
                |(text, text_pair): &(&str, &str)| serde_json::json!({"text": text, "text_pair": text_pair, "label": "a"}).to_string();
            std::fs::write(&path, rows.iter().map(line).collect::<Vec<_>>().join("\n")).unwrap();
        };
        of(&[("One", "b"), ("two", "b"), ("three", "b")]);
        let head = Labels { names: vec!["a".into()], pairs: true };
        let file = GoldFile::open(&path, &head, Rules::default(), &Tested::default(), &|_| ()).unwrap();
        let rest = Texts::of_gold(&file, true).beside(&split);
        assert_eq!(rest.read(0..rest.len()).unwrap(), [row(2, "two", Some("b"))]);
        of(&[("one", "B"), ("THREE", "c"), ("four", "b")]);
        let others = Texts::open(&path, true).unwrap().beside(&split);
        assert_eq!(others.read(0..others.len()).unwrap(), [row(2, "THREE", Some("c")), row(3, "four", Some("b"))]);
        assert_eq!(others.of_line(3).unwrap(), Some(row(3, "four", Some("b"))));
        assert_eq!(others.of_line(1).unwrap(), None);
    }

    #[test]
    fn test_rows_among_texts_are_refused_or_left_out() {
        let (_folder, all) = texts(&["one", "Two", "three"]);
        let test = [GoldRow::<Labels> { line: 4, text: "two".into(), text_pair: None, gold: Label { label: 0 } }];
        let tested = Tested::of(Path::new("test.jsonl"), "line", &test);
        for contexts in [false, true] {
            let error = all.clone().beside_tested(&tested, contexts, OnFault::Error, &|_| ()).err().unwrap().to_string();
            assert!(error.contains("1 test row ") && error.contains("(line 4 is line 2 there)"), "{error}");
            let kept = all.clone().beside_tested(&tested, contexts, OnFault::Drop, &|_| ()).unwrap();
            assert_eq!(kept.read(0..kept.len()).unwrap(), [row(1, "one", None), row(3, "three", None)]);
        }
    }
}
