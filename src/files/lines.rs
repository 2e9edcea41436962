//! A file of lines, mapped into memory, with an index of where each line begins.

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use crate::error::{Error, Result};

/// The lines of a file. Costs eight bytes a line; the system reads the pages that are looked at and drops them when it needs room.
pub struct Lines {
    map: Mmap,
    /// Where each line begins, and after them the end of the file.
    starts: Vec<usize>,
}

impl Lines {
    /// Maps a file; a byte order mark at its beginning is left out.
    ///
    /// # Errors
    /// The file cannot be opened or mapped.
    pub fn open(path: &Path) -> Result<Self> {
        let map = map(path)?;
        let first = if map.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        let mut starts = vec![first];
        starts.extend(map[first..].iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(i, _)| first + i + 1));
        if starts.last() != Some(&map.len()) {
            starts.push(map.len());
        }
        Ok(Lines { map, starts })
    }

    /// Number of lines; the last may lack its line feed.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Line `i`, from 0, without its line feed.
    pub fn line(&self, i: usize) -> &[u8] {
        let line = &self.map[self.starts[i]..self.starts[i + 1]];
        line.strip_suffix(b"\n").unwrap_or(line)
    }

    /// Every line in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|i| self.line(i))
    }
}

/// Maps a file for reading. An empty one is a map of no bytes.
pub fn map(path: &Path) -> Result<Mmap> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    // SAFETY: the map is only read. Should somebody cut the file meanwhile the process ends with a bus error, as with any mapped
    // file; our own files are replaced as a whole and never cut.
    unsafe { Mmap::map(&file) }.map_err(Error::io("map", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(content: &[u8]) -> Vec<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        std::fs::write(&path, content).unwrap();
        let lines = Lines::open(&path).unwrap();
        assert_eq!(lines.is_empty(), lines.iter().next().is_none());
        lines.iter().map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn edges() {
        assert_eq!(lines(b""), Vec::<Vec<u8>>::new());
        assert_eq!(lines(b"\xef\xbb\xbf"), Vec::<Vec<u8>>::new());
        assert_eq!(lines(b"\n"), [b""]);
        assert_eq!(lines(b"\xef\xbb\xbfa\n\nb"), [&b"a"[..], b"", b"b"]);
    }

    proptest! {
        #[test]
        fn splits_as_the_standard_library(content in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..60)) {
            prop_assume!(!content.starts_with(b"\xef\xbb\xbf"));
            let mut expected: Vec<Vec<u8>> = content.split(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
            if expected.last().is_some_and(Vec::is_empty) {
                expected.pop();
            }
            prop_assert_eq!(lines(&content), expected);
        }
    }
}
