//! The generator as a classifier: zero-shot, calibrated on the gold rows, and after demonstrations.

use rand::seq::SliceRandom;

use super::bench::{Bench, Predicted};
use super::folds::{at, sides};
use crate::data::example::Input;
use crate::data::labels::Labels;
use crate::error::Result;
use crate::generator::Generate;
use crate::judge::calibration::Calibration;
use crate::judge::posterior::mean_log_probs;
use crate::judge::questions::Questions;
use crate::math::random;
use crate::math::vectors::softmax;
use crate::measure::folds::stratified;
use crate::measure::metrics::log_loss;
use crate::run::progress::Progress;
use crate::task::file::Task;
use crate::task::prompts::Prompts;

/// Numbers of demonstrations to choose from, the fewest first.
const SHOWN: [usize; 2] = [4, 16];
/// With more labels than this, demonstrations need not have each.
const MOST_LABELS: usize = 16;
const FOLDS: usize = 5;

/// The judge's answers about texts without demonstrations: ln p of each label's word, (texts, judge prompts, labels).
///
/// # Errors
/// Those of the generator; label words that no further word tells apart; a prompt that cannot be rendered.
pub fn judge_rows(
    task: &Task,
    prompts: &Prompts<Labels>,
    inputs: &[Input],
    generator: &mut dyn Generate,
    progress: Progress,
) -> Result<Vec<Vec<Vec<f32>>>> {
    ask(&Questions::of(task, prompts)?, inputs, generator, ("generator", progress))
}

/// The mean log-probability of each label's word over the judge prompts. No gold row is read.
///
/// # Errors
/// As [`judge_rows`].
pub fn zero_shot(bench: &Bench, generator: &mut dyn Generate) -> Result<Predicted> {
    Ok(Predicted { gold_rows: 0, ..bench.without_steps(judged_test(bench, generator)?) })
}

/// The same with a scale and an offset a label, fitted on the judge's answers about the gold rows.
///
/// # Errors
/// As [`judge_rows`].
pub fn calibrated(bench: &Bench, generator: &mut dyn Generate) -> Result<Predicted> {
    let Bench { task, prompts, progress, .. } = *bench;
    let gold = averaged(&judge_rows(task, prompts, &bench.gold_inputs(), generator, progress)?);
    let calibration = Calibration::fit(&gold, &bench.gold_labels());
    Ok(bench.without_steps(apply(&calibration, &judged_test(bench, generator)?)))
}

/// The same after some of the gold rows with their labels, calibrated on the others. How many are shown is chosen by the log loss,
/// cross-fitted over five folds, of the rows that no candidate shows.
///
/// # Errors
/// As [`judge_rows`].
pub fn demonstrations(bench: &Bench, generator: &mut dyn Generate) -> Result<Predicted> {
    let (inputs, labels) = (bench.gold_inputs(), bench.gold_labels());
    let order = balanced(&labels, bench.labels(), bench.seed);
    let counts = candidates(labels.len(), bench.labels());
    let common = order.len() - counts[counts.len() - 1];
    let mut best: Option<(f64, usize, Calibration)> = None;
    for &shown in &counts {
        let others = &order[shown..];
        let title = format!("generator · gold rows after {shown} others");
        let said = averaged(&ask(&after(bench, &order[..shown])?, &at(&inputs, others), generator, (&title, bench.progress))?);
        let gold = at(&labels, others);
        let loss = if counts.len() > 1 { cross_fitted_loss(&said, &gold, common, bench) } else { 0.0 };
        if best.as_ref().is_none_or(|(least, ..)| loss < *least) {
            best = Some((loss, shown, Calibration::fit(&said, &gold)));
        }
    }
    let (_, shown, calibration) = best.expect("there is a number of demonstrations");
    let title = format!("generator · {shown} demonstrations");
    let test = averaged(&ask(&after(bench, &order[..shown])?, &bench.test_inputs(), generator, (&title, bench.progress))?);
    Ok(bench.without_steps(apply(&calibration, &test)))
}

/// The questions after these gold rows.
fn after<'b>(bench: &Bench<'b>, shown: &[usize]) -> Result<Questions<'b>> {
    let shown: Vec<(Input, usize)> = shown.iter().map(|&i| (bench.gold[i].input(), bench.gold[i].gold.label)).collect();
    Questions::of(bench.task, bench.prompts)?.after_demonstrations(&shown)
}

