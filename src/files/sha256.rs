//! SHA-256 of files, as 64 hexadecimal digits.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

/// The sha256 of a file in lower case hexadecimal digits.
pub fn sha256_of(path: &Path) -> io::Result<String> {
    Ok(hex(hasher_of(&mut fs::File::open(path)?)?.finalize()))
}

/// A hasher that has seen the rest of a file.
pub fn hasher_of(file: &mut impl Read) -> io::Result<Sha256> {
    let mut sum = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(sum),
            n => sum.update(&block[..n]),
        }
    }
}

/// The sha256 of bytes in lower case hexadecimal digits.
pub fn sha256_of_bytes(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes))
}

/// Sixteen digits of the sha256 of some texts, each told from the next: enough to see that they have changed.
pub fn mark_of<'t>(texts: impl IntoIterator<Item = &'t str>) -> String {
    let mut sum = Sha256::new();
    for text in texts {
        sum.update((text.len() as u64).to_le_bytes());
        sum.update(text);
    }
    hex(sum.finalize())[..16].to_string()
}

/// Bytes as lower case hexadecimal digits.
pub fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_tells_where_a_text_ends() {
        assert_ne!(mark_of(["ab", "c"]), mark_of(["a", "bc"]));
        assert_eq!((mark_of(["a"]), mark_of(["a"]).len()), (mark_of(["a"]), 16));
    }

    #[test]
    fn sha256_of_nothing_is_the_known_one() {
        let empty = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(sha256_of(empty.path()).unwrap(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
