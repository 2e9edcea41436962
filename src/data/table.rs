//! The rows of a data file: JSON lines, a JSON array, SQuAD's nested format, CSV, TSV, Excel, Parquet or plain lines. A row is read when
//! it is asked for.

use std::path::{Path, PathBuf};

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use encoding_rs::Encoding;

use super::columns::{Columns, names_separator, not_utf8};
use super::{parquet_file, squad_file, workbook};
use crate::error::{Error, Result};
use crate::files::content::{Content, lines, map};

/// A row: values by the names of its fields.
pub type Row = Map<String, Value>;

/// What a file should hold.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// A row, for messages: `{"text": "…"}`.
    pub example: &'static str,
    /// The fields that a header of CSV must name; the first is the text of plain lines.
    pub fields: &'static [&'static str],
    /// Whether a file may be plain lines, a text each.
    pub plain: bool,
}

/// A file and where each of its rows begins: twelve bytes a row beside the mapped file.
pub struct Table {
    path: PathBuf,
    content: Content,
    format: Format,
    /// What `lines` counts.
    unit: &'static str,
    starts: Vec<u64>,
    lines: Vec<u32>,
    /// Of a workbook, the sheet.
    sheet: Option<String>,
}

#[derive(Debug)]
enum Format {
    /// An object a line.
    JsonLines,
    /// Objects in an array, or one after another over several lines each.
    JsonValues,
    Csv(Columns),
    /// A text a line, by the name of its field.
    Plain(&'static str),
}

impl Table {
    /// Opens a file, finds out what it is, and where its rows begin. Blank lines are no rows.
    ///
    /// # Errors
    /// A file that cannot be read, or is none of these formats; no rows at all.
    pub fn open(path: &Path, shape: Shape) -> Result<Table> {
        Table::open_as(path, shape, None, None)
    }

    /// [`Table::open`] of one sheet of a workbook, or of a text file in an encoding that it does not tell by itself.
    ///
    /// # Errors
    /// As [`Table::open`]; a sheet of a file that has none; bytes that the encoding does not have.
    pub fn open_as(path: &Path, shape: Shape, sheet: Option<&str>, encoding: Option<&'static Encoding>) -> Result<Table> {
        let refuse = |line: Option<usize>, message: String| Error::Data { path: path.to_path_buf(), line, message };
        let bytes = map(path)?;
        let is_workbook = workbook::begins(&bytes) && !parquet_file::begins(&bytes);
        if let Some(sheet) = sheet.filter(|_| !is_workbook) {
            return Err(refuse(None, format!("not a workbook: it has no sheet {sheet:?}")));
        }
        if let Some(encoding) = encoding.filter(|_| is_workbook || parquet_file::begins(&bytes)) {
            return Err(refuse(None, format!("not text: it has no encoding such as {}", encoding.name())));
        }
        if let Some(table) = Table::of_binary(path, &bytes, shape, sheet)? {
            return Ok(table);
        }
        let content = Content::open_as(path, encoding)?;
        let first = lines(&content).map(|(_, line)| line).zip(1..).find(|(line, _)| !says_nothing(line));
        let Some((first, line)) = first.map(|(first, line)| (first.trim_ascii().to_vec(), line)) else {
            return Err(refuse(None, format!("no rows; lines must look like {}", shape.example)));
        };
        let first = &first[..];
        let of =
            |format| Table { path: path.to_path_buf(), content, format, unit: "line", starts: Vec::new(), lines: Vec::new(), sheet: None };
        let named = Named::of(path);
        let table = match first[0] {
            _ if matches!(named, Named::Csv | Named::Tsv) => of(Format::JsonLines).index_csv(shape),
            b'{' => of(Format::JsonLines).index_objects(first),
            b'[' if named == Named::Json || !shape.plain => of(Format::JsonValues).index_array(None),
            _ if shape.plain && named != Named::Json => Ok(of(Format::Plain(shape.fields[0])).index_lines()),
            _ if Columns::of(first, shape.fields).is_some() => of(Format::JsonLines).index_csv(shape),
            _ => Err(refuse(Some(line), unknown(first, shape))),
        }?;
        if table.is_empty() {
            let rows = match &table.format {
                Format::Csv(_) => "no rows below the names of the columns".to_string(),
                _ => format!("no rows; rows must look like {}", shape.example),
            };
            return Err(refuse(None, rows));
        }
        Ok(table)
    }

