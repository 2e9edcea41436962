//! Later rounds: texts like the small model's errors (Algorithm 2).

use std::collections::{BTreeMap, HashMap};

use rand::seq::SliceRandom;

use super::head::LoopHead;
use super::seed::draw_rationales;
use super::stages::Stages;
use super::state::Synthesis;
use super::write::Planned;
use crate::data::example::GoldRow;
use crate::error::{Error, Result};
use crate::math::random;
use crate::run::misclassified::Misclassified;
use crate::task::file::Parents;
use crate::task::prompts::prompt_error;

impl<H: Stages> Synthesis<'_, H> {
    /// Algorithm 2: texts like those that the previous round's model got wrong, with their gold labels or answers. Errors that the judge
    /// shares are left out, unless there are no others: what is written like them would get the same wrong target.
    pub(super) fn write_extrapolations(&mut self, round: usize) -> Result<()> {
        let (task, prompts, root) = (self.inputs.task, self.inputs.prompts, self.inputs.seed);
        let rationales = self.rationales.clone();
        let mut errors = self.parents(round - 1)?;
        errors.shuffle(&mut random::rng(root, "order of errors", round as u64));
        let wanted = task.extrapolate.rows.unwrap_or(errors.len() * task.extrapolate.rows_per_error);
        let errors = if task.extrapolate.takes_turns() { in_turns(errors) } else { errors };
        let journal_root = random::derive(root, "extrapolation", round as u64);
        let plan = |id: u64| {
            let error = &errors[id as usize % errors.len()];
            let of_goal = H::rationales_of(&error.goal, &rationales);
            let drawn = draw_rationales(of_goal.len(), task.extrapolate.rationales_per_example, journal_root, id);
            let reasons: Vec<&str> = drawn.iter().map(|&i| of_goal[i].as_str()).collect();
            let prompt = prompts.extrapolate(&error.goal, error.input(), &error.predicted, &reasons).map_err(prompt_error)?;
            let (template, goal, parent) = (&task.prompts.extrapolate, error.goal.clone(), Some(error.line));
            Ok(Planned { name: "extrapolate", template, prompt, goal, parent, context: None, rationales: drawn })
        };
        self.write_round(round, wanted, &plan, &|id| H::stratum(&errors[id as usize % errors.len()].goal))
    }

    /// The rows that the round after `round` extrapolates: the errors of `round`, or all *mine* rows.
    fn parents(&self, round: usize) -> Result<Vec<Misclassified<H>>> {
        let errors = self.misclassified(round)?;
        let (head, from) = (&self.inputs.small.head, self.inputs.task.extrapolate.from);
        if from == Parents::Errors {
            let mistakes = errors.into_iter().flat_map(|error| head.parents_of(error, from)).collect();
            return Ok(self.teachable(round + 1, mistakes));
        }
        let predicted: HashMap<usize, H::Prediction> = errors.into_iter().map(|error| (error.line, error.predicted)).collect();
        let of = |row: &GoldRow<H>| {
            let predicted = predicted.get(&row.line).cloned();
            Misclassified::new(row, predicted.unwrap_or_else(|| H::right(&row.goal())))
        };
        Ok(self.inputs.split.mine.iter().map(of).flat_map(|row| head.parents_of(row, from)).collect())
    }

    /// The errors that the judge does not share; all of them if it shares them all.
    fn teachable(&self, round: usize, errors: Vec<Misclassified<H>>) -> Vec<Misclassified<H>> {
        let place: HashMap<usize, usize> = self.inputs.split.mine.iter().enumerate().map(|(place, row)| (row.line, place)).collect();
        let taught = |error: &Misclassified<H>| place.get(&error.line).is_none_or(|&place| H::can_be_taught(self, place, &error.goal));
        let (taught, shared): (Vec<_>, Vec<_>) = errors.into_iter().partition(taught);
        if taught.is_empty() || shared.is_empty() {
            return [taught, shared].concat();
        }
        let (left, of) = (shared.len(), shared.len() + taught.len());
        let what = if self.inputs.prompts.asked().len() > 1 { "mistaken labels" } else { "errors" };
        self.inputs.progress.say(format!("round {round}: {left} of {of} {what} are left out, since the judge makes them too"));
        taught
    }

    /// The errors of a finished round.
    pub(super) fn misclassified(&self, round: usize) -> Result<Vec<Misclassified<H>>> {
        let path = self.run.join(format!("rounds/{round}/misclassified.jsonl"));
        let content = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let parse = |(i, line): (usize, &str)| {
            serde_json::from_str(line).map_err(|e| Error::Run(format!("{}:{}: damaged ({e})", path.display(), i + 1)))
        };
        content.lines().enumerate().map(parse).collect()
    }
}

/// The errors, round-robin over the labels; a label with fewer errors starts again with its first.
///
/// A model biased towards a label errs on the others; rows in proportion to its errors would bias the next model the other way.
fn in_turns<H: LoopHead>(errors: Vec<Misclassified<H>>) -> Vec<Misclassified<H>> {
    let mut by_label: BTreeMap<usize, Vec<Misclassified<H>>> = BTreeMap::new();
    errors.into_iter().for_each(|error| by_label.entry(H::stratum(&error.goal)).or_default().push(error));
    let turns = by_label.values().map(Vec::len).max().unwrap_or(0);
    (0..turns).flat_map(|turn| by_label.values().map(move |errors| errors[turn % errors.len()].clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::labels::{Label, Labels};

    #[test]
    fn labels_with_errors_take_turns() {
        let error =
            |line, label| Misclassified::<Labels> { line, text: String::new(), text_pair: None, goal: Label { label }, predicted: 9 };
        let order = |errors: &[(usize, usize)]| {
            let errors = errors.iter().map(|&(line, label)| error(line, label)).collect();
            in_turns(errors).iter().map(|e| (e.line, e.goal.label)).collect::<Vec<_>>()
        };
        let expected = [(2, 0), (1, 2), (2, 0), (3, 2), (2, 0), (4, 2)];
        assert_eq!(order(&[(1, 2), (2, 0), (3, 2), (4, 2)]), expected);
        assert_eq!(order(&[(5, 1), (6, 1)]), [(5, 1), (6, 1)]);
        assert!(order(&[]).is_empty());
    }
}
