//! SHA-256 of large files, kept for as long as a file's size, time and place on the disk are the same.

use std::fs;
use std::io;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::home::home;
use super::sha256::{sha256_of, sha256_of_bytes};
use super::whole::put;

/// Smaller files are hashed each time.
const LARGE: u64 = 16 << 20;
/// For larger ones it is said that they are hashed.
const SLOW: u64 = 1 << 30;

/// What a file was when it was hashed.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    path: String,
    size: u64,
    nanoseconds: u128,
    inode: u64,
    sha256: String,
}

/// The sha256 of a file, as [`sha256_of`]. Where it cannot be kept, it is computed again.
///
/// # Errors
/// A file that cannot be read.
pub fn kept_sum(path: &Path, say: &dyn Fn(String)) -> io::Result<String> {
    let data = fs::metadata(path)?;
    let Some(home) = home().filter(|_| data.len() >= LARGE) else { return sha256_of(path) };
    let full = fs::canonicalize(path)?.to_string_lossy().into_owned();
    let record = home.join("sums").join(format!("{}.json", &sha256_of_bytes(full.as_bytes())[..16]));
    let nanoseconds = data.modified()?.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    let now = |sha256: String| Kept { path: full.clone(), size: data.len(), nanoseconds, inode: inode(&data), sha256 };
    let kept = fs::read(&record).ok().and_then(|content| serde_json::from_slice::<Kept>(&content).ok());
    if let Some(kept) = kept.filter(|kept| *kept == now(kept.sha256.clone())) {
        return Ok(kept.sha256);
    }
    if data.len() >= SLOW {
        say(format!("{}: hashing {} MiB (once)", path.display(), data.len() >> 20));
    }
    let kept = now(sha256_of(path)?);
    // A home that cannot be written costs time, and nothing else.
    let _ = serde_json::to_vec(&kept).map(|content| put(&record, &content));
    Ok(kept.sha256)
}

#[cfg(unix)]
fn inode(data: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(data)
}

#[cfg(not(unix))]
fn inode(_: &fs::Metadata) -> u64 {
    0
}
