//! `lacuna predict`: a trained small model on lines from standard input.

use std::io::{BufRead, Write};
use std::path::Path;

use lacuna_models::{ModelError, SavedHead, saved_head};
use serde_json::{Value, json};

use crate::data::answers::Answers;
use crate::data::example::Input;
use crate::data::labels::Labels;
use crate::data::string_field;
use crate::error::{Error, Result};
use crate::math::vectors::argmax;
use crate::small::answers::Found;
use crate::small::device::SmallDevice;
use crate::small::head::SmallHead;
use crate::small::labels::probabilities;
use crate::small::model::SmallModel;

/// Lines predicted together, per thread: enough for a few batches of similar length.
const LINES_PER_THREAD: usize = 256;

/// Options for the input format and the output.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    pub threads: usize,
    pub device: SmallDevice,
    /// Lines are JSON objects with `text` and `text_pair`.
    pub pairs: bool,
    /// Also the texts and the logits.
    pub logits: bool,
}

/// The format of an input line.
#[derive(Clone, Copy)]
enum Shape {
    Text,
    /// A JSON object with two texts, by the names of their fields: the first text or context, then the second text or question.
    Object(&'static str, &'static str),
}

/// A line of input as the small model reads it.
struct Line {
    text: String,
    text_pair: Option<String>,
}

impl Line {
    fn input(&self) -> Input<'_> {
        Input { text: &self.text, text_pair: self.text_pair.as_deref() }
    }
}

impl Shape {
    fn parse(self, line: &str) -> Result<Line, String> {
        let Shape::Object(first, second) = self else { return Ok(Line { text: line.to_string(), text_pair: None }) };
        let example = format!("{{{first:?}: \"…\", {second:?}: \"…\"}}");
        let object: Value = serde_json::from_str(line).map_err(|e| format!("not JSON (column {}): {e}; write {example}", e.column()))?;
        let object = object.as_object().ok_or(format!("not a JSON object like {example}"))?;
        Ok(Line { text: string_field(object, first)?.to_string(), text_pair: Some(string_field(object, second)?.to_string()) })
    }
}

/// What `predict` reads and writes, by the head of the model.
trait PredictHead: SmallHead {
    fn shape(&self) -> Shape;

    /// The JSON output for a line; `details` adds the texts and the logits.
    fn written(&self, input: &Input, output: &Self::Output, details: bool) -> Value;
}

impl PredictHead for Labels {
    fn shape(&self) -> Shape {
        if self.pairs { Shape::Object("text", "text_pair") } else { Shape::Text }
    }

    fn written(&self, input: &Input, logits: &Vec<f32>, details: bool) -> Value {
        let label = argmax(logits);
        let mut row = json!({"label": self.names[label], "probability": probabilities(logits)[label]});
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

impl PredictHead for Answers {
    fn shape(&self) -> Shape {
        Shape::Object("context", "question")
    }

    fn written(&self, _: &Input, found: &Found, _: bool) -> Value {
        json!({"answer": found.answer.text, "start": found.answer.start, "score": found.probability})
    }
}

/// Writes a JSON line for each line of `input`. Texts are cut or split into windows as in the model's training and evaluation.
///
/// A classifier reads one text per line, or pairs as JSON objects, and gives `label` and `probability`; with `logits` also `text` (and
/// `text_pair`) and the logits in the order of the labels. A question answering model reads JSON objects with `context` and `question`
/// and gives `answer`, `start` (in characters of the context) and `score`, p(first token) · p(last token).
///
/// # Errors
/// A model that cannot be loaded, invalid UTF-8 or JSON (with its line), an I/O error. A closed `output` is not an error.
pub fn predict(model: &Path, wanted: Wanted, input: impl BufRead, output: impl Write) -> Result<()> {
    let saved = saved_head(model).map_err(|error| match error {
        ModelError::File { path, source } => Error::Io { doing: "read", path, source },
        other => Error::Model(other.to_string()),
    });
    match saved? {
        SavedHead::Labels(names) => predict_with(Labels { names, pairs: wanted.pairs }, model, wanted, input, output),
        SavedHead::Span => predict_with(Answers, model, wanted, input, output),
    }
}

fn predict_with<H: PredictHead>(head: H, folder: &Path, wanted: Wanted, input: impl BufRead, mut output: impl Write) -> Result<()> {
    let shape = head.shape();
    let mut small = SmallModel::load(folder, head, 0, wanted.threads)?;
    wanted.device.place(&mut small, 0)?;
    let stdin = Path::new("standard input");
    let (mut lines, chunk) = (Vec::new(), LINES_PER_THREAD * wanted.threads.max(1));
    for (index, line) in input.split(b'\n').enumerate() {
        let line = String::from_utf8(line.map_err(Error::io("read", stdin))?).map_err(|_| Error::data(stdin, index + 1, "not UTF-8"))?;
        lines.push(shape.parse(line.trim_end_matches('\r')).map_err(|message| Error::data(stdin, index + 1, message))?);
        if lines.len() == chunk {
            if !write_lines(&small, &lines, wanted.logits, &mut output)? {
                return Ok(());
            }
            lines.clear();
        }
    }
    write_lines(&small, &lines, wanted.logits, &mut output).map(drop)
}

/// False once the reader has closed the pipe.
fn write_lines<H: PredictHead>(small: &SmallModel<H>, lines: &[Line], details: bool, output: &mut impl Write) -> Result<bool> {
    let inputs: Vec<Input> = lines.iter().map(Line::input).collect();
    let outputs = small.head.outputs(&small.reader, &small.base, &inputs)?;
    for (input, said) in inputs.iter().zip(&outputs) {
        match writeln!(output, "{}", small.head.written(input, said, details)) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(false),
            other => other.map_err(Error::io("write to", Path::new("standard output")))?,
        }
    }
    Ok(true)
}
