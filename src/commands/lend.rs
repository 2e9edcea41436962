//! Lends what one run wrote to another that sends the same requests, so that equal requests have equal texts and are paid for once.

use std::path::Path;

use crate::error::{Error, Result};
use crate::files::whole::{write, write_json_lines};
use crate::run::cost::{SECONDS, Spent, Work, tokens};
use crate::run::summary::Delivery;
use crate::task::file::{JudgeKind, SeedBudget, Task};

/// What a run may take over of another one's judging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judging {
    /// Its judge has other heads.
    None,
    /// Of the seed: its judge goes by the prompt, calibrated by gold rows of its own.
    Seed,
    /// Of the seed and of the gold rows, which are the same.
    SeedAndGold,
}

impl Judging {
    /// What a run of `task` may take over from one with the same or other gold rows.
    pub(super) fn of(task: &Task, same_gold: bool) -> Judging {
        match task.judge_kind() {
            _ if same_gold => Judging::SeedAndGold,
            JudgeKind::Prompt => Judging::Seed,
            JudgeKind::Stack | JudgeKind::States => Judging::None,
        }
    }
}

/// Starts a run with the rationales, the seed and their judgements that another run wrote for the same requests, and counts their cost.
/// Within a budget, only as much of the seed is lent as that pays for.
///
/// A request is a function of the run's random seed and the request's number (and, for pairs and questions, of the contexts). A run that
/// has started keeps its own journals.
pub(super) fn borrow_journals(lender: &Path, borrower: &Path, budget: Option<SeedBudget>, judging: Judging) -> Result<()> {
    if borrower.join("manifest.json").exists() || !lender.join("manifest.json").exists() {
        return Ok(());
    }
    let share = budget.map_or(1.0, |budget| affordable_share(lender, budget));
    let journal = |folder: &Path, name: &str| folder.join("journal").join(name);
    let of_gold = ["judge-gold.jsonl", "states-gold.jsonl", "states-gold.safetensors", "list.jsonl", "read-list.jsonl"];
    let judgements: &[&str] = if judging == Judging::None { &[] } else { &["judge-0.jsonl"] };
    let of_gold: &[&str] = if judging == Judging::SeedAndGold { &of_gold } else { &[] };
    for name in [&["rationales.jsonl", "judge-rationales.jsonl", "round-0.jsonl"], judgements, of_gold].concat() {
        let from = journal(lender, name);
        if from.exists() {
            let content = std::fs::read(&from).map_err(Error::io("read", &from))?;
            let content =
                if name == "round-0.jsonl" { first_rows(&String::from_utf8_lossy(&content), share).into_bytes() } else { content };
            write(&journal(borrower, name), &content)?;
        }
    }
    let lent = |mut spent: Spent| {
        match spent.part {
            Work::Rationales => {}
            Work::Judged(0) if judging != Judging::None => {}
            Work::Calibration | Work::Read(0) if judging == Judging::SeedAndGold => {}
            Work::Written(0) => spent.seconds *= share,
            _ => return None,
        }
        Some(spent)
    };
    write_json_lines(&borrower.join(SECONDS), Spent::read(lender).into_iter().filter_map(lent))
}

/// The share of the lender's seed that a budget pays for, at the lender's prices.
fn affordable_share(lender: &Path, budget: SeedBudget) -> f64 {
    let accepted = Delivery::read_in(lender).map_or(0, |delivery| delivery.rounds.first().copied().unwrap_or(0));
    let (_, computed) = tokens(lender, |part| part == Work::Written(0));
    let price = computed as f64 + budget.judging * accepted as f64;
    (budget.tokens as f64 / price.max(1.0)).min(1.0)
}

/// The lines of a journal whose ids are in the first `share` of all ids.
fn first_rows(journal: &str, share: f64) -> String {
    let last = (journal.lines().count() as f64 * share).round() as u64;
    let id = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok().and_then(|row| row["id"].as_u64());
    journal.lines().filter(|line| id(line).is_some_and(|id| id < last)).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_a_journal_is_its_first_requests() {
        let journal = "{\"id\":2}\n{\"id\":0}\n{\"id\":3}\n{\"id\":1}\n{\"id\":";
        assert_eq!(first_rows(journal, 1.0), "{\"id\":2}\n{\"id\":0}\n{\"id\":3}\n{\"id\":1}\n");
        assert_eq!(first_rows(journal, 0.4), "{\"id\":0}\n{\"id\":1}\n");
    }
}
