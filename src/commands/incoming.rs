//! Texts from standard input, each as soon as it is there: plain lines, JSON lines or CSV.

use std::cell::Cell;
use std::io::{BufRead, Read};
use std::path::Path;

use serde_json::Value;

use crate::data::columns::{Columns, names_separator, not_utf8};
use crate::data::roles::is_usual_name;
use crate::data::table::Row;
use crate::data::{string_field, text_field};
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

/// What is wrong with a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRow {
    pub why: String,
    /// Its field `id`, if that can be read.
    pub id: Option<Value>,
}

impl From<String> for BadRow {
    fn from(why: String) -> BadRow {
        BadRow { why, id: None }
    }
}

/// A row or what is wrong with it, and whether more are wanted.
type Sink<'s> = dyn FnMut(usize, Result<Incoming, BadRow>) -> bool + 's;

/// Reads `input` to its end and hands each row on with its line, or with what is wrong with it, until `sink` says that it wants no more.
/// `fields` are the names of the first and second text; without a second one, lines may be plain.
///
/// # Errors
/// An input that cannot be read; a first line that names no columns, where there must be some.
pub fn read_rows(input: impl BufRead, format: Format, fields: (&str, Option<&str>), sink: &mut Sink) -> Result<()> {
    let stdin = Path::new("standard input");
    let mut input = input;
    let begins = input.fill_buf().map_err(Error::io("read", stdin))?.to_vec();
    match () {
        () if begins.starts_with(b"\x1f\x8b") => return Err(Error::data(stdin, 1, "gzip: unpack it first (zcat)")),
        () if begins.starts_with(b"\xff\xfe") || begins.starts_with(b"\xfe\xff") => {
            return Err(Error::data(stdin, 1, "UTF-16: make it UTF-8 first (iconv -f utf-16 -t utf-8)"));
        }
        () if begins.starts_with(b"\xef\xbb\xbf") => input.consume(3),
        () => {}
    }
    // The lines until one is not blank: it tells the format.
    let (mut seen, mut first) = (Vec::new(), Vec::new());
    while first.trim_ascii().is_empty() {
        first.clear();
        if input.read_until(b'\n', &mut first).map_err(Error::io("read", stdin))? == 0 {
            break;
        }
        // The line remains, so that lines are counted as they are, but the reader of CSV skips it.
        if names_separator(&first) {
            first = b"\n".to_vec();
        }
        seen.extend_from_slice(&first);
    }
    let (found, columns) = detect(&first, fields);
    let asked = format;
    let format = if format == Format::Auto { found } else { format };
    let rest = seen.chain(input);
    let names = names_of(fields);
    match format {
        Format::Csv => {
            let columns = columns.filter(Columns::quotes).unwrap_or_else(|| Columns::separated(&first, b',', &names));
            read_csv(rest, columns, fields, sink)
        }
        Format::Tsv => read_csv(rest, Columns::separated(&first, b'\t', &names), fields, sink),
        Format::Jsonl => read_lines(rest, &|line| parse_json(line, fields), true, sink),
        _ if is_array(&first) => Err(Error::data(stdin, 1, "a JSON array: give JSON lines, an object each, or CSV")),
        _ if fields.1.is_some() => {
            let second = fields.1.unwrap_or_default();
            Err(Error::data(stdin, 1, format!("two texts each are read, {} and {second}: give JSON lines or CSV", fields.0)))
        }
        _ if asked == Format::Auto && looks_like_header(&first) => {
            let first = String::from_utf8_lossy(first.trim_ascii()).into_owned();
            let message = format!(
                "begins like a table, {first:?}, and names no column {:?}: call the column of the texts so, or say --format lines if each line is a text",
                fields.0
            );
            Err(Error::data(stdin, 1, message))
        }
        _ => read_lines(rest, &parse_plain, false, sink),
    }
}

