//! Decides the next stage, as a pure function.

use crate::run::round::RoundRecord;
use crate::run::stage::Stage;
use crate::run::summary::Method;
use crate::task::file::{Parents, TargetKind, Task};

/// The rules that decide which stages are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopRules {
    pub rationales: bool,
    pub soft_targets: bool,
    /// The generator judges the gold rows: for soft targets, or to choose between the model of the gold rows alone and others.
    pub judged: bool,
    /// Lists of gold rows are continued.
    pub lists: bool,
    /// Unlabelled texts are read before this many rounds, the seed included.
    pub waves: usize,
    /// A round extrapolates all *mine* rows, so it does not need errors.
    pub all_of_mine: bool,
    pub max_rounds: usize,
    pub patience: usize,
}

impl LoopRules {
    /// The rules of a run that has so many unlabelled texts.
    pub fn of(task: &Task, methods: &[Method], unlabelled: usize) -> Self {
        let waves = if task.reads() { task.read.waves(unlabelled, task.extrapolate.max_rounds).len() } else { 0 };
        let soft_targets = task.targets.kind == TargetKind::Soft;
        LoopRules {
            rationales: task.seed.rationales > 0,
            soft_targets,
            lists: task.lists().is_some(),
            judged: soft_targets
                || waves > 0
                || task.lists().is_some()
                || (methods.contains(&Method::GoldOnly) && !task.prompts.judge.is_empty()),
            waves,
            all_of_mine: task.extrapolate.from == Parents::Mine,
            max_rounds: task.extrapolate.max_rounds,
            patience: task.extrapolate.patience,
        }
    }

    pub fn first(&self) -> Stage {
        if self.rationales { Stage::Rationales } else { self.after_rationales() }
    }

    fn after_rationales(&self) -> Stage {
        if self.judged { Stage::Calibrate } else { self.begin_round(0) }
    }

    /// The first stage of a round.
    fn begin_round(&self, round: usize) -> Stage {
        if round < self.waves { Stage::Read { round } } else { Stage::Write { round } }
    }
}

/// The stage after `stage`, given the rounds so far.
pub fn next(stage: Stage, rules: &LoopRules, rounds: &[RoundRecord]) -> Stage {
    match stage {
        Stage::Rationales => rules.after_rationales(),
        Stage::Calibrate if rules.lists => Stage::List,
        Stage::Calibrate | Stage::List => rules.begin_round(0),
        Stage::Read { round } => Stage::Write { round },
        Stage::Write { round } if rules.soft_targets => Stage::Judge { round },
        Stage::Write { round } | Stage::Judge { round } => Stage::Train { round },
        Stage::Train { round } => {
            let rounds = &rounds[..=round];
            let paid_off = round - best_round(rounds) < rules.patience;
            let errors_left = rules.all_of_mine || rounds[round].errors_after > 0;
            if round < rules.max_rounds && paid_off && errors_left { rules.begin_round(round + 1) } else { Stage::Deliver }
        }
        Stage::Deliver | Stage::Done => Stage::Done,
    }
}

/// The best round on *select*; the earliest if several are equal.
pub fn best_round(rounds: &[RoundRecord]) -> usize {
    let better = |best: usize, i: usize| if rounds[i].select.better_than(&rounds[best].select) { i } else { best };
    (0..rounds.len()).fold(0, better)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use crate::small::evaluation::{Evaluation, Right};

    fn rules(max_rounds: usize, patience: usize) -> LoopRules {
        LoopRules { rationales: true, soft_targets: true, judged: true, lists: false, waves: 0, all_of_mine: false, max_rounds, patience }
    }

    fn round(round: usize, log_loss: f64, errors_after: usize) -> RoundRecord {
        RoundRecord {
            spare: 0,
            round,
            read: 0,
            listed: 0,
            written: 0,
            accepted: 0,
            rejected: BTreeMap::new(),
            tokens: 0,
            rows: 0,
            made_from: String::new(),
            steps: 1,
            labels: vec![],
            errors_before: None,
            errors_after,
            changes: None,
            select: Evaluation { log_loss, right: Right::Labels { accuracy: 0.5 } },
            offsets: vec![],
        }
    }

    fn walk(rules: &LoopRules, losses: &[f64]) -> Vec<Stage> {
        let rounds: Vec<_> = losses.iter().enumerate().map(|(i, &loss)| round(i, loss, 3)).collect();
        let mut stages = vec![rules.first()];
        while *stages.last().unwrap() != Stage::Done {
            stages.push(next(*stages.last().unwrap(), rules, &rounds));
        }
        stages
    }

    #[test]
    fn the_whole_walk() {
        use Stage::*;
        let round = |round| [Write { round }, Judge { round }, Train { round }];
        let expected = [&[Rationales, Calibrate][..], &round(0), &round(1), &[Deliver, Done]].concat();
        assert_eq!(walk(&rules(1, 1), &[0.6, 0.5]), expected);
        let reading = LoopRules { waves: 1, ..rules(1, 1) };
        let expected = [&[Rationales, Calibrate, Read { round: 0 }][..], &round(0), &round(1), &[Deliver, Done]].concat();
        assert_eq!(walk(&reading, &[0.6, 0.5]), expected);
        let both = LoopRules { waves: 2, ..reading };
        assert_eq!(walk(&both, &[0.6, 0.5])[6], Read { round: 1 });
        let hard = LoopRules {
            rationales: false,
            soft_targets: false,
            judged: false,
            lists: false,
            waves: 0,
            all_of_mine: false,
            max_rounds: 0,
            patience: 1,
        };
        assert_eq!(walk(&hard, &[0.6]), [Write { round: 0 }, Train { round: 0 }, Deliver, Done]);
    }

    #[test]
    fn rounds_stop_when_they_stop_improving() {
        let trained = |rules: LoopRules, losses: &[f64]| walk(&rules, losses).iter().filter(|s| matches!(s, Stage::Train { .. })).count();
        assert_eq!(trained(rules(5, 1), &[0.6, 0.5, 0.55, 0.1, 0.1, 0.1]), 3);
        assert_eq!(trained(rules(5, 2), &[0.6, 0.5, 0.55, 0.45, 0.5, 0.5]), 6);
        assert_eq!(trained(rules(2, 9), &[0.6, 0.7, 0.8]), 3);
    }

    #[test]
    fn a_round_without_errors_is_the_last() {
        let rounds = [round(0, 0.1, 0)];
        assert_eq!(next(Stage::Train { round: 0 }, &rules(3, 1), &rounds), Stage::Deliver);
        let goldgen = LoopRules { all_of_mine: true, ..rules(3, 1) };
        assert_eq!(next(Stage::Train { round: 0 }, &goldgen, &rounds), Stage::Write { round: 1 });
    }

    #[test]
    fn the_earliest_of_equal_rounds_is_best() {
        assert_eq!(best_round(&[round(0, 0.5, 1), round(1, 0.4, 1), round(2, 0.4, 1)]), 1);
    }
}
