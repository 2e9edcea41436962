//! What is known of a finished run, read from its folder.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::estimates::Estimate;
use super::words::{day, difference, share, share_of_rows, thousands};
use crate::error::{Error, Result};
use crate::measure::interval::{self, Interval};
use crate::measure::metrics::Counts;
use crate::run::cost::{Spent, Work};
use crate::run::manifest::Manifest;
use crate::run::place::{MAP, Place};
use crate::run::review::{Decision, Decisions, GOLD, Verdict};
use crate::run::round::RoundRecord;
use crate::run::stage::Stage;
use crate::run::summary::{Bin, Delivery, Measures, Method, MethodResult, OfLabels, WORTH};

/// Everything that the page shows.
#[derive(Debug, Serialize)]
pub(super) struct Facts {
    task: String,
    about: Option<String>,
    verdict: String,
    pub(super) methods: Vec<MethodFacts>,
    test_rows: usize,
    /// Whether `share` of methods is of exact matches.
    questions: bool,
    /// What the share of a method is called, and the share of what it is.
    measure: &'static str,
    share_of_rows: &'static str,
    pub(super) rounds: Vec<RoundFacts>,
    /// Texts on the map, gold rows first.
    pub(super) map: Vec<Place>,
    rejected: Vec<(String, usize)>,
    labels: Vec<LabelFacts>,
    /// Rows of gold labels, with the share of each predicted one; empty where there are too many labels.
    confusion: Vec<ConfusionRow>,
    /// The most frequent confusions: gold label, predicted one, rows.
    confused: Vec<(String, String, usize)>,
    pub(super) bins: Vec<Bin>,
    calibration: Option<[f64; 2]>,
    errors: Vec<ErrorFacts>,
    doubtful: Vec<Value>,
    /// What people have decided about rows, as the run has heeded it; and whether decisions wait for `run --continue`.
    decided: Vec<DecisionFacts>,
    waiting: bool,
    samples: Vec<Sample>,
    dataset_rows: usize,
    gold_rows: usize,
    parts: Vec<(String, f64)>,
    seconds: f64,
    tokens: u64,
    judge: Option<Value>,
    inputs: Vec<(String, String)>,
    generator: Vec<(String, String)>,
    lacuna: String,
}

