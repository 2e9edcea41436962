//! The columns of CSV and TSV: what separates them, and what the header calls them.

use std::borrow::Cow;
use std::io::Read;

/// What may separate columns.
const SEPARATORS: &[u8] = b",\t;|";

/// The columns of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// Their names; a field's, and `id`, is written so whatever its case in the header.
    pub names: Vec<String>,
    pub separator: u8,
}

impl Columns {
    /// Those of a header that names each of `fields` once, separated by whatever finds most; a single column by commas.
    pub fn of(header: &[u8], fields: &[&str]) -> Option<Columns> {
        let found = SEPARATORS.iter().map(|&separator| Columns::separated(header, separator, fields));
        let more = |a: Columns, b: Columns| if b.names.len() > a.names.len() { b } else { a };
        found.filter(|columns| columns.name_all(fields)).reduce(more)
    }

    /// Those of a header with this separator, whether or not they are the `fields`.
    pub fn separated(header: &[u8], separator: u8, fields: &[&str]) -> Columns {
        let mut record = csv::ByteRecord::new();
        // A header that is no record of CSV has no columns.
        _ = Columns { names: Vec::new(), separator }.reader(header).read_byte_record(&mut record);
        Columns::of_record(&record, separator, fields)
    }

    /// Those of a header that is read.
    pub fn of_record(record: &csv::ByteRecord, separator: u8, fields: &[&str]) -> Columns {
        let mut columns = Columns { names: Vec::new(), separator };
        columns.names = record.iter().map(|name| unquoted(String::from_utf8_lossy(name).trim()).into_owned()).collect();
        for field in fields.iter().chain(&["id"]).filter(|field| !columns.names.iter().any(|name| name == **field)).collect::<Vec<_>>() {
            let mut alike = columns.names.iter_mut().filter(|name| name.eq_ignore_ascii_case(field));
            if let (Some(name), None) = (alike.next(), alike.next()) {
                *name = field.to_string();
            }
        }
        columns
    }

    fn name_all(&self, fields: &[&str]) -> bool {
        fields.iter().all(|field| self.names.iter().filter(|name| name == field).count() == 1)
    }

    /// The place of a column.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|own| own == name)
    }

    /// A reader of records, the header's too; quotation marks enclose fields, but not between tabulators.
    pub fn reader<R: Read>(&self, input: R) -> csv::Reader<R> {
        self.reading().from_reader(input)
    }

    /// Like [`Columns::reader`], for an input that is buffered: each record is handed on before a byte of the next one is there.
    pub fn reader_of_each<R: Read>(&self, input: R) -> csv::Reader<R> {
        self.reading().buffer_capacity(1).from_reader(input)
    }

    fn reading(&self) -> csv::ReaderBuilder {
        let mut builder = csv::ReaderBuilder::new();
        builder.has_headers(false).flexible(true).delimiter(self.separator).quoting(self.quotes());
        builder
    }

    /// Whether quotation marks enclose fields.
    pub fn quotes(&self) -> bool {
        self.separator != b'\t'
    }

    /// # Errors
    /// A record with more or fewer fields than the header.
    pub fn check(&self, record: &csv::ByteRecord) -> Result<(), String> {
        if record.len() == self.names.len() {
            return Ok(());
        }
        Err(format!("fields: {}, and the header names {}", record.len(), self.names.len()))
    }

    /// What a field says.
    ///
    /// # Errors
    /// Bytes that are not UTF-8.
    pub fn text<'f>(&self, field: &'f [u8]) -> Result<Cow<'f, str>, String> {
        let not_utf8 =
            |error: std::str::Utf8Error| format!("not UTF-8 (byte {} of a field); save the file as UTF-8", error.valid_up_to() + 1);
        let text = std::str::from_utf8(field).map_err(not_utf8)?;
        Ok(if self.quotes() { text.into() } else { unquoted(text) })
    }
}

/// Whether a line is Excel's word on what separates the columns, which the header says too: `sep=;`.
pub fn names_separator(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line).strip_prefix(b"sep=").is_some_and(|separator| separator.len() == 1)
}

pub fn not_utf8(error: &std::str::Utf8Error) -> String {
    format!("not UTF-8 (byte {} of the line); save the file as UTF-8", error.valid_up_to() + 1)
}

/// A field between tabulators without the quotation marks around it, if those within are doubled: most files with tabulators quote nothing.
fn unquoted(field: &str) -> Cow<'_, str> {
    match field.strip_prefix('"').and_then(|field| field.strip_suffix('"')) {
        Some(inner) if !inner.replace("\"\"", "").contains('"') => inner.replace("\"\"", "\"").into(),
        _ => field.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_tells_what_separates_and_its_case_does_not_matter() {
        let of =
            |header: &str| Columns::of(header.as_bytes(), &["text", "label"]).map(|columns| (columns.names, columns.separator as char));
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        for separator in [',', ';', '\t', '|'] {
            let header = format!("id{separator}text{separator} label");
            assert_eq!(of(&header), Some((names(&["id", "text", "label"]), separator)));
        }
        assert_eq!(of("Text,\"LABEL\""), Some((names(&["text", "label"]), ',')));
        assert_eq!(of("TEXT,text,label"), Some((names(&["TEXT", "text", "label"]), ',')), "the one that is written so");
        for unclear in ["Text,TEXT,label", "text,label,label", "text", "sentence,class", ""] {
            assert_eq!(of(unclear), None, "{unclear}");
        }
        assert_eq!(Columns::of(b"text", &["text"]).unwrap().separator, b',');
        assert!(
            names_separator(b"sep=\t\n") && names_separator(b"sep=;\r\n") && !names_separator(b"sep=ab") && !names_separator(b"text;label")
        );
    }
}
