//! What is reported while something is fetched.

use super::convert::Converted;
use super::error::SourceError;
use super::source::Source;

/// An event while an entry is fetched.
#[derive(Debug)]
pub enum FetchEvent<'a> {
    /// The file is already in the cache and intact.
    Here { file: &'a str },
    /// A source is tried; `size` is the file's, in bytes.
    Trying { file: &'a str, size: u64, source: &'a Source },
    /// `done` bytes of the file have been received.
    Bytes { done: u64 },
    /// The source did not have the file, or not these bytes; the next one is tried.
    Failed { source: &'a Source, error: &'a SourceError },
    /// The file was received and verified.
    Fetched { file: &'a str },
    /// The published file was converted into gold data.
    Converted(&'a Converted),
}
