//! `lacuna predict`: a trained small model on rows from standard input.

use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::mpsc::sync_channel;

use lacuna_models::{ModelError, SavedHead, saved_head};
use serde_json::{Value, json};

use super::incoming::{BadRow, Format, Incoming, read_rows};
use crate::data::answers::Answers;
use crate::data::example::{Input, TaskKind};
use crate::data::label_sets::LabelSets;
use crate::data::labels::Labels;
use crate::error::{Error, Result};
use crate::fetch::shared_cache;
use crate::math::vectors::{argmax, to_six_places};
use crate::small::answers::Found;
use crate::small::card::Card;
use crate::small::device::SmallDevice;
use crate::small::head::SmallHead;
use crate::small::label_sets::Scores;
use crate::small::labels::probabilities;
use crate::small::model::SmallModel;

/// Rows predicted together, per thread: enough for a few batches of similar length.
const ROWS_PER_THREAD: usize = 256;

/// Options for the input format and the output.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    pub threads: usize,
    pub device: SmallDevice,
    pub format: Format,
    /// A classifier whose folder does not say what it reads is one of pairs.
    pub pairs: bool,
    /// Also the texts and the logits.
    pub logits: bool,
}

/// A row with its line, or what is wrong with it.
type Numbered = (usize, Result<Incoming, BadRow>);

/// What `predict` reads and writes, by the head of the model.
trait PredictHead: SmallHead {
    /// The names of the first text or context, and of the second text or question.
    fn fields(&self) -> (&'static str, Option<&'static str>);

    /// The JSON output for a row; `details` adds the texts and the logits.
    fn written(&self, input: &Input, output: &Self::Output, details: bool) -> Value;
}

impl PredictHead for Labels {
    fn fields(&self) -> (&'static str, Option<&'static str>) {
        ("text", self.pairs.then_some("text_pair"))
    }

    fn written(&self, input: &Input, logits: &Vec<f32>, details: bool) -> Value {
        let label = argmax(logits);
        let mut row = json!({"label": self.names[label], "probability": to_six_places(probabilities(logits)[label])});
        if details {
            row["text"] = json!(input.text);
            row["logits"] = json!(logits);
        }
        if let Some(text_pair) = input.text_pair.filter(|_| details) {
            row["text_pair"] = json!(text_pair);
        }
        row
    }
}

impl PredictHead for LabelSets {
    fn fields(&self) -> (&'static str, Option<&'static str>) {
        ("text", None)
    }

    fn written(&self, input: &Input, scores: &Scores, details: bool) -> Value {
        let p = scores.probabilities();
        let probabilities: serde_json::Map<String, Value> =
            self.names.iter().cloned().zip(p.into_iter().map(|p| json!(to_six_places(p)))).collect();
        let mut row = json!({"labels": self.named(&scores.labels()), "probabilities": probabilities});
        if details {
            row["text"] = json!(input.text);
            row["logits"] = json!(scores.logits);
        }
        row
    }
}

impl PredictHead for Answers {
    fn fields(&self) -> (&'static str, Option<&'static str>) {
        ("context", Some("question"))
    }

    fn written(&self, _: &Input, found: &Found, _: bool) -> Value {
        json!({"answer": found.answer.text, "start": found.answer.start, "score": found.probability})
    }
}

/// Writes a JSON line for each row of `input`, in order, as soon as rows come. Texts are cut or split into windows, and products
/// rounded, as in the model's training and evaluation.
///
/// A classifier reads texts, or pairs, and gives `label` and `probability`, or `labels` and `probabilities` where a text may have several;
/// with `logits` also `text` (and `text_pair`) and the logits in the order of the labels. A question answering model reads `context` and
/// `question` and gives `answer`, `start` (in characters of the context) and `score`, p(first token) · p(last token). A row's `id` is in
/// its answer too. A row that cannot be read, is empty, or leaves no room for its context, gets `error` and `line` instead, and costs
/// itself alone.
///
/// # Errors
/// A model that cannot be loaded, an I/O error; at the end, rows that had errors. A closed `output` is not an error.
pub fn predict(model: &Path, wanted: Wanted, input: impl BufRead + Send + 'static, output: impl Write) -> Result<()> {
    let model = &shared_cache::meant(model);
    if !model.join("config.json").is_file() {
        let inner = model.join("model");
        let hint = if inner.join("config.json").is_file() { format!("; did you mean {}?", inner.display()) } else { String::new() };
        return Err(Error::Model(format!("{}: not the folder of a model, which has a config.json{hint}", model.display())));
    }
    let saved = saved_head(model).map_err(|error| match error {
        ModelError::File { path, source } => Error::Io { doing: "read", path, source },
        other => Error::Model(other.to_string()),
    });
    let card = Card::read(model)?;
    let pairs = card.map_or(wanted.pairs, |card| card.kind == TaskKind::Pair);
    match saved? {
        SavedHead::Labels(names) => predict_with(Labels { names, pairs }, model, card, wanted, input, output),
        SavedHead::LabelSets(names) => predict_with(LabelSets { names }, model, card, wanted, input, output),
        SavedHead::Span => predict_with(Answers, model, card, wanted, input, output),
    }
}

