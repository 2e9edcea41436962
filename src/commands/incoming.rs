//! Texts from standard input, each as soon as it is there: plain lines, JSON lines or CSV.

use std::io::{BufRead, Read};
use std::path::Path;

use serde_json::{Map, Value};

use crate::data::string_field;
use crate::error::{Error, Result};

/// How the input is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// What its first line says: a JSON object, or a header that names the columns
    #[default]
    Auto,
    /// A text a line
    Lines,
    /// A JSON object a line
    Jsonl,
    /// A header, and values separated by commas
    Csv,
    /// A header, and values separated by tabulators
    Tsv,
}

/// A text, or pair of texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    pub text: String,
    pub text_pair: Option<String>,
    /// The field `id` of a row, which its answer has too.
    pub id: Option<Value>,
}

/// Reads `input` to its end and hands each row on with its line, or with what is wrong with it, until `sink` says that it wants no more.
/// `fields` are the names of the first and second text; without a second one, lines may be plain.
///
/// # Errors
/// An input that cannot be read; a first line that names no columns, where there must be some.
pub fn read_rows(
    input: impl BufRead,
    format: Format,
    fields: (&str, Option<&str>),
    sink: &mut dyn FnMut(usize, Result<Incoming, String>) -> bool,
) -> Result<()> {
    let stdin = Path::new("standard input");
    let mut input = WithoutMark(input);
    input.skip_mark().map_err(Error::io("read", stdin))?;
    let mut first = Vec::new();
    input.0.read_until(b'\n', &mut first).map_err(Error::io("read", stdin))?;
    let format = match format {
        Format::Auto => detect(&first, fields),
        chosen => chosen,
    };
    let rest = first.chain(input.0);
    match format {
        Format::Csv => read_csv(rest, b',', fields, sink),
        Format::Tsv => read_csv(rest, b'\t', fields, sink),
        Format::Jsonl => read_lines(rest, &|line| parse_json(line, fields), sink),
        _ if fields.1.is_some() => Err(Error::data(
            stdin,
            1,
            format!("two texts each are read, {} and {}: give JSON lines or CSV", fields.0, fields.1.unwrap_or_default()),
        )),
        _ => read_lines(rest, &|line| Ok(Incoming { text: line.to_string(), text_pair: None, id: None }), sink),
    }
}

/// What the first line says. Plain lines may begin with a brace: a JSON object must have the field.
fn detect(first: &[u8], (field, second): (&str, Option<&str>)) -> Format {
    let line = first.trim_ascii();
    let has = |name: &str, separator: u8| {
        line.split(|byte| *byte == separator)
            .any(|column| column.trim_ascii().trim_ascii() == name.as_bytes() || column == format!("\"{name}\"").as_bytes())
    };
    let names = |separator: u8| has(field, separator) && second.is_none_or(|second| has(second, separator));
    match serde_json::from_slice::<Map<String, Value>>(line) {
        Ok(object) if object.contains_key(field) || second.is_some() => Format::Jsonl,
        _ if names(b',') => Format::Csv,
        _ if names(b'\t') => Format::Tsv,
        _ if second.is_some() => Format::Jsonl,
        _ => Format::Lines,
    }
}

fn parse_json(line: &str, (field, second): (&str, Option<&str>)) -> Result<Incoming, String> {
    let example = second.map_or(format!("{{{field:?}: \"…\"}}"), |second| format!("{{{field:?}: \"…\", {second:?}: \"…\"}}"));
    let object: Value = serde_json::from_str(line).map_err(|e| format!("not JSON (column {}): {e}; write {example}", e.column()))?;
    let object = object.as_object().ok_or(format!("not a JSON object like {example}"))?;
    let text_pair = second.map(|second| string_field(object, second).map(str::to_string)).transpose()?;
    Ok(Incoming { text: string_field(object, field)?.to_string(), text_pair, id: object.get("id").cloned() })
}

/// Lines that end with a line feed, a carriage return, or both.
fn read_lines(
    mut input: impl BufRead,
    parse: &dyn Fn(&str) -> Result<Incoming, String>,
    sink: &mut dyn FnMut(usize, Result<Incoming, String>) -> bool,
) -> Result<()> {
    let (mut bytes, mut number) = (Vec::new(), 0);
    while input.read_until(b'\n', &mut bytes).map_err(Error::io("read", Path::new("standard input")))? > 0 {
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        for line in line.split(|byte| *byte == b'\r') {
            number += 1;
            let row =
                std::str::from_utf8(line).map_err(|e| format!("not UTF-8 (byte {} of the line)", e.valid_up_to() + 1)).and_then(parse);
            if !sink(number, row) {
                return Ok(());
            }
        }
        bytes.clear();
    }
    Ok(())
}