    /// A workbook or a Parquet file, whose rows are made lines in memory. Their places are those of the file's rows.
    fn of_binary(path: &Path, bytes: &[u8], shape: Shape, sheet: Option<&str>) -> Result<Option<Table>> {
        let error = |message: String| Error::Data { path: path.to_path_buf(), line: None, message };
        let (lines, sheet) = match bytes {
            bytes if parquet_file::begins(bytes) => (parquet_file::json_lines(bytes).map_err(error)?, None),
            bytes if workbook::begins(bytes) => {
                let sheet = workbook::json_lines(bytes, shape.fields, sheet).map_err(error)?;
                (sheet.lines, Some(sheet.place))
            }
            _ => return Ok(None),
        };
        let (path, content) = (path.to_path_buf(), Content::from(lines));
        let table =
            Table { path, content, format: Format::JsonLines, unit: "row", starts: Vec::new(), lines: Vec::new(), sheet }.index_lines();
        if table.is_empty() { Err(error("no rows".to_string())) } else { Ok(Some(table)) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Of a workbook, the sheet that was read, and the names of all where there are several: `sheet "rows" of about, rows`.
    pub fn sheet(&self) -> Option<&str> {
        self.sheet.as_deref()
    }

    /// Whether all of the file is UTF-8.
    pub fn is_utf8(&self) -> bool {
        std::str::from_utf8(&self.content).is_ok()
    }

    pub fn len(&self) -> usize {
        self.starts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where row `i` stands, from 1, no two rows alike: its line; in SQuAD's nested format the number of the question, where several rows
    /// begin on one line that of the row.
    pub fn line(&self, i: usize) -> usize {
        self.lines[i] as usize
    }

    /// What [`Table::line`] counts: lines, questions or rows.
    pub fn unit(&self) -> &'static str {
        self.unit
    }

    /// An error about a place in the file, as [`Table::line`] counts.
    pub fn error(&self, line: usize, message: impl Into<String>) -> Error {
        let (path, message) = (self.path.clone(), message.into());
        match self.unit {
            "line" => Error::Data { path, line: Some(line), message },
            unit => Error::Data { path, line: None, message: format!("{unit} {line}: {message}") },
        }
    }

    /// The fields of row `i`.
    ///
    /// # Errors
    /// Bytes that are not UTF-8, bad JSON, a value that is not an object; the message does not name the place.
    pub fn row(&self, i: usize) -> Result<Row, String> {
        let start = self.starts[i] as usize;
        let end = self.starts.get(i + 1).map_or(self.content.len(), |next| *next as usize);
        let bytes = &self.content[start..end];
        match &self.format {
            Format::JsonLines => object(whole_line(bytes)?),
            Format::JsonValues => {
                let first = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>().next();
                as_object(first.ok_or("not JSON")?.map_err(|error| not_json(&error))?)
            }
            Format::Csv(columns) => csv_row(bytes, columns),
            Format::Plain(field) => Ok(Row::from_iter([(field.to_string(), Value::from(whole_line(bytes)?.trim()))])),
        }
    }

    /// What `parse` makes of row `i` and its line.
    ///
    /// # Errors
    /// As [`Table::row`], and what `parse` says of it; with the place.
    pub fn parsed<T>(&self, i: usize, parse: impl FnOnce(&Row, usize) -> Result<T, String>) -> Result<T> {
        let line = self.line(i);
        self.row(i).and_then(|row| parse(&row, line)).map_err(|message| self.error(line, message))
    }

    fn add(&mut self, start: usize, line: usize) {
        self.starts.push(start as u64);
        self.lines.push(u32::try_from(line).unwrap_or(u32::MAX));
    }

    /// A row for each line that is not blank.
    fn index_lines(mut self) -> Self {
        let found: Vec<(u64, u32)> = lines(&self.content)
            .zip(1..)
            .filter(|((_, line), _)| !line.trim_ascii().is_empty())
            .map(|((at, _), n)| (at as u64, n))
            .collect();
        (self.starts, self.lines) = found.into_iter().unzip();
        self
    }

    /// JSON lines; or one object over all lines whose `data` holds the rows.
    fn index_objects(self, first: &[u8]) -> Result<Table> {
        match serde_json::from_slice::<&RawValue>(first) {
            Ok(object)
                if is_data(object.get().as_bytes()) && lines(&self.content).filter(|(_, l)| !l.trim_ascii().is_empty()).count() == 1 =>
            {
                self.index_data()
            }
            Err(error) if error.is_eof() && is_data(&self.content) => self.index_data(),
            Err(error) if error.is_eof() && lines(&self.content).nth(1).is_some() => self.index_stream(),
            _ => Ok(self.index_lines()),
        }
    }

    /// An object with a list `data`: of rows, or of SQuAD's articles.
    fn index_data(mut self) -> Result<Table> {
        let data: Data = serde_json::from_slice(&self.content).map_err(|error| self.bad_json(&error))?;
        if let Some(questions) = squad_file::flatten(data.data).map_err(|message| self.error(1, message))? {
            (self.content, self.format, self.unit) = (Content::from(questions), Format::JsonLines, "question");
            return Ok(self.index_lines());
        }
        let from = data.data.get().as_ptr() as usize - self.content.as_ptr() as usize;
        self.format = Format::JsonValues;
        self.index_array(Some(from))
    }

    /// The elements of the array that begins at `from`, or of the whole file.
    fn index_array(self, from: Option<usize>) -> Result<Table> {
        let bytes = &self.content[..];
        let elements: Vec<&RawValue> = match from {
            None => serde_json::from_slice(bytes),
            Some(from) => serde_json::Deserializer::from_slice(&bytes[from..]).into_iter().next().unwrap_or(Ok(Vec::new())),
        }
        .map_err(|error| self.bad_json(&error))?;
        let starts = elements.iter().map(|element| element.get().as_ptr() as usize - bytes.as_ptr() as usize).collect();
        Ok(self.with_values(starts))
    }

    /// Objects one after another, over several lines each.
    fn index_stream(self) -> Result<Table> {
        let bytes = &self.content[..];
        let objects = serde_json::Deserializer::from_slice(bytes).into_iter::<&RawValue>();
        let starts: Result<Vec<usize>, _> =
            objects.map(|object| object.map(|object| object.get().as_ptr() as usize - bytes.as_ptr() as usize)).collect();
        let starts = starts.map_err(|error| self.bad_json(&error))?;
        Ok(self.with_values(starts))
    }

    /// JSON values that begin at these bytes.
    fn with_values(mut self, starts: Vec<usize>) -> Table {
        self.format = Format::JsonValues;
        let (mut at, mut line) = (0, 1);
        for start in starts {
            line += line_ends(&self.content[at..start]);
            at = start;
            self.add(start, line);
        }
        // A row is known by its number: two on one line are counted as rows.
        if self.lines.windows(2).any(|two| two[0] == two[1]) {
            (self.lines, self.unit) = ((1..).take(self.len()).collect(), "row");
        }
        self
    }

    fn bad_json(&self, error: &serde_json::Error) -> Error {
        self.error(error.line().max(1), not_json(error))
    }

    fn index_csv(mut self, shape: Shape) -> Result<Table> {
        let (from, first) = lines(&self.content).find(|(_, line)| !says_nothing(line)).expect("there is a line that says something");
        let columns = Columns::of(&self.content[from..], shape.fields);
        let mut columns = columns.ok_or_else(|| self.error(1 + line_ends(&self.content[..from]), unknown(first, shape)))?;
        // What separates a single column, the header does not say.
        if columns.names.len() == 1 && Named::of(&self.path) == Named::Tsv {
            columns.separator = b'\t';
        }
        let mut reader = columns.reader(&self.content[from..]);
        let (mut record, mut counted) = (csv::ByteRecord::new(), LineOf { bytes: &self.content, at: 0, line: 1 });
        let mut found = Vec::new();
        loop {
            let more = reader.read_byte_record(&mut record);
            match more.map_err(|error| self.error(counted.line, error.to_string()))? {
                false => break,
                true => {
                    let at = from + record.position().map_or(0, |at| at.byte() as usize);
                    let (at, line) = counted.of(at);
                    found.push((at, line));
                }
            }
        }
        if let Some((at, line)) =
            found.last().filter(|(at, _)| columns.quotes() && quoting(&self.content[*at..], columns.separator) == Quoting::Open)
        {
            let rows = line_ends(self.content[*at..].trim_ascii_end());
            let message = format!("a quotation mark that opens here is never closed; {rows} further lines would be one row with it");
            return Err(self.error(*line, message));
        }
        found.into_iter().skip(1).for_each(|(at, line)| self.add(at, line));
        self.format = Format::Csv(columns);
        Ok(self)
    }
}

/// What a file's name says that it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    Json,
    Csv,
    Tsv,
    Otherwise,
}

impl Named {
    fn of(path: &Path) -> Named {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        let ends = |with: &[&str]| with.iter().any(|end| name.ends_with(end));
        match () {
            () if ends(&[".json", ".jsonl", ".ndjson"]) => Named::Json,
            () if ends(&[".csv"]) => Named::Csv,
            () if ends(&[".tsv"]) => Named::Tsv,
            () => Named::Otherwise,
        }
    }
}

#[derive(serde::Deserialize)]
struct Data<'d> {
    #[serde(borrow)]
    data: &'d RawValue,
}

/// Whether these bytes are an object whose `data` is a list.
fn is_data(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Data>(bytes).is_ok_and(|data| data.data.get().starts_with('['))
}

fn whole_line(bytes: &[u8]) -> Result<&str, String> {
    let line = lines(bytes).next().map_or(&[][..], |(_, line)| line);
    std::str::from_utf8(line).map_err(|error| not_utf8(&error))
}

fn object(line: &str) -> Result<Row, String> {
    as_object(serde_json::from_str(line).map_err(|error| not_json(&error))?)
}

fn as_object(value: Value) -> Result<Row, String> {
    match value {
        Value::Object(row) => Ok(row),
        _ => Err("not a JSON object".to_string()),
    }
}

/// Its message without serde's own place, which is within the row.
fn not_json(error: &serde_json::Error) -> String {
    let (column, message) = (error.column(), error.to_string());
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
    if message.contains("surrogate") || message.contains("hex escape") {
        return format!("half of a UTF-16 surrogate pair stands alone (column {column}): write the character itself, or remove the escape");
    }
    format!("not JSON (column {column}): {message}")
}

/// A blank line, or one that only says what separates the columns.
fn says_nothing(line: &[u8]) -> bool {
    line.trim_ascii().is_empty() || names_separator(line)
}

/// How the quotation marks of a record stand.
#[derive(PartialEq, Eq)]
enum Quoting {
    Sound,
    /// A field goes on behind its closing mark.
    Within,
    /// A field is never closed.
    Open,
}

fn quoting(record: &[u8], separator: u8) -> Quoting {
    let (mut at, mut begins) = (0, true);
    while let Some(&byte) = record.get(at) {
        at += 1;
        if begins && byte == b'"' {
            loop {
                match (record.get(at), record.get(at + 1)) {
                    (None, _) => return Quoting::Open,
                    (Some(b'"'), Some(b'"')) => at += 2,
                    (Some(b'"'), next) if next.is_none_or(|next| *next == separator || b"\r\n".contains(next)) => break,
                    (Some(b'"'), _) => return Quoting::Within,
                    _ => at += 1,
                }
            }
            at += 1;
            begins = false;
        } else {
            begins = byte == separator || b"\r\n".contains(&byte);
        }
    }
    Quoting::Sound
}

fn csv_row(bytes: &[u8], columns: &Columns) -> Result<Row, String> {
    let mut record = csv::ByteRecord::new();
    columns.reader(bytes).read_byte_record(&mut record).map_err(|error| error.to_string())?;
    columns.check(&record)?;
    if columns.quotes() && quoting(bytes, columns.separator) == Quoting::Within {
        return Err(
            "a field goes on behind the quotation mark that closes it: enclose the whole field, and double the marks within".to_string()
        );
    }
    columns.names.iter().zip(&record).map(|(name, field)| Ok((name.clone(), Value::from(columns.text(field)?)))).collect()
}

fn unknown(first: &[u8], shape: Shape) -> String {
    let begins: String = String::from_utf8_lossy(first).chars().take(40).collect();
    let fields = shape.fields.join(", ");
    format!(
        "begins with {begins:?}: give JSON lines or a JSON array of objects like {}, or CSV, TSV, Excel or Parquet with the columns {fields}",
        shape.example
    )
}

/// How many lines end in these bytes.
fn line_ends(bytes: &[u8]) -> usize {
    lines(bytes).count() - usize::from(!bytes.is_empty() && !bytes.ends_with(b"\n") && !bytes.ends_with(b"\r"))
}

/// The line of a byte. (The reader of CSV counts some line ends twice or not at all: CR LF behind a quoted one, CR alone.)
struct LineOf<'b> {
    bytes: &'b [u8],
    at: usize,
    line: usize,
}