/// Asks all questions about all inputs, with a progress bar.
fn ask(questions: &Questions, inputs: &[Input], generator: &mut dyn Generate, bar: (&str, Progress)) -> Result<Vec<Vec<Vec<f32>>>> {
    let texts: Vec<(u64, Input)> = (0..).zip(inputs.iter().copied()).collect();
    let mut bar = bar.1.bar(bar.0, "questions", texts.len() * questions.for_each_text(), 0);
    let posteriors = questions.posteriors(generator, &texts, Vec::new(), &mut |_| {
        bar.step(1);
        Ok(())
    })?;
    bar.finish("");
    Ok(posteriors)
}

/// The means over the judge prompts, (texts, labels).
fn averaged(posteriors: &[Vec<Vec<f32>>]) -> Vec<Vec<f32>> {
    posteriors.iter().map(|of_text| mean_log_probs(of_text)).collect()
}

/// The averaged answers about the test rows, asked for unless they are known.
fn judged_test(bench: &Bench, generator: &mut dyn Generate) -> Result<Vec<Vec<f32>>> {
    match bench.judged_test {
        Some(known) => Ok(averaged(known)),
        None => Ok(averaged(&judge_rows(bench.task, bench.prompts, &bench.test_inputs(), generator, bench.progress)?)),
    }
}

fn apply(calibration: &Calibration, log_probs: &[Vec<f32>]) -> Vec<Vec<f32>> {
    log_probs.iter().map(|row| calibration.logits(row).into_iter().map(|x| x as f32).collect()).collect()
}

/// The numbers of demonstrations to try, at least one number. With few labels, each is shown; and never more than half of the gold rows
/// are, since the others are needed to calibrate. If that leaves no number, it is half of the rows, at most one a label.
fn candidates(gold: usize, labels: usize) -> Vec<usize> {
    let fits = |shown: &usize| *shown >= labels.min(MOST_LABELS) && *shown <= gold / 2;
    let found: Vec<usize> = SHOWN.into_iter().filter(fits).collect();
    if found.is_empty() { vec![(gold / 2).min(labels)] } else { found }
}

/// All gold rows in an order whose every beginning is as balanced over the labels as it can be: the labels take turns, in an order drawn
/// for each round.
fn balanced(gold: &[usize], labels: usize, seed: u64) -> Vec<usize> {
    let mut rng = random::rng(seed, "demonstrations", 0);
    let mut of_label: Vec<Vec<usize>> = (0..labels).map(|label| (0..gold.len()).filter(|&i| gold[i] == label).collect()).collect();
    of_label.iter_mut().for_each(|rows| rows.shuffle(&mut rng));
    let mut turns: Vec<usize> = (0..labels).collect();
    let mut order = Vec::new();
    while order.len() < gold.len() {
        turns.shuffle(&mut rng);
        order.extend(turns.iter().filter_map(|&label| of_label[label].pop()));
    }
    order
}

/// The mean log loss of the last `common` rows, each calibrated on the other folds.
fn cross_fitted_loss(log_probs: &[Vec<f32>], gold: &[usize], common: usize, bench: &Bench) -> f64 {
    let fold = stratified(gold, bench.labels(), FOLDS, random::derive(bench.seed, "demonstrations", 1));
    let mut probabilities = vec![Vec::new(); gold.len()];
    for (learnt, held_out) in sides(&fold.into_iter().map(Some).collect::<Vec<_>>()) {
        let calibration = Calibration::fit(&at(log_probs, &learnt), &at(gold, &learnt));
        held_out.iter().for_each(|&i| probabilities[i] = softmax(&calibration.logits(&log_probs[i])));
    }
    let first = gold.len() - common;
    log_loss(&probabilities[first..], &gold[first..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demonstrations_are_balanced_and_nested() {
        let gold = [0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2];
        let order = balanced(&gold, 3, 7);
        for first in [3, 6, 9] {
            let count = |label: usize| order[..first].iter().filter(|&&i| gold[i] == label).count();
            assert_eq!([count(0), count(1), count(2)], [first / 3; 3]);
        }
        let mut all = order.clone();
        all.sort_unstable();
        assert_eq!(all, (0..12).collect::<Vec<_>>());
        assert!(order != balanced(&gold, 3, 8));
    }

    #[test]
    fn each_label_is_shown_and_half_of_the_rows_are_left() {
        let found = [(100, 2), (100, 6), (100, 77), (16, 2), (7, 2), (20, 6), (1, 2)].map(|(gold, labels)| candidates(gold, labels));
        assert_eq!(found, [vec![4, 16], vec![16], vec![16], vec![4], vec![2], vec![6], vec![0]]);
    }
}
