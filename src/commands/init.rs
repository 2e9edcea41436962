//! `lacuna init`: a folder with a short task file, gold, test and unlabelled rows, from a table; or with a task file alone, from labels.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use encoding_rs::Encoding;
use serde::Serialize;
use serde_json::{Value, json};

use super::init_sets::{Sets, Source, divided, source, written};
use crate::data::example::{TaskKind, key_of};
use crate::data::label_sets::names_in;
use crate::data::roles::{Roles, labels, named, said};
use crate::data::shares::{Fault, Labelled, divide};
use crate::data::table::{Row, Shape, Table};
use crate::error::{Error, Result};
use crate::files::whole::{folder_of, unfinished_folder, write, write_json_lines};
use crate::run::progress::Progress;
use crate::task::file::Task;
use crate::task::prompt_keys::PromptKeys;

/// What a folder is made of.
#[derive(Debug, Args)]
pub struct Init {
    /// Table with texts and labels: CSV, TSV, Excel, JSON, JSON lines or Parquet; rows without a label are unlabelled texts
    #[arg(required_unless_present = "labels")]
    table: Option<PathBuf>,
    /// New folder for the task [default: the table's name without its ending]
    #[arg(long)]
    out: Option<PathBuf>,
    /// What a text is, as in "a message from a customer to a bank"; for pairs, what the two texts are and what is asked of them
    #[arg(long, value_name = "WORDS")]
    about: Option<String>,
    /// Column of the text, for pairs of the first one [default: guessed]
    #[arg(long, value_name = "COLUMN", conflicts_with = "labels")]
    text: Option<String>,
    /// Column of a pair's second text [default: guessed]
    #[arg(long, value_name = "COLUMN", conflicts_with = "labels")]
    pair: Option<String>,
    /// Column of the label [default: guessed]; with --multi-label also the columns of 0 and 1, a label each: a,b,c
    #[arg(long, value_name = "COLUMN", conflicts_with = "labels")]
    label: Option<String>,
    /// Sheet of a workbook [default: the first with several columns]
    #[arg(long, value_name = "NAME", conflicts_with = "labels")]
    sheet: Option<String>,
    /// How a text file that is not UTF-8 is encoded: windows-1252 for Excel's CSV in Western Europe
    #[arg(long, value_name = "NAME", conflicts_with = "labels", value_parser = encoding)]
    encoding: Option<&'static Encoding>,
    /// Labels of a task without a table, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "NAME", conflicts_with = "table")]
    labels: Vec<String>,
    /// Rows have several labels: names in one cell ([] for none), or a column of 0 and 1 for each; a column of lists that is called labels
    /// is found without it
    #[arg(long, conflicts_with = "labels")]
    multi_label: bool,
    /// Kind of a task without a table [default: text]
    #[arg(long, value_enum, conflicts_with = "table")]
    kind: Option<Kind>,
    /// Share of the labelled rows that is held out as test rows; 0 for none
    #[arg(long, default_value_t = 0.2, value_name = "SHARE", value_parser = share)]
    test_share: f64,
    /// Seed of the random choice of test rows
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Generator: a GGUF file or a fetched name
    #[arg(long, env = "LACUNA_GENERATOR", default_value = "qwen2.5-coder-1.5b-instruct", value_name = "GGUF")]
    generator: String,
    /// Small model: a folder with an encoder (BERT and its kin), or a fetched name
    #[arg(long, env = "LACUNA_SMALL_MODEL", default_value = "all-minilm-l6-v2", value_name = "FOLDER")]
    small: String,
    /// Also write the prompts into the task file, to be changed there
    #[arg(long)]
    show_prompts: bool,
}

/// What one row of a task without a table is.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// A text and its label
    Text,
    /// Two texts and a label
    Pair,
    /// A text and any number of labels
    MultiLabel,
}

fn encoding(name: &str) -> Result<&'static Encoding, String> {
    Encoding::for_label(name.as_bytes())
        .ok_or_else(|| "no encoding has this name; windows-1252, iso-8859-2, shift_jis and gbk are some".into())
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "not a number".to_string())?;
    if (0.0..1.0).contains(&share) { Ok(share) } else { Err("it must be at least 0 and below 1".to_string()) }
}

