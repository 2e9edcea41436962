//! Which model is delivered, and its temperature: both by gold rows that the models asked have not learnt from.
//!
//! Each candidate has a twin for each fold of the gold rows, which learns as the candidate does but without the fold: gold rows of other
//! folds, texts with targets of a judge of other folds, no text that was written from a row of the fold, and rows of the round that
//! *select* rows of other folds choose. So every gold row is predicted by a model that neither it nor what was made of it has taught.
//! Traces are left: models of rounds, whose judge learnt all of *mine*, found the errors of other folds and the texts that later rounds
//! read; and where a text may have several labels, the seed is written for sets of labels that rows of *mine* have.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::head_with_labels::HeadWithLabels;
use super::state::Synthesis;
use super::union::Chosen;
use crate::data::example::GoldRow;
use crate::error::{Error, Result};
use crate::files::whole::{once, write_json_lines};
use crate::judge::judges::LearntFrom;
use crate::math::random;
use crate::run::folder::TWINS;
use crate::run::summary::{Candidate, Choice, Method, Scaled};
use crate::small::folds::{at, sides};
use crate::small::head::SmallHead;
use crate::small::offsets::cross_fit;

/// The models that may be delivered, the simplest first: of equals it is taken.
const CANDIDATES: [Method; 3] = [Method::GoldOnly, Method::ReadGold, Method::S3Gold];

impl<H: HeadWithLabels> Synthesis<'_, H> {
    /// The fold that each gold row is held out in, *mine* first; none for a row that is always learnt from, as all are without folds.
    pub(super) fn folds(&self) -> Vec<Option<usize>> {
        let count = self.inputs.task.deliver.folds;
        let gold: Vec<GoldRow<H>> = self.inputs.split.gold().cloned().collect();
        if count == 0 {
            return vec![None; gold.len()];
        }
        self.inputs.small.head.folds(&gold, count, random::derive(self.inputs.seed, "folds of the gold rows", 0))
    }

    /// The candidate with the least log loss on gold rows out of fold, with temperatures of other folds. Where the generator's judgement is
    /// not told from chance, what it judged is no candidate. None where no row can be held out, or there is no candidate.
    pub(super) fn choose_model(&self) -> Result<Option<Choice>> {
        let folds = self.folds();
        let knows_nothing = self.manifest.judge.as_ref().is_some_and(|judge| !judge.better_than_chance());
        let compared = |method: &Method| self.inputs.methods.contains(method) && (*method == Method::GoldOnly || !knows_nothing);
        let held_out: Vec<usize> = (0..folds.len()).filter(|&i| folds[i].is_some()).collect();
        if held_out.len() < 2 {
            return Ok(None);
        }
        let gold: Vec<GoldRow<H>> = self.inputs.split.gold().cloned().collect();
        let (rows, of_rows) = (at(&gold, &held_out), at(&folds, &held_out));
        let mut candidates = Vec::new();
        let mut best: Option<(f64, Method, Scaled)> = None;
        let mut of_best = Vec::new();
        for method in CANDIDATES.into_iter().filter(compared) {
            let outputs = self.out_of_fold(method, &gold, &folds)?;
            let scaled = cooled(&rows, &outputs, &of_rows);
            let found = H::evaluate(&rows, &scaled);
            candidates.push(Candidate { method, out_of_fold: found });
            if best.as_ref().is_none_or(|(least, ..)| found.log_loss < *least) {
                let before = H::evaluate(&rows, &outputs).log_loss;
                best = Some((found.log_loss, method, Scaled::new(H::temperature(&rows, &outputs), [before, found.log_loss])));
                of_best = scaled;
            }
        }
        self.list_doubtful(&rows, &held_out, &of_best)?;
        let thresholds = H::thresholds(&rows, &of_best);
        Ok(best.map(|(_, method, scaled)| Choice { method, scaled, thresholds, candidates }))
    }

    /// Writes `doubtful.jsonl`: the gold rows of which the judge and the delivered model's twins, who have not learnt them, both say
    /// another label than theirs. The least probable come first. They may be mislabelled; nothing is changed.
    fn list_doubtful(&self, rows: &[GoldRow<H>], places: &[usize], outputs: &[H::Output]) -> Result<()> {
        let Some(judges) = &self.judges else { return Ok(()) };
        let head = &self.inputs.small.head;
        let mut doubtful: Vec<(f64, Value)> = Vec::new();
        for ((row, &place), output) in rows.iter().zip(places).zip(outputs) {
            let Some((probability, mut line)) = head.doubtful(row, &judges.of_gold(place), output) else { continue };
            line["line"] = json!(row.line);
            doubtful.push((probability, line));
        }
        doubtful.sort_by(|a, b| a.0.total_cmp(&b.0));
        write_json_lines(&self.run.join("doubtful.jsonl"), doubtful.into_iter().map(|(_, line)| line))
    }

    /// For each gold row that is held out, what the twin that does not know it says.
    fn out_of_fold(&self, method: Method, gold: &[GoldRow<H>], folds: &[Option<usize>]) -> Result<Vec<H::Output>> {
        let mut outputs: Vec<Option<H::Output>> = vec![None; gold.len()];
        for (fold, (learnt, own)) in sides(folds).iter().enumerate() {
            let twin = self.twin_of(method, fold, &at(gold, learnt), &at(gold, own))?;
            own.iter().zip(twin).for_each(|(&i, output)| outputs[i] = Some(output));
        }
        Ok(outputs.into_iter().flatten().collect())
    }

    /// What the twin that has learnt all others says of the rows of a fold; it is trained once, and what it said is kept.
    fn twin_of(&self, method: Method, fold: usize, learnt: &[GoldRow<H>], own: &[GoldRow<H>]) -> Result<Vec<H::Output>> {
        let kept = self.run.join(TWINS).join(format!("{}-{fold}.json", method.name().replace(' ', "-")));
        let said: Vec<H::Output> = once(&kept, || self.twin(method, fold, learnt, own))?;
        self.clear_checkpoints();
        if said.len() != own.len() {
            let (kept, found, rows) = (kept.display(), said.len(), own.len());
            return Err(Error::Run(format!("{kept}: {found} rows, and {rows} in the fold; remove the file, and it is made again")));
        }
        Ok(said)
    }

    fn twin(&self, method: Method, fold: usize, learnt: &[GoldRow<H>], own: &[GoldRow<H>]) -> Result<Vec<H::Output>> {
        let without: HashSet<usize> = own.iter().map(|row| row.line).collect();
        let select: Vec<usize> =
            (0..self.inputs.split.select.len()).filter(|&i| !without.contains(&self.inputs.split.select[i].line)).collect();
        let written = if method == Method::S3Gold { Some(self.best_round_on(&select)?) } else { None };
        let chosen = Chosen { written, read: usize::MAX, learnt: LearntFrom::Without(fold), without };
        let name = format!("{} · twin {}", method.name(), fold + 1);
        let seed = random::derive(self.inputs.seed, "training of a twin", fold as u64);
        let gold: Vec<&GoldRow<H>> = learnt.iter().collect();
        let twin = self.fit_with_gold(&name, (method != Method::GoldOnly).then_some(&chosen), &gold, seed)?;
        self.inputs.small.outputs(&twin.model, own)
    }

    /// The best round by the chosen *select* rows.
    fn best_round_on(&self, chosen: &[usize]) -> Result<usize> {
        let rows = at(&self.inputs.split.select, chosen);
        let mut best = (0, f64::INFINITY);
        for round in 0..self.manifest.rounds.len() {
            let loss = H::evaluate(&rows, &self.round_on(round, &rows)?).log_loss;
            if loss < best.1 {
                best = (round, loss);
            }
        }
        Ok(best.0)
    }

    /// A round model's outputs on rows of *select*, with offsets of the other folds of these rows.
    fn round_on(&self, round: usize, rows: &[GoldRow<H>]) -> Result<Vec<H::Output>> {
        let mut model = self.load_round(round)?;
        let back: Vec<f64> = self.manifest.rounds[round].offsets.iter().map(|offset| -offset).collect();
        H::add_offsets(&mut model, &back);
        let mut outputs = self.inputs.small.outputs(&model, rows)?;
        if self.inputs.task.train.use_select {
            cross_fit(rows, &mut outputs);
        }
        Ok(outputs)
    }
}

