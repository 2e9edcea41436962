//! The trained small model on lines from standard input.

use std::io::{BufRead, Write};
use std::path::Path;

use serde_json::json;

use crate::error::{Error, Result};
use crate::setup::Machine;
use crate::train::{Predictions, SmallModel};

/// Lines that are predicted together, for each thread: enough for a few batches of neighbours in length.
const LINES_PER_THREAD: usize = 256;

/// Reads a text a line from `input` and writes a JSON line for each: `label`, `probability`, and with `with_logits` the
/// `text` and the `logits` in the order of the labels.
///
/// # Errors
/// The model, bad UTF-8 (with its line), reading or writing. A closed `output` ends it without an error.
pub fn predict(model: &Path, machine: &Machine, with_logits: bool, input: impl BufRead, mut output: impl Write) -> Result<()> {
    let threads = machine.threads();
    let mut small = SmallModel::load_trained(model, threads)?;
    machine.small_device.place(&mut small)?;
    let stdin = Path::new("standard input");
    let (mut lines, chunk) = (Vec::new(), LINES_PER_THREAD * threads.max(1));
    for (index, line) in input.split(b'\n').enumerate() {
        let line = String::from_utf8(line.map_err(Error::io("read", stdin))?).map_err(|_| Error::data(stdin, index + 1, "not UTF-8"))?;
        lines.push(line.trim_end_matches('\r').to_string());
        if lines.len() == chunk && !write_chunk(&small, &lines, with_logits, &mut output)? {
            return Ok(());
        }
        if lines.len() == chunk {
            lines.clear();
        }
    }
    write_chunk(&small, &lines, with_logits, &mut output).map(drop)
}

/// False when nobody reads any more.
fn write_chunk(small: &SmallModel, lines: &[String], with_logits: bool, output: &mut impl Write) -> Result<bool> {
    let texts: Vec<&str> = lines.iter().map(String::as_str).collect();
    let predictions: Predictions = small.predict(&small.base, &texts, usize::MAX)?;
    let names = small.base.labels();
    for (((text, label), p), logits) in texts.iter().zip(predictions.labels()).zip(predictions.probabilities()).zip(&predictions.logits) {
        let mut row = json!({"label": names[label], "probability": p[label]});
        if with_logits {
            row["text"] = json!(text);
            row["logits"] = json!(logits);
        }
        match writeln!(output, "{row}") {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(false),
            other => other.map_err(Error::io("write to", Path::new("standard output")))?,
        }
    }
    Ok(true)
}
