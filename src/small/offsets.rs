//! An offset for each label's logit, fitted on held-out gold rows: it moves the border between the labels.

use super::head::SmallHead;
use crate::data::example::GoldRow;
use crate::math::convex::{Stopping, minimise};
use crate::math::vectors::{cross_entropy, dot, sigmoid};
use crate::measure::folds::dealt;

/// Standard deviation of an offset's prior: a few dozen rows move an offset by tenths, a few hundred determine it.
const PRIOR: f64 = 0.5;

/// The prior's curvature is 4, so offsets are within a quarter of this tolerance of the optimum.
const LIMITS: Stopping = Stopping { tolerance: 1e-7, steps: 2000 };

/// MAP offsets for `logits` (rows, labels) and their gold labels: multinomial logistic regression with the slope fixed at 1 and a
/// normal prior. They sum to 0.
pub fn offsets(logits: &[&Vec<f32>], gold: &[usize]) -> Vec<f64> {
    let labels = logits.first().map_or(0, |row| row.len());
    minimise(vec![0.0; labels], LIMITS, |at, gradient| objective(logits, gold, at, gradient)).or_warn("the labels' offsets")
}

/// The same offset of one label of several, for its logits and whether each row has it.
pub fn offset_of_one(rows: &[(f64, bool)]) -> f64 {
    let weight = 1.0 / (PRIOR * PRIOR);
    let objective = |at: &[f64], gradient: &mut [f64]| {
        let mut loss = 0.5 * weight * at[0] * at[0];
        gradient[0] = weight * at[0];
        for &(logit, has) in rows {
            let p = sigmoid(logit + at[0]);
            loss -= if has { p } else { 1.0 - p }.max(1e-300).ln();
            gradient[0] += p - f64::from(u8::from(has));
        }
        loss
    };
    minimise(vec![0.0], LIMITS, objective).or_warn("a label's offset")[0]
}

/// Folds of *select*, over which offsets are cross-fitted.
const FOLDS: usize = 5;
const PURPOSE: &str = "folds of select";

/// Shifts each output by the offsets of the other folds, so that what is measured on the shifted outputs is out of fold: the same rows
/// can move the offsets and choose the round.
pub fn cross_fit<H: SmallHead>(gold: &[GoldRow<H>], outputs: &mut [H::Output]) {
    let fold = dealt(gold.len(), FOLDS, PURPOSE);
    let raw = outputs.to_vec();
    for own in 0..FOLDS {
        let others = (0..gold.len()).filter(|&i| fold[i] != own);
        let (rows, of_rows): (Vec<_>, Vec<_>) = others.map(|i| (&gold[i], &raw[i])).unzip();
        let offsets = H::offsets(&rows, &of_rows);
        outputs.iter_mut().zip(&fold).filter(|(_, fold)| **fold == own).for_each(|(output, _)| H::shift(output, &offsets));
    }
}

