//! Progress on standard error: bars with rate and time left on a terminal, one line per stage elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// Where progress goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A bar that redraws itself.
    Bars,
    /// A plain line at the end of each stage, and one for each round.
    Lines,
    /// Nothing.
    Silent,
}

impl Progress {
    /// Bars on a terminal, lines elsewhere, nothing when `quiet`.
    pub fn detect(quiet: bool) -> Self {
        match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Progress::Silent,
            (_, true) => Progress::Bars,
            _ => Progress::Lines,
        }
    }

    /// Prints a message.
    pub fn say(self, sentence: impl AsRef<str>) {
        if self != Progress::Silent {
            // A full disk or a closed pipe behind standard error ends no run.
            let _ = writeln!(std::io::stderr(), "{}", sentence.as_ref());
        }
    }

    /// Starts a bar of `total` steps, `done` of which were made by an earlier process.
    pub fn bar(self, name: impl Into<String>, unit: &'static str, total: usize, done: usize) -> Bar {
        let name = name.into();
        let bar = match self {
            Progress::Bars => ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr_with_hz(5)),
            _ => ProgressBar::hidden(),
        };
        let style = format!("{{prefix:<34}} {{wide_bar}} {{pos:>5}}/{{len}} {unit}  {{rate}}  {{eta}} left {{msg}}");
        let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            // Writing into a string cannot fail.
            let _ = write!(out, "{:.1}/s", state.per_sec());
        };
        let style = ProgressStyle::with_template(&style).expect("the template is ours").with_key("rate", rate);
        bar.set_style(style.progress_chars("━╸─"));
        bar.set_prefix(name.clone());
        bar.set_position(done as u64);
        bar.reset_eta();
        bar.enable_steady_tick(Duration::from_millis(200));
        Bar { progress: self, bar, name, unit, total, before: done, count: done, started: Instant::now() }
    }
}

/// The progress of one piece of work.
pub struct Bar {
    progress: Progress,
    bar: ProgressBar,
    name: String,
    unit: &'static str,
    total: usize,
    before: usize,
    count: usize,
    started: Instant,
}

impl Bar {
    pub fn step(&mut self, steps: usize) {
        self.count += steps;
        self.bar.set_position(self.count as u64);
    }

    /// Shows a few words behind the bar.
    pub fn tell(&self, words: String) {
        self.bar.set_message(words);
    }

    /// Raises the total number of steps.
    pub fn extend_to(&mut self, total: usize) {
        self.total = self.total.max(total);
        self.bar.set_length(self.total as u64);
    }

    /// Replaces the bar with a final line that ends in `outcome`.
    pub fn finish(self, outcome: &str) {
        self.bar.finish_and_clear();
        let seconds = self.started.elapsed().as_secs_f64();
        let here = self.count - self.before;
        let rate = if here > 0 { format!(", {:.1} {}/s", here as f64 / seconds.max(1e-3), self.unit) } else { String::new() };
        let outcome = if outcome.is_empty() { String::new() } else { format!("  {outcome}") };
        self.progress.say(format!("{:<34} {:>5}/{} {} in {:.0} s{rate}{outcome}", self.name, self.count, self.total, self.unit, seconds));
    }
}
