//! Whether a shared library is whole: the loader maps what its header promises, and a file that ends before that kills the process.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes of the header of a 64-bit ELF file.
const HEADER: usize = 64;

/// # Errors
/// A file that cannot be read, or that ends before its own section headers, which stand last; other formats are left to the loader.
pub(super) fn check_whole(path: &Path) -> Result<(), String> {
    let told = |error: std::io::Error| if path.is_symlink() { format!("what it links to: {error}") } else { error.to_string() };
    let mut file = File::open(path).map_err(told)?;
    let metadata = file.metadata().map_err(told)?;
    if metadata.is_dir() {
        return Err("a folder, not a library".into());
    }
    let size = metadata.len();
    let mut header = [0; HEADER];
    // What is no such file the loader refuses by itself.
    if file.read_exact(&mut header).is_err() || header[..5] != *b"\x7fELF\x02" || header[5] != 1 {
        return Ok(());
    }
    let number = |at: usize, bytes: usize| header[at..at + bytes].iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let end = number(40, 8).saturating_add(number(58, 2) * number(60, 2));
    if end <= size { Ok(()) } else { Err(format!("the file was cut off: {size} bytes of {end}; build or copy it again")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_was_cut_off_is_told_before_it_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let path = folder.path().join("library.so");
        for (bytes, whole) in [(own.len(), true), (own.len() - 1, false), (own.len() / 2, false), (HEADER, false), (10, true), (0, true)] {
            std::fs::write(&path, &own[..bytes]).unwrap();
            assert_eq!(check_whole(&path).is_ok(), whole, "{bytes} of {}", own.len());
        }
        std::fs::write(&path, "text, not a library, that is longer than a header would be: the loader says so").unwrap();
        assert!(check_whole(&path).is_ok());
    }
}
