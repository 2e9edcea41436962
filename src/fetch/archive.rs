//! Reads one member of a zip (a wheel) or a tar.gz (a source archive), also of an archive inside an archive.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::path::Path;

use flate2::read::GzDecoder;

use super::error::SourceError;

/// Copies the file at the path `members` inside nested archives: empty means the file itself, one name a member of it, two names a
/// member of that member, and so on.
///
/// Inner archives are unpacked in `scratch`. An archive within one hardly shrinks: one that is many times larger than what holds it was
/// made to fill the disk, and is an error.
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
            let most = LARGEST_GROWTH * std::fs::metadata(path).map_err(|error| failed(path, error))?.len();
            copy_member(path, member, &mut AtMost { out: &mut unpacked, left: most })?;
            copy(unpacked.path(), inner, scratch, out)
        }
    }
}

/// How many times the size of an archive one of its members may have that is an archive itself.
const LARGEST_GROWTH: u64 = 20;

/// Writes so many bytes and fails at the next one.
struct AtMost<'o> {
    out: &'o mut dyn Write,
    left: u64,
}

impl Write for AtMost<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let rest = self.left.checked_sub(bytes.len() as u64);
        self.left = rest.ok_or_else(|| io::Error::other("an archive that grows far too large when it is unpacked"))?;
        self.out.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
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

#[cfg(test)]
mod tests {
    use super::*;
    use zip::write::SimpleFileOptions;

    /// A zip with one file.
    fn zip_of(name: &str, content: &[u8]) -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
        zip.finish().unwrap().into_inner()
    }

    #[test]
    fn an_inner_archive_that_would_fill_the_disk_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let copied = |inner: &[u8]| {
            let path = folder.path().join("outer.zip");
            std::fs::write(&path, zip_of("inner.zip", inner)).unwrap();
            let mut out = Vec::new();
            copy(&path, &["inner.zip".into(), "text".into()], folder.path(), &mut out).map(|()| out)
        };
        assert_eq!(copied(&zip_of("text", b"warm")).unwrap(), b"warm");
        let error = copied(&vec![0; 10 << 20]).unwrap_err().to_string();
        assert!(error.contains("inner.zip") && error.contains("far too large"), "{error}");
    }
}
