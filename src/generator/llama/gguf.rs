//! Reads the header of a GGUF file before llama.cpp does: a wrong path or a damaged file gives a clear message, and the memory a model
//! needs is known before it is loaded. Format: ggml's `docs/gguf.md`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use llama_cpp_sys_2 as sys;

/// A longer header, in bytes, is not a model's.
const LONGEST_HEADER: u64 = 1 << 28;
/// A longer key is none.
const LONGEST_KEY: u64 = 1 << 16;
/// Arrays with more items, such as a vocabulary's, are counted and not kept; those with one for each layer are shorter.
const LONGEST_ARRAY: u64 = 1 << 12;
/// More tensors than any model has.
const MOST_TENSORS: u64 = 1 << 20;
/// Where the file does not say otherwise, tensors begin at multiples of so many bytes.
const ALIGNMENT: u64 = 32;

/// The metadata in the header, as far as it is needed here.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    values: HashMap<String, Value>,
    /// Number of tensors in the file.
    pub(super) tensors: u64,
    /// Bytes that the file must have for its last tensor to be whole; `None` if it has a tensor of a format that is not known here.
    pub(super) whole: Option<u64>,
    /// Whether it has factors for positions in long and in short texts (LongRoPE).
    pub(super) long_rope: bool,
    /// Bytes of the file, or of all parts of a split model.
    pub(super) bytes: u64,
}

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Integer(u64),
    Text(String),
    /// An array: its length, and its items if they are integers and not too many.
    Array(u64, Vec<u64>),
    /// Types that are not needed here.
    Other,
}

impl Header {
    /// Checks the file and reads its metadata. The error says why it is not a GGUF model.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let file = open(path)?;
        let damaged = |_| "is damaged or truncated: its header cannot be read. Compare its sha256 with the publisher's or fetch it again";
        let mut reader = Counting { read: 8, inner: BufReader::with_capacity(1 << 16, file.take(LONGEST_HEADER)) };
        let mut header = read_header(&mut reader).map_err(damaged)?;
        header.bytes = header.parts(path).iter().filter_map(|part| std::fs::metadata(part).ok()).map(|data| data.len()).sum();
        Ok(header)
    }

    /// An integer.
    pub(super) fn integer(&self, key: &str) -> Option<u64> {
        match self.values.get(key)? {
            Value::Integer(value) => Some(*value),
            _ => None,
        }
    }

    /// An integer, or the largest item of an array with one integer per layer.
    pub(super) fn largest(&self, key: &str) -> Option<u64> {
        match self.values.get(key)? {
            Value::Integer(value) => Some(*value),
            Value::Array(_, items) => items.iter().copied().max(),
            _ => None,
        }
    }

    /// An integer, or the smallest item of an array with one integer per layer.
    pub(super) fn smallest(&self, key: &str) -> Option<u64> {
        match self.values.get(key)? {
            Value::Integer(value) => Some(*value),
            Value::Array(_, items) => items.iter().copied().min(),
            _ => None,
        }
    }

    /// How many items of an array with one integer per layer are 0; `None` if it is no array.
    pub(super) fn zeros(&self, key: &str) -> Option<u64> {
        match self.values.get(key)? {
            Value::Array(_, items) => Some(items.iter().filter(|item| **item == 0).count() as u64),
            _ => None,
        }
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.values.get(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Number of the model's layers, without its output.
    pub(super) fn layers(&self) -> Option<u64> {
        self.integer(&format!("{}.block_count", self.text("general.architecture")?))
    }

    /// The length of an array.
    pub(super) fn length(&self, key: &str) -> Option<u64> {
        match self.values.get(key)? {
            Value::Array(length, _) => Some(*length),
            _ => None,
        }
    }

    /// The format of most weights, such as `Q4_0`; `unknown` if the file does not say.
    pub(super) fn format(&self) -> String {
        self.integer("general.file_type").map_or("unknown".into(), |file_type| quantisation_name(&file_type.to_string()))
    }

    /// All files of a split model, `…-00001-of-00003.gguf`; otherwise the file itself.
    pub(super) fn parts(&self, path: &Path) -> Vec<PathBuf> {
        let count = self.integer("split.count").filter(|&count| (2..=999).contains(&count));
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match (count, name.rfind("-00001-of-")) {
            (Some(count), Some(at)) => {
                (1..=count).map(|i| path.with_file_name(format!("{}-{i:05}-of-{count:05}.gguf", &name[..at]))).collect()
            }
            _ => vec![path.to_owned()],
        }
    }
}

/// Whether a file begins as a GGUF file does.
pub fn is_gguf(path: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(path).is_ok_and(|mut file| file.read_exact(&mut magic).is_ok()) && magic == *b"GGUF"
}

/// All files of the model whose first or only file is at `path`.
pub fn parts_of(path: &Path) -> Vec<PathBuf> {
    Header::read(path).map_or_else(|_| vec![path.to_path_buf()], |header| header.parts(path))
}

/// Opens a file and checks that it starts like a GGUF file.
fn open(path: &Path) -> Result<File, String> {
    let metadata = std::fs::metadata(path)
        .map_err(|error| format!("cannot be opened: {error}. Check the path, or fetch the model with `lacuna fetch`"))?;
    if metadata.is_dir() {
        return Err("is a folder; give the path of the .gguf file in it".into());
    }
    if path.to_str().is_none() {
        return Err("has a name that is not valid UTF-8, which llama.cpp cannot open; rename it".into());
    }
    let mut header = [0u8; 8];
    let mut file = File::open(path).map_err(|error| format!("cannot be opened: {error}. Check the file's permissions"))?;
    file.read_exact(&mut header).map_err(|_| "is too short for a GGUF model; it is probably truncated, fetch it again".to_string())?;
    let version = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    match (&header[..4], version) {
        (b"GGUF", 2..=3) => Ok(file),
        (b"GGUF", _) => Err(format!("is GGUF version {version}; only 2 and 3 are supported. Convert the model again")),
        _ => Err("is not a GGUF file; give a model in llama.cpp's format (a name that ends in .gguf)".into()),
    }
}

/// A reader that knows how many bytes of the file were read.
struct Counting<R> {
    read: u64,
    inner: R,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read += read as u64;
        Ok(read)
    }
}

