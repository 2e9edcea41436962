//! What a data file holds, as bytes of UTF-8: mapped as it is, or unpacked (gzip) and decoded (UTF-16 and others) into memory.

use std::fs::File;
use std::io::Read;
use std::ops::Deref;
use std::path::Path;

use encoding_rs::Encoding;
use flate2::read::MultiGzDecoder;
use memchr::memchr2;
use memmap2::Mmap;

use crate::error::{Error, Result};

/// The content of a file, without a byte order mark.
pub struct Content {
    bytes: Bytes,
    /// Where it begins, behind the mark.
    from: usize,
}

enum Bytes {
    /// The system reads the pages that are looked at, and drops them when it needs room.
    Mapped(Mmap),
    Decoded(Vec<u8>),
}

impl Deref for Content {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let all: &[u8] = match &self.bytes {
            Bytes::Mapped(map) => map,
            Bytes::Decoded(bytes) => bytes,
        };
        &all[self.from..]
    }
}

impl Content {
    /// Opens a file of text.
    ///
    /// # Errors
    /// A file that cannot be read; one that holds no text, named as what it is: a Git LFS pointer, a web page, an archive, Parquet, UTF-32.
    pub fn open(path: &Path) -> Result<Content> {
        Content::open_as(path, None)
    }

    /// [`Content::open`] of a file in an encoding that it does not tell by itself.
    ///
    /// # Errors
    /// As [`Content::open`]; bytes that the encoding does not have.
    pub fn open_as(path: &Path, encoding: Option<&'static Encoding>) -> Result<Content> {
        let bytes = Bytes::Mapped(map(path)?);
        let refuse = |message: String| Error::Data { path: path.to_path_buf(), line: None, message };
        let mut content = Content { bytes, from: 0 };
        if content.starts_with(b"\x1f\x8b") {
            let mut unpacked = Vec::new();
            let read = MultiGzDecoder::new(&content[..]).read_to_end(&mut unpacked);
            read.map_err(|error| refuse(format!("gzip, and it cannot be unpacked: {error}")))?;
            content = Content::from(unpacked);
        }
        if let Some(encoding) = encoding {
            if !content.is_ascii() && std::str::from_utf8(&content).is_ok() {
                return Err(refuse(format!("it is UTF-8, not {}", encoding.name())));
            }
            let (text, found, wrong) = encoding.decode(&content);
            if wrong {
                return Err(refuse(format!("not all of it is {}", found.name())));
            }
            content = Content::from(text.into_owned().into_bytes());
        }
        if let Some(what) = not_text(&content) {
            return Err(refuse(what));
        }
        if content.starts_with(b"\xff\xfe") || content.starts_with(b"\xfe\xff") {
            content = Content::from(decode_utf16(&content).map_err(refuse)?);
        }
        if content.starts_with(b"\xef\xbb\xbf") {
            content.from += 3;
        }
        Ok(content)
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Content { bytes: Bytes::Decoded(bytes), from: 0 }
    }
}

/// Maps a file for reading. An empty one is a map of no bytes.
///
/// # Errors
/// A file that cannot be opened or mapped.
pub fn map(path: &Path) -> Result<Mmap> {
    if path.is_dir() {
        return Err(Error::Data { path: path.to_path_buf(), line: None, message: "a folder, where a file is needed".to_string() });
    }
    let file = File::open(path).map_err(Error::io("read", path))?;
    // SAFETY: the map is only read. Should somebody cut the file meanwhile the process ends with a bus error, as with any mapped
    // file; our own files are replaced as a whole and never cut.
    unsafe { Mmap::map(&file) }.map_err(Error::io("map", path))
}

