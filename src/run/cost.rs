//! The cost of a method: tokens that the generator computed and sampled for it, seconds, and floating-point operations.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::folder::{MANIFEST, RunDir};
use super::stage::Stage;
use super::summary::Method;
use crate::error::{Error, Result};

/// A part of a run's work, for its line in `seconds.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Writing and judging the rationales.
    Rationales,
    /// Judging the gold rows.
    Calibration,
    /// Judging the unlabelled texts that a round reads.
    Read(usize),
    /// Writing a round.
    Written(usize),
    /// Judging a round.
    Judged(usize),
    /// Training the small model of a round.
    Trained(usize),
    /// A method's own model, trained at the end.
    Model(Method),
    /// The choice of the delivered model, and its temperature.
    #[serde(alias = "temperature")]
    Choice,
}

impl Work {
    pub fn of_stage(stage: Stage) -> Work {
        match stage {
            Stage::Rationales => Work::Rationales,
            Stage::List => Work::Read(0),
            Stage::Read { round } => Work::Read(round),
            Stage::Write { round } => Work::Written(round),
            Stage::Judge { round } => Work::Judged(round),
            Stage::Train { round } => Work::Trained(round),
            Stage::Calibrate | Stage::Deliver | Stage::Done => Work::Calibration,
        }
    }

    /// Whether it comes after the rounds.
    pub fn is_of_delivery(self) -> bool {
        matches!(self, Work::Choice | Work::Model(_))
    }

    /// The round that it belongs to; 0 for what comes before and after the rounds.
    pub fn round(self) -> usize {
        match self {
            Work::Read(round) | Work::Written(round) | Work::Judged(round) | Work::Trained(round) => round,
            Work::Rationales | Work::Calibration | Work::Model(_) | Work::Choice => 0,
        }
    }

    /// In a few words.
    pub fn in_words(self) -> String {
        let of = |round: usize, what: &str| if round == 0 { format!("seed · {what}") } else { format!("round {round} · {what}") };
        match self {
            Work::Rationales => "rationales".to_string(),
            Work::Calibration => "judging the gold rows".to_string(),
            Work::Read(round) => of(round, "reading"),
            Work::Written(round) => of(round, "writing"),
            Work::Judged(round) => of(round, "judging"),
            Work::Trained(round) => of(round, "training"),
            Work::Model(method) => format!("{} · training and measuring", method.name()),
            Work::Choice => "choosing the model".to_string(),
        }
    }

    /// Whether `method` needs this part.
    fn needed_by(self, method: Method) -> bool {
        match (self, method) {
            (Work::Model(own), _) => own == method,
            (Work::Choice, _) => false,
            (_, Method::GoldOnly) => false,
            (Work::Calibration | Work::Read(_), Method::ReadGold) => true,
            (_, Method::ReadGold) => false,
            (Work::Rationales | Work::Calibration | Work::Read(0) | Work::Written(0) | Work::Judged(0) | Work::Trained(0), _) => true,
            (Work::Read(_) | Work::Written(_) | Work::Judged(_) | Work::Trained(_), method) => method != Method::Seed,
        }
    }
}

/// A line of `seconds.jsonl`: what one process did for a part. If it is killed during a stage, the stage's time until then is lost; the
/// generator's tokens are in the journals and are not.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    pub part: Work,
    pub seconds: f64,
    #[serde(flatten)]
    pub fits: Fits,
}

/// What the fits of a part took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fits {
    /// Floating-point operations of training: 6 for each of the small model's parameters (without word embeddings) and token learnt.
    /// Attention and predictions are left out.
    pub flops: f64,
    /// Rows that they learnt from.
    pub rows: usize,
    /// Seconds before their first steps: reading the rows, and the linear start.
    pub lead_seconds: f64,
    /// Optimiser steps after the first, and their seconds.
    pub steps: usize,
    pub step_seconds: f64,
}

impl std::ops::Add for Fits {
    type Output = Fits;

    fn add(self, other: Fits) -> Fits {
        Fits {
            flops: self.flops + other.flops,
            rows: self.rows + other.rows,
            lead_seconds: self.lead_seconds + other.lead_seconds,
            steps: self.steps + other.steps,
            step_seconds: self.step_seconds + other.step_seconds,
        }
    }
}

/// The file in a run's folder. It is only for reports: a run's output does not depend on it.
pub const SECONDS: &str = "seconds.jsonl";

/// Shorter work is not recorded: the part was done before and only read back.
const LEAST_SECONDS: f64 = 0.001;

impl Spent {
    /// Appends a line.
    pub fn note(&self, run: &RunDir) -> Result<()> {
        if self.seconds < LEAST_SECONDS {
            return Ok(());
        }
        let path = run.join(SECONDS);
        let line = serde_json::to_string(self).map_err(|e| Error::Failed(e.to_string()))?;
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
        file.and_then(|mut file| file.write_all((line + "\n").as_bytes())).map_err(Error::io("append to", &path))
    }