/// A task's rows, ready to be written.
struct Rows {
    kind: TaskKind,
    labels: Vec<String>,
    gold: Vec<Value>,
    test: Vec<Value>,
    unlabelled: Vec<Value>,
    /// Rows that are in none of these: where they stand, and why.
    left_out: Vec<Value>,
    /// Words of the text that is written, and of both texts of a pair: in nineteen gold rows of twenty there are no more.
    written_words: usize,
    all_words: usize,
}

/// Makes the folder; returns what it has and what to do next. What was guessed is told before.
///
/// # Errors
/// A folder that exists; a table that cannot be read, or whose columns are not clear; no labelled rows, or one label alone.
pub fn init(init: &Init, progress: Progress) -> Result<String> {
    let folder = init.folder()?;
    if folder.symlink_metadata().is_ok() {
        return Err(Error::Run(format!("{}: it exists and is not written over: give another name with --out", folder.display())));
    }
    let rows = match &init.table {
        Some(table) => read(init, table, progress)?,
        None => init.without_rows(),
    };
    let file = init.task_file(&folder, &rows);
    let parent = folder_of(&folder);
    std::fs::create_dir_all(parent).map_err(Error::io("make the folder", parent))?;
    let new = unfinished_folder(parent).map_err(Error::io("write in", parent))?;
    let files =
        [("gold.jsonl", &rows.gold), ("test.jsonl", &rows.test), ("unlabelled.jsonl", &rows.unlabelled), (LEFT_OUT, &rows.left_out)];
    for (name, rows) in files {
        if !rows.is_empty() {
            write_json_lines(&new.path().join(name), rows)?;
        }
    }
    let task = Task::parse(&file, &folder.join("task.toml"))?;
    let file = if init.show_prompts { file + &prompts(&task)? } else { file };
    write(&new.path().join("task.toml"), file.as_bytes())?;
    std::fs::rename(new.keep(), &folder).map_err(Error::io("write", &folder))?;
    Ok(init.told(&folder, &rows))
}

impl Init {
    fn folder(&self) -> Result<PathBuf> {
        let of_table = self.table.as_deref().and_then(Path::file_stem).map(PathBuf::from);
        let named = self.out.clone().or(of_table);
        let what = "name a table, or make a task without one: lacuna init --out FOLDER --labels a,b --about \"what a text is\"";
        named.ok_or_else(|| Error::Run(what.to_string()))
    }

    fn without_rows(&self) -> Rows {
        let kind = match self.kind {
            Some(Kind::Pair) => TaskKind::Pair,
            Some(Kind::MultiLabel) => TaskKind::MultiLabel,
            Some(Kind::Text) | None => TaskKind::Text,
        };
        let labels = self.labels.iter().map(|label| label.trim().to_string()).collect();
        Rows {
            kind,
            labels,
            gold: Vec::new(),
            test: Vec::new(),
            unlabelled: Vec::new(),
            left_out: Vec::new(),
            written_words: 0,
            all_words: 0,
        }
    }

    /// The task file. Fifteen lines, and one for each label.
    fn task_file(&self, folder: &Path, rows: &Rows) -> String {
        let name = folder.file_name().map_or("task".into(), |name| name.to_string_lossy().trim_start_matches('.').to_string());
        let kind = match rows.kind {
            TaskKind::Text => "text",
            TaskKind::MultiLabel => "multi_label",
            TaskKind::Pair => "pair",
            TaskKind::ExtractiveQa => "extractive_qa",
        };
        let mut file = format!("name = {}\nkind = \"{kind}\"\n", quoted(&name));
        // Writing into a string cannot fail, here and below.
        if let Some(about) = self.about.as_deref().filter(|_| rows.kind != TaskKind::ExtractiveQa).or_else(|| default_about(rows.kind)) {
            let _ = writeln!(file, "about = {}  # {}", quoted(about), what_about_is(rows.kind));
        }
        if !rows.labels.is_empty() {
            let goes_on = match rows.kind {
                TaskKind::Pair => "how prompts say it: an answer",
                TaskKind::MultiLabel => "how prompts say it, as in: does the label … apply?",
                _ => "how prompts say it, after \"It is\"",
            };
            let _ = writeln!(file, "\n[labels]  # the name in the data = {goes_on}");
            file += &label_lines(&rows.labels);
        }
        let _ = writeln!(file, "\n[data]\ngold = \"gold.jsonl\"");
        for (key, named) in [("test", &rows.test), ("unlabelled", &rows.unlabelled)] {
            if !named.is_empty() {
                let _ = writeln!(file, "{key} = \"{key}.jsonl\"");
            }
        }
        let beside = |named: &str| {
            std::path::absolute(named).ok().filter(|path| path.exists()).map_or(named.to_string(), |path| path.display().to_string())
        };
        let _ = writeln!(file, "\n[models]\ngenerator = {}\nsmall = {}", quoted(&beside(&self.generator)), quoted(&beside(&self.small)));
        let tokens = (rows.written_words * 2).next_multiple_of(32).clamp(48, 512);
        if tokens > 128 {
            let _ = writeln!(file, "\n[sampling]\nmax_tokens = {tokens}\nstop = [\"\\\"\", \"\\n\\n\"]");
        }
        if rows.kind != TaskKind::ExtractiveQa && rows.all_words > 180 {
            let _ = writeln!(file, "\n[train]\nmax_tokens = 512");
        }
        file
    }