impl LineOf<'_> {
    /// The first byte from `from` on that is no line end, and its line; each call must go further than the one before.
    fn of(&mut self, from: usize) -> (usize, usize) {
        while let Some(&byte) = self.bytes.get(self.at).filter(|byte| self.at < from || b"\r\n".contains(byte)) {
            self.at += 1;
            self.line += usize::from(byte == b'\n' || (byte == b'\r' && self.bytes.get(self.at) != Some(&b'\n')));
        }
        (self.at, self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXTS: Shape = Shape { example: r#"{"text": "…"}"#, fields: &["text"], plain: false };

    /// The lines and texts of a file, or what is wrong with it.
    fn read(name: &str, content: &[u8], shape: Shape) -> Result<Vec<(usize, String)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let table = Table::open(&path, shape).map_err(|error| error.to_string())?;
        let text = |i| {
            let row = table.row(i).map_err(|message| table.error(table.line(i), message).to_string())?;
            Ok((table.line(i), row["text"].as_str().unwrap_or("no string").to_string()))
        };
        (0..table.len()).map(text).collect()
    }

    #[test]
    fn one_table_in_many_files() {
        let expected = vec!["a, \"b\"".to_string(), "Zoë".to_string()];
        for (name, content) in [
            ("x.jsonl", "{\"text\": \"a, \\\"b\\\"\"}\n\n{\"text\": \"Zoë\"}"),
            ("x.jsonl", "{\"text\": \"a, \\\"b\\\"\"}\r{\"text\": \"Zoë\"}\r"),
            ("x", "{\"text\": \"a, \\\"b\\\"\"}\n{\"text\": \"Zoë\"}"),
            ("x.json", "[{\"text\": \"a, \\\"b\\\"\"}, {\"text\": \"Zoë\"}]"),
            ("x.json", "[\n  {\n    \"text\": \"a, \\\"b\\\"\"\n  },\n  {\n    \"text\": \"Zoë\"\n  }\n]\n"),
            ("x.json", "{\n  \"text\": \"a, \\\"b\\\"\"\n}\n{\n  \"text\": \"Zoë\"\n}\n"),
            ("x.json", "{\"version\": 1, \"data\": [{\"text\": \"a, \\\"b\\\"\"}, {\"text\": \"Zoë\"}]}"),
            ("x.csv", "id,text\n1,\"a, \"\"b\"\"\"\n2,Zoë\n"),
            ("x.csv", "id;text\r\n1;\"a, \"\"b\"\"\"\r\n2;Zoë\r\n"),
            ("x.csv", "sep=;\r\nID;Text\r\n1;\"a, \"\"b\"\"\"\r\n2;Zoë\r\n"),
            ("x.csv", "text\n\"a, \"\"b\"\"\"\nZoë\n"),
            ("x.csv", "\"a\nb\",text,c\n1,\"a, \"\"b\"\"\",2\n2,Zoë,3\n"),
            ("x.csv", "id|text\n1|\"a, \"\"b\"\"\"\n2|Zoë\n"),
            ("x.tsv", "text\tid\na, \"b\"\t1\nZoë\t2"),
            ("x.txt", "text\tid\na, \"b\"\t1\nZoë\t2"),
        ] {
            let rows = read(name, content.as_bytes(), TEXTS).unwrap_or_else(|error| panic!("{content}: {error}"));
            assert_eq!(rows.into_iter().map(|(_, text)| text).collect::<Vec<_>>(), expected, "{content}");
        }
    }

    /// Files that tests/reference/tables.py wrote with pandas and polars.
    #[test]
    fn workbooks_and_parquet_are_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference");
        let shape = Shape { fields: &["text", "label"], ..TEXTS };
        for (name, first) in
            [("table.xlsx", 5), ("table.ods", 2), ("table.snappy.parquet", 1), ("table.gzip.parquet", 1), ("table.zstd.parquet", 1)]
        {
            let table = Table::open(&folder.join(name), shape).unwrap();
            let rows: Vec<Row> = (0..table.len()).map(|i| table.row(i).unwrap()).collect();
            let texts: Vec<&str> = rows.iter().map(|row| row["text"].as_str().unwrap()).collect();
            assert_eq!(texts, ["a, \"b\"", "Zoë\nsays", "日本"], "{name}");
            assert_eq!(rows.iter().map(|row| row["label"].as_str()).collect::<Vec<_>>(), [Some("good"), None, Some("bad")], "{name}");
            assert_eq!((rows[0]["stars"].as_f64(), rows[1]["id"].as_i64()), (Some(4.5), Some(2)), "{name}");
            assert_eq!((table.line(0), table.unit()), (first, "row"), "{name}");
        }
        let error = |name: &str, fields| Table::open(&folder.join(name), Shape { fields, ..TEXTS }).err().unwrap().to_string();
        let of_sheet = |sheet| Table::open_as(&folder.join("table.xlsx"), shape, Some(sheet), None);
        assert_eq!(of_sheet("rows").unwrap().len(), 3);
        assert_eq!(of_sheet("rows").unwrap().sheet(), Some("sheet \"rows\" of about, rows"));
        assert!(of_sheet("about").err().unwrap().to_string().contains("sheet \"about\" has note"));
        assert!(of_sheet("Rows").err().unwrap().to_string().contains("no sheet \"Rows\"; its sheets are about, rows"));
        let told = error("table.xlsx", &["text_pair"]);
        assert!(told.contains("columns text_pair: sheet \"about\" has note; sheet \"rows\" has id, Text, label, stars"), "{told}");
    }

    #[test]
    fn damaged_workbooks_and_parquet_are_refused() {
        for name in ["table.xlsx", "table.ods", "table.snappy.parquet", "table.zstd.parquet"] {
            let whole = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name)).unwrap();
            for cut in [4, 8, whole.len() / 2, whole.len() - 9] {
                let error = read(name, &whole[..cut], TEXTS).unwrap_err();
                assert!(error.contains(name), "{error}");
            }
            for at in (4..whole.len()).step_by(97) {
                let mut changed = whole.clone();
                changed[at] ^= 0x55;
                // It may go unnoticed, but nothing may panic.
                let _ = read(name, &changed, TEXTS);
            }
        }
    }

    #[test]
    fn places_are_those_of_an_editor() {
        let lines = |name, content: &str, shape| {
            read(name, content.as_bytes(), shape).unwrap().into_iter().map(|(line, _)| line).collect::<Vec<_>>()
        };
        assert_eq!(lines("x.json", "[\n{\"text\":\n\"a\"},\n\n{\"text\": \"b\"}]", TEXTS), [2, 5]);
        assert_eq!(lines("x.jsonl", "\n{\"text\": \"a\"}\n\n{\"text\": \"b\"}", TEXTS), [2, 4]);
        assert_eq!(lines("x.csv", "text\n\n\"a\nb\"\n\nc\n", TEXTS), [3, 6]);
        assert_eq!(lines("x.txt", "a\n \n[b]\n", Shape { plain: true, ..TEXTS }), [1, 3]);
    }

    #[test]
    fn rows_on_one_line_are_counted_as_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        std::fs::write(&path, "[{\"text\": \"a\"}, {\"text\": \"b\"}, {\"text\": 3}]").unwrap();
        let table = Table::open(&path, TEXTS).unwrap();
        assert_eq!((0..3).map(|i| table.line(i)).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!((table.unit(), table.row(1).unwrap()["text"].as_str()), ("row", Some("b")));
        assert!(table.error(3, "wrong").to_string().ends_with("x.json: row 3: wrong"));
    }

    #[test]
    fn quotation_marks_never_join_rows_in_silence() {
        let raw = "text\tlabel\n\"Foo bar\tpos\n\"Hello\" she said\tneg\n\"a \"\"b\"\"\"\tpos\n";
        let texts: Vec<String> = read("x.tsv", raw.as_bytes(), TEXTS).unwrap().into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["\"Foo bar", "\"Hello\" she said", "a \"b\""]);
        let error = read("x.csv", b"n,text\n1,\"Hello\n2,x\n3,\"bar\"\n", TEXTS).unwrap_err();
        assert!(error.contains("x.csv:2: a field goes on behind the quotation mark"), "{error}");
        let inches = read("x.csv", b"text,n\n\"two\nlines\",5\" pipe\n", TEXTS).unwrap();
        assert_eq!(inches[0].1, "two\nlines");
        assert!(read("x.tsv", b"text\na, b\n", TEXTS).is_ok_and(|rows| rows[0].1 == "a, b"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (name, content, expected) in [
            (
                "x.jsonl",
                "plain",
                "x.jsonl:1: begins with \"plain\": give JSON lines or a JSON array of objects like {\"text\": \"…\"}, or CSV",
            ),
            ("x.tsv", "\na fine film\tgood\n", "x.tsv:2: begins with \"a fine film\\tgood\""),
            ("x.jsonl", "{\"text\": \"a\"}\n[1]", "x.jsonl:2: not a JSON object"),
            ("x.jsonl", "{\"text\": \"a\"\n", "x.jsonl:1: not JSON (column 12): EOF while parsing an object"),
            ("x.json", "[{\"text\": \"a\"},\n{\"text\": \"b\"]", "x.json:2: not JSON (column 13): expected `,` or `}`"),
            ("x.json", "[]", "no rows"),
            ("x.csv", "text\n", "no rows"),
            ("x.csv", "text,b\na\n", "x.csv:2: fields: 1, and the header names 2"),
        ] {
            let error = read(name, content.as_bytes(), TEXTS).unwrap_err();
            assert!(error.contains(expected), "{error:?} should contain {expected:?}");
        }
        assert!(read("x.jsonl", b"{\"text\": \"d\xe9j\xe0\"}", TEXTS).unwrap_err().contains(":1: not UTF-8 (byte 12 of the line)"));
        assert!(read("x.csv", b"text\nd\xe9j\xe0\n", TEXTS).unwrap_err().contains(":2: not UTF-8"));
    }

    proptest! {
        #[test]
        fn nothing_panics(content in proptest::collection::vec(any::<u8>(), 0..80), name in prop::sample::select(vec!["x.json", "x.csv", "x"]), plain: bool) {
            let _ = read(name, &content, Shape { plain, ..TEXTS });
        }

        #[test]
        fn csv_is_read_as_it_is_written(texts in proptest::collection::vec("[a\"\n,; ]{0,12}x", 1..6)) {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(["text", "n"]).unwrap();
            texts.iter().for_each(|text| writer.write_record([text, "1"]).unwrap());
            let rows = read("x.csv", &writer.into_inner().unwrap(), TEXTS).unwrap();
            prop_assert_eq!(rows.into_iter().map(|(_, text)| text).collect::<Vec<_>>(), texts);
        }
    }
}
