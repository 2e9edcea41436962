//! The generator as a classifier: zero-shot, calibrated on the gold rows, after demonstrations, and with a head on its hidden states.

use std::time::Instant;

use rand::seq::SliceRandom;

use super::bench::{Bench, Predicted};
use crate::data::example::Input;
use crate::data::labels::Labels;
use crate::error::Result;
use crate::generator::Generate;
use crate::judge::calibration::Calibration;
use crate::judge::posterior::mean_log_probs;
use crate::judge::questions::Questions;
use crate::judge::reply::{Reply, layers};
use crate::judge::stack::Stack;
use crate::math::random;
use crate::math::vectors::softmax;
use crate::measure::folds::stratified;
use crate::measure::metrics::log_loss;
use crate::run::progress::Progress;
use crate::small::folds::{at, sides};
use crate::task::file::{JudgeKind, Task};
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
    let (clock, before) = (Instant::now(), generator.computed());
    let gold = averaged(&judge_rows(task, prompts, &bench.gold_inputs(), generator, progress)?);
    let calibration = Calibration::fit(&gold, &bench.gold_labels());
    let (seconds, computed) = (clock.elapsed().as_secs_f64(), generator.computed() - before);
    Ok(Predicted { seconds, computed, ..bench.without_steps(apply(&calibration, &judged_test(bench, generator)?)) })
}

/// The same with a head on the hidden states with which it reads the texts; how much prompt and head are worth is learnt too.
///
/// # Errors
/// As [`judge_rows`].
pub fn stacked(bench: &Bench, generator: &mut dyn Generate) -> Result<Predicted> {
    let (clock, before) = (Instant::now(), generator.computed());
    let stack = stack_of(bench, generator)?;
    let (seconds, computed) = (clock.elapsed().as_secs_f64(), generator.computed() - before);
    let test = replies_of_test(bench, generator)?;
    let logits = test.iter().map(|reply| stack.logits(reply).into_iter().map(|x| x as f32).collect()).collect();
    Ok(Predicted { seconds, computed, ..bench.without_steps(logits) })
}

/// The judge that learnt from all gold rows.
pub(super) fn stack_of(bench: &Bench, generator: &mut dyn Generate) -> Result<Stack> {
    let replies = replies(bench, &bench.gold_inputs(), "generator", generator)?;
    Ok(bench.small.reader.pool.install(|| Stack::fit(&replies, &bench.gold_labels(), bench.seed)))
}

/// The replies about inputs, with hidden states if the generator shows them.
pub(super) fn replies(bench: &Bench, inputs: &[Input], title: &str, generator: &mut dyn Generate) -> Result<Vec<Reply>> {
    let questions = Questions::of_judge(bench.task, bench.prompts)?;
    let mut bar = bench.progress.bar(title, "questions", inputs.len() * questions.for_each_text(), 0);
    let layers = layers_of(bench, generator)?;
    let replies = questions.replies(generator, inputs, &layers, &mut || bar.step(1))?;
    bar.finish("");
    Ok(replies)
}

/// The layers that the judge of the baselines reads: all that the task's judge may, and the states of all layers where that goes by words.
fn layers_of(bench: &Bench, generator: &dyn Generate) -> Result<Vec<usize>> {
    let kind = if bench.task.judge_kind() == JudgeKind::States { JudgeKind::States } else { JudgeKind::Stack };
    layers(generator, kind, bench.task.judge_depth())
}

/// The replies about the test rows; where their words are known, states alone are read.
fn replies_of_test(bench: &Bench, generator: &mut dyn Generate) -> Result<Vec<Reply>> {
    let (inputs, layers) = (bench.test_inputs(), layers_of(bench, generator)?);
    let Some(known) = bench.judged_test.filter(|_| bench.task.judge_kind() != JudgeKind::States) else {
        return replies(bench, &inputs, "generator", generator);
    };
    let mut replies = vec![Reply::default(); inputs.len()];
    if !layers.is_empty() {
        let mut bar = bench.progress.bar("generator · hidden states", "texts", inputs.len(), 0);
        replies = Questions::of(bench.task, bench.prompts)?.states(generator, &inputs, &layers, &mut || bar.step(1))?;
        bar.finish("");
    }
    Ok(replies.into_iter().zip(averaged(known)).map(|(reply, log_probs)| Reply { log_probs, ..reply }).collect())
}

