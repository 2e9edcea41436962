//! The folder where lacuna keeps what it fetches and measures.

use std::path::PathBuf;

use super::whole::unfinished;

/// A folder of this name at home that files can be written in; none without a home, or where it is read-only.
pub fn shelf(name: &str) -> Option<PathBuf> {
    let folder = home()?.join(name);
    std::fs::create_dir_all(&folder).and_then(|()| unfinished(&folder)).is_ok().then_some(folder)
}

/// `LACUNA_HOME`, or `lacuna` in the platform's cache folder; none without a home.
pub fn home() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let caches = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
    folder("LACUNA_HOME")
        .or_else(|| folder("XDG_CACHE_HOME").filter(|path| path.is_absolute()).map(|path| path.join("lacuna")))
        .or_else(|| folder("HOME").map(|home| home.join(caches).join("lacuna")))
}
