//! The rows of an Excel or OpenDocument file, as lines of JSON.

use std::io::Cursor;

use calamine::{Data, Range, Reader, open_workbook_auto_from_rs};
use lacuna_models::caught;
use serde_json::{Map, Value};

use super::columns::Columns;

/// How such files begin: a zip archive, or a compound document of old.
const BEGINS: [&[u8]; 2] = [b"PK\x03\x04", b"\xd0\xcf\x11\xe0"];

/// A sheet that was read.
pub(super) struct Sheet {
    pub(super) lines: Vec<u8>,
    /// Its name, and those of all sheets, where there are several.
    pub(super) place: String,
}

/// Whether a file that begins so may be a workbook.
pub(super) fn begins(bytes: &[u8]) -> bool {
    BEGINS.iter().any(|magic| bytes.starts_with(magic))
}

/// Row `n` of the first sheet whose first row names each of these fields once is line `n`; the first row and empty ones are blank lines.
/// Where no field is asked for, it is the first sheet with several columns. With `sheet`, no other is looked at.
///
/// # Errors
/// A file that is no workbook or damaged; no sheet with these columns, with the columns that there are; no sheet of this name.
pub(super) fn json_lines(bytes: &[u8], fields: &[&str], sheet: Option<&str>) -> Result<Sheet, String> {
    // Damaged files make the reader panic here and there.
    caught(|| read(bytes, fields, sheet)).unwrap_or_else(|| Err("a workbook that cannot be read: it is damaged".to_string()))
}

fn read(bytes: &[u8], fields: &[&str], asked: Option<&str>) -> Result<Sheet, String> {
    let opened = open_workbook_auto_from_rs(Cursor::new(bytes));
    let what = if bytes.starts_with(BEGINS[0]) { "a zip archive" } else { "a file of Microsoft Office" };
    let mut book = opened.map_err(|error| {
        format!("{what}, not text, and no workbook that can be read ({error}): unpack it, or save the table as CSV, without a password")
    })?;
    let mut seen = Vec::new();
    let names = book.sheet_names().clone();
    if let Some(asked) = asked.filter(|asked| !names.iter().any(|name| name == asked)) {
        return Err(format!("no sheet {asked:?}; its sheets are {}", names.join(", ")));
    }
    for name in names.iter().filter(|name| asked.is_none_or(|asked| *name == asked)) {
        let sheet = book.worksheet_range(name).map_err(|error| format!("sheet {name:?} cannot be read: {error}"))?;
        let Some((header, columns)) = columns(&sheet, fields) else { continue };
        let times = |field: &str| columns.names.iter().filter(|name| *name == field).count();
        if fields.iter().all(|field| times(field) == 1) && (!fields.is_empty() || columns.names.len() > 1) {
            let others = if names.len() > 1 { format!(" of {}", names.join(", ")) } else { String::new() };
            return Ok(Sheet { lines: lines(&sheet, header, &columns.names)?, place: format!("sheet {name:?}{others}") });
        }
        seen.push(format!("sheet {name:?} has {}", columns.names.join(", ")));
    }
    let seen = if seen.is_empty() { "it is empty".to_string() } else { seen.join("; ") };
    Err(format!("no sheet whose first row names the columns {}: {seen}", fields.join(", ")))
}

/// Rows among which the header is: above it reports have a title.
const HEADER_WITHIN: usize = 20;
/// A header has at least this share of the cells of the fullest row: what is above it is a title, or says when the table was made.
const FULL: f64 = 0.75;

/// The header and its columns: the first row that names all fields, else the first that is about as full as the fullest.
fn columns(sheet: &Range<Data>, fields: &[&str]) -> Option<(usize, Columns)> {
    let of = |(row, cells): (usize, &[Data])| {
        let names: Vec<String> = cells.iter().map(|cell| cell.to_string().trim().to_string()).collect();
        (row, Columns::of_record(&csv::ByteRecord::from(names), b',', fields))
    };
    let rows: Vec<(usize, Columns)> = sheet.rows().take(HEADER_WITHIN).enumerate().map(of).collect();
    let filled = |columns: &Columns| columns.names.iter().filter(|name| !name.is_empty()).count();
    let named = rows.iter().find(|(_, columns)| !fields.is_empty() && fields.iter().all(|field| columns.place(field).is_some()));
    let most = rows.iter().map(|(_, columns)| filled(columns)).max().filter(|most| *most > 0)?;
    named.or_else(|| rows.iter().find(|(_, columns)| filled(columns) as f64 >= FULL * most as f64)).cloned()
}

fn lines(sheet: &Range<Data>, header: usize, names: &[String]) -> Result<Vec<u8>, String> {
    let above = sheet.start().map_or(0, |(row, _)| row as usize) + header + 1;
    let mut lines = vec![b'\n'; above];
    for cells in sheet.rows().skip(header + 1) {
        if cells.iter().any(|cell| !matches!(cell, Data::Empty)) {
            let row: Map<String, Value> =
                names.iter().zip(cells).filter(|(name, _)| !name.is_empty()).map(|(name, cell)| (name.clone(), value(cell))).collect();
            serde_json::to_writer(&mut lines, &row).map_err(|error| error.to_string())?;
        }
        lines.push(b'\n');
    }
    Ok(lines)
}

/// What a cell says. Whole numbers are whole: Excel has only fractions.
fn value(cell: &Data) -> Value {
    match cell {
        // What a formula could not compute is not there.
        Data::Empty | Data::Error(_) => Value::Null,
        Data::Bool(truth) => Value::from(*truth),
        Data::Int(number) => Value::from(*number),
        Data::Float(number) if number.fract() == 0.0 && number.abs() < 1e15 => Value::from(*number as i64),
        Data::Float(number) => Value::from(*number),
        other => Value::from(other.to_string()),
    }
}
