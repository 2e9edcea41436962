//! `lacuna fetch`: brings models and gold data into the cache by name, each file checked by size and sha256.

#[cfg(feature = "hub")]
mod archive;
#[cfg(feature = "hub")]
mod bring;
mod convert;
#[cfg(feature = "hub")]
mod hub;
#[cfg(feature = "hub")]
mod pip;
mod show;

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Context;

pub use convert::{ConvertError, Converted};

use crate::registry::cache::Check;
use crate::registry::{Cache, Entry, Kind, Registry, RegistryError, Source};

/// `lacuna fetch [NAMES…]`
#[derive(Clone, Debug, Default, clap::Args)]
pub struct FetchArgs {
    /// What to fetch; nothing named fetches what the demo needs
    #[arg(value_name = "NAME", conflicts_with = "all")]
    pub names: Vec<String>,
    /// Fetch everything that is known by name
    #[arg(long)]
    pub all: bool,
    /// List what is known by name, and whether it is here
    #[arg(long, conflicts_with_all = ["all", "verify"])]
    pub list: bool,
    /// Hash every byte of what is here instead of trusting unchanged files
    #[arg(long)]
    pub verify: bool,
    /// Print where NAME is on this machine; fetches nothing
    #[arg(long = "where", value_name = "NAME", conflicts_with_all = ["names", "all", "list", "verify"])]
    pub locate: Option<String>,
}

/// Carries out the command: paths go to standard output, progress to standard error.
pub fn run(args: &FetchArgs) -> anyhow::Result<()> {
    let registry = Registry::built_in();
    if let Some(name) = &args.locate {
        println!("{}", crate::registry::locate(name)?.display());
        return Ok(());
    }
    let fetcher = Fetcher::from_env()?;
    let wanted: Vec<&Entry> = match (&args.names[..], args.all || args.list) {
        ([], true) => registry.entries().iter().collect(),
        ([], false) => registry.entries().iter().filter(|entry| entry.demo).collect(),
        (names, _) => names.iter().map(|name| registry.entry(name)).collect::<Result<_, _>>()?,
    };
    if args.list {
        wanted.iter().for_each(|entry| show::listed(entry, fetcher.cache.locate(entry).is_ok()));
        return Ok(());
    }
    let check = if args.verify { Check::Hash } else { Check::Stamp };
    let mut shown = show::Shown::new();
    for entry in wanted {
        let fetched = fetcher.fetch(entry, check, &mut |progress| shown.show(progress));
        shown.done();
        println!("{}", fetched.with_context(|| format!("`{}` was not fetched", entry.name))?.display());
    }
    Ok(())
}

