//! `lacuna review`: the rows of a finished run that its label, its judge and its model do not agree on, and gold rows that look
//! mislabelled; what a person decides about them is kept, and `lacuna run --continue` goes on with it.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;

use super::doubts::{Doubt, dataset, doubts, gold, labels};
use super::review_screen;
use crate::data::fields::{label_of, quoted};
use crate::data::table::{Row, Shape, Table};
use crate::error::{Error, Result};
use crate::files::whole::write;
use crate::run::folder::RunDir;
use crate::run::review::{Decision, Decisions, REVIEW, Verdict, mark};

/// Options of `lacuna review`.
#[derive(clap::Args)]
pub struct Review {
    /// Folder of a finished run
    run: PathBuf,
    /// Most rows to look at, the most doubtful first
    #[arg(long, default_value = "200", value_name = "N")]
    rows: NonZeroUsize,
    /// Write the rows into this new CSV file, to be decided about in any spreadsheet, instead of showing them
    #[arg(long, value_name = "FILE", conflicts_with = "decisions")]
    csv: Option<PathBuf>,
    /// Take decisions from a file like that of --csv: `decision` is accept (it stays as it is; takes an earlier decision back), reject
    /// (nothing learns from it), relabel (it has `new_label` alone), or empty. `judged` and `predicted` are what the judge and the model
    /// say, `mark` stands for the row's text
    #[arg(long, value_name = "FILE")]
    decisions: Option<PathBuf>,
    /// Whose decisions they are
    #[arg(long, env = "USER", default_value = "unknown", value_name = "NAME")]
    author: String,
}

/// Lets a person decide, or takes decisions from a file; returns what to print.
///
/// # Errors
/// A folder without a finished run of labels; decisions that are none, all told together.
pub fn review(review: &Review) -> Result<String> {
    let folder = &review.run;
    let names = labels(folder)?;
    let again = "the run's own command with --continue goes on with what is decided\n";
    if let Some(path) = &review.decisions {
        let decisions = read(path, &names, folder, &review.author)?;
        keep(folder, &decisions)?;
        return Ok(format!("decisions kept in {}: {}\n{again}", folder.join(REVIEW).display(), decisions.len()));
    }
    if review.csv.is_none() {
        review_screen::check_terminal()?;
    }
    let doubts = doubts(folder, &names, review.rows.get())?;
    if doubts.is_empty() {
        return Ok("no row is left that label, judge and model do not agree on\n".to_string());
    }
    if let Some(path) = &review.csv {
        if path.exists() {
            return Err(Error::Run(format!("{}: exists; choose another name", path.display())));
        }
        write(path, &as_csv(&doubts))?;
        let (rows, place) = (doubts.len(), path.display());
        return Ok(format!(
            "{rows} rows in {place}: fill in decision and new_label, then lacuna review {} --decisions {place}\n",
            folder.display()
        ));
    }
    let mut kept = HashSet::new();
    review_screen::show(&doubts, &names, &mut |doubt, verdict, label| {
        keep(folder, &[decision(doubt, verdict, label, &review.author)])?;
        kept.insert(doubt.id.clone());
        Ok(())
    })?;
    Ok(if kept.is_empty() { "nothing was decided\n".to_string() } else { format!("rows decided about: {}\n{again}", kept.len()) })
}

/// Keeps decisions while no other process works in the run's folder.
fn keep(folder: &Path, decisions: &[Decision]) -> Result<()> {
    let run = RunDir::open(folder)?;
    Decisions::append(run.path(), decisions)
}

fn decision(doubt: &Doubt, verdict: Verdict, label: Option<String>, author: &str) -> Decision {
    let (id, of) = (doubt.id.clone(), mark(&doubt.text, doubt.text_pair.as_deref()));
    Decision { id, of, verdict, label, text: beginning(doubt), author: author.to_string(), at: now() }
}

/// Characters of a text that a decision keeps.
const KEPT: usize = 160;

fn beginning(doubt: &Doubt) -> String {
    let whole = doubt.text_pair.as_ref().map_or(doubt.text.clone(), |pair| format!("{} | {pair}", doubt.text));
    whole.chars().take(KEPT).collect()
}

/// In seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_secs())
}

const COLUMNS: [&str; 12] = [
    "id",
    "decision",
    "new_label",
    "label",
    "judged",
    "judged_probability",
    "predicted",
    "predicted_probability",
    "why",
    "text",
    "text_pair",
    "mark",
];