    fn told(&self, folder: &Path, rows: &Rows) -> String {
        let (folder, Rows { gold, test, unlabelled, left_out, .. }) = (folder.display().to_string(), rows);
        let mut text = format!("{folder}/task.toml\n");
        if self.table.is_some() {
            let _ = writeln!(text, "gold rows    {}\ntest rows    {}\nunlabelled   {}", gold.len(), test.len(), unlabelled.len());
            if !left_out.is_empty() {
                let _ = writeln!(text, "left out     {}, listed in {folder}/{LEFT_OUT}", left_out.len());
            }
        } else {
            let shape = match rows.kind {
                TaskKind::Pair => "text, text_pair and label",
                TaskKind::MultiLabel => "text and labels (a list)",
                _ => "text and label",
            };
            let _ = writeln!(text, "write gold rows into {folder}/gold.jsonl, or name a file with {shape} in data.gold");
        }
        if self.about.is_none() && rows.kind != TaskKind::ExtractiveQa {
            let _ = writeln!(
                text,
                "say in `about` {}: the prompts are made from it (--about)",
                if rows.kind == TaskKind::Pair { what_about_is(rows.kind) } else { "what a text is" }
            );
        }
        if rows.labels.iter().all(|label| label.chars().all(|c| !c.is_alphabetic())) && !rows.labels.is_empty() {
            let _ = writeln!(text, "the labels are numbers: write what they mean behind their names, the generator cannot know it");
        }
        let quote = if folder.contains(|c: char| c.is_whitespace() || "'\"()&;$".contains(c)) { "'" } else { "" };
        text + &format!("next: lacuna check {quote}{folder}/task.toml{quote}\n")
    }
}