/// Each row's output, divided by the temperature of the rows of other folds, and decided by their thresholds.
fn cooled<H: SmallHead>(rows: &[GoldRow<H>], outputs: &[H::Output], folds: &[Option<usize>]) -> Vec<H::Output> {
    let mut cooled = outputs.to_vec();
    for (others, own) in sides(folds) {
        let (rows, mut outputs) = (at(rows, &others), at(outputs, &others));
        let temperature = H::temperature(&rows, &outputs);
        outputs.iter_mut().for_each(|output| H::cool(output, temperature));
        let thresholds = H::thresholds(&rows, &outputs);
        for i in own {
            H::cool(&mut cooled[i], temperature);
            H::decide_by(&mut cooled[i], &thresholds);
        }
    }
    cooled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::labels::{Label, Labels};

    #[test]
    fn a_row_is_cooled_by_the_rows_of_other_folds() {
        let row = |i: usize| GoldRow::<Labels> { line: i, text: String::new(), text_pair: None, gold: Label { label: i % 2 } };
        let rows: Vec<_> = (0..80).map(row).collect();
        let folds: Vec<Option<usize>> = (0..80).map(|i| Some(i / 40)).collect();
        // The first half is always wrong and sure, the second right and sure.
        let outputs: Vec<Vec<f32>> = (0..80).map(|i| if (i % 2 == 0) == (i < 40) { vec![-4.0, 4.0] } else { vec![4.0, -4.0] }).collect();
        let cooled = cooled::<Labels>(&rows, &outputs, &folds);
        let sure = |i: usize| (cooled[i][0] - cooled[i][1]).abs();
        assert!(sure(0) > 4.0 && sure(79) < 1.0, "{} {}", sure(0), sure(79));
    }
}