/// Whether a line looks like the header of a table: short names, of which one is what people call such columns.
fn looks_like_header(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line.trim_ascii()).into_owned();
    [',', ';', '\t'].into_iter().any(|separator| {
        let names: Vec<&str> = line.split(separator).map(|name| name.trim_matches('"')).collect();
        let short = |name: &&str| !name.is_empty() && name.trim() == *name && name.split_whitespace().count() <= 3;
        names.len() > 1 && names.iter().all(short) && names.iter().any(|name| is_usual_name(name))
    })
}

fn names_of<'f>((field, second): (&'f str, Option<&'f str>)) -> Vec<&'f str> {
    [Some(field), second].into_iter().flatten().collect()
}

/// Whether a line is, or begins, an array of objects.
fn is_array(line: &[u8]) -> bool {
    line.trim_ascii() == b"[" || serde_json::from_slice::<Vec<serde_json::Map<String, Value>>>(line).is_ok()
}

/// What the first line says, and the columns if it is a header that names the fields. Plain lines may have a word that is a column's name
/// among others: a header has no space around its commas. One that begins with a brace is taken for JSON: told to be bad, if it is none.
fn detect(first: &[u8], fields: (&str, Option<&str>)) -> (Format, Option<Columns>) {
    let line = String::from_utf8_lossy(first.trim_ascii()).into_owned();
    let close = |columns: &Columns| line.split(columns.separator as char).all(|column| column.trim() == column);
    // A single word is the field's name, or a text.
    let named = |columns: &Columns| columns.names.len() > 1 || line.trim_matches('"') == fields.0;
    match Columns::of(line.as_bytes(), &names_of(fields)).filter(close).filter(named) {
        _ if line.starts_with('{') => (Format::Jsonl, None),
        Some(columns) => (if columns.quotes() { Format::Csv } else { Format::Tsv }, Some(columns)),
        None if fields.1.is_some() => (Format::Jsonl, None),
        None => (Format::Lines, None),
    }
}

fn parse_plain(line: &str) -> Result<Incoming, BadRow> {
    match line.trim().is_empty() {
        true => Err("an empty line: there is no text to predict".to_string().into()),
        false => Ok(Incoming { text: line.to_string(), text_pair: None, id: None }),
    }
}

fn parse_json(line: &str, (field, second): (&str, Option<&str>)) -> Result<Incoming, BadRow> {
    let example = second.map_or(format!("{{{field:?}: \"…\"}}"), |second| format!("{{{field:?}: \"…\", {second:?}: \"…\"}}"));
    let object: Value = serde_json::from_str(line)
        .map_err(|e| format!("not JSON (column {}): {e}; write {example}, or say --format lines if it is plain text", e.column()))?;
    let object = object.as_object().ok_or(format!("not a JSON object like {example}"))?;
    incoming(object.get("id").cloned(), (field, second), |field| given(object, field))
}

/// A row with this `id` and what the fields, or columns, are given as.
fn incoming<F>(
    id: Option<Value>,
    (first, second): (F, Option<F>),
    given: impl Fn(F) -> Result<String, String>,
) -> Result<Incoming, BadRow> {
    let texts = given(first).and_then(|text| Ok((text, second.map(&given).transpose()?)));
    match texts {
        Ok((text, text_pair)) => Ok(Incoming { text, text_pair, id }),
        Err(why) => Err(BadRow { why, id }),
    }
}

/// A field as it is given, which must not be blank.
fn given(object: &Row, field: &str) -> Result<String, String> {
    text_field(object, field)?;
    string_field(object, field).map(str::to_string)
}

/// Lines that end with a line feed, a carriage return, or both.
fn read_lines(mut input: impl BufRead, parse: &dyn Fn(&str) -> Result<Incoming, BadRow>, skip_blank: bool, sink: &mut Sink) -> Result<()> {
    let (mut bytes, mut number) = (Vec::new(), 0);
    while input.read_until(b'\n', &mut bytes).map_err(Error::io("read", Path::new("standard input")))? > 0 {
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        for line in line.split(|byte| *byte == b'\r') {
            number += 1;
            if skip_blank && line.trim_ascii().is_empty() {
                continue;
            }
            let row = std::str::from_utf8(line).map_err(|error| not_utf8(&error).into()).and_then(parse);
            if !sink(number, row) {
                return Ok(());
            }
        }
        bytes.clear();
    }
    Ok(())
}

