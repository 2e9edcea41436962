//! What is told while something is fetched.

use super::convert::Converted;
use super::error::SourceError;
use super::source::Source;

/// What happens while an entry is fetched.
#[derive(Debug)]
pub enum Progress<'a> {
    /// The file is whole and stays.
    Here { file: &'a str },
    /// A source is tried; `size` is the file's, in bytes.
    Trying { file: &'a str, size: u64, source: &'a Source },
    /// So many bytes of the file were received.
    Bytes { done: u64 },
    /// The source did not have the file, or not these bytes; the next one is tried.
    Failed { source: &'a Source, error: &'a SourceError },
    /// The file was received and checked.
    Fetched { file: &'a str },
    /// Gold data was made of the published file.
    Converted(&'a Converted),
}
