//! How fast a machine does each kind of a run's work, measured on a run in the small.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::plan::{Part, Unit};
use crate::error::Result;
use crate::run::cost::{Fits, Spent, Work, tokens};
use crate::run::manifest::Manifest;
use crate::run::summary::Method;

/// Seconds a unit, and what else decides how long writing takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    pub seconds: BTreeMap<Unit, f64>,
    /// The share of texts that are accepted; 1 for a unit that is not here.
    pub accepted: BTreeMap<Unit, f64>,
    /// Texts that the generator writes at once.
    pub at_once: usize,
}

/// At the end of each wave of texts the last ones leave places empty: that costs so many texts a place. (Places that all begin together and
/// end with lengths that vary by 40 % are filled for 0.4 of a text's time too little at the end; the longest takes half as long again.)
const END_OF_WAVE: f64 = 0.6;

impl Pace {
    /// Whether the pace of all that a part has is known.
    pub fn knows(&self, part: &Part) -> bool {
        part.amounts.iter().all(|(unit, count)| *count == 0 || self.seconds.contains_key(unit))
    }

    /// Seconds for so many of a unit; 0 for one whose pace is not known.
    pub fn of(&self, unit: Unit, count: usize) -> f64 {
        let each = self.seconds.get(&unit).copied().unwrap_or(0.0);
        match unit {
            Unit::Rationale | Unit::Text | Unit::Extrapolation | Unit::Listed => each * self.requests(unit, count),
            _ => each * count as f64,
        }
    }

    /// Seconds for a part.
    pub fn of_part(&self, part: &Part) -> f64 {
        part.amounts.iter().map(|&(unit, count)| self.of(unit, count)).sum()
    }

    /// Texts that are written until so many are accepted, and what the ends of their waves cost, in texts.
    fn requests(&self, unit: Unit, count: usize) -> f64 {
        let accepted = self.accepted.get(&unit).copied().unwrap_or(1.0).clamp(0.05, 1.0);
        // What is missing after the first wave, a second one makes up for, but for a few.
        let waves = [count as f64, count as f64 * (1.0 - accepted) / accepted];
        let ends: f64 = waves.map(|texts| END_OF_WAVE * texts.min(self.at_once as f64)).iter().sum();
        count as f64 / accepted + ends
    }

    /// That of a finished run: its seconds, divided by what it did. `predicted` are the seconds of a prediction.
    ///
    /// # Errors
    /// A folder without a run.
    pub fn of_run(folder: &Path, plan: &[Part], predicted: f64, at_once: usize) -> Result<Pace> {
        let (spent, rounds) = (Spent::read(folder), Manifest::read_in(folder)?.rounds);
        let seconds = |part: Work| spent.iter().filter(|spent| spent.part == part).map(|spent| spent.seconds).sum::<f64>();
        let lines = |name: &str| {
            let content = std::fs::read(folder.join("journal").join(name)).unwrap_or_default();
            content.iter().filter(|byte| **byte == b'\n').count()
        };
        let mut pace = Pace { at_once, ..Pace::default() };
        pace.seconds.insert(Unit::Predicted, predicted);
        let Some(seed) = rounds.first() else { return Ok(pace) };
        pace.set_writing(Unit::Text, seed.accepted + seed.spare, seed.written, seconds(Work::Written(0)));
        let of_a_text = (tokens(folder, |part| part == Work::Written(0)).1 as f64 / seed.written.max(1) as f64).max(1.0);
        // Few texts fill few places: what a text of another kind takes is told from its tokens.
        let mut like_seed = |unit: Unit, part: Work, accepted: usize, written: usize| {
            let (sampled, computed) = tokens(folder, |own| own == part);
            // The prompts of rationales are shared by so many that they cost next to nothing.
            let own = if unit == Unit::Rationale { sampled } else { computed };
            if written > 0 {
                pace.accepted.insert(unit, accepted as f64 / written as f64);
                pace.seconds.insert(unit, pace.seconds[&Unit::Text] * own as f64 / written as f64 / of_a_text);
            }
        };
        let rationales = std::fs::read(folder.join("rationales.json")).unwrap_or_default();
        let rationales: BTreeMap<String, Vec<String>> = serde_json::from_slice(&rationales).unwrap_or_default();
        like_seed(Unit::Rationale, Work::Rationales, rationales.values().map(Vec::len).sum(), lines("rationales.jsonl"));
        like_seed(Unit::Listed, Work::Read(0), seed.listed, lines("list.jsonl"));
        if let Some(round) = rounds.get(1) {
            like_seed(Unit::Extrapolation, Work::Written(1), round.accepted + round.spare, round.written);
        }
        pace.set_judging(plan, rounds.iter().map(|round| round.accepted), &seconds);
        pace.set_training(plan, &spent);
        Ok(pace)
    }