fn read_csv(input: impl BufRead, columns: Columns, fields: (&str, Option<&str>), sink: &mut Sink) -> Result<()> {
    let stdin = Path::new("standard input");
    let marks = Cell::new(0);
    let mut reader = columns.reader_of_each(Counted { input, marks: &marks });
    let broken = |error: csv::Error| Error::data(stdin, error.position().map_or(1, |at| at.line() as usize), error.to_string());
    let (mut record, mut last) = (csv::ByteRecord::new(), 1);
    // A quoted name may go on in the next line.
    reader.read_byte_record(&mut record).map_err(broken)?;
    let columns = Columns::of_record(&record, columns.separator, &names_of(fields));
    let missing = |name: &str| Error::data(stdin, 1, format!("the header names no column {name:?}, but {:?}", columns.names));
    let place = |name: &str| columns.place(name).ok_or_else(|| missing(name));
    let (text, text_pair, id) = (place(fields.0)?, fields.1.map(place).transpose()?, columns.place("id"));
    loop {
        if !reader.read_byte_record(&mut record).map_err(broken)? {
            if columns.quotes() && marks.get() % 2 == 1 {
                sink(last, Err("a quotation mark is never closed: what follows it was one row".to_string().into()));
            }
            return Ok(());
        }
        last = record.position().map_or(0, |at| at.line() as usize);
        let given = |column: usize| match columns.text(&record[column])?.into_owned() {
            text if text.trim().is_empty() => Err(format!("field {:?} is empty", columns.names[column])),
            text => Ok(text),
        };
        let row = columns.check(&record).map_err(BadRow::from).and_then(|()| {
            let id = id.map(|id| columns.text(&record[id]).map(Value::from)).transpose()?;
            incoming(id, (text, text_pair), given)
        });
        if !sink(last, row) {
            return Ok(());
        }
    }
}

/// Bytes as they come, with line feeds in place of CR LF, and a count of quotation marks.
struct Counted<'c, R> {
    input: R,
    marks: &'c Cell<usize>,
}

