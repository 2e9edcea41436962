//! The cost of a method: tokens that the generator sampled for it, and seconds of work.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::folder::RunDir;
use super::stage::Stage;
use super::summary::Method;
use crate::error::{Error, Result};

/// A part of a run's work, for its time in `seconds.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Judging the gold rows.
    Calibration,
    /// Writing and judging a round; for round 0, the rationales too.
    Written(usize),
    /// Training the small model of a round.
    Trained(usize),
    /// A method's own model, trained at the end.
    Model(Method),
}

impl Work {
    pub fn of_stage(stage: Stage) -> Work {
        match stage {
            Stage::Write { round } | Stage::Judge { round } => Work::Written(round),
            Stage::Train { round } => Work::Trained(round),
            Stage::Rationales => Work::Written(0),
            Stage::Calibrate | Stage::Deliver | Stage::Done => Work::Calibration,
        }
    }

    /// Whether `method` needs this part.
    fn needed_by(self, method: Method) -> bool {
        match (self, method) {
            (Work::Model(own), _) => own == method,
            (_, Method::GoldOnly | Method::Embeddings) => false,
            (Work::Calibration | Work::Written(0) | Work::Trained(0), _) => true,
            (Work::Written(_) | Work::Trained(_), method) => method != Method::Seed,
        }
    }
}

/// A line of `seconds.jsonl`: how long one process worked on a part.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    pub part: Work,
    pub seconds: f64,
}

/// The file in a run's folder. It is only for reports: a run's output does not depend on it.
pub const SECONDS: &str = "seconds.jsonl";

/// Shorter times are not recorded: the part was done before and only read back.
const NOTHING: Duration = Duration::from_millis(1);

impl Spent {
    /// Appends a line. If a process is killed during a stage, the time of that stage is lost.
    pub fn note(run: &RunDir, part: Work, time: Duration) -> Result<()> {
        if time < NOTHING {
            return Ok(());
        }
        let path = run.join(SECONDS);
        let line = serde_json::to_string(&Spent { part, seconds: time.as_secs_f64() }).map_err(|e| Error::Failed(e.to_string()))?;
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
        file.and_then(|mut file| file.write_all((line + "\n").as_bytes())).map_err(Error::io("append to", &path))
    }

    /// All lines of a run's folder; empty if there is no file. A line torn by a crash is skipped.
    pub fn read(folder: &Path) -> Vec<Spent> {
        let content = std::fs::read_to_string(folder.join(SECONDS)).unwrap_or_default();
        content.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// The cost of a method, as if it had been run alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// New tokens sampled for rationales and texts, including rejected ones.
    pub tokens: u64,
    pub seconds: f64,
}

#[derive(Deserialize)]
struct Tokens {
    tokens: u64,
}

impl Cost {
    /// Computes the cost from a finished run's folder.
    pub fn read(folder: &Path, method: Method) -> Cost {
        let seconds = Spent::read(folder).iter().filter(|spent| spent.part.needed_by(method)).map(|spent| spent.seconds).sum();
        let journal = |name: String| folder.join("journal").join(name + ".jsonl");
        let rounds = (0..).map(|round| (journal(format!("round-{round}")), round)).take_while(|(path, _)| path.exists());
        let journals = std::iter::once((journal("rationales".into()), 0)).chain(rounds);
        let tokens = journals.filter(|(_, round)| Work::Written(*round).needed_by(method)).map(|(path, _)| tokens_in(&path)).sum();
        Cost { tokens, seconds }
    }
}

fn tokens_in(journal: &Path) -> u64 {
    let content = std::fs::read_to_string(journal).unwrap_or_default();
    content.lines().filter_map(|line| serde_json::from_str::<Tokens>(line).ok()).map(|row| row.tokens).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_costs_the_parts_that_it_needs() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::open(folder.path()).unwrap();
        let parts = [Work::Written(0), Work::Trained(0), Work::Trained(1), Work::Model(Method::S3Gold), Work::Model(Method::GoldOnly)];
        for (i, part) in parts.into_iter().enumerate() {
            Spent::note(&run, part, Duration::from_secs(1 << i)).unwrap();
        }
        for (name, tokens) in [("rationales", 1), ("round-0", 10), ("round-1", 100)] {
            let lines = format!("{{\"id\":0,\"tokens\":{tokens}}}\n{{\"id\":1,\"tokens\":{tokens}}}\n{{\"id\":");
            std::fs::write(run.join(format!("journal/{name}.jsonl")), lines).unwrap();
        }
        let of = |method| {
            let Cost { tokens, seconds } = Cost::read(folder.path(), method);
            (tokens, seconds as u64)
        };
        assert_eq!(of(Method::GoldOnly), (0, 16));
        assert_eq!(of(Method::Seed), (22, 3));
        assert_eq!(of(Method::S3), (222, 7));
        assert_eq!(of(Method::S3Gold), (222, 15));
    }
}
