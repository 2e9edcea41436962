//! `lacuna fetch`: models and gold data by name. Progress goes to standard error: a bar on a terminal, plain lines elsewhere.

use std::time::Duration;

use anyhow::Context;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::fetch::cache::{Check, locate};
use crate::fetch::event::FetchEvent;
use crate::fetch::fetcher::Fetcher;
use crate::fetch::registry::{Entry, EntryKind, Registry};

/// `lacuna fetch [NAMES…]`
#[derive(Clone, Debug, Default, clap::Args)]
pub struct FetchArgs {
    /// Names to fetch; without any, what the demo needs
    #[arg(value_name = "NAME", conflicts_with = "all")]
    pub names: Vec<String>,
    /// Fetch every known name
    #[arg(long)]
    pub all: bool,
    /// List the known names, and whether each is in the cache
    #[arg(long, conflicts_with_all = ["all", "verify"])]
    pub list: bool,
    /// Hash every byte of cached files instead of trusting size and modification time
    #[arg(long)]
    pub verify: bool,
    /// Print the path of NAME on this machine without fetching
    #[arg(long = "where", value_name = "NAME", conflicts_with_all = ["names", "all", "list", "verify"])]
    pub locate: Option<String>,
}

/// Runs the command: paths go to standard output, progress to standard error.
pub fn run(args: &FetchArgs) -> anyhow::Result<()> {
    let registry = Registry::built_in();
    if let Some(name) = &args.locate {
        println!("{}", locate(name)?.display());
        return Ok(());
    }
    let fetcher = Fetcher::from_env()?;
    let wanted: Vec<&Entry> = match (&args.names[..], args.all || args.list) {
        ([], true) => registry.entries().iter().collect(),
        ([], false) => registry.entries().iter().filter(|entry| entry.demo).collect(),
        (names, _) => names.iter().map(|name| registry.entry(name)).collect::<Result<_, _>>()?,
    };
    if args.list {
        wanted.iter().for_each(|entry| listed(entry, fetcher.cache.locate(entry).is_ok()));
        return Ok(());
    }
    let check = if args.verify { Check::Hash } else { Check::Stamp };
    let mut shown = Shown::new();
    for entry in wanted {
        let fetched = fetcher.fetch(entry, check, &mut |progress| shown.show(progress));
        shown.done();
        println!("{}", fetched.with_context(|| format!("`{}` was not fetched", entry.name))?.display());
    }
    Ok(())
}

/// One line of `lacuna fetch --list`, on standard output.
fn listed(entry: &Entry, here: bool) {
    let kind = match entry.kind {
        EntryKind::Gguf => "generator",
        EntryKind::Encoder => "encoder",
        EntryKind::Gold => "gold data",
    };
    let size = HumanBytes(entry.files.iter().map(|file| file.size).sum()).to_string();
    let here = if here { "here" } else { "-" };
    println!("{:<24} {kind:<10} {size:>11}  {here:<5} {:<12} {}", entry.name, entry.licence, entry.about);
}

/// Shows progress on standard error.
struct Shown {
    bar: ProgressBar,
}

impl Shown {
    fn new() -> Shown {
        Shown { bar: ProgressBar::hidden() }
    }

    fn show(&mut self, progress: FetchEvent) {
        match progress {
            FetchEvent::Here { .. } => {}
            FetchEvent::Trying { file, size, source } => self.start(file, size, &source.to_string()),
            FetchEvent::Bytes { done } => self.bar.set_position(done),
            FetchEvent::Failed { source, error } => self.line(&format!("{source}: {error}")),
            FetchEvent::Fetched { file } => self.line(&format!("{file}: fetched, sha256 as expected")),
            FetchEvent::Converted(converted) => self.line(&converted.to_string()),
        }
    }

    /// Removes the bar.
    fn done(&mut self) {
        self.bar.finish_and_clear();
    }

    fn start(&mut self, file: &str, size: u64, source: &str) {
        self.done();
        self.bar = ProgressBar::new(size);
        if self.bar.is_hidden() {
            eprintln!("{file} ({}) from {source}", HumanBytes(size));
        }
        // A test checks that the template is valid.
        self.bar.set_style(ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar()));
        self.bar.set_message(file.to_string());
        self.bar.enable_steady_tick(Duration::from_millis(100));
    }

    fn line(&mut self, text: &str) {
        self.done();
        eprintln!("{text}");
    }
}

const BAR: &str = "{spinner} {msg} {wide_bar} {bytes}/{total_bytes} {elapsed}";

#[cfg(test)]
mod tests {
    #[test]
    fn the_bar_template_is_valid() {
        assert!(indicatif::ProgressStyle::with_template(super::BAR).is_ok());
    }
}
