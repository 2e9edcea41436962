//! The cost of a method: tokens that the generator computed and sampled for it, seconds, and floating-point operations.

use std::io::Write;
use std::ops::AddAssign;
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::folder::RunDir;
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
    /// Writing a round.
    Written(usize),
    /// Judging a round.
    Judged(usize),
    /// Training the small model of a round.
    Trained(usize),
    /// A method's own model, trained at the end.
    Model(Method),
}

impl Work {
    pub fn of_stage(stage: Stage) -> Work {
        match stage {
            Stage::Rationales => Work::Rationales,
            Stage::Write { round } => Work::Written(round),
            Stage::Judge { round } => Work::Judged(round),
            Stage::Train { round } => Work::Trained(round),
            Stage::Calibrate | Stage::Deliver | Stage::Done => Work::Calibration,
        }
    }

    /// Whether `method` needs this part.
    fn needed_by(self, method: Method) -> bool {
        match (self, method) {
            (Work::Model(own), _) => own == method,
            (_, Method::GoldOnly) => false,
            (Work::Rationales | Work::Calibration | Work::Written(0) | Work::Judged(0) | Work::Trained(0), _) => true,
            (Work::Written(_) | Work::Judged(_) | Work::Trained(_), method) => method != Method::Seed,
        }
    }
}

/// What a part took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Effort {
    pub seconds: f64,
    /// Tokens that went through the generator: prompt tokens that no shared prefix served, and new ones.
    pub computed: u64,
    /// Floating-point operations: 2 for each of the generator's parameters and computed token, 6 for each of the small model's
    /// parameters (without word embeddings) and token learnt. Attention and the small model's predictions are left out.
    pub flops: f64,
}

impl Effort {
    /// A share of it.
    pub fn times(self, share: f64) -> Effort {
        Effort { seconds: self.seconds * share, computed: (self.computed as f64 * share).round() as u64, flops: self.flops * share }
    }
}

impl AddAssign for Effort {
    fn add_assign(&mut self, other: Effort) {
        self.seconds += other.seconds;
        self.computed += other.computed;
        self.flops += other.flops;
    }
}

/// Measures a part while it is done.
pub struct Meter {
    clock: Instant,
    computed: u64,
}

impl Meter {
    /// `computed` are the generator's tokens so far.
    pub fn start(computed: u64) -> Meter {
        Meter { clock: Instant::now(), computed }
    }

    /// What was done since the start, with a generator of so many parameters that has computed `computed` tokens by now, and `learnt`
    /// floating-point operations of training.
    pub fn read(&self, computed: u64, parameters: u64, learnt: f64) -> Effort {
        let computed = computed.saturating_sub(self.computed);
        Effort { seconds: self.clock.elapsed().as_secs_f64(), computed, flops: 2.0 * parameters as f64 * computed as f64 + learnt }
    }
}

/// A line of `seconds.jsonl`: what one process did for a part.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    pub part: Work,
    #[serde(flatten)]
    pub effort: Effort,
}

/// The file in a run's folder. It is only for reports: a run's output does not depend on it.
pub const SECONDS: &str = "seconds.jsonl";

/// Shorter work is not recorded: the part was done before and only read back.
const LEAST_SECONDS: f64 = 0.001;

impl Spent {
    /// Appends a line. If a process is killed during a stage, what the stage took until then is lost.
    pub fn note(run: &RunDir, part: Work, effort: Effort) -> Result<()> {
        if effort.seconds < LEAST_SECONDS && effort.computed == 0 {
            return Ok(());
        }
        let path = run.join(SECONDS);
        let line = serde_json::to_string(&Spent { part, effort }).map_err(|e| Error::Failed(e.to_string()))?;
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
        file.and_then(|mut file| file.write_all((line + "\n").as_bytes())).map_err(Error::io("append to", &path))
    }

    /// All lines of a run's folder; empty if there is no file. A line torn by a crash is skipped.
    pub fn read(folder: &Path) -> Vec<Spent> {
        let content = std::fs::read_to_string(folder.join(SECONDS)).unwrap_or_default();
        content.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// What the parts that `chosen` names took together.
    pub fn sum(folder: &Path, chosen: impl Fn(Work) -> bool) -> Effort {
        let mut total = Effort::default();
        Spent::read(folder).into_iter().filter(|spent| chosen(spent.part)).for_each(|spent| total += spent.effort);
        total
    }
}

/// The cost of a method, as if it had been run alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// New tokens sampled for rationales and texts, including rejected ones.
    pub sampled: u64,
    #[serde(flatten)]
    pub effort: Effort,
}

#[derive(Deserialize)]
struct Tokens {
    tokens: u64,
}

impl Cost {
    /// Computes the cost from a finished run's folder.
    pub fn read(folder: &Path, method: Method) -> Cost {
        let journal = |name: String| folder.join("journal").join(name + ".jsonl");
        let rounds = (0..).map(|round| (journal(format!("round-{round}")), round)).take_while(|(path, _)| path.exists());
        let journals = std::iter::once((journal("rationales".into()), 0)).chain(rounds);
        let sampled = journals.filter(|(_, round)| Work::Written(*round).needed_by(method)).map(|(path, _)| tokens_in(&path)).sum();
        Cost { sampled, effort: Spent::sum(folder, |part| part.needed_by(method)) }
    }

    /// The mean of several.
    pub fn mean(costs: &[Cost]) -> Cost {
        let n = costs.len().max(1) as f64;
        let mean = |of: &dyn Fn(&Cost) -> f64| costs.iter().map(of).sum::<f64>() / n;
        let rounded = |of: &dyn Fn(&Cost) -> f64| mean(of).round() as u64;
        let (seconds, flops) = (mean(&|cost| cost.effort.seconds), mean(&|cost| cost.effort.flops));
        let effort = Effort { seconds, computed: rounded(&|cost| cost.effort.computed as f64), flops };
        Cost { sampled: rounded(&|cost| cost.sampled as f64), effort }
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
            Spent::note(&run, part, Effort { seconds: (1 << i) as f64, computed: 10 << i, flops: 0.0 }).unwrap();
        }
        for (name, tokens) in [("rationales", 1), ("round-0", 10), ("round-1", 100)] {
            let lines = format!("{{\"id\":0,\"tokens\":{tokens}}}\n{{\"id\":1,\"tokens\":{tokens}}}\n{{\"id\":");
            std::fs::write(run.join(format!("journal/{name}.jsonl")), lines).unwrap();
        }
        let of = |method| {
            let Cost { sampled, effort } = Cost::read(folder.path(), method);
            assert_eq!(effort.computed, 10 * effort.seconds as u64);
            (sampled, effort.seconds as u64)
        };
        assert_eq!(of(Method::GoldOnly), (0, 16));
        assert_eq!(of(Method::Seed), (22, 3));
        assert_eq!(of(Method::S3), (222, 7));
        assert_eq!(of(Method::S3Gold), (222, 15));
    }
}
