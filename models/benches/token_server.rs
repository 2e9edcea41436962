//! Encodes texts, for `scripts/tokens.py`, which compares the ids with those of transformers.
//!
//! Argument: a model folder. Reads JSON lines `["text"]` or `["text", "pair"]` from standard input and answers each with its ids.

use lacuna_models::TextEncoder;
use std::error::Error;
use std::io::{BufRead, BufWriter, Write};
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let Some(folder) = std::env::args().skip(1).find(|argument| !argument.starts_with("--")) else {
        eprintln!("token_server FOLDER; started by scripts/tokens.py");
        return Ok(());
    };
    let encoder = TextEncoder::load(Path::new(&folder))?;
    let mut out = BufWriter::new(std::io::stdout());
    for line in std::io::stdin().lock().lines() {
        let texts: Vec<String> = serde_json::from_str(&line?)?;
        let [text, pair @ ..] = &texts[..] else { return Err("a line without a text".into()) };
        let encoded = encoder.encode(text, pair.first().map(String::as_str), 1 << 20)?;
        serde_json::to_writer(&mut out, &encoded.input_ids)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}