fn read(init: &Init, path: &Path, progress: Progress) -> Result<Rows> {
    let shape = Shape { example: r#"{"text": "…", "label": "…"}"#, fields: &[], plain: false };
    let table = Table::open_as(path, shape, init.sheet.as_deref(), init.encoding)?;
    if !table.is_utf8() {
        let what = "not UTF-8: say how it is encoded, as in --encoding windows-1252 (Excel's CSV in Western Europe), or save it as UTF-8";
        return Err(Error::Data { path: path.to_path_buf(), line: None, message: what.to_string() });
    }
    let rows: Vec<Row> = (0..table.len()).map(|i| table.parsed(i, |row, _| Ok(row.clone()))).collect::<Result<_>>()?;
    let asks = ["context", "question", "answers"].iter().all(|name| rows[0].contains_key(*name));
    if asks && init.text.is_none() && init.pair.is_none() && init.label.is_none() {
        return questions(&table, rows, init);
    }
    let error = |message: String| Error::Data { path: path.to_path_buf(), line: None, message };
    if let Some(sheet) = table.sheet().filter(|_| init.sheet.is_none()) {
        progress.say(format!("{}: {sheet} (--sheet names another)", path.display()));
    }
    if let Some(source) = source(&rows, init.label.as_deref(), init.multi_label).map_err(error)?.filter(|_| init.pair.is_none()) {
        return several(init, &table, &rows, &source, progress);
    }
    let asked = Roles { text: init.text.clone(), text_pair: init.pair.clone(), label: init.label.clone() };
    let roles = Roles::of(&rows, &asked).map_err(error)?;
    let column = |name: &Option<String>| name.as_ref().map_or("none".to_string(), |name| format!("{name:?}"));
    let pair = roles.text_pair.as_ref().map_or(String::new(), |_| format!(", second text {}", column(&roles.text_pair)));
    progress.say(format!("{}: text {}{pair}, label {}", path.display(), column(&roles.text), column(&roles.label)));
    let cell = |row: &Row, name: &Option<String>| name.as_ref().and_then(|name| said(row.get(name)?));
    let (mut labelled, mut unlabelled, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    for (i, row) in rows.iter().enumerate() {
        let (text, text_pair) = (cell(row, &roles.text), cell(row, &roles.text_pair));
        let Some(text) = text.filter(|_| roles.text_pair.is_none() || text_pair.is_some()) else {
            left_out.push(without_text(table.line(i), row));
            continue;
        };
        let label = cell(row, &roles.label);
        let of = if label.is_some() { &mut labelled } else { &mut unlabelled };
        of.push(Labelled { line: table.line(i), id: id_of(row), text, text_pair, label: label.unwrap_or_default() });
    }
    let counts = labels(labelled.iter().map(|row| row.label.clone()));
    let header = [&roles.text, &roles.label].into_iter().flatten();
    if header.clone().any(|name| name.split_whitespace().count() > 5 || counts.iter().any(|(label, _)| label == name)) {
        let header = header.map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        return Err(error(format!(
            "its first row looks like data, not like the names of the columns ({header}): write a row of names above it"
        )));
    }
    let several = |(name, _): &(String, usize)| {
        let parts = names_in(name);
        parts.len() > 1 && parts.iter().all(|part| counts.iter().any(|(other, _)| other == part))
    };
    if let Some((name, _)) = counts.iter().find(|label| several(label)) {
        progress.say(format!("{}: {name:?} looks like several labels: --multi-label takes it for that", path.display()));
    }
    tell_of_names(path, &counts.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), progress);
    if counts.len() < 2 {
        let column = roles.label.as_ref().map_or("a column of labels (--label)".to_string(), |label| format!("column {label:?}"));
        let has = if counts.is_empty() { "no label" } else { "one label alone" };
        return Err(error(format!("{has} in {column}: at least two labels are needed, two rows of each")));
    }
    let parts = divide(labelled, init.test_share, init.seed);
    let left: HashMap<String, usize> = labels(parts.gold.iter().map(|row| row.label.clone())).into_iter().collect();
    let rare: Vec<(String, usize)> = counts.iter().filter(|(name, _)| left.get(name).is_none_or(|rows| *rows < 2)).cloned().collect();
    if !rare.is_empty() {
        let message = "fewer than two different rows have the label";
        return Err(error(format!("{message} {}: give each label two or more, or leave these rows out", named(&rare))));
    }
    let kind = if roles.text_pair.is_some() { TaskKind::Pair } else { TaskKind::Text };
    let known: HashSet<u64> = parts.gold.iter().chain(&parts.test).map(Labelled::key).collect();
    let (known_unlabelled, unlabelled): (Vec<Labelled>, Vec<Labelled>) = unlabelled.into_iter().partition(|row| known.contains(&row.key()));
    let because = |(row, why): (&Labelled, &'static str)| left_out_row(row, why);
    left_out.extend(parts.left_out.iter().map(|(row, why)| (row, why_left_out(*why))).map(because));
    left_out.extend(known_unlabelled.iter().map(|row| (row, "a labelled row has its text")).map(because));
    left_out.sort_by_key(|row| row["line"].as_u64());
    tell_left_out(path, &left_out, progress);
    let words = |text: &str| text.split_whitespace().count();
    let written = parts.gold.iter().map(|row| words(row.text_pair.as_ref().unwrap_or(&row.text)));
    let all = parts.gold.iter().map(|row| words(&row.text) + row.text_pair.as_deref().map_or(0, words));
    Ok(Rows {
        kind,
        labels: counts.into_iter().map(|(label, _)| label).collect(),
        gold: parts.gold.iter().map(of).collect(),
        test: parts.test.iter().map(of).collect(),
        unlabelled: unlabelled.iter().map(of).collect(),
        left_out,
        written_words: most(written.collect()),
        all_words: most(all.collect()),
    })
}

/// Says which labels may be none, and which may be one.
fn tell_of_names(path: &Path, names: &[&str], progress: Progress) {
    let path = path.display();
    for name in names.iter().filter(|name| ["n/a", "#n/a", "nan", "null"].contains(&name.to_lowercase().as_str())) {
        progress.say(format!("{path}: {name:?} is taken for a label; if it means that there is none, empty these cells"));
    }
    let capitals = |i: usize| names[..i].iter().find(|other| other.to_lowercase() == names[i].to_lowercase()).map(|other| (other, i));
    if let Some((other, i)) = (1..names.len()).find_map(capitals) {
        progress.say(format!("{path}: the labels {other:?} and {:?} differ only in capitals; write both alike", names[i]));
    }
}

/// Rows with several labels each.
///
/// # Errors
/// As [`read`].
fn several(init: &Init, table: &Table, rows: &[Row], source: &Source, progress: Progress) -> Result<Rows> {
    let path = table.path();
    let error = |message: String| Error::Data { path: path.to_path_buf(), line: None, message };
    let asked = Roles { text: init.text.clone(), text_pair: None, label: Some(source.column().to_string()) };
    let roles = Roles::of(rows, &asked).map_err(error)?;
    let text = roles.text.unwrap_or_default();
    progress.say(format!("{}: text {text:?}, {}", path.display(), source.in_words()));
    let (mut with_text, mut left_out) = (Vec::new(), Vec::new());
    for (i, row) in rows.iter().enumerate() {
        let Some(text) = row.get(&text).and_then(said) else {
            left_out.push(without_text(table.line(i), row));
            continue;
        };
        with_text.push((Labelled { line: table.line(i), id: id_of(row), text, text_pair: None, label: String::new() }, row));
    }
    let Sets { labels, gold, test, unlabelled, left_out: others } =
        divided(with_text, source, init.test_share, init.seed).map_err(error)?;
    if let (Source::Cell(_), false) = (source, unlabelled.is_empty()) {
        let (path, count) = (path.display(), unlabelled.len());
        progress.say(format!("{path}: {count} rows with an empty cell are unlabelled texts; write [] where no label applies"));
    }
    tell_of_names(path, &labels.iter().map(String::as_str).collect::<Vec<_>>(), progress);
    left_out.extend(others.iter().map(|(row, why)| left_out_row(row, why)));
    left_out.sort_by_key(|row| row["line"].as_u64());
    tell_left_out(path, &left_out, progress);
    let words = most(gold.iter().map(|(row, _)| row.text.split_whitespace().count()).collect());
    Ok(Rows {
        kind: TaskKind::MultiLabel,
        labels,
        gold: gold.iter().map(written).collect(),
        test: test.iter().map(written).collect(),
        unlabelled: unlabelled.iter().map(of).collect(),
        left_out,
        written_words: words,
        all_words: words,
    })
}

/// What a row has in a column `id`.
fn id_of(row: &Row) -> Option<Value> {
    row.iter().find(|(name, id)| name.eq_ignore_ascii_case("id") && !id.is_null()).map(|(_, id)| id.clone())
}

/// A row as it is written: an unlabelled one has no label.
fn of(row: &Labelled) -> Value {
    let Labelled { id, text, text_pair, label, .. } = row;
    let mut written = json!({"text": text});
    id.iter().for_each(|id| written["id"] = id.clone());
    text_pair.iter().for_each(|text| written["text_pair"] = json!(text));
    if !label.is_empty() {
        written["label"] = json!(label);
    }
    written
}

/// The file with the rows that are left out.
const LEFT_OUT: &str = "left-out.jsonl";
const WITHOUT_TEXT: &str = "without a text";

fn why_left_out(fault: Fault) -> &'static str {
    match fault {
        Fault::Repeated => "its text was there before with the same label",
        Fault::Contradicting => "its text has several labels",
    }
}

fn left_out_row(row: &Labelled, why: &str) -> Value {
    let mut written = of(row);
    (written["line"], written["why"]) = (json!(row.line), json!(why));
    written
}

fn without_text(line: usize, row: &Row) -> Value {
    json!({"line": line, "why": WITHOUT_TEXT, "row": row})
}

/// How many rows are left out for which reason.
fn tell_left_out(path: &Path, left_out: &[Value], progress: Progress) {
    let mut reasons: Vec<(&str, usize)> = Vec::new();
    for why in left_out.iter().filter_map(|row| row["why"].as_str()) {
        match reasons.iter_mut().find(|(own, _)| *own == why) {
            Some((_, count)) => *count += 1,
            None => reasons.push((why, 1)),
        }
    }
    reasons.iter().for_each(|(why, count)| progress.say(format!("{}: left out {count}: {why}", path.display())));
}

fn most(mut lengths: Vec<usize>) -> usize {
    lengths.sort_unstable();
    lengths.get(lengths.len() * 19 / 20).copied().unwrap_or(0)
}

/// Questions in SQuAD's format; a share of the contexts is held out with all their questions.
///
/// # Errors
/// A row without a context or a question.
fn questions(table: &Table, rows: Vec<Row>, init: &Init) -> Result<Rows> {
    let of = |(i, row): (usize, &Row)| {
        let text = |name: &str| row.get(name).and_then(Value::as_str).map(str::to_string);
        let missing = || table.error(table.line(i), "a question needs \"context\", \"question\" and \"answers\"");
        Ok(Labelled {
            line: table.line(i),
            id: None,
            text: text("context").ok_or_else(missing)?,
            text_pair: Some(text("question").ok_or_else(missing)?),
            label: String::new(),
        })
    };
    let all: Vec<Labelled> = rows.iter().enumerate().map(of).collect::<Result<_>>()?;
    let contexts: Vec<u64> = all.iter().map(|row| key_of(&row.text)).collect();
    let tested: HashSet<u64> = divide(all, init.test_share, init.seed).test.iter().map(|row| key_of(&row.text)).collect();
    let (mut gold, mut test) = (Vec::new(), Vec::new());
    for (row, context) in rows.into_iter().zip(contexts) {
        if tested.contains(&context) { test.push(Value::Object(row)) } else { gold.push(Value::Object(row)) }
    }
    Ok(Rows {
        kind: TaskKind::ExtractiveQa,
        labels: Vec::new(),
        gold,
        test,
        unlabelled: Vec::new(),
        left_out: Vec::new(),
        written_words: 0,
        all_words: 0,
    })
}

/// The prompts that the file was given by its kind, as part of a task file.
fn prompts(task: &Task) -> Result<String> {
    let mut task = task.clone();
    // The words of the judge are the wordings of the labels: they are found again from these.
    task.prompts.judge.iter_mut().for_each(|judge| judge.words.clear());
    let shown = toml::to_string_pretty(&Shown { prompts: &task.prompts }).map_err(|error| Error::Failed(error.to_string()))?;
    Ok(format!("\n{shown}"))
}

#[derive(Serialize)]
struct Shown<'t> {
    prompts: &'t PromptKeys,
}