/// What a file begins with that is no text of ours, and what to do about it.
const OTHERS: [(&[u8], &str); 8] = [
    (b"PK\x03\x04", "a zip archive (as Excel files are), not text: unpack it, or save the table as CSV"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd: unpack it, or pack it with gzip"),
    (b"\xfd7zXZ", "packed with xz: unpack it, or pack it with gzip"),
    (b"BZh", "packed with bzip2: unpack it, or pack it with gzip"),
    (b"PAR1", "a Parquet file, not text: save it as CSV or JSON lines"),
    (b"ARROW1", "an Arrow file, not text: save it as CSV or JSON lines"),
    (b"\xff\xfe\x00\x00", "UTF-32: save the file as UTF-8"),
    (b"\x00\x00\xfe\xff", "UTF-32: save the file as UTF-8"),
];

fn not_text(bytes: &[u8]) -> Option<String> {
    let known = OTHERS.iter().find(|(begins, _)| bytes.starts_with(begins)).map(|(_, what)| what.to_string());
    let wide = || {
        let zeros = bytes.len() >= 4 && (bytes[..4].iter().step_by(2).all(|b| *b == 0) || bytes[1..4].iter().step_by(2).all(|b| *b == 0));
        zeros.then(|| "zero bytes between its characters, as UTF-16 without a byte order mark has: save the file as UTF-8".to_string())
    };
    in_place_of_a_file(bytes).or(known).or_else(wide)
}

/// What stands in a file's place where a download brought something else: a Git LFS pointer or a web page.
pub fn in_place_of_a_file(bytes: &[u8]) -> Option<String> {
    if bytes.starts_with(b"version https://git-lfs.github.com/spec/") {
        let head = String::from_utf8_lossy(&bytes[..bytes.len().min(1024)]).into_owned();
        let size =
            head.lines().find_map(|line| line.strip_prefix("size ")).map_or(String::new(), |size| format!(" ({} bytes)", size.trim()));
        return Some(format!("a Git LFS pointer, not the file itself{size}: run `git lfs pull`, or copy the file"));
    }
    let begins = bytes[..bytes.len().min(64)].trim_ascii_start().to_ascii_lowercase();
    let page = begins.starts_with(b"<!doctype html") || begins.starts_with(b"<html");
    page.then(|| "a web page, saved in the file's place: download the file itself".to_string())
}

/// [`in_place_of_a_file`] for the beginning of the file at `path`; `None` also where it cannot be read.
pub fn stands_in(path: &Path) -> Option<String> {
    let mut head = Vec::new();
    File::open(path).ok()?.take(1024).read_to_end(&mut head).ok()?;
    in_place_of_a_file(&head)
}

fn decode_utf16(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let little = bytes.starts_with(b"\xff\xfe");
    let unit = |pair: &[u8]| if little { u16::from_le_bytes([pair[0], pair[1]]) } else { u16::from_be_bytes([pair[0], pair[1]]) };
    if !bytes.len().is_multiple_of(2) {
        return Err("UTF-16 with an odd number of bytes: it is cut off".to_string());
    }
    let text: Result<String, _> = char::decode_utf16(bytes[2..].chunks_exact(2).map(unit)).collect();
    text.map(String::into_bytes).map_err(|error| format!("UTF-16 with {error}: save the file as UTF-8"))
}

/// Each line with where it begins: lines end with a line feed, a carriage return, or both. A last line may lack its end.
pub fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let (begin, end) = (at, memchr2(b'\n', b'\r', rest).unwrap_or(rest.len()));
        let both = rest[end..].starts_with(b"\r\n");
        at += end + 1 + usize::from(both);
        Some((begin, &rest[..end]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn open(content: &[u8]) -> Result<Vec<u8>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        std::fs::write(&path, content).unwrap();
        Content::open(&path).map(|content| content.to_vec()).map_err(|error| error.to_string())
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(content).unwrap();
        packed.finish().unwrap()
    }

    fn utf16(text: &str, unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
        "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(unit).collect()
    }

    #[test]
    fn wrappings_are_taken_off() {
        let text = "Zoë 🦀\n";
        for wrapped in [
            text.as_bytes().to_vec(),
            [b"\xef\xbb\xbf", text.as_bytes()].concat(),
            gzip(text.as_bytes()),
            [gzip(b"Zo"), gzip("ë 🦀\n".as_bytes())].concat(),
            utf16(text, u16::to_le_bytes),
            utf16(text, u16::to_be_bytes),
            gzip(&utf16(text, u16::to_le_bytes)),
        ] {
            assert_eq!(open(&wrapped).unwrap(), text.as_bytes(), "{wrapped:?}");
        }
        assert_eq!(open(b"").unwrap(), b"");
    }

    #[test]
    fn what_is_no_text_is_named() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
        for (content, expected) in [
            (&pointer[..], "a Git LFS pointer, not the file itself (12345 bytes): run `git lfs pull`"),
            (b"\n<!DOCTYPE html><html>", "a web page"),
            (b"PK\x03\x04rest", "a zip archive (as Excel files are)"),
            (b"PAR1\x15", "a Parquet file"),
            (b"\x1f\x8b\x08damaged", "gzip, and it cannot be unpacked"),
            (b"{\x00\"\x00t\x00", "UTF-16 without a byte order mark"),
            (b"\xff\xfe{\x00\"", "odd number of bytes"),
            (b"\xff\xfe\x00\xd8a\x00", "unpaired surrogate"),
        ] {
            let error = open(content).unwrap_err();
            assert!(error.contains(expected), "{error:?} should contain {expected:?}");
        }
        assert!(stands_in(Path::new("no such file")).is_none());
    }

    #[test]
    fn lines_end_in_three_ways() {
        let of = |text: &'static str| lines(text.as_bytes()).map(|(at, line)| (at, std::str::from_utf8(line).unwrap())).collect::<Vec<_>>();
        assert_eq!(of("a\nb\r\nc\rd"), [(0, "a"), (2, "b"), (5, "c"), (7, "d")]);
        assert_eq!(of("\r\r\n\n"), [(0, ""), (1, ""), (3, "")]);
        assert!(of("").is_empty());
    }

    proptest! {
        #[test]
        fn lines_are_those_of_the_standard_library(content in "[a\\n]{0,40}") {
            let found: Vec<&[u8]> = lines(content.as_bytes()).map(|(_, line)| line).collect();
            prop_assert_eq!(found, content.lines().map(str::as_bytes).collect::<Vec<_>>());
        }

        #[test]
        fn nothing_panics(content in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = open(&content);
            let _ = lines(&content).count();
        }
    }
}
