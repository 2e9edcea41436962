//! Rows of a finished run that are doubtful: its label, its judge and its model do not agree on them.

use std::path::Path;

use lacuna_models::{SavedHead, saved_head};
use serde_json::Value;

use crate::data::example::{Input, TaskKind};
use crate::data::fields::label_of;
use crate::data::labels::Labels;
use crate::data::table::{Row, Shape, Table};
use crate::error::{Error, Result};
use crate::math::vectors::argmax;
use crate::run::manifest::Manifest;
use crate::run::review::{Decisions, GOLD};
use crate::run::stage::Stage;
use crate::small::card::Card;
use crate::small::head::SmallHead;
use crate::small::labels::probabilities;
use crate::small::model::SmallModel;

/// A row that is doubtful.
#[derive(Clone, Debug, PartialEq)]
pub struct Doubt {
    pub id: String,
    pub text: String,
    pub text_pair: Option<String>,
    pub label: String,
    /// The label that the generator's judge finds most probable, and its probability; none where no judge was asked.
    pub judged: Option<(String, f64)>,
    /// The same of the small model: the delivered one, or for a gold row one that has not learnt it.
    pub predicted: (String, f64),
    /// The probabilities that the judge and the model give to the row's own label: 1 for a judge that was not asked.
    own: [f64; 2],
}

impl Doubt {
    /// How probable its label is.
    fn of_own_label(&self) -> f64 {
        self.own.iter().product()
    }

    /// Whether the judge or the model says another label.
    fn is_one(&self) -> bool {
        self.judged.as_ref().is_some_and(|(label, _)| *label != self.label) || self.predicted.0 != self.label
    }

    /// A row of which the label says "negative", and judge and model "positive".
    #[cfg(test)]
    pub(super) fn for_a_test(id: &str, text: &str) -> Self {
        let (judged, predicted) = (Some(("positive".to_string(), 0.9)), ("positive".to_string(), 0.8));
        Doubt {
            id: id.to_string(),
            text: text.to_string(),
            text_pair: None,
            label: "negative".to_string(),
            judged,
            predicted,
            own: [0.1, 0.2],
        }
    }

