//! The rows of a Parquet file, as lines of JSON.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use parquet::file::reader::{FileReader, SerializedFileReader};

/// How such files begin.
const BEGINS: &[u8] = b"PAR1";

/// Whether a file that begins so is one.
pub(super) fn begins(bytes: &[u8]) -> bool {
    bytes.starts_with(BEGINS)
}

/// Row `n` is line `n`.
///
/// # Errors
/// A damaged file, or one in a form that is not supported.
pub(super) fn json_lines(bytes: &[u8]) -> Result<Vec<u8>, String> {
    // Damaged files make the reader panic here and there.
    let read = catch_unwind(AssertUnwindSafe(|| read(bytes)));
    read.unwrap_or_else(|_| Err("it is damaged".to_string())).map_err(|error| format!("Parquet, and it cannot be read: {error}"))
}

fn read(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let reader = SerializedFileReader::new(Bytes::copy_from_slice(bytes)).map_err(|error| error.to_string())?;
    let mut lines = Vec::new();
    for row in reader.get_row_iter(None).map_err(|error| error.to_string())? {
        let row = row.map_err(|error| error.to_string())?.to_json_value();
        serde_json::to_writer(&mut lines, &row).map_err(|error| error.to_string())?;
        lines.push(b'\n');
    }
    Ok(lines)
}