/// A number of demonstrations, and what it promises.
struct Shown {
    count: usize,
    /// Log loss of gold rows that no candidate shows, cross-fitted over five folds.
    loss: f64,
    calibration: Calibration,
}

/// The same after some of the gold rows with their labels, calibrated on the others. How many are shown is chosen by log loss; a number
/// whose prompts do not fit the generator's context is left out, and if none fits there are no demonstrations.
///
/// # Errors
/// As [`judge_rows`].
pub fn demonstrations(bench: &Bench, generator: &mut dyn Generate) -> Result<Predicted> {
    let (clock, before) = (Instant::now(), generator.computed());
    let labels = bench.gold_labels();
    let order = balanced(&labels, bench.labels(), bench.seed);
    let counts = candidates(labels.len(), bench.labels());
    let common = (counts.len() > 1).then(|| order.len() - counts.last().copied().unwrap_or(0));
    let mut tried: Vec<Shown> = counts.iter().filter_map(|&count| try_showing(bench, &order, count, common, generator)).collect();
    tried.sort_by(|a, b| a.loss.total_cmp(&b.loss));
    let (seconds, computed) = (clock.elapsed().as_secs_f64(), generator.computed() - before);
    for Shown { count, calibration, .. } in tried {
        let title = format!("generator · {count} demonstrations");
        let questions = after(bench, &order[..count])?;
        match ask(&questions, &bench.test_inputs(), generator, (&title, bench.progress)) {
            Ok(test) => return Ok(Predicted { seconds, computed, ..bench.without_steps(apply(&calibration, &averaged(&test))) }),
            Err(error) => bench.progress.say(format!("{title}: left out ({error})")),
        }
    }
    calibrated(bench, generator)
}

/// The calibrated log loss with this number of demonstrations; none if the generator refuses their prompts.
fn try_showing(bench: &Bench, order: &[usize], count: usize, common: Option<usize>, generator: &mut dyn Generate) -> Option<Shown> {
    let others = &order[count..];
    let title = "generator · demonstrations";
    let said = after(bench, &order[..count])
        .and_then(|questions| ask(&questions, &at(&bench.gold_inputs(), others), generator, (title, bench.progress)));
    match said {
        Ok(said) => {
            let (said, gold) = (averaged(&said), at(&bench.gold_labels(), others));
            // A single number needs no choice.
            let loss = common.map_or(0.0, |common| cross_fitted_loss(&said, &gold, common, bench));
            Some(Shown { count, loss, calibration: Calibration::fit(&said, &gold) })
        }
        Err(error) => {
            bench.progress.say(format!("{count} demonstrations are left out: {error}"));
            None
        }
    }
}

/// The questions after these gold rows.
fn after<'b>(bench: &Bench<'b>, shown: &[usize]) -> Result<Questions<'b, Labels>> {
    let shown: Vec<(Input, usize)> = shown.iter().map(|&i| (bench.gold[i].input(), bench.gold[i].gold.label)).collect();
    Questions::of(bench.task, bench.prompts)?.after_demonstrations(&shown)
}

/// Asks all questions about all inputs, with a progress bar.
fn ask(questions: &Questions<Labels>, inputs: &[Input], generator: &mut dyn Generate, bar: (&str, Progress)) -> Result<Vec<Vec<Vec<f32>>>> {
    let texts: Vec<(u64, Input)> = (0..).zip(inputs.iter().copied()).collect();
    let mut bar = bar.1.bar(bar.0, "questions", texts.len() * questions.for_each_text(), 0);
    let posteriors = questions.posteriors(generator, &texts, Vec::new(), &mut |_| bar.step(1))?;
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