fn predict_with<H: PredictHead>(
    head: H,
    folder: &Path,
    card: Option<Card>,
    wanted: Wanted,
    input: impl BufRead + Send + 'static,
    mut output: impl Write,
) -> Result<()> {
    let fields = head.fields();
    let mut small = SmallModel::load(folder, head, 0, wanted.threads)?;
    wanted.device.place(&mut small, 0)?;
    card.iter().for_each(|card| small.base.set_precision(card.precision));
    let most = ROWS_PER_THREAD * wanted.threads.max(1);
    let (sender, receiver) = sync_channel::<Numbered>(2 * most);
    // The reader waits for input while the model works, so that rows are answered as they come. Where the output closes first, it is left
    // waiting: it ends with the process.
    let reading = std::thread::spawn(move || read_rows(input, wanted.format, fields, &mut |line, row| sender.send((line, row)).is_ok()));
    let mut bad = Vec::new();
    while let Ok(first) = receiver.recv() {
        let rows: Vec<Numbered> = std::iter::once(first).chain(receiver.try_iter().take(most - 1)).collect();
        if !answer(&small, &rows, wanted.logits, &mut bad, &mut output)? {
            return Ok(());
        }
    }
    reading.join().unwrap_or_else(|_| Err(Error::Failed("reading standard input failed".into())))?;
    match &bad[..] {
        [] => Ok(()),
        [(line, error), more @ ..] => {
            let count = more.len();
            let more = if count == 0 { String::new() } else { format!(" ({count} more lines have an error in place of an answer)") };
            Err(Error::data(Path::new("standard input"), *line, format!("{error}{more}")))
        }
    }
}

/// Writes the answers; the lines of bad rows, and what is wrong with them, are added to `bad`. False once the reader has closed the pipe.
fn answer<H: PredictHead>(
    small: &SmallModel<H>,
    rows: &[Numbered],
    details: bool,
    bad: &mut Vec<(usize, String)>,
    output: &mut impl Write,
) -> Result<bool> {
    let readable: Vec<&Incoming> = rows.iter().filter_map(|(_, row)| row.as_ref().ok()).collect();
    let inputs: Vec<Input> = readable.iter().map(|row| Input { text: &row.text, text_pair: row.text_pair.as_deref() }).collect();
    let outputs = |inputs: &[Input]| small.head.outputs(&small.reader, &small.base, inputs);
    let one_by_one = |_| inputs.iter().map(|input| outputs(&[*input]).map(|mut one| one.remove(0)).map_err(|e| e.to_string())).collect();
    let said: Vec<Result<H::Output, String>> = outputs(&inputs).map_or_else(one_by_one, |outputs| outputs.into_iter().map(Ok).collect());
    // Where no row can be computed, it is not the rows.
    if let Some(Err(error)) = said.first().filter(|_| said.len() > 1 && said.iter().all(Result::is_err)) {
        return Err(Error::Failed(error.clone()));
    }
    let mut said = inputs.iter().zip(said);
    for (line, row) in rows {
        let answer = row.as_ref().map_err(|bad| bad.why.clone()).and_then(|_| {
            let (input, said) = said.next().expect("one for each readable row");
            Ok(small.head.written(input, &said?, details))
        });
        let mut answer = answer.unwrap_or_else(|error| {
            bad.push((*line, error.clone()));
            json!({"error": error, "line": line})
        });
        let id = row.as_ref().map_or_else(|bad| &bad.id, |row| &row.id);
        id.iter().for_each(|id| answer["id"] = id.clone());
        match writeln!(output, "{answer}") {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(false),
            other => other.map_err(Error::io("write to", Path::new("standard output")))?,
        }
    }
    match output.flush() {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true).map_err(Error::io("write to", Path::new("standard output"))),
    }
}
