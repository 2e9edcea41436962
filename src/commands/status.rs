//! `lacuna status`: how far the run in a folder is, from elsewhere; reads its files and disturbs nothing.

use std::fmt::Write;
use std::fs::File;
use std::path::Path;
use std::time::SystemTime;

use super::report::table;
use crate::error::{Error, Result};
use crate::files::lock::{Locked, try_lock};
use crate::run::cost::{SECONDS, Spent, Work};
use crate::run::manifest::Manifest;
use crate::run::outlook::{ESTIMATE, Outlook, duration};
use crate::run::review::Decisions;
use crate::run::round::RoundRecord;
use crate::run::stage::Stage;

/// The state of a run, its stage, and its rounds so far.
///
/// # Errors
/// A folder without a run.
pub fn status(folder: &Path) -> Result<String> {
    let manifest = Manifest::read_in(folder)?;
    let name = manifest.inputs.get("task.name").and_then(|name| name.as_str()).unwrap_or("a task");
    let state = state(folder, &manifest)?;
    let mut text = format!("{name}: {state}\n");
    // Writing into a string cannot fail.
    if let Some(judge) = &manifest.judge {
        let of = if manifest.calibrations.len() > 1 { "answers about the gold rows" } else { "gold rows" };
        let _ = writeln!(text, "judge        right on {:.1} % of the {of}, out of fold", 100.0 * judge.accuracy);
    }
    if manifest.stage == Stage::Done && Decisions::wait(folder)? {
        let _ = writeln!(text, "decisions    some wait (lacuna review): its run command with --continue goes on with them");
    }
    if manifest.stage != Stage::Done {
        let _ = writeln!(text, "stage        {}", in_words(manifest.stage));
        let _ = writeln!(text, "written      {}", last_written(folder));
        if let Some(left) = left(folder, manifest.stage, state == RUNNING) {
            let _ = writeln!(text, "left         about {}, all rounds made", duration(left));
        }
    }
    if !manifest.rounds.is_empty() {
        let rows: Vec<Vec<String>> = manifest.rounds.iter().map(row).collect();
        text += &format!("\n{}", table(&["round", "asked for", "accepted", "errors", "select", "rejected"], &rows));
    }
    Ok(text)
}

const RUNNING: &str = "running";

/// Whether a process works on it.
fn state(folder: &Path, manifest: &Manifest) -> Result<String> {
    if manifest.stage == Stage::Done {
        return Ok("done".to_string());
    }
    let path = folder.join("lock");
    let file = match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok("stopped".to_string()),
        other => other.map_err(Error::io("open", &path))?,
    };
    Ok(match try_lock(&file).map_err(Error::io("lock", &path))? {
        Locked::Busy => RUNNING.to_string(),
        Locked::Yes => "stopped; the same command goes on with it".to_string(),
        Locked::Impossible => "running or stopped: this file system has no locks that would tell".to_string(),
    })
}

/// Seconds that are left, if the run began with an estimate; the part under way began when the last one was noted.
fn left(folder: &Path, stage: Stage, running: bool) -> Option<f64> {
    let path = folder.join(ESTIMATE);
    let outlook: Outlook = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
    let spent = Spent::read(folder);
    let under_way = match stage {
        // What took no time is not noted: it is the first after the last that is.
        Stage::Deliver => {
            let parts: Vec<Work> = outlook.parts.iter().map(|own| own.part).filter(|part| part.is_of_delivery()).collect();
            let last = parts.iter().rposition(|part| spent.iter().any(|spent| spent.part == *part));
            *parts.get(last.map_or(0, |last| last + 1))?
        }
        stage => Work::of_stage(stage),
    };
    let begun = [path, folder.join(SECONDS)].iter().filter_map(|path| path.metadata().ok()?.modified().ok()).max()?;
    let elapsed = SystemTime::now().duration_since(begun).ok().filter(|_| running).map_or(0.0, |elapsed| elapsed.as_secs_f64());
    outlook.left(&spent, under_way, elapsed)
}

fn in_words(stage: Stage) -> String {
    match stage {
        Stage::Rationales => "rationales".to_string(),
        Stage::Calibrate => "judging the gold rows".to_string(),
        Stage::List => "continuing lists of gold rows".to_string(),
        Stage::Read { round } => format!("round {round}: reading texts"),
        Stage::Write { round: 0 } => "the seed: writing".to_string(),
        Stage::Write { round } => format!("round {round}: extrapolating errors"),
        Stage::Judge { round } => format!("round {round}: judging what was written"),
        Stage::Train { round } => format!("round {round}: training"),
        Stage::Deliver => "choosing and measuring the model".to_string(),
        Stage::Done => "done".to_string(),
    }
}

/// The journal that was written to last, its rows, and when that was.
fn last_written(folder: &Path) -> String {
    let files = std::fs::read_dir(folder.join("journal")).into_iter().flatten().flatten();
    let last = files.filter_map(|file| Some((file.metadata().ok()?.modified().ok()?, file.path()))).max();
    let Some((when, path)) = last else { return "nothing yet".to_string() };
    let rows = std::fs::read(&path).map_or(0, |content| content.iter().filter(|byte| **byte == b'\n').count());
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let ago = SystemTime::now().duration_since(when).map_or(0, |ago| ago.as_secs());
    format!("journal/{name}, {rows} rows, {ago} s ago")
}

fn row(record: &RoundRecord) -> Vec<String> {
    let rejected: Vec<String> = record.rejected.iter().map(|(why, rows)| format!("{rows} {}", why.says())).collect();
    let before = record.errors_before.map_or(String::new(), |before| format!("{before} → "));
    vec![
        record.round.to_string(),
        record.written.to_string(),
        record.accepted.to_string(),
        format!("{before}{}", record.errors_after),
        record.select.in_words(),
        rejected.join(", "),
    ]
}