    /// Who says what else.
    pub fn why(&self) -> String {
        let other = |who: &str, said: &(String, f64)| (said.0 != self.label).then(|| format!("{who}: {}", said.0));
        [self.judged.as_ref().and_then(|said| other("judge", said)), other("model", &self.predicted)]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// The labels of a finished run.
///
/// # Errors
/// A folder without a run, one that is not done, one of questions.
pub(super) fn labels(folder: &Path) -> Result<Vec<String>> {
    let manifest = Manifest::read_in(folder)?;
    if manifest.stage != Stage::Done {
        return Err(Error::Run(format!(
            "{}: the run is not done: wait for it; if nothing works on it, run its task again, and it goes on",
            folder.display()
        )));
    }
    match saved_head(&folder.join("model")).map_err(|error| Error::Model(error.to_string()))? {
        SavedHead::Labels(names) => Ok(names),
        SavedHead::LabelSets(_) => Err(Error::Run(format!(
            "{}: a run of several labels a text; only rows with one label can be reviewed (doubtful.jsonl lists those that are disputed)",
            folder.display()
        ))),
        SavedHead::Span => Err(Error::Run(format!("{}: a run of questions; only rows with labels can be reviewed", folder.display()))),
    }
}

/// A finished run's most doubtful rows that nobody has decided about, gold rows first.
pub(super) fn doubts(folder: &Path, names: &[String], most: usize) -> Result<Vec<Doubt>> {
    let decided = Decisions::read(folder)?;
    let model = folder.join("model");
    let card = Card::read(&model)?;
    let head = Labels { names: names.to_vec(), pairs: card.is_some_and(|card| card.kind == TaskKind::Pair) };
    let (mut all, mut written) = (gold(folder, names)?, dataset(folder, names)?);
    predict(&model, head, card, &mut written)?;
    written.retain(Doubt::is_one);
    written.sort_by(|a, b| a.of_own_label().total_cmp(&b.of_own_label()));
    all.extend(written);
    all.retain(|doubt| decided.about(&doubt.id, &doubt.text, doubt.text_pair.as_deref()).is_none());
    all.truncate(most);
    Ok(all)
}

/// The rows of `doubtful.jsonl`.
pub(super) fn gold(folder: &Path, names: &[String]) -> Result<Vec<Doubt>> {
    let path = folder.join("doubtful.jsonl");
    let parse = |row: &Row, _: usize| {
        let line = row.get("line").and_then(Value::as_u64).ok_or("`line` is missing")?;
        let (judged, predicted) = (of_labels(row, "judged", names)?, of_labels(row, "predicted", names)?);
        doubt(format!("{GOLD}{line}"), row, names, Some(&judged), &predicted)
    };
    rows(&path, &parse)
}

/// The rows of `dataset.jsonl`, without what the model says of them.
pub(super) fn dataset(folder: &Path, names: &[String]) -> Result<Vec<Doubt>> {
    let parse = |row: &Row, _: usize| {
        let id = row.get("id").and_then(Value::as_str).ok_or("`id` is missing")?;
        let target = of_labels(row, "target", names)?;
        // A hard target is what the text was written for, whatever a judge might say.
        let judged = target.iter().all(|p| *p < 1.0).then_some(&target[..]);
        doubt(id.to_string(), row, names, judged, &target)
    };
    rows(&folder.join("dataset.jsonl"), &parse)
}

fn rows(path: &Path, parse: &dyn Fn(&Row, usize) -> Result<Doubt, String>) -> Result<Vec<Doubt>> {
    if std::fs::metadata(path).map_or(0, |file| file.len()) == 0 {
        return Ok(Vec::new());
    }
    let table = Table::open(path, Shape { example: r#"{"text": "…", "label": "…"}"#, fields: &["text"], plain: false })?;
    (0..table.len()).map(|i| table.parsed(i, parse)).collect()
}

/// The probabilities of a field, in the order of the labels.
fn of_labels(row: &Row, field: &str, names: &[String]) -> Result<Vec<f64>, String> {
    let number = |name: &String| row.get(field).and_then(|values| values.get(name)).and_then(Value::as_f64);
    names.iter().map(|name| number(name).ok_or_else(|| format!("`{field}` has no number for {name:?}"))).collect()
}

fn doubt(id: String, row: &Row, names: &[String], judged: Option<&[f64]>, predicted: &[f64]) -> Result<Doubt, String> {
    let text = |name: &str| row.get(name).and_then(Value::as_str).map(str::to_string);
    let label = text("label").ok_or("`label` is missing")?;
    let place = label_of(&label, names)?;
    let likeliest = |p: &[f64]| (names[argmax(p)].clone(), p[argmax(p)]);
    Ok(Doubt {
        id,
        text: text("text").ok_or("`text` is missing")?,
        text_pair: text("text_pair"),
        label,
        judged: judged.map(likeliest),
        predicted: likeliest(predicted),
        own: [judged.map_or(1.0, |judged| judged[place]), predicted[place]],
    })
}

/// Sets what the delivered model says of rows of which only the judge is known.
fn predict(model: &Path, head: Labels, card: Option<Card>, doubts: &mut [Doubt]) -> Result<()> {
    let names = head.names.clone();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut small = SmallModel::load(model, head, 0, threads)?;
    card.iter().for_each(|card| small.base.set_precision(card.precision));
    let inputs: Vec<Input> = doubts.iter().map(|doubt| Input { text: &doubt.text, text_pair: doubt.text_pair.as_deref() }).collect();
    let outputs = small.head.outputs(&small.reader, &small.base, &inputs)?;
    for (doubt, logits) in doubts.iter_mut().zip(outputs) {
        let p = probabilities(&logits);
        doubt.own[1] = names.iter().position(|name| *name == doubt.label).map_or(0.0, |place| p[place]);
        doubt.predicted = (names[argmax(&p)].clone(), p[argmax(&p)]);
    }
    Ok(())
}
