//! Reads one member of a zip (a wheel) or a tar.gz (a source archive), also of an archive inside an archive.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::path::Path;

use flate2::read::GzDecoder;

use super::error::SourceError;

/// Copies the file at the path `members` inside nested archives: empty means the file itself, one name a member of it, two names a
/// member of that member, and so on.
///
/// Inner archives are unpacked in `scratch`.
pub fn copy(path: &Path, members: &[String], scratch: &Path, out: &mut dyn Write) -> Result<(), SourceError> {
    match members {
        [] => {
            let mut file = File::open(path).map_err(|error| failed(path, error))?;
            buffered_copy(&mut file, out)?;
            Ok(())
        }
        [member] => copy_member(path, member, out),
        [member, inner @ ..] => {
            let mut unpacked = tempfile::NamedTempFile::new_in(scratch)?;
            copy_member(path, member, &mut unpacked)?;
            copy(unpacked.path(), inner, scratch, out)
        }
    }
}

fn failed(path: &Path, reason: impl ToString) -> SourceError {
    SourceError::Archive { archive: path.display().to_string(), reason: reason.to_string() }
}

/// The first bytes tell the archive format; file names are not reliable.
fn copy_member(path: &Path, member: &str, out: &mut dyn Write) -> Result<(), SourceError> {
    let mut file = File::open(path).map_err(|error| failed(path, error))?;
    let mut start = [0; 4];
    let read = file.read(&mut start).map_err(|error| failed(path, error))?;
    file.rewind().map_err(|error| failed(path, error))?;
    match &start[..read] {
        [b'P', b'K', ..] => zip_member(BufReader::new(file), path, member, out),
        [0x1f, 0x8b, ..] => tar_member(BufReader::new(file), path, member, out),
        _ => Err(failed(path, "neither a zip nor a tar.gz")),
    }
}

fn zip_member(file: BufReader<File>, path: &Path, member: &str, out: &mut dyn Write) -> Result<(), SourceError> {
    let mut archive = zip::ZipArchive::new(file).map_err(|error| failed(path, error))?;
    let mut found = archive.by_name(member).map_err(|error| failed(path, format!("`{member}`: {error}")))?;
    buffered_copy(&mut found, out).map_err(|error| failed(path, format!("`{member}`: {error}")))
}

fn tar_member(file: BufReader<File>, path: &Path, member: &str, out: &mut dyn Write) -> Result<(), SourceError> {
    let mut archive = tar::Archive::new(GzDecoder::new(file));
    for entry in archive.entries().map_err(|error| failed(path, error))? {
        let mut entry = entry.map_err(|error| failed(path, error))?;
        if entry.header().entry_type().is_file() && entry.path_bytes().as_ref() == member.as_bytes() {
            return buffered_copy(&mut entry, out).map_err(|error| failed(path, format!("`{member}`: {error}")));
        }
    }
    Err(failed(path, format!("`{member}`: there is no such file in it")))
}

/// Like `io::copy` with larger blocks: progress is reported once per block.
fn buffered_copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
    let mut block = vec![0; 1 << 18];
    loop {
        match from.read(&mut block)? {
            0 => return Ok(()),
            n => to.write_all(&block[..n])?,
        }
    }
}