fn read_csv(
    input: impl Read,
    separator: u8,
    (field, second): (&str, Option<&str>),
    sink: &mut dyn FnMut(usize, Result<Incoming, String>) -> bool,
) -> Result<()> {
    let stdin = Path::new("standard input");
    // One byte at a time is asked of the buffered input, so that a row is handed on before the next one is there.
    let mut reader = csv::ReaderBuilder::new().delimiter(separator).flexible(true).buffer_capacity(1).from_reader(input);
    let broken = |error: csv::Error| Error::data(stdin, error.position().map_or(1, |at| at.line() as usize), error.to_string());
    let columns: Vec<String> =
        reader.byte_headers().map_err(broken)?.iter().map(|name| String::from_utf8_lossy(name).trim().to_string()).collect();
    let place = |name: &str| columns.iter().position(|column| column == name);
    let missing = |name: &str| Error::data(stdin, 1, format!("the header names no column {name:?}, but {columns:?}"));
    let text = place(field).ok_or_else(|| missing(field))?;
    let text_pair = second.map(|second| place(second).ok_or_else(|| missing(second))).transpose()?;
    let id = place("id");
    let mut record = csv::ByteRecord::new();
    loop {
        if !reader.read_byte_record(&mut record).map_err(broken)? {
            return Ok(());
        }
        let line = record.position().map_or(0, |at| at.line() as usize);
        let get = |column: usize| {
            let field = record.get(column).ok_or_else(|| format!("fields: {}, and the header names {}", record.len(), columns.len()))?;
            std::str::from_utf8(field).map(str::to_string).map_err(|_| "not UTF-8".to_string())
        };
        let row = get(text).and_then(|text| {
            let id = id.map(|id| get(id).map(Value::from)).transpose()?;
            Ok(Incoming { text, text_pair: text_pair.map(get).transpose()?, id })
        });
        if !sink(line, row) {
            return Ok(());
        }
    }
}

/// An input that may begin with a byte order mark.
struct WithoutMark<R>(R);

impl<R: BufRead> WithoutMark<R> {
    fn skip_mark(&mut self) -> std::io::Result<()> {
        if self.0.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
            self.0.consume(3);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows with their lines, each as a text, or what is wrong with it.
    type Shown = Vec<(usize, Result<String, String>)>;

    fn read(input: &[u8], format: Format, fields: (&str, Option<&str>)) -> Result<Shown, String> {
        let mut rows = Vec::new();
        let shown = |row: Incoming| {
            let id = row.id.map(|id| format!("{id} ")).unwrap_or_default();
            format!("{id}{}{}", row.text, row.text_pair.map(|pair| format!("|{pair}")).unwrap_or_default())
        };
        read_rows(input, format, fields, &mut |line, row| {
            rows.push((line, row.map(shown)));
            true
        })
        .map_err(|error| error.to_string())?;
        Ok(rows)
    }

    fn good(input: &str, fields: (&str, Option<&str>)) -> Vec<(usize, String)> {
        read(input.as_bytes(), Format::Auto, fields).unwrap().into_iter().map(|(line, row)| (line, row.unwrap())).collect()
    }

    #[test]
    fn the_first_line_tells_the_format() {
        let text = ("text", None);
        let of = |rows: &[(usize, &str)]| rows.iter().map(|(line, text)| (*line, text.to_string())).collect::<Vec<_>>();
        assert_eq!(
            good("\u{feff}one\r\n\ntwo\rthree\n{\"a\": 1}", text),
            of(&[(1, "one"), (2, ""), (3, "two"), (4, "three"), (5, "{\"a\": 1}")])
        );
        assert_eq!(good("{\"text\": \"one\", \"label\": 0}\n{\"id\": 7, \"text\": \"two\"}\n", text), of(&[(1, "one"), (2, "7 two")]));
        assert_eq!(good("text,label\n\"one, \"\"two\"\"\nthree\",x\nfour,y\n", text), of(&[(2, "one, \"two\"\nthree"), (4, "four")]));
        assert_eq!(good("id\ttext\na\tone\n", text), of(&[(2, "\"a\" one")]));
        assert_eq!(good("{brace}\n", text), of(&[(1, "{brace}")]));
        assert_eq!(good("text,text_pair\na,b\n", ("text", Some("text_pair"))), of(&[(2, "a|b")]));
        assert!(good("", text).is_empty());
    }

    #[test]
    fn a_bad_row_costs_itself_alone() {
        let rows = read(b"{\"text\": \"one\"}\n{\"text\": 3}\nplain\n\xff\n{\"text\": \"two\"}", Format::Auto, ("text", None)).unwrap();
        let errors: Vec<_> = rows.iter().filter_map(|(line, row)| Some((*line, row.as_ref().err()?.as_str()))).collect();
        assert_eq!(errors.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 3, 4]);
        assert!(errors[0].1.contains("must be a string") && errors[1].1.contains("not JSON") && errors[2].1.contains("not UTF-8"));
        assert_eq!(rows[4], (5, Ok("two".to_string())));
        let rows = read(b"text,n\na,1\nb\n", Format::Csv, ("n", None)).unwrap();
        assert_eq!(rows[1].1, Err("fields: 1, and the header names 2".to_string()));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        assert!(read(b"a,b\n", Format::Csv, ("text", None)).unwrap_err().contains(":1: the header names no column \"text\""));
        assert!(read(b"a\n", Format::Lines, ("text", Some("text_pair"))).unwrap_err().contains("give JSON lines or CSV"));
    }
}