/// The summed cross-entropy plus the prior at `offsets`; writes the gradient to `gradient`.
fn objective(logits: &[&Vec<f32>], gold: &[usize], offsets: &[f64], gradient: &mut [f64]) -> f64 {
    let weight = 1.0 / (PRIOR * PRIOR);
    let mut loss = 0.5 * weight * dot(offsets, offsets);
    gradient.iter_mut().zip(offsets).for_each(|(g, b)| *g = weight * b);
    for (row, &label) in logits.iter().zip(gold) {
        let mut shifted: Vec<f64> = row.iter().zip(offsets).map(|(&x, b)| f64::from(x) + b).collect();
        loss += cross_entropy(&mut shifted, label);
        gradient.iter_mut().zip(&shifted).for_each(|(g, error)| *g += error);
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::labels::{Label, Labels};
    use crate::math::convex::check_gradient;

    fn refs(logits: &[Vec<f32>]) -> Vec<&Vec<f32>> {
        logits.iter().collect()
    }

    /// A row's offsets do not know the labels of its own fold, and do know the others.
    #[test]
    fn cross_fitted_outputs_do_not_depend_on_the_own_fold() {
        let row = |(i, &label): (usize, &usize)| GoldRow { line: i, text: String::new(), text_pair: None, gold: Label { label } };
        let (logits, labels) = leaning(1.5, 40);
        let shifted = |labels: &[usize]| {
            let gold: Vec<GoldRow<Labels>> = labels.iter().enumerate().map(row).collect();
            let mut outputs = logits.clone();
            cross_fit(&gold, &mut outputs);
            outputs
        };
        let fold = dealt(40, FOLDS, PURPOSE);
        let changed: Vec<usize> = labels.iter().zip(&fold).map(|(&label, &fold)| if fold == 0 { 1 } else { label }).collect();
        for (i, (before, after)) in shifted(&labels).iter().zip(shifted(&changed)).enumerate() {
            assert_eq!(*before == after, fold[i] == 0, "{i}");
        }
    }

    /// Logits biased towards label 1 by `lean` nats, for balanced gold labels.
    fn leaning(lean: f32, rows: usize) -> (Vec<Vec<f32>>, Vec<usize>) {
        let gold: Vec<usize> = (0..rows).map(|i| i % 2).collect();
        let right = |i: usize| if i % 8 < 6 { 1.0 } else { -1.0 };
        let row = |(i, &label): (usize, &usize)| if label == 0 { vec![right(i), lean] } else { vec![0.0, right(i) + lean] };
        (gold.iter().enumerate().map(row).collect(), gold)
    }

    #[test]
    fn many_rows_remove_the_bias() {
        let (logits, gold) = leaning(1.5, 4000);
        let found = offsets(&refs(&logits), &gold);
        assert!((found[0] - found[1] - 1.5).abs() < 0.05, "{found:?}");
        assert!((found[0] + found[1]).abs() < 1e-9);
    }

    #[test]
    fn few_rows_remove_part_of_the_bias() {
        let (logits, gold) = leaning(1.5, 16);
        let found = offsets(&refs(&logits), &gold);
        assert!((0.2..1.2).contains(&(found[0] - found[1])), "{found:?}");
    }

    #[test]
    fn an_offset_of_one_label_is_where_the_loss_is_least() {
        let rows: Vec<(f64, bool)> = (0..2000).map(|i| (f64::from(i % 7) - 4.0, i % 10 == 0)).collect();
        let found = offset_of_one(&rows);
        let loss = |offset: f64| {
            let of = |&(logit, has): &(f64, bool)| -(if has { sigmoid(logit + offset) } else { 1.0 - sigmoid(logit + offset) }).ln();
            rows.iter().map(of).sum::<f64>() + 0.5 * offset * offset / (PRIOR * PRIOR)
        };
        assert!([-1e-3, 1e-3].iter().all(|step| loss(found + step) > loss(found)), "{found}");
        assert_eq!(offset_of_one(&[]), 0.0);
    }

    #[test]
    fn without_rows_or_bias_the_offsets_are_zero() {
        assert!(offsets(&[], &[]).is_empty());
        let (logits, gold) = leaning(0.0, 400);
        assert!(offsets(&refs(&logits), &gold).iter().all(|b| b.abs() < 1e-6));
    }

    /// Many labels, each with its own bias: at the optimum the gradient is 0, and the biases are removed.
    #[test]
    fn the_biases_of_many_labels_are_removed() {
        let labels = 60;
        let lean = |j: usize| ((j * 7) % 13) as f32 / 4.0 - 1.5;
        let gold: Vec<usize> = (0..labels * 200).map(|i| i % labels).collect();
        let row = |&label: &usize| (0..labels).map(|j| lean(j) + if j == label { 4.0 } else { 0.0 }).collect();
        let logits: Vec<Vec<f32>> = gold.iter().map(row).collect();
        let found = offsets(&refs(&logits), &gold);
        let mut gradient = vec![0.0; labels];
        objective(&refs(&logits), &gold, &found, &mut gradient);
        assert!(gradient.iter().all(|g| g.abs() < LIMITS.tolerance), "{gradient:?}");
        let (least, most) =
            (0..labels).map(|j| found[j] + f64::from(lean(j))).fold((9.0, -9.0), |(a, b): (f64, f64), x| (a.min(x), b.max(x)));
        assert!(most - least < 0.5, "{least} {most}");
    }

    #[test]
    fn the_gradient_matches_the_loss() {
        let (logits, gold) = leaning(0.7, 40);
        check_gradient(&[0.4, -0.9], |at, gradient| objective(&refs(&logits), &gold, at, gradient));
    }
}