    fn set_judging(&mut self, plan: &[Part], accepted: impl Iterator<Item = usize>, seconds: &dyn Fn(Work) -> f64) {
        let planned = |part: Work, unit: Unit| {
            let own = plan.iter().filter(|own| own.work == part).flat_map(|own| &own.amounts);
            own.filter(|(own, _)| *own == unit).map(|(_, count)| count).sum::<usize>() as f64
        };
        let gold = planned(Work::Calibration, Unit::Gold);
        if gold > 0.0 {
            self.seconds.insert(Unit::Gold, seconds(Work::Calibration) / gold);
        }
        let (texts, judging) =
            accepted.enumerate().fold((0, 0.0), |(texts, sum), (round, own)| (texts + own, sum + seconds(Work::Judged(round))));
        let read = planned(Work::Read(0), Unit::Judged);
        if judging > 0.0 {
            self.seconds.insert(Unit::Judged, judging / texts.max(1) as f64);
        } else if read > 0.0 {
            self.seconds.insert(Unit::Judged, seconds(Work::Read(0)) / read);
        }
    }

    fn set_training(&mut self, plan: &[Part], spent: &[Spent]) {
        let of = |chosen: &dyn Fn(Work) -> bool| {
            let own = spent.iter().filter(|spent| chosen(spent.part));
            own.fold((0.0, Fits::default()), |(seconds, fits), spent| (seconds + spent.seconds, fits + spent.fits))
        };
        let (seconds, rounds) = of(&|part| matches!(part, Work::Trained(_)));
        let (_, gold) = of(&|part| part == Work::Model(Method::GoldOnly));
        let step = rounds.step_seconds / rounds.steps.max(1) as f64;
        self.seconds.insert(Unit::Step, step);
        self.seconds.insert(Unit::GoldStep, if gold.steps > 0 { gold.step_seconds / gold.steps as f64 } else { step });
        let both = rounds + gold;
        self.seconds.insert(Unit::Learnt, both.lead_seconds / both.rows.max(1) as f64);
        // What is left of the rounds is saving them, and measuring how like their texts are.
        let trained: Vec<&Part> = plan.iter().filter(|part| matches!(part.work, Work::Trained(_))).collect();
        let predictions =
            trained.iter().flat_map(|part| &part.amounts).filter(|(unit, _)| *unit == Unit::Predicted).map(|(_, count)| *count).sum();
        let left = seconds - rounds.lead_seconds - rounds.step_seconds - self.of(Unit::Predicted, predictions);
        self.seconds.insert(Unit::Saved, left.max(0.0) / trained.len().max(1) as f64);
    }

    /// Sets the pace of writing from what accepting so many took.
    fn set_writing(&mut self, unit: Unit, accepted: usize, written: usize, seconds: f64) {
        self.accepted.insert(unit, accepted as f64 / written.max(1) as f64);
        self.seconds.insert(unit, seconds / self.requests(unit, accepted).max(1.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_texts_take_longer_by_less_than_in_proportion() {
        let mut pace = Pace { at_once: 64, ..Pace::default() };
        pace.set_writing(Unit::Text, 64, 128, 100.0);
        assert!((pace.of(Unit::Text, 64) - 100.0).abs() < 1e-9);
        let (twice, ten) = (pace.of(Unit::Text, 128), pace.of(Unit::Text, 640));
        assert!((150.0..200.0).contains(&twice) && (600.0..1000.0).contains(&ten), "{twice} {ten}");
        assert_eq!(pace.of(Unit::Step, 10), 0.0);
    }
}
