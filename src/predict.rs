//! The trained small model on lines from standard input.

use std::io::{BufRead, Write};
use std::path::Path;

use serde_json::{Value, json};

use crate::dataset::{Input, string_field};
use crate::error::{Error, Result};
use crate::math::vectors::argmax;
use crate::small_device::SmallDevice;
use crate::small_model::Model;
use crate::train::{Predictions, SmallModel, probabilities};

/// Lines that are predicted together, for each thread: enough for a few batches of neighbours in length.
const LINES_PER_THREAD: usize = 256;

/// What a line of input is.
#[derive(Clone, Copy)]
enum Shape {
    Text,
    /// An object of two texts, by the names of their fields: the first text or context, the second text or question.
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
        let object = object.as_object().ok_or(format!("not an object {example}"))?;
        Ok(Line { text: string_field(object, first)?.to_string(), text_pair: Some(string_field(object, second)?.to_string()) })
    }
}

/// How a person wants the lines read, and what is written of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    pub threads: usize,
    pub device: SmallDevice,
    /// Lines are JSON objects with `text` and `text_pair`.
    pub pairs: bool,
    /// Also the texts and the logits.
    pub logits: bool,
}

/// Writes a JSON line for each line of `input`, of which as many tokens are read at once as when the model was trained and measured.
///
/// A classifier reads a text a line, or pairs as JSON objects, and gives `label` and `probability`, if wanted also `text` (and
/// `text_pair`) and the `logits` in the order of the labels. A model that finds answers reads JSON objects with `context` and `question`
/// and gives `answer`, `start` (in characters of the context) and `score`, p(first token) · p(last token).
///
/// # Errors
/// The model, bad UTF-8 or JSON (with its line), reading or writing. A closed `output` ends it without an error.
pub fn predict(model: &Path, wanted: Wanted, input: impl BufRead, mut output: impl Write) -> Result<()> {
    let mut small = SmallModel::load_trained(model, wanted.threads)?;
    wanted.device.place(&mut small)?;
    let shape = match (&small.base, wanted.pairs) {
        (Model::Answers(_), _) => Shape::Object("context", "question"),
        (Model::Labels(_), true) => Shape::Object("text", "text_pair"),
        (Model::Labels(_), false) => Shape::Text,
    };
    let stdin = Path::new("standard input");
    let (mut lines, chunk) = (Vec::new(), LINES_PER_THREAD * wanted.threads.max(1));
    for (index, line) in input.split(b'\n').enumerate() {
        let line = String::from_utf8(line.map_err(Error::io("read", stdin))?).map_err(|_| Error::data(stdin, index + 1, "not UTF-8"))?;
        lines.push(shape.parse(line.trim_end_matches('\r')).map_err(|message| Error::data(stdin, index + 1, message))?);
        if lines.len() == chunk && !write_chunk(&small, &lines, wanted.logits, &mut output)? {
            return Ok(());
        }
        if lines.len() == chunk {
            lines.clear();
        }
    }
    write_chunk(&small, &lines, wanted.logits, &mut output).map(drop)
}

/// False when nobody reads any more.
fn write_chunk(small: &SmallModel, lines: &[Line], with_logits: bool, output: &mut impl Write) -> Result<bool> {
    let inputs: Vec<Input> = lines.iter().map(Line::input).collect();
    for row in rows(small, &inputs, with_logits)? {
        match writeln!(output, "{row}") {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(false),
            other => other.map_err(Error::io("write to", Path::new("standard output")))?,
        }
    }
    Ok(true)
}

/// What is written of some lines.
fn rows(small: &SmallModel, inputs: &[Input], with_logits: bool) -> Result<Vec<Value>> {
    let names = small.base.labels();
    let label = |(input, logits): (&Input, &Vec<f32>)| {
        let label = argmax(logits);
        let mut row = json!({"label": names[label], "probability": probabilities(logits)[label]});
        if with_logits {
            row["text"] = json!(input.text);
            row["logits"] = json!(logits);
        }
        if let Some(text_pair) = input.text_pair.filter(|_| with_logits) {
            row["text_pair"] = json!(text_pair);
        }
        row
    };
    Ok(match small.predict(&small.base, inputs)? {
        Predictions::Labels(logits) => inputs.iter().zip(&logits).map(label).collect(),
        Predictions::Answers(found) => {
            let answer = |found: &crate::train_span::Found| json!({"answer": found.answer.text, "start": found.answer.start, "score": found.probability});
            found.iter().map(answer).collect()
        }
    })
}
