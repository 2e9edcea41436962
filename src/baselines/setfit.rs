//! SetFit (Tunstall et al., arXiv 2209.11055): the encoder learns which gold rows are alike, a logistic regression which labels they have.

use lacuna_models::Classifier;

use super::bench::{Bench, Predicted};
use super::linear::{GRID, classify};
use crate::data::example::Input;
use crate::error::Result;
use crate::math::random;
use crate::measure::logistic::Logistic;
use crate::measure::metrics::log_loss;
use crate::small::contrastive::PairPlan;
use crate::small::fit::Fitted;
use crate::small::folds::{Folds, at, sides};

/// The steps to choose from, as divisors of those of a fit of the small model: the fewest first.
const DIVISORS: [usize; 2] = [8, 2];
const FOLDS: usize = 3;

/// Fine-tunes the encoder on pairs of gold rows, then fits a logistic regression to the mean of its last hidden states, scaled to length 1.
/// A pair of texts is read as one sequence. Steps and C are chosen together, by the log loss of rows that neither stage has learnt from:
/// embeddings of the rows that the encoder was trained on would ask for a C that is far too large.
///
/// # Errors
/// A text that cannot be encoded; a loss that is not finite.
pub fn setfit(bench: &Bench) -> Result<Predicted> {
    let (gold, labels) = (bench.gold_inputs(), bench.gold_labels());
    let (chosen, tuning) = choose(bench, &gold, &labels)?;
    let fit = encoder(bench, &gold, &labels, chosen.steps)?;
    let (rows, test) = (features(bench, &fit, &gold)?, features(bench, &fit, &bench.test_inputs())?);
    let logits = classify(bench, &rows, &test, rows[0].len(), chosen.c);
    Ok(Predicted { steps: fit.steps, flops: tuning + fit.flops, ..bench.without_steps(logits) })
}

/// The settings of both stages.
#[derive(Clone, Copy)]
struct Settings {
    steps: usize,
    c: f64,
}

/// The settings with the smallest log loss over held-out gold rows, of equals the fewest steps and the smallest C, and the operations of
/// the fits. Where no row can be held out, the fewest steps and C = 1.
fn choose(bench: &Bench, gold: &[Input], labels: &[usize]) -> Result<(Settings, f64)> {
    let all = bench.task.train.steps_for(gold.len());
    let candidates = DIVISORS.map(|divisor| (all / divisor).max(1));
    let folds = sides(&bench.small.head.held_out(bench.gold, FOLDS, random::derive(bench.seed, "SetFit", 1)));
    let mut bar = bench.progress.bar("SetFit · steps and C", "fits", candidates.len() * folds.len(), 0);
    let (mut tried, mut flops) = (Vec::new(), 0.0);
    for steps in candidates.into_iter().filter(|_| !folds.is_empty()) {
        let mut losses = [0.0; GRID.len()];
        for (learnt, held_out) in &folds {
            let (inputs, own) = (at(gold, learnt), at(labels, learnt));
            let fit = encoder(bench, &inputs, &own, steps)?;
            let (rows, tested) = (features(bench, &fit, &inputs)?, features(bench, &fit, &at(gold, held_out))?);
            let truth = at(labels, held_out);
            losses.iter_mut().zip(GRID).for_each(|(loss, c)| *loss += summed_loss(bench, (&rows, &own), (&tested, &truth), c));
            flops += fit.flops;
            bar.step(1)?;
        }
        tried.extend(losses.into_iter().zip(GRID).map(|(loss, c)| (loss, Settings { steps, c })));
    }
    let least = tried.into_iter().min_by(|a, b| a.0.total_cmp(&b.0));
    let best = least.map_or(Settings { steps: candidates[0], c: 1.0 }, |(_, settings)| settings);
    bar.finish(&format!("{} steps, C = {}", best.steps, best.c));
    Ok((best, flops))
}

/// The encoder after its first stage.
fn encoder(bench: &Bench, inputs: &[Input], labels: &[usize], steps: usize) -> Result<Fitted<Classifier>> {
    let plan = PairPlan { inputs, labels, keys: &bench.task.train, steps, seed: random::derive(bench.seed, "SetFit", 0) };
    bench.small.fit_pairs(&plan, &mut |_, _| Ok(()))
}

fn features(bench: &Bench, fit: &Fitted<Classifier>, inputs: &[Input]) -> Result<Vec<Vec<f64>>> {
    bench.small.features_of(&fit.model, inputs, bench.task.train.max_tokens)
}

/// The log loss, summed over the tested rows, of a logistic regression on the learnt ones; both are features with labels.
fn summed_loss(bench: &Bench, learnt: (&[Vec<f64>], &[usize]), tested: (&[Vec<f64>], &[usize]), c: f64) -> f64 {
    let fitted = Logistic::fit(learnt.0, learnt.1, bench.shape(learnt.0[0].len()), c);
    let probabilities: Vec<Vec<f64>> = tested.0.iter().map(|row| fitted.probabilities(row)).collect();
    log_loss(&probabilities, tested.1) * tested.1.len() as f64
}
