//! How much a run does in each part, known before it begins. Times a [`Pace`](super::pace::Pace) it is how long the run takes.

use serde::{Deserialize, Serialize};

use super::likeness::MOST;
use super::next::LoopRules;
use crate::run::cost::Work;
use crate::run::summary::Method;
use crate::task::file::{Parents, Task};

/// What work is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A rationale to be accepted.
    Rationale,
    /// A text of the seed to be accepted.
    Text,
    /// A text of a later round to be accepted.
    Extrapolation,
    /// A text to be accepted that continues a list.
    Listed,
    /// A gold row that the generator judges and the judges learn from.
    Gold,
    /// Another text that the generator judges.
    Judged,
    /// A row that a fit learns from: reading it, and the linear start.
    Learnt,
    /// An optimiser step on texts that were written or read.
    Step,
    /// An optimiser step on gold rows.
    GoldStep,
    /// A row that the small model predicts.
    Predicted,
    /// A round's model that is saved.
    Saved,
}

/// A part of a run's work.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    pub work: Work,
    pub amounts: Vec<(Unit, usize)>,
}

/// The sizes of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// See [`Head::strata`](crate::data::head::Head::strata).
    pub strata: usize,
    pub mine: usize,
    pub select: usize,
    pub test: usize,
    pub unlabelled: usize,
}

/// The share of *mine* that a model is taken to get wrong, where a round writes so many texts an error.
const WRONG: f64 = 0.2;

/// The parts of a run that makes every round, in their order. `chooses` says whether gold rows choose the model, out of fold.
pub fn parts(task: &Task, methods: &[Method], chooses: bool, sizes: Sizes) -> Vec<Part> {
    let Sizes { strata, mine, select, test, unlabelled } = sizes;
    let rules = LoopRules::of(task, methods, unlabelled);
    let gold = mine + select;
    let mut parts = Vec::new();
    let mut add = |work: Work, amounts: &[(Unit, usize)]| parts.push(Part { work, amounts: amounts.to_vec() });
    if rules.rationales {
        let candidates = task.seed.rationale_candidates.unwrap_or(task.seed.rationales);
        let judged = if candidates > task.seed.rationales { strata * candidates } else { 0 };
        add(Work::Rationales, &[(Unit::Rationale, strata * candidates), (Unit::Judged, judged)]);
    }
    if rules.judged {
        add(Work::Calibration, &[(Unit::Gold, gold)]);
    }
    let listed = if rules.lists { task.lists().map_or(0, |list| list.rows) } else { 0 };
    let waves = if rules.waves > 0 { task.read.waves(unlabelled, rules.max_rounds) } else { Vec::new() };
    let errors = if task.extrapolate.from == Parents::Mine { mine } else { (mine as f64 * WRONG).ceil() as usize };
    let of_round = task.extrapolate.rows.unwrap_or(errors * task.extrapolate.rows_per_error);
    let (mut written, mut read) = (0, listed);
    for round in 0..=rules.max_rounds {
        // Lists are continued before the seed.
        let (lists, texts) = (if round == 0 { listed } else { 0 }, waves.get(round).copied().unwrap_or(0));
        if lists + texts > 0 {
            add(Work::Read(round), &[(Unit::Listed, lists), (Unit::Judged, lists + texts)]);
            read += texts;
        }
        let (unit, rows) = if round == 0 { (Unit::Text, task.seed.rows) } else { (Unit::Extrapolation, of_round) };
        written += rows;
        add(Work::Written(round), &[(unit, rows)]);
        if rules.soft_targets {
            add(Work::Judged(round), &[(Unit::Judged, rows)]);
        }
        let likened = written.min(MOST) + gold.min(MOST) + if round == 0 { 0 } else { 2 * rows.min(MOST) };
        let mut fit = of_fit(task, written + read, 0);
        fit.extend([(Unit::Predicted, gold + likened), (Unit::Saved, 1)]);
        add(Work::Trained(round), &fit);
    }
    let fit_of = |method: Method, gold: usize| match method {
        Method::GoldOnly => of_fit(task, 0, gold),
        Method::ReadGold => of_fit(task, read, task.train.gold_repeat * gold),
        Method::S3Gold => of_fit(task, written + read, task.train.gold_repeat * gold),
        // They are a round's.
        Method::Seed | Method::S3 => Vec::new(),
    };
    if chooses && task.deliver.folds > 1 {
        let folds = task.deliver.folds.min(gold);
        let left = 1.0 - 1.0 / folds as f64;
        let mut all = Vec::new();
        for &method in methods.iter().filter(|method| !matches!(method, Method::Seed | Method::S3)) {
            all.extend(fit_of(method, (gold as f64 * left) as usize).into_iter().map(|(unit, count)| (unit, count * folds)));
            // A twin's rounds are chosen anew.
            let again = if method == Method::S3Gold { select * (rules.max_rounds + 1) } else { 0 };
            all.push((Unit::Predicted, gold + again));
        }
        add(Work::Choice, &all);
    }
    for &method in methods {
        let mut fit = fit_of(method, gold);
        fit.push((Unit::Predicted, test));
        add(Work::Model(method), &fit);
    }
    parts
}

/// A fit on so many synthetic rows and gold rows.
fn of_fit(task: &Task, synthetic: usize, gold: usize) -> Vec<(Unit, usize)> {
    let rows = synthetic + gold;
    let steps = task.train.steps_for(rows);
    let of_gold = steps * gold / rows.max(1);
    vec![(Unit::Learnt, rows), (Unit::Step, steps - of_gold), (Unit::GoldStep, of_gold)]
}