/// A method's results on the test rows.
#[derive(Debug, Serialize)]
pub(super) struct MethodFacts {
    name: &'static str,
    synthetic: usize,
    gold: usize,
    steps: usize,
    /// Of right predictions.
    share: Interval,
    /// Further measures, by name.
    details: Vec<(&'static str, f64)>,
    delivered: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct RoundFacts {
    pub(super) record: RoundRecord,
    pub(super) best: bool,
    /// On *select*, and what it is called.
    share: f64,
    measure: &'static str,
    fixed: usize,
    stayed: usize,
    appeared: usize,
    /// Texts and gold rows: distinct bigrams, self-BLEU; and how far the texts are from the gold rows (Fréchet, MAUVE).
    pub(super) measures: Value,
}

#[derive(Debug, Serialize)]
struct LabelFacts {
    name: String,
    gold: usize,
    predicted: usize,
    right: usize,
    f1: f64,
}

#[derive(Debug, Serialize)]
struct ConfusionRow {
    gold: String,
    cells: Vec<Cell>,
}

#[derive(Debug, Serialize)]
struct Cell {
    rows: usize,
    /// Of the gold label's rows.
    share: f64,
    right: bool,
}

/// A gold row that a round's model got wrong, and what was written for it.
#[derive(Debug, Serialize)]
struct ErrorFacts {
    line: u64,
    text: String,
    text_pair: Option<String>,
    gold: String,
    /// What each round's model said; the gold label where it was right.
    rounds: Vec<String>,
    mended: bool,
    /// Texts that were written for it, and the round of each.
    written: Vec<(String, u64)>,
}

/// What a person has decided about a row.
#[derive(Debug, Serialize)]
struct DecisionFacts {
    row: String,
    /// The beginning of its text.
    text: String,
    /// In words.
    decision: String,
    author: String,
    /// As `2026-11-28`.
    day: String,
}

/// A row of the dataset.
#[derive(Debug, Serialize)]
struct Sample {
    text: String,
    text_pair: Option<String>,
    label: String,
    origin: String,
    round: u64,
    /// The target's probability of the label.
    probability: Option<f64>,
}

/// Labels that a confusion matrix has at most; confusions that are listed; errors, texts of each, and sample rows of each label.
const MOST_LABELS: usize = 24;
const MOST_CONFUSED: usize = 20;
const MOST_ERRORS: usize = 40;
const MOST_WRITTEN: usize = 6;
const SAMPLES: usize = 6;
const MOST_SAMPLES: usize = 60;

impl Facts {
    /// Reads a run's folder, without locking it.
    ///
    /// # Errors
    /// A folder without a finished run; a file that cannot be read.
    pub(super) fn of(folder: &Path) -> Result<Facts> {
        let manifest = Manifest::read_in(folder)?;
        if manifest.stage != Stage::Done {
            return Err(Error::Run(format!(
                "{}: the run is not finished: run its task again, it goes on where it stopped",
                folder.display()
            )));
        }
        let delivery = Delivery::read_in(folder)?;
        let dataset = json_lines(&folder.join("dataset.jsonl"))?;
        let names = label_names(&manifest);
        let text = |key: &str| manifest.inputs.get(key).and_then(Value::as_str).map(str::to_string);
        let measures = delivery.as_delivered.as_ref().or_else(|| delivered(&delivery).map(|result| &result.measured.measures));
        let of_labels = measures.and_then(Measures::of_labels);
        let (spent, heeded) = (Spent::read(folder), Decisions::heeded(folder)?);
        let test_rows = delivery.results.first().map_or(0, |result| result.measured.correct.len());
        Ok(Facts {
            task: text("task.name").unwrap_or_else(|| "a task".into()),
            about: text("task.about"),
            verdict: verdict(&delivery) + &worth(folder),
            methods: delivery.results.iter().map(|result| MethodFacts::of(result, &delivery)).collect(),
            test_rows,
            questions: delivery.results.iter().any(|result| result.measured.answer_f1().is_some()),
            measure: delivery.results.first().map_or("accuracy", |result| result.measured.measure()),
            share_of_rows: delivery.results.first().map_or("", |result| share_of_rows(result.measured.measure())),
            rounds: manifest.rounds.iter().map(|record| RoundFacts::of(record, &manifest, folder)).collect::<Result<_>>()?,
            map: json_lines(&folder.join(MAP))?.into_iter().filter_map(|row| serde_json::from_value(row).ok()).collect(),
            rejected: rejected(&manifest.rounds),
            labels: measures.and_then(Measures::labels).map(label_facts).unwrap_or_default(),
            confusion: of_labels.map(confusion).unwrap_or_default(),
            confused: of_labels.map(confused).unwrap_or_default(),
            bins: of_labels.map(|of| of.bins.clone()).unwrap_or_default(),
            calibration: delivery.scaled.and_then(|scaled| scaled.calibration_error),
            errors: errors(folder, &manifest, &names, &dataset)?,
            doubtful: json_lines(&folder.join("doubtful.jsonl"))?.into_iter().map(most_probable).collect(),
            waiting: Decisions::wait(folder)?,
            decided: heeded.iter().map(DecisionFacts::of).collect(),
            samples: samples(&dataset),
            dataset_rows: dataset.len(),
            gold_rows: manifest.splits.mine.len() + manifest.splits.select.len(),
            parts: parts(&spent),
            seconds: spent.iter().map(|spent| spent.seconds).sum(),
            tokens: manifest.rounds.iter().map(|record| record.tokens).sum(),
            judge: manifest.judge.as_ref().and_then(|judge| serde_json::to_value(judge).ok()),
            inputs: manifest.inputs.iter().map(|(key, value)| (key.clone(), shown(value))).collect(),
            generator: manifest.generator.as_ref().map(flattened).unwrap_or_default(),
            lacuna: manifest.lacuna,
        })
    }
}

impl MethodFacts {
    fn of(result: &MethodResult, delivery: &Delivery) -> MethodFacts {
        let measured = &result.measured;
        MethodFacts {
            name: result.method.name(),
            synthetic: measured.synthetic_rows,
            gold: measured.gold_rows,
            steps: measured.steps,
            share: measured.accuracy(),
            details: measured.details(),
            delivered: result.method == delivery.delivered,
        }
    }

    pub(super) fn estimate(&self) -> Estimate {
        Estimate { name: self.name.to_string(), interval: self.share, draws: Vec::new(), own: self.delivered }
    }
}

impl DecisionFacts {
    fn of(decision: &Decision) -> DecisionFacts {
        let said = match (decision.verdict, &decision.label) {
            (Verdict::Accept, _) => "accepted as it is".to_string(),
            (Verdict::Reject, _) => "rejected".to_string(),
            (Verdict::Relabel, label) => format!("relabelled: {}", label.as_deref().unwrap_or_default()),
        };
        let row = decision.id.strip_prefix(GOLD).map_or_else(|| format!("row {}", decision.id), |line| format!("gold row, line {line}"));
        DecisionFacts { row, text: decision.text.clone(), decision: said, author: decision.author.clone(), day: day(decision.at) }
    }
}

impl RoundFacts {
    fn of(record: &RoundRecord, manifest: &Manifest, folder: &Path) -> Result<RoundFacts> {
        let sum = |of: fn(&crate::run::misclassified::Changes) -> &Vec<usize>| {
            record.changes.as_ref().map_or(0, |changes| of(changes).iter().sum::<usize>())
        };
        let metrics = folder.join(format!("rounds/{}/metrics.json", record.round));
        let measures = if metrics.exists() { read_json(&metrics)?["synthetic"].clone() } else { Value::Null };
        Ok(RoundFacts {
            best: manifest.best_round == Some(record.round),
            share: record.select.share(),
            measure: record.select.measure(),
            fixed: sum(|changes| &changes.fixed),
            stayed: sum(|changes| &changes.stayed),
            appeared: sum(|changes| &changes.appeared),
            measures,
            record: record.clone(),
        })
    }
}

fn delivered(delivery: &Delivery) -> Option<&MethodResult> {
    delivery.results.iter().find(|result| result.method == delivery.delivered)
}

/// One sentence or two: how good the delivered model is, and what it gained.
fn verdict(delivery: &Delivery) -> String {
    let Some(own) = delivered(delivery) else {
        return format!("There are no test rows: how good the delivered model ({}) is was not measured.", delivery.delivered.name());
    };
    let rows = own.measured.correct.len();
    let (name, found, rows) = (own.method.name(), share(own.measured.accuracy()), thousands(rows as u64));
    let mut text = match (&own.measured.measures, &delivery.as_delivered) {
        (Measures::LabelSets(_), Some(Measures::LabelSets(of))) => format!(
            "The delivered model ({name}) has a mean F1 of {} over the labels of {rows} test rows; with a threshold of 0.5 for all labels, as \
             models are compared below, it is {found}.",
            share(interval::share(std::slice::from_ref(&of.f1)))
        ),
        (Measures::LabelSets(_), _) => {
            format!("The delivered model ({name}) has a mean F1 of {found} over the labels of {rows} test rows.")
        }
        _ => format!("The delivered model ({name}) is right on {found} of {rows} test rows."),
    };
    let Some(gold) = delivery.results.iter().find(|result| result.method == Method::GoldOnly && own.method != Method::GoldOnly) else {
        if own.method == Method::GoldOnly {
            text += " It learnt the gold rows alone: what was written was not shown to help.";
        }
        return text;
    };
    let less: Vec<f64> = own.measured.right().iter().zip(gold.measured.right()).map(|(own, gold)| own - gold).collect();
    text += &format!(" Against the gold rows alone that is {}.", difference(interval::mean(&[less])));
    text
}

/// How many human labels the delivered model is worth, if that was measured.
fn worth(folder: &Path) -> String {
    let labels = read_json(&folder.join(WORTH)).ok().and_then(|worth| worth["human_labels"].as_str().map(str::to_string));
    labels.map_or(String::new(), |labels| format!(" The same small model needs about {labels} human labels to be right as often."))
}

/// The names of the labels, in the task's order.
fn label_names(manifest: &Manifest) -> Vec<String> {
    let name = |i: usize| manifest.inputs.get(&format!("task.labels[{i}].name")).map(shown);
    (0..).map_while(name).collect()
}

fn rejected(rounds: &[RoundRecord]) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    rounds.iter().flat_map(|record| &record.rejected).for_each(|(why, n)| *counts.entry(why.says()).or_default() += n);
    let mut counts: Vec<(String, usize)> = counts.into_iter().map(|(why, n)| (why.to_string(), n)).collect();
    counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    counts
}

fn label_facts(labels: &BTreeMap<String, Counts>) -> Vec<LabelFacts> {
    let facts = |(name, counts): (&String, &Counts)| LabelFacts {
        name: name.clone(),
        gold: counts.gold,
        predicted: counts.predicted,
        right: counts.right,
        f1: counts.f1(),
    };
    let mut labels: Vec<LabelFacts> = labels.iter().map(facts).collect();
    // Of a label without test rows nothing is known.
    labels.sort_by(|a, b| (a.gold == 0).cmp(&(b.gold == 0)).then(a.f1.total_cmp(&b.f1)));
    labels
}

fn confusion(of: &OfLabels) -> Vec<ConfusionRow> {
    if of.labels.len() > MOST_LABELS || of.confusion.is_empty() {
        return Vec::new();
    }
    let row = |gold: &String| {
        let rows = of.labels[gold].gold.max(1) as f64;
        let cell = |predicted: &String| {
            let count = of.confusion.get(gold).and_then(|row| row.get(predicted)).copied().unwrap_or(0);
            Cell { rows: count, share: count as f64 / rows, right: gold == predicted }
        };
        ConfusionRow { gold: gold.clone(), cells: of.labels.keys().map(cell).collect() }
    };
    of.labels.keys().map(row).collect()
}

fn confused(of: &OfLabels) -> Vec<(String, String, usize)> {
    let of_gold = |(gold, row): (&String, &BTreeMap<String, usize>)| {
        row.iter()
            .filter(|(predicted, _)| *predicted != gold)
            .map(|(predicted, n)| (gold.clone(), predicted.clone(), *n))
            .collect::<Vec<_>>()
    };
    let mut all: Vec<(String, String, usize)> = of.confusion.iter().flat_map(of_gold).collect();
    all.sort_by_key(|(_, _, n)| std::cmp::Reverse(*n));
    all.truncate(MOST_CONFUSED);
    all
}

/// The gold rows that some round got wrong, with what each round said and what was written for them.
fn errors(folder: &Path, manifest: &Manifest, names: &[String], dataset: &[Value]) -> Result<Vec<ErrorFacts>> {
    let rounds = manifest.rounds.len();
    let mut wrong: BTreeMap<u64, (Value, HashMap<usize, String>)> = BTreeMap::new();
    for round in 0..rounds {
        for row in json_lines(&folder.join(format!("rounds/{round}/misclassified.jsonl")))? {
            let predicted = named(&row["predicted"], names);
            wrong.entry(row["line"].as_u64().unwrap_or(0)).or_insert_with(|| (row, HashMap::new())).1.insert(round, predicted);
        }
    }
    let mut written: HashMap<u64, Vec<(String, u64)>> = HashMap::new();
    for row in dataset {
        if let Some(parent) = row["parent"].as_u64() {
            let text = row["text_pair"].as_str().or(row["question"].as_str()).or(row["text"].as_str()).unwrap_or_default();
            written.entry(parent).or_default().push((text.to_string(), row["round"].as_u64().unwrap_or(0)));
        }
    }
    let facts = |(line, (row, said)): (u64, (Value, HashMap<usize, String>))| {
        let gold = ["label", "labels", "answer"].iter().map(|field| &row[*field]).find(|value| !value.is_null());
        let gold = named(gold.unwrap_or(&Value::Null), names);
        let mut written = written.remove(&line).unwrap_or_default();
        written.truncate(MOST_WRITTEN);
        ErrorFacts {
            line,
            text: row["text"].as_str().unwrap_or_default().to_string(),
            text_pair: row["text_pair"].as_str().map(str::to_string),
            mended: !said.contains_key(&(rounds - 1)),
            rounds: (0..rounds).map(|round| said.get(&round).unwrap_or(&gold).clone()).collect(),
            gold,
            written,
        }
    };
    let mut facts: Vec<ErrorFacts> = wrong.into_iter().map(facts).collect();
    facts.sort_by_key(|error| std::cmp::Reverse(error.written.len()));
    facts.truncate(MOST_ERRORS);
    Ok(facts)
}

/// A label by its number, several, or an answer.
fn named(value: &Value, names: &[String]) -> String {
    if let Some(labels) = value.as_array() {
        let labels: Vec<String> = labels.iter().map(|label| named(label, names)).collect();
        return in_one(&labels);
    }
    match value.as_u64().and_then(|label| names.get(label as usize)) {
        Some(name) => name.clone(),
        None => value["text"].as_str().map_or_else(|| shown(value), str::to_string),
    }
}

/// The first rows of each label and origin.
fn samples(dataset: &[Value]) -> Vec<Sample> {
    let mut taken: HashMap<(String, String), usize> = HashMap::new();
    let mut samples = Vec::new();
    for row in dataset {
        // Of a question, its answer.
        let label = match (&row["label"], &row["labels"]) {
            (Value::Null, Value::Array(labels)) => in_one(&labels.iter().map(shown).collect::<Vec<_>>()),
            (Value::Null, _) => row["answers"]["text"][0].as_str().unwrap_or_default().to_string(),
            (label, _) => shown(label),
        };
        let question = row["label"].is_null() && row["labels"].is_null();
        let (kind, origin) = (if question { String::new() } else { label.clone() }, row["origin"].as_str().unwrap_or_default().to_string());
        let of_these = taken.entry((kind, origin.clone())).or_default();
        if *of_these < SAMPLES && samples.len() < MOST_SAMPLES {
            *of_these += 1;
            samples.push(Sample {
                text: row["context"].as_str().or(row["text"].as_str()).unwrap_or_default().to_string(),
                text_pair: row["question"].as_str().or(row["text_pair"].as_str()).map(str::to_string),
                probability: row["target"][&label].as_f64(),
                round: row["round"].as_u64().unwrap_or(0),
                label,
                origin,
            });
        }
    }
    samples.sort_by(|a, b| (&a.label, &a.origin).cmp(&(&b.label, &b.origin)));
    samples
}

/// Several labels in one cell.
fn in_one(labels: &[String]) -> String {
    if labels.is_empty() { "none".to_string() } else { labels.join(", ") }
}

/// Seconds by what they were spent on.
fn parts(spent: &[Spent]) -> Vec<(String, f64)> {
    let mut parts: Vec<(String, f64)> = Vec::new();
    for Spent { part, seconds, .. } in spent {
        let name = match part {
            Work::Rationales => "rationales".to_string(),
            Work::Calibration => "judging the gold rows".to_string(),
            Work::Read(_) => "reading texts".to_string(),
            Work::Written(_) => "writing".to_string(),
            Work::Judged(_) => "judging what was written".to_string(),
            Work::Trained(_) => "training the rounds' models".to_string(),
            Work::Model(method) => format!("training {}", method.name()),
            Work::Choice => "choosing the model (twins)".to_string(),
        };
        match parts.iter_mut().find(|(own, _)| *own == name) {
            Some((_, sum)) => *sum += seconds,
            None => parts.push((name, *seconds)),
        }
    }
    parts
}

/// A doubtful row with the most probable label in place of the probabilities; of several, with those that are disputed.
fn most_probable(mut row: Value) -> Value {
    if let Some(labels) = row["labels"].as_array() {
        row["label"] = in_one(&labels.iter().map(shown).collect::<Vec<_>>()).into();
        for said in ["judged", "predicted"] {
            let each = row[said].as_object().into_iter().flatten();
            let has: Vec<String> = each.map(|(name, p)| format!("{}{name}", if p.as_f64() > Some(0.5) { "" } else { "not " })).collect();
            row[said] = in_one(&has).into();
        }
        return row;
    }
    for said in ["judged", "predicted"] {
        let by_label = row[said].as_object().into_iter().flatten();
        let most = by_label.max_by(|(_, a), (_, b)| a.as_f64().unwrap_or(0.0).total_cmp(&b.as_f64().unwrap_or(0.0)));
        row[said] = most.map_or(Value::Null, |(name, _)| name.clone().into());
    }
    row
}

/// Dotted names and values.
fn flattened(value: &Value) -> Vec<(String, String)> {
    fn add(name: &str, value: &Value, all: &mut Vec<(String, String)>) {
        match value {
            Value::Object(inner) => inner.iter().for_each(|(key, value)| add(format!("{name}.{key}").trim_start_matches('.'), value, all)),
            Value::Null => {}
            other => all.push((name.to_string(), shown(other))),
        }
    }
    let mut all = Vec::new();
    add("", value, &mut all);
    all
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

fn read_json(path: &Path) -> Result<Value> {
    let content = std::fs::read(path).map_err(Error::io("read", path))?;
    serde_json::from_slice(&content).map_err(|error| Error::Run(format!("{}: damaged ({error})", path.display())))
}

/// The lines of a file, none where there is no such file.
fn json_lines(path: &Path) -> Result<Vec<Value>> {
    let content = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(Error::io("read", path))?,
    };
    let line = |line: &str| serde_json::from_str(line).map_err(|error| Error::Run(format!("{}: damaged ({error})", path.display())));
    content.lines().filter(|line| !line.trim().is_empty()).map(line).collect()
}
