//! Progress on standard error: on a terminal one screen with what the run is at and a bar with rate and time left, one line per stage
//! elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use serde_json::json;

use super::interrupt::{Steps, check};
use super::live;
use crate::error::Result;

/// Where progress goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A head line and a bar, which redraw themselves.
    Bars,
    /// A plain line at the end of each stage, and one for each round.
    Lines,
    /// Nothing.
    Silent,
}

/// The lines that redraw themselves, and the first of them.
struct Screen {
    lines: MultiProgress,
    head: ProgressBar,
}

/// A process has one terminal.
fn screen() -> &'static Screen {
    static SCREEN: OnceLock<Screen> = OnceLock::new();
    SCREEN.get_or_init(|| {
        let lines = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(5));
        let head = lines.add(ProgressBar::no_length());
        let line = |_: &ProgressState, out: &mut dyn std::fmt::Write| {
            // Writing into a string cannot fail.
            let _ = write!(out, "{}", live::head_line().unwrap_or_default());
        };
        head.set_style(ProgressStyle::with_template("{line}").expect("the template is ours").with_key("line", line));
        Screen { lines, head }
    })
}

/// Redraws the head line, where there is a run to tell of.
fn tick() {
    if live::is_under_way() {
        screen().head.tick();
    }
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
        live::tell("said", &json!({"text": sentence.as_ref()}));
        // A full disk or a closed pipe behind standard error ends no run.
        let print = || drop(writeln!(std::io::stderr(), "{}", sentence.as_ref()));
        match self {
            Progress::Bars => screen().lines.suspend(print),
            Progress::Lines => print(),
            Progress::Silent => {}
        }
    }

    /// Starts a bar of `total` steps, `done` of which were made by an earlier process.
    pub fn bar(self, name: impl Into<String>, unit: &'static str, total: usize, done: usize) -> Bar {
        let name = name.into();
        let bar = match self {
            Progress::Bars => {
                tick();
                screen().lines.add(ProgressBar::new(total as u64))
            }
            _ => ProgressBar::hidden(),
        };
        let style = format!("{{prefix:<34}} {{wide_bar}} {{pos:>5}}/{{len}} {unit}  {{rate}}  {{eta}} left {{msg}}");
        let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = write!(out, "{:.1}/s", state.per_sec());
        };
        let style = ProgressStyle::with_template(&style).expect("the template is ours").with_key("rate", rate);
        bar.set_style(style.progress_chars("━╸─"));
        bar.set_prefix(name.clone());
        bar.set_position(done as u64);
        bar.reset_eta();
        bar.enable_steady_tick(Duration::from_millis(200));
        Bar { progress: self, bar, name, unit, total, before: done, count: done, started: Instant::now(), _steps: Steps::begin() }
    }

    /// Takes the head line away, until the next run has one.
    pub fn end(self) {
        if self == Progress::Bars {
            // What cannot be cleared stays on the screen.
            let _ = screen().lines.clear();
        }
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
    _steps: Steps,
}

impl Bar {
    /// Moves it on.
    ///
    /// # Errors
    /// A signal has asked for an end: what this step did is done.
    pub fn step(&mut self, steps: usize) -> Result<()> {
        self.count += steps;
        self.bar.set_position(self.count as u64);
        if self.progress == Progress::Bars {
            tick();
        }
        live::tell_of_bar(|| {
            json!({
                "name": self.name, "unit": self.unit, "done": self.count, "of": self.total, "per_second": self.rate(), "words": self.bar.message(),
                "run_seconds_left": live::seconds_left(),
            })
        });
        check()
    }

    /// Steps of this process a second.
    fn rate(&self) -> f64 {
        (self.count - self.before) as f64 / self.started.elapsed().as_secs_f64().max(1e-3)
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
        let rate = if here > 0 { format!(", {:.1} {}/s", self.rate(), self.unit) } else { String::new() };
        let outcome = if outcome.is_empty() { String::new() } else { format!("  {outcome}") };
        self.progress.say(format!("{:<34} {:>5}/{} {} in {:.0} s{rate}{outcome}", self.name, self.count, self.total, self.unit, seconds));
    }
}