impl<R: BufRead> Read for Counted<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let Some(&byte) = self.input.fill_buf()?.first() else { return Ok(0) };
        self.input.consume(1);
        if byte == b'\r' && self.input.fill_buf()?.first() == Some(&b'\n') {
            return self.read(into);
        }
        self.marks.set(self.marks.get() + usize::from(byte == b'"'));
        into[0] = byte;
        Ok(1)
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
            rows.push((line, row.map(shown).map_err(|bad| bad.id.map(|id| format!("{id} ")).unwrap_or_default() + &bad.why)));
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
        assert_eq!(good("\u{feff}one\r\ntwo\rthree\n{\"a\": 1}", text), of(&[(1, "one"), (2, "two"), (3, "three"), (4, "{\"a\": 1}")]));
        assert_eq!(good("sep=;\r\nID;Text\r\n1;a\r\n", text), of(&[(3, "\"1\" a")]));
        assert_eq!(good("id|text\n1|a, b\n", text), of(&[(2, "\"1\" a, b")]));
        assert_eq!(good("{\"text\": \"one\", \"label\": 0}\n{\"id\": 7, \"text\": \"two\"}\n", text), of(&[(1, "one"), (2, "7 two")]));
        assert_eq!(good("text,label\n\"one, \"\"two\"\"\nthree\",x\nfour,y\n", text), of(&[(2, "one, \"two\"\nthree"), (4, "four")]));
        assert_eq!(good("id\ttext\na\tone\n", text), of(&[(2, "\"a\" one")]));
        assert!(read(b"{bad\n", Format::Auto, text).unwrap()[0].1.as_ref().unwrap_err().contains("--format lines"));
        assert_eq!(good("ok, text\n", text), of(&[(1, "ok, text")]));
        assert_eq!(good("id;text\n1;\"Great; shop\"\n", text), of(&[(2, "\"1\" Great; shop")]));
        assert_eq!(good("\n{\"id\": 1, \"text\": \"a\"}\n", text), of(&[(2, "1 a")]));
        assert_eq!(good("text\tn\n\"a b\t1\n", text), of(&[(2, "\"a b")]));
        assert_eq!(good("text,text_pair\na,b\n", ("text", Some("text_pair"))), of(&[(2, "a|b")]));
        assert_eq!(good("Text\na|b\n", text), of(&[(1, "Text"), (2, "a|b")]));
        assert_eq!(good("text\na|b\n", text), of(&[(2, "a|b")]));
        assert_eq!(good("text,\"note\n(own)\",label\na,b,c\n", text), of(&[(3, "a")]));
        assert_eq!(good("sep=\t\nid\ttext\n1\ta\n", text), of(&[(3, "\"1\" a")]));
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
        let rows = read(b"text,n\n\"a\nb\nc,1\n", Format::Auto, ("text", None)).unwrap();
        assert!(rows.last().unwrap().1.as_ref().unwrap_err().contains("never closed"), "{rows:?}");
        let rows = read(b"id,text\r\n1,a\r\n2\r\n3,b\r\n", Format::Auto, ("text", None)).unwrap();
        assert_eq!(rows.iter().map(|(line, row)| (*line, row.is_ok())).collect::<Vec<_>>(), [(2, true), (3, false), (4, true)]);
        let rows = read(b"text,label\nGood film, really,positive\n", Format::Auto, ("text", None)).unwrap();
        assert_eq!(rows[0].1, Err("fields: 3, and the header names 2".to_string()));
        let rows = read(b"{\"id\": 1}\n{\"text\": \"a\"}\n\n", Format::Auto, ("text", None)).unwrap();
        assert!(rows.len() == 2 && rows[0].1.is_err() && rows[1].1 == Ok("a".to_string()), "{rows:?}");
    }

    #[test]
    fn a_row_without_a_text_is_an_error_with_its_id() {
        let text = ("text", None);
        assert_eq!(read(b"a\n\nb\n", Format::Auto, text).unwrap()[1], (2, Err("an empty line: there is no text to predict".to_string())));
        let rows = read(b"{\"id\": 7, \"text\": \" \"}\n{\"id\": \"b\"}\n{\"id\": 3, \"text\": \" c \"}\n", Format::Auto, text).unwrap();
        let said = ["7 field \"text\" is empty", "\"b\" field \"text\" is missing"].map(str::to_string);
        assert_eq!(rows, [(1, Err(said[0].clone())), (2, Err(said[1].clone())), (3, Ok("3  c ".to_string()))]);
        let rows = read(b"id,text\n1,\n2,b\n", Format::Auto, text).unwrap();
        assert_eq!(rows, [(2, Err("\"1\" field \"text\" is empty".to_string())), (3, Ok("\"2\" b".to_string()))]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let told = read(b"Ticket ID,Message,Intent\n1,hello,greet\n", Format::Auto, ("text", None)).unwrap_err();
        assert!(told.contains("begins like a table") && told.contains("--format lines"), "{told}");
        assert_eq!(read(b"Well, a message, so what\n", Format::Auto, ("text", None)).unwrap().len(), 1);
        assert_eq!(read(b"id,message\n", Format::Lines, ("text", None)).unwrap().len(), 1);
        assert!(read(b"a,b\n", Format::Csv, ("text", None)).unwrap_err().contains(":1: the header names no column \"text\""));
        assert!(read(b"[{\"text\": \"a\"}]\n", Format::Auto, ("text", None)).unwrap_err().contains("a JSON array"));
        assert!(read(b"\x1f\x8b\x08", Format::Auto, ("text", None)).unwrap_err().contains("gzip"));
        assert!(read(b"\xff\xfea\0", Format::Auto, ("text", None)).unwrap_err().contains("UTF-16"));
        assert!(read(b"a\n", Format::Lines, ("text", Some("text_pair"))).unwrap_err().contains("give JSON lines or CSV"));
    }
}