    /// All lines of a run's folder; empty if there is no file. A line torn by a crash is skipped.
    pub fn read(folder: &Path) -> Vec<Spent> {
        let content = std::fs::read_to_string(folder.join(SECONDS)).unwrap_or_default();
        content.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// What the parts that `chosen` names took together.
    fn sum(folder: &Path, chosen: impl Fn(Work) -> bool) -> (f64, f64) {
        let own = Spent::read(folder).into_iter().filter(|spent| chosen(spent.part));
        own.fold((0.0, 0.0), |(seconds, flops), spent| (seconds + spent.seconds, flops + spent.fits.flops))
    }
}

/// The cost of a method, as if it had been run alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// New tokens sampled for rationales and texts, including rejected ones.
    pub sampled: u64,
    /// Tokens that went through the generator: prompt tokens that no shared prefix served, and new ones, judging included.
    pub computed: u64,
    pub seconds: f64,
    /// Floating-point operations: 2 for each of the generator's parameters and computed token, and those of training.
    pub flops: f64,
}

/// What a row of a journal took.
#[derive(Deserialize)]
struct Tokens {
    #[serde(default)]
    tokens: u64,
    #[serde(default)]
    computed: u64,
}

/// The journals of a run, with the part of the work that each belongs to.
fn journals(folder: &Path) -> Vec<(PathBuf, Work)> {
    let path = |name: String| folder.join("journal").join(name + ".jsonl");
    let mut all = vec![
        (path("rationales".into()), Work::Rationales),
        (path("judge-rationales".into()), Work::Rationales),
        (path("judge-gold".into()), Work::Calibration),
        (path("states-gold".into()), Work::Calibration),
        (path("list".into()), Work::Read(0)),
        (path("read-list".into()), Work::Read(0)),
    ];
    for round in (0..).take_while(|round| path(format!("round-{round}")).exists()) {
        all.push((path(format!("read-{round}")), Work::Read(round)));
        all.push((path(format!("round-{round}")), Work::Written(round)));
        all.push((path(format!("judge-{round}")), Work::Judged(round)));
    }
    all
}

/// Tokens that the generator sampled and computed for the parts that `chosen` names, from the journals: nothing that is kept is left out,
/// however often the run was killed.
pub fn tokens(folder: &Path, chosen: impl Fn(Work) -> bool) -> (u64, u64) {
    let of_journal = |(path, _): (PathBuf, Work)| {
        let content = std::fs::read_to_string(path).unwrap_or_default();
        let rows = content.lines().filter_map(|line| serde_json::from_str::<Tokens>(line).ok());
        rows.fold((0, 0), |(sampled, computed), row| (sampled + row.tokens, computed + row.computed))
    };
    let own = journals(folder).into_iter().filter(|(_, part)| chosen(*part));
    own.map(of_journal).fold((0, 0), |(sampled, computed), (s, c)| (sampled + s, computed + c))
}

/// Parameters of the generator of a run, from its manifest.
fn parameters(folder: &Path) -> u64 {
    let manifest = std::fs::read(folder.join(MANIFEST)).unwrap_or_default();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap_or_default();
    manifest["generator"]["run"]["parameters"].as_u64().unwrap_or(0)
}

impl Cost {
    /// Computes the cost from a finished run's folder.
    pub fn read(folder: &Path, method: Method) -> Cost {
        let (sampled, computed) = tokens(folder, |part| part.needed_by(method));
        let (seconds, flops) = Spent::sum(folder, |part| part.needed_by(method));
        let flops = flops + 2.0 * parameters(folder) as f64 * computed as f64;
        Cost { sampled, computed, seconds, flops }
    }

    /// The mean of several.
    pub fn mean(costs: &[Cost]) -> Cost {
        let n = costs.len().max(1) as f64;
        let mean = |of: &dyn Fn(&Cost) -> f64| costs.iter().map(of).sum::<f64>() / n;
        let rounded = |of: &dyn Fn(&Cost) -> f64| mean(of).round() as u64;
        let (sampled, computed) = (rounded(&|cost| cost.sampled as f64), rounded(&|cost| cost.computed as f64));
        Cost { sampled, computed, seconds: mean(&|cost| cost.seconds), flops: mean(&|cost| cost.flops) }
    }
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
            let fits = Fits { flops: 0.5 * (1 << i) as f64, ..Fits::default() };
            Spent { part, seconds: (1 << i) as f64, fits }.note(&run).unwrap();
        }
        for (name, tokens) in [("rationales", 1), ("round-0", 10), ("judge-0", 0), ("round-1", 100), ("judge-gold", 0)] {
            let row = |id: usize| format!("{{\"id\":{id},\"tokens\":{tokens},\"computed\":1000}}\n");
            std::fs::write(run.join(format!("journal/{name}.jsonl")), row(0) + &row(1) + "{\"id\":").unwrap();
        }
        std::fs::write(run.join("manifest.json"), r#"{"generator": {"run": {"parameters": 3}}}"#).unwrap();
        let of = |method| {
            let Cost { sampled, computed, seconds, flops } = Cost::read(folder.path(), method);
            assert_eq!(flops, 6.0 * computed as f64 + 0.5 * seconds);
            (sampled, computed, seconds as u64)
        };
        assert_eq!(of(Method::GoldOnly), (0, 0, 16));
        assert_eq!(of(Method::Seed), (22, 8000, 3));
        assert_eq!(of(Method::S3), (222, 10_000, 7));
        assert_eq!(of(Method::S3Gold), (222, 10_000, 15));
    }
}