/// Fetches one entry of the built-in registry into the user's cache; does nothing but look where it is there already.
pub fn fetch(name: &str, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf, FetchError> {
    Fetcher::from_env()?.fetch(Registry::built_in().entry(name)?, Check::Stamp, progress)
}

/// What happens while an entry is fetched.
#[derive(Debug)]
pub enum Progress<'a> {
    /// The file is whole and stays.
    Here { file: &'a str },
    /// A source is tried; `size` is the file's, in bytes.
    Trying { file: &'a str, size: u64, source: &'a Source },
    /// So many bytes of the file were received.
    Bytes { done: u64 },
    /// The source did not have the file, or not these bytes; the next one is tried.
    Failed { source: &'a Source, error: &'a SourceError },
    /// The file was received and checked.
    Fetched { file: &'a str },
    /// Gold data was made of the published file.
    Converted(&'a Converted),
}

/// Brings entries into a cache.
#[derive(Clone, Debug)]
pub struct Fetcher {
    pub cache: Cache,
    /// The Python whose pip is asked for packages.
    pub python: OsString,
    /// Whether the Hugging Face hub must not be asked; its own cache is still looked at.
    pub hub_offline: bool,
}

/// Why an entry was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("{file}: no source has it{}", listed(.failures))]
    NoSource { file: String, failures: Vec<(Source, SourceError)> },
    #[error("{} cannot be made into gold data: {error}", .path.display())]
    Convert { path: PathBuf, error: ConvertError },
    #[error("{}: {error}", .path.display())]
    Io { path: PathBuf, error: std::io::Error },
    #[error("{file} is missing, and this lacuna was built without the feature `hub`, so it cannot fetch: put it at {}", .path.display())]
    NoHub { file: String, path: PathBuf },
}

fn listed(failures: &[(Source, SourceError)]) -> String {
    failures.iter().map(|(source, error)| format!("\n  {source}\n    {}", error.to_string().replace('\n', "\n    "))).collect()
}

/// Why one source did not give the file.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("sha256 is {found}, expected {expected}: these are other bytes than the registry means")]
    Sum { expected: String, found: String },
    #[error("{found} bytes, expected {expected}")]
    Size { expected: u64, found: u64 },
    #[error("HF_HUB_OFFLINE is set and the file is not in the hub's cache")]
    Offline,
    #[error("the Hugging Face hub: {0}")]
    Hub(String),
    #[error(
        "`{0}` was not found: install Python with pip (Debian: apt install python3-pip; Fedora: dnf install python3-pip; macOS: \
         brew install python), or name one in LACUNA_PYTHON"
    )]
    NoPython(String),
    #[error("`{command}` failed:\n{stderr}")]
    Pip { command: String, stderr: String },
    #[error("`{0}` has no pip: install it (Debian: apt install python3-pip; elsewhere: {0} -m ensurepip)")]
    NoPip(String),
    #[error("{archive}: {reason}")]
    Archive { archive: String, reason: String },
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Fetcher {
    /// The cache, Python (`LACUNA_PYTHON`) and hub (`HF_HUB_OFFLINE`) that the environment names.
    pub fn from_env() -> Result<Fetcher, RegistryError> {
        let python = std::env::var_os("LACUNA_PYTHON").filter(|value| !value.is_empty()).unwrap_or_else(|| "python3".into());
        let offline = std::env::var("HF_HUB_OFFLINE").unwrap_or_default().to_ascii_lowercase();
        let hub_offline = ["1", "on", "yes", "true"].contains(&offline.as_str());
        Ok(Fetcher { cache: Cache::from_env()?, python, hub_offline })
    }

    /// Brings what is missing or damaged, checks the rest; gives the file of a GGUF, the folder of anything else.
    ///
    /// Safe to interrupt and to run twice at once: a file gets its name only when it is whole, and one process at a time
    /// works on an entry.
    pub fn fetch(&self, entry: &Entry, check: Check, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf, FetchError> {
        let folder = self.cache.folder(entry);
        let _lock = self.cache.lock(entry).map_err(|error| FetchError::Io { path: folder.clone(), error })?;
        self.fetch_files(entry, check, progress)?;
        if let Some(convert) = &entry.convert
            && self.cache.check_converted(entry, convert, check).is_err()
        {
            let converted = convert::convert(&folder, convert).map_err(|error| FetchError::Convert { path: folder.clone(), error })?;
            self.cache.stamp_converted(entry, convert).map_err(|error| FetchError::Io { path: folder, error })?;
            progress(Progress::Converted(&converted));
        }
        Ok(self.cache.locate(entry)?)
    }

    #[cfg(feature = "hub")]
    fn fetch_files(&self, entry: &Entry, check: Check, progress: &mut dyn FnMut(Progress)) -> Result<(), FetchError> {
        let folder = self.cache.folder(entry);
        let mut bring = bring::Bring::new(self, &folder).map_err(|error| FetchError::Io { path: folder.clone(), error })?;
        for file in &entry.files {
            if self.cache.check_file(entry, file, check).is_ok() {
                progress(Progress::Here { file: &file.name });
                continue;
            }
            bring.file(file, progress)?;
            self.cache.check_file(entry, file, Check::Stamp)?;
            progress(Progress::Fetched { file: &file.name });
        }
        Ok(())
    }

    #[cfg(not(feature = "hub"))]
    fn fetch_files(&self, entry: &Entry, check: Check, progress: &mut dyn FnMut(Progress)) -> Result<(), FetchError> {
        for file in &entry.files {
            match self.cache.check_file(entry, file, check) {
                Ok(()) => progress(Progress::Here { file: &file.name }),
                Err(RegistryError::NotFetched { path, .. }) => return Err(FetchError::NoHub { file: file.name.clone(), path }),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
