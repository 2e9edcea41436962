//! The rows of a Parquet file, as lines of JSON.

use bytes::Bytes;
use lacuna_models::caught;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::{Map, Value};

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
    caught(|| read(bytes))
        .unwrap_or_else(|| Err("it is damaged".to_string()))
        .map_err(|error| format!("Parquet, and it cannot be read: {error}"))
}

fn read(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let reader = SerializedFileReader::new(Bytes::copy_from_slice(bytes)).map_err(|error| error.to_string())?;
    let mut lines = Vec::new();
    for row in reader.get_row_iter(None).map_err(|error| error.to_string())? {
        let row = row.map_err(|error| error.to_string())?;
        let fields: Result<Map<String, Value>, String> =
            row.get_column_iter().map(|(name, field)| Ok((name.clone(), value(name, field)?))).collect();
        serde_json::to_writer(&mut lines, &fields?).map_err(|error| error.to_string())?;
        lines.push(b'\n');
    }
    Ok(lines)
}

/// What a field says. Old writers do not say of their texts that they are texts.
fn value(name: &str, field: &Field) -> Result<Value, String> {
    match field {
        Field::Bytes(bytes) => {
            std::str::from_utf8(bytes.data()).map(Value::from).map_err(|_| format!("the column {name:?} holds bytes that are no UTF-8"))
        }
        other => Ok(other.to_json_value()),
    }
}
