//! What is known of the run that this process makes while it makes it: for the head line on a terminal, and as JSON lines for programs.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::cost::{Spent, Work};
use super::outlook::{Outlook, duration};
use crate::error::{Error, Result};

/// The run under way. A process makes one at a time.
struct Live {
    name: String,
    outlook: Option<Outlook>,
    spent: Vec<Spent>,
    part: Work,
    since: Instant,
}

static LIVE: Mutex<Option<Live>> = Mutex::new(None);
static EVENTS: Mutex<Option<Events>> = Mutex::new(None);

/// Where events go.
struct Events {
    to: Target,
    /// When the progress of a bar was last told.
    told: Option<Instant>,
}

enum Target {
    File(File),
    StandardOutput,
}

/// Between two events about the same bar.
const EVERY: Duration = Duration::from_secs(1);

fn lock<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A run begins; `spent` is what an earlier process did of it.
pub fn begin(name: &str, outlook: Option<Outlook>, spent: Vec<Spent>) {
    let whole = outlook.as_ref().map(Outlook::whole);
    *lock(&LIVE) = Some(Live { name: name.to_string(), outlook, spent, part: Work::Rationales, since: Instant::now() });
    tell("run", &json!({"task": name, "seconds_expected": whole}));
}

/// A part of it begins.
pub fn part(part: Work) {
    if let Some(live) = lock(&LIVE).as_mut() {
        (live.part, live.since) = (part, Instant::now());
    }
    // A part of a round, or a method's, is an object with one field.
    let kind = json!(part);
    let (kind, of) =
        kind.as_object().and_then(|kind| kind.iter().next()).map_or((kind.clone(), Value::Null), |(kind, of)| (json!(kind), of.clone()));
    tell("part", &json!({"part": kind, "of": of, "name": part.in_words(), "run_seconds_left": seconds_left()}));
}

/// A part has ended.
pub fn done(spent: Spent) {
    if let Some(live) = lock(&LIVE).as_mut() {
        live.spent.push(spent);
    }
}

/// The run has ended.
pub fn end() {
    *lock(&LIVE) = None;
}

/// Seconds that are left of the run, if that can be said.
pub fn seconds_left() -> Option<f64> {
    let live = lock(&LIVE);
    let Live { outlook, spent, part, since, .. } = live.as_ref()?;
    outlook.as_ref()?.left(spent, *part, since.elapsed().as_secs_f64())
}

/// Whether there is a run to tell of.
pub fn is_under_way() -> bool {
    lock(&LIVE).is_some()
}

/// The run, its part, and how long it still takes, in a line; `None` where there is no run.
pub fn head_line() -> Option<String> {
    let left = seconds_left().map_or(String::new(), |left| format!(" · about {} left of the run", duration(left)));
    let live = lock(&LIVE);
    live.as_ref().map(|live| format!("{} · {}{left}", live.name, live.part.in_words()))
}

/// From here on events are written to a file, or with `-` to standard output.
///
/// # Errors
/// A file that cannot be written.
pub fn write_events(to: &Path) -> Result<()> {
    let to = if to == Path::new("-") {
        Target::StandardOutput
    } else {
        Target::File(OpenOptions::new().create(true).append(true).open(to).map_err(Error::io("write to", to))?)
    };
    *lock(&EVENTS) = Some(Events { to, told: None });
    Ok(())
}

/// What is done without a word to those who listen to events.
pub fn without_events<T>(work: impl FnOnce() -> T) -> T {
    let events = lock(&EVENTS).take();
    let done = work();
    *lock(&EVENTS) = events;
    done
}

/// Tells of an event, if somebody wants to know: a line of JSON with its kind, the time in seconds since 1970, and `values`.
pub fn tell(event: &str, values: &Value) {
    if let Some(events) = lock(&EVENTS).as_mut() {
        events.tell(event, values);
    }
}

/// Tells of a bar's progress, once a second.
pub fn tell_of_bar(values: impl FnOnce() -> Value) {
    let mut events = lock(&EVENTS);
    if let Some(events) = events.as_mut().filter(|events| events.told.is_none_or(|told| told.elapsed() >= EVERY)) {
        events.told = Some(Instant::now());
        events.tell("progress", &values());
    }
}

impl Events {
    fn tell(&mut self, event: &str, values: &Value) {
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |at| (at.as_secs_f64() * 1e3).round() / 1e3);
        let mut line = json!({"event": event, "at": at});
        values.as_object().into_iter().flatten().for_each(|(name, value)| line[name] = value.clone());
        let line = format!("{line}\n");
        // Who listens no more ends no run.
        let _ = match &mut self.to {
            Target::File(file) => file.write_all(line.as_bytes()),
            Target::StandardOutput => std::io::stdout().lock().write_all(line.as_bytes()),
        };
    }
}