/// Reads metadata and the list of tensors; `reader` is just after the version.
fn read_header<R: Read>(reader: &mut Counting<R>) -> io::Result<Header> {
    let tensors = integer::<8>(reader)?;
    let count = integer::<8>(reader)?;
    let mut values = HashMap::new();
    for _ in 0..count {
        let key = text(reader, LONGEST_KEY)?;
        let kind = integer::<4>(reader)?;
        values.insert(key, value(reader, kind)?);
    }
    if tensors > MOST_TENSORS {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let (mut ends, mut long_rope) = (Some(0), false);
    for _ in 0..tensors {
        let (name, end) = tensor_end(reader)?;
        long_rope |= name.starts_with("rope_factors_long");
        ends = ends.and_then(|ends: u64| Some(ends.max(end?)));
    }
    let alignment = match values.get("general.alignment") {
        Some(Value::Integer(alignment)) => *alignment,
        _ => ALIGNMENT,
    };
    let data = reader.read.checked_next_multiple_of(alignment.max(1));
    let whole = ends.and_then(|ends| data?.checked_add(ends)).filter(|_| tensors > 0);
    Ok(Header { values, tensors, whole, long_rope, bytes: 0 })
}

/// Reads what the header says of a tensor: its name, and where it ends, counted from the first one's beginning; `None` if its format is not
/// known here.
fn tensor_end(reader: &mut impl Read) -> io::Result<(String, Option<u64>)> {
    let name = text(reader, LONGEST_KEY)?;
    let dimensions = integer::<4>(reader)?;
    if dimensions > 4 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let shape = (0..dimensions).map(|_| integer::<8>(reader)).collect::<io::Result<Vec<u64>>>()?;
    let (format, offset) = (integer::<4>(reader)?, integer::<8>(reader)?);
    let elements = shape.iter().try_fold(1u64, |all, length| all.checked_mul(*length)).ok_or(io::ErrorKind::InvalidData)?;
    let end = |(block, bytes): (u64, u64)| (elements / block).checked_mul(bytes)?.checked_add(offset);
    Ok((name, block_of(format).and_then(end)))
}

/// Elements and bytes of a block of a tensor format.
fn block_of(format: u64) -> Option<(u64, u64)> {
    let format = u32::try_from(format).ok().filter(|format| *format < sys::GGML_TYPE_COUNT)?;
    // SAFETY: both read a table at the place of the format, which is in it.
    let (block, bytes) = unsafe { (sys::ggml_blck_size(format), sys::ggml_type_size(format)) };
    (block > 0 && bytes > 0).then_some((block as u64, bytes as u64))
}

fn value(reader: &mut impl Read, kind: u64) -> io::Result<Value> {
    Ok(match kind {
        0 | 1 | 7 => Value::Integer(integer::<1>(reader)?),
        2 | 3 => Value::Integer(integer::<2>(reader)?),
        4 | 5 => Value::Integer(integer::<4>(reader)?),
        10 | 11 => Value::Integer(integer::<8>(reader)?),
        6 => skip(reader, 4)?,
        12 => skip(reader, 8)?,
        8 => Value::Text(text(reader, LONGEST_HEADER)?),
        9 => {
            let (item, length) = (integer::<4>(reader)?, integer::<8>(reader)?);
            if item == 9 {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut integers = Vec::new();
            for _ in 0..length {
                // Bytes of texts are passed over, not kept.
                if item == 8 {
                    let bytes = integer::<8>(reader)?;
                    skip(reader, bytes)?;
                } else if let Value::Integer(value) = value(reader, item)? {
                    integers.extend((length <= LONGEST_ARRAY).then_some(value));
                }
            }
            Value::Array(length, integers)
        }
        _ => return Err(io::ErrorKind::InvalidData.into()),
    })
}

fn skip(reader: &mut impl Read, bytes: u64) -> io::Result<Value> {
    match io::copy(&mut reader.take(bytes), &mut io::sink())? == bytes {
        true => Ok(Value::Other),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// A little-endian integer of N bytes.
fn integer<const N: usize>(reader: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0u8; 8];
    reader.read_exact(&mut bytes[..N])?;
    Ok(u64::from_le_bytes(bytes))
}

fn text(reader: &mut impl Read, longest: u64) -> io::Result<String> {
    let length = integer::<8>(reader)?;
    if length > longest {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = Vec::new();
    if reader.take(length).read_to_end(&mut bytes)? as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The name of a `general.file_type` (llama.h, `llama_ftype`).
pub(super) fn quantisation_name(file_type: &str) -> String {
    let name = match file_type {
        "0" => "F32",
        "1" => "F16",
        "2" => "Q4_0",
        "3" => "Q4_1",
        "7" => "Q8_0",
        "8" => "Q5_0",
        "9" => "Q5_1",
        "10" => "Q2_K",
        "11" => "Q3_K_S",
        "12" => "Q3_K_M",
        "13" => "Q3_K_L",
        "14" => "Q4_K_S",
        "15" => "Q4_K_M",
        "16" => "Q5_K_S",
        "17" => "Q5_K_M",
        "18" => "Q6_K",
        "25" => "IQ4_NL",
        "30" => "IQ4_XS",
        "32" => "BF16",
        other => return format!("file type {other}"),
    };
    name.into()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The bytes of a GGUF file with the given integers, texts and vocabulary size.
    pub(in crate::generator::llama) fn gguf(integers: &[(&str, u32)], texts: &[(&str, &str)], vocabulary: u64) -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        let text = |bytes: &mut Vec<u8>, text: &str| {
            bytes.extend((text.len() as u64).to_le_bytes());
            bytes.extend(text.as_bytes());
        };
        bytes.extend(0u64.to_le_bytes());
        bytes.extend((integers.len() as u64 + texts.len() as u64 + 1).to_le_bytes());
        for (key, value) in integers {
            text(&mut bytes, key);
            bytes.extend(4u32.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        }
        for (key, value) in texts {
            text(&mut bytes, key);
            bytes.extend(8u32.to_le_bytes());
            text(&mut bytes, value);
        }
        text(&mut bytes, "tokenizer.ggml.tokens");
        bytes.extend(9u32.to_le_bytes());
        bytes.extend(8u32.to_le_bytes());
        bytes.extend(vocabulary.to_le_bytes());
        (0..vocabulary).for_each(|_| text(&mut bytes, "ab"));
        bytes
    }

    pub(in crate::generator::llama) fn read(bytes: &[u8]) -> Result<Header, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Header::read(file.path())
    }

    #[test]
    fn a_file_that_is_not_a_model_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Header::read(folder.path()).unwrap_err().contains("folder"));
        assert!(Header::read(&folder.path().join("none.gguf")).unwrap_err().contains("cannot be opened"));
        assert!(read(b"").unwrap_err().contains("too short"));
        assert!(read(b"<!doctype html>").unwrap_err().contains("not a GGUF"));
        assert!(read(b"GGUF\x01\0\0\0").unwrap_err().contains("version 1"));
    }

    #[test]
    fn the_header_is_read() {
        let bytes = gguf(&[("general.file_type", 3), ("llama.block_count", 30)], &[("general.architecture", "llama")], 7);
        let header = read(&bytes).unwrap();
        assert_eq!((header.format().as_str(), header.integer("llama.block_count")), ("Q4_1", Some(30)));
        assert_eq!((header.text("general.architecture"), header.length("tokenizer.ggml.tokens")), (Some("llama"), Some(7)));
        assert_eq!((header.integer("general.architecture"), header.text("none")), (None, None));
        assert_eq!(header.bytes, bytes.len() as u64);
        for end in 8..bytes.len() {
            assert!(read(&bytes[..end]).unwrap_err().contains("sha256"), "truncated at {end}");
        }
    }

    #[test]
    fn the_parts_of_a_split_model_count_together() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = gguf(&[("split.count", 2)], &[], 0);
        let path = |i: usize| folder.path().join(format!("m-0000{i}-of-00002.gguf"));
        std::fs::write(path(1), &bytes).unwrap();
        std::fs::write(path(2), [0; 500]).unwrap();
        assert_eq!(Header::read(&path(1)).unwrap().bytes, bytes.len() as u64 + 500);
    }

    proptest! {
        #[test]
        fn noise_is_an_error_or_a_header(noise in prop::collection::vec(any::<u8>(), 0..200), at in 8..100usize) {
            let mut bytes = gguf(&[("a", 1)], &[("b", "c")], 3);
            bytes.splice(at.min(bytes.len()).., noise);
            let _ = read(&bytes);
        }
    }
}