fn as_csv(doubts: &[Doubt]) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    // Writing into memory cannot fail.
    let _ = writer.write_record(COLUMNS);
    for doubt in doubts {
        let said = |said: &(String, f64)| (harmless(&said.0), format!("{:.1}%", 100.0 * said.1));
        let (judged, predicted) = (doubt.judged.as_ref().map(said).unwrap_or_default(), said(&doubt.predicted));
        let pair = doubt.text_pair.clone().unwrap_or_default();
        let record: [String; 12] = [
            format!("{ROW}{}", doubt.id),
            String::new(),
            String::new(),
            harmless(&doubt.label),
            judged.0,
            judged.1,
            predicted.0,
            predicted.1,
            doubt.why(),
            harmless(&doubt.text),
            harmless(&pair),
            mark(&doubt.text, doubt.text_pair.as_deref()),
        ];
        let _ = writer.write_record(record);
    }
    writer.into_inner().unwrap_or_default()
}

/// Begins an id in a table: a spreadsheet takes 1-17 for a date.
const ROW: &str = "row-";

/// A cell that no spreadsheet takes for a formula.
fn harmless(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_string() }
}

/// The decisions of a file about rows of a run.
fn read(path: &Path, names: &[String], folder: &Path, author: &str) -> Result<Vec<Decision>> {
    let shape = Shape {
        example: r#"{"id": "row-0-17", "decision": "relabel", "new_label": "…"}"#,
        fields: &["id", "decision", "new_label"],
        plain: false,
    };
    let table = Table::open(path, shape)?;
    // Of each row, a mark of its texts and how they begin. What was decided about is known, though it may stand in none of the run's files
    // any more.
    let earlier = Decisions::read(folder)?;
    let mut known: HashMap<String, (String, String)> =
        earlier.iter().map(|own| (own.id.clone(), (own.of.clone(), own.text.clone()))).collect();
    let now = [gold(folder, names)?, dataset(folder, names)?].concat();
    known.extend(now.into_iter().map(|doubt| (doubt.id.clone(), (mark(&doubt.text, doubt.text_pair.as_deref()), beginning(&doubt)))));
    let (mut decisions, mut errors, mut told) = (Vec::new(), Vec::new(), HashSet::new());
    for i in 0..table.len() {
        match table.parsed(i, |row, _| one(row, names, &known, author)) {
            Ok(Some(decision)) if !told.insert(decision.id.clone()) => {
                errors.push(table.error(table.line(i), format!("`id` {:?} stands here a second time", decision.id)));
            }
            Ok(decision) => decisions.extend(decision),
            Err(error) => errors.push(error),
        }
    }
    Error::all(errors)?;
    if decisions.is_empty() {
        let message = "no row has a decision: accept, reject or relabel".to_string();
        return Err(Error::Data { path: path.to_path_buf(), line: None, message });
    }
    Ok(decisions)
}

/// The decision of a row; none where it is left open.
fn one(row: &Row, names: &[String], known: &HashMap<String, (String, String)>, author: &str) -> Result<Option<Decision>, String> {
    let cell = |name: &str| match row.get(name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let (id, new_label) = (cell("id"), cell("new_label"));
    let verdict = match cell("decision").trim().to_lowercase().as_str() {
        "" if !new_label.is_empty() => return Err("`new_label` has a label, and `decision` is empty: write relabel".to_string()),
        "" => return Ok(None),
        "accept" => Verdict::Accept,
        "reject" => Verdict::Reject,
        "relabel" => Verdict::Relabel,
        other => return Err(format!("`decision` is {other:?}; write accept, reject or relabel, or nothing")),
    };
    let label = match verdict {
        Verdict::Relabel => Some(label_in(&new_label, names)?),
        _ if !new_label.is_empty() => return Err("`new_label` has a label, and `decision` is not relabel".to_string()),
        _ => None,
    };
    let written = id.trim();
    let id = written.strip_prefix(ROW).unwrap_or(written);
    let (of, text) = known.get(id).ok_or_else(|| format!("`id` is {written:?}: the run has no such row"))?;
    if ![String::new(), of.clone()].contains(&cell("mark")) {
        return Err(format!("`id` is {id:?}: the run has another text there now than when this file was written; make the file anew"));
    }
    let (id, of, text) = (id.to_string(), of.clone(), text.clone());
    Ok(Some(Decision { id, of, verdict, label, text, author: author.to_string(), at: now() }))
}

/// The label that a cell names.
fn label_in(cell: &str, names: &[String]) -> Result<String, String> {
    if cell.is_empty() {
        return Err(format!("`new_label` is empty; the labels are {}", quoted(names)));
    }
    let named = |cell: &str| label_of(cell, names).map(|place| names[place].clone());
    // As it is, or without what makes it harmless and white space.
    let found = named(cell).or_else(|error| named(cell.trim_start_matches('\'').trim()).map_err(|_| error));
    found.map_err(|error| error.replace("field \"label\"", "`new_label`"))
}