/// What a file says of texts and of pairs until somebody writes what they are.
pub(super) const DEFAULT_ABOUT: [&str; 2] = ["a text", "There are two texts. What does the first say of the second?"];

fn default_about(kind: TaskKind) -> Option<&'static str> {
    match kind {
        TaskKind::Text | TaskKind::MultiLabel => Some(DEFAULT_ABOUT[0]),
        TaskKind::Pair => Some(DEFAULT_ABOUT[1]),
        TaskKind::ExtractiveQa => None,
    }
}

fn what_about_is(kind: TaskKind) -> &'static str {
    match kind {
        TaskKind::Pair => "what the two texts are, and what is asked of them",
        _ => "what a text is; the prompts are made from it",
    }
}

/// A line for each label: its name, and how prompts say it.
fn label_lines(labels: &[String]) -> String {
    let mut said: Vec<String> = labels.iter().map(|label| wording(label)).collect();
    // Wordings that are the same, or nothing, tell no labels apart: the names do.
    if (1..said.len()).any(|i| said[..i].contains(&said[i])) || said.iter().any(String::is_empty) {
        said = labels.to_vec();
    }
    let line = |(name, said): (&String, String)| toml::Table::from_iter([(name.clone(), said.into())]).to_string();
    labels.iter().zip(said).map(line).collect()
}

/// A label's name as prompts say it.
fn wording(label: &str) -> String {
    label.replace('_', " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
