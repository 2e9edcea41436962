//! Shows a fetch on standard error: a bar on a terminal, plain lines elsewhere.

use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use super::{Entry, Kind, Progress};

/// One line of `lacuna fetch --list`, on standard output.
pub fn listed(entry: &Entry, here: bool) {
    let kind = match entry.kind {
        Kind::Gguf => "generator",
        Kind::Encoder => "encoder",
        Kind::Gold => "gold data",
    };
    let size = HumanBytes(entry.files.iter().map(|file| file.size).sum()).to_string();
    let here = if here { "here" } else { "-" };
    println!("{:<24} {kind:<10} {size:>11}  {here:<5} {:<12} {}", entry.name, entry.licence, entry.about);
}

/// Progress as a person reads it.
pub struct Shown {
    bar: ProgressBar,
}

impl Shown {
    pub fn new() -> Shown {
        Shown { bar: ProgressBar::hidden() }
    }

    pub fn show(&mut self, progress: Progress) {
        match progress {
            Progress::Here { .. } => {}
            Progress::Trying { file, size, source } => self.start(file, size, &source.to_string()),
            Progress::Bytes { done } => self.bar.set_position(done),
            Progress::Failed { source, error } => self.line(&format!("{source}: {error}")),
            Progress::Fetched { file } => self.line(&format!("{file}: fetched, sha256 as expected")),
            Progress::Converted(converted) => self.line(&converted.to_string()),
        }
    }

    /// Takes the bar away.
    pub fn done(&mut self) {
        self.bar.finish_and_clear();
    }

    fn start(&mut self, file: &str, size: u64, source: &str) {
        self.done();
        self.bar = ProgressBar::new(size);
        if self.bar.is_hidden() {
            eprintln!("{file} ({}) from {source}", HumanBytes(size));
        }
        // The template is a constant that a test has read.
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
    fn the_bar_can_be_drawn() {
        assert!(indicatif::ProgressStyle::with_template(super::BAR).is_ok());
    }
}
