//! Where a fit of labels starts: what the encoder already says of the rows, read by a logistic regression.
//!
//! A last layer of random numbers would first pull the encoder about (Kumar et al., arXiv 2202.10054): hundreds of steps where there are
//! many labels.

use lacuna_models::Classifier;
use rayon::prelude::*;

use super::features::in_batches;
use super::head::SmallHead;
use super::reader::Reader;
use super::row::TrainRow;
use crate::data::example::Input;
use crate::data::labels::Labels;
use crate::error::Result;
use crate::math::random;
use crate::math::vectors::argmax;
use crate::measure::folds::{dealt, held_out, stratified};
use crate::measure::logistic::{Logistic, Shape, choose_c};

/// Rows that the regression learns from at most.
const MOST_ROWS: usize = 1000;
/// The strengths of the penalty to choose from, and the folds that choose.
const GRID: [f64; 4] = [0.001, 0.01, 0.1, 1.0];
const FOLDS: usize = 3;
/// The spread of its logits in training: about that of random numbers. A regression that knows the rows leaves nothing to learn from them.
const START: f64 = 0.3;

/// Sets the last layer of `model` to a logistic regression of the rows' most probable labels on what that layer reads of them; returns the
/// floating-point operations of reading.
///
/// # Errors
/// A text that cannot be encoded.
pub(super) fn start_linear(reader: &Reader, model: &mut Classifier, rows: &[TrainRow<Vec<f32>>], seed: u64) -> Result<f64> {
    let labels = model.labels().len();
    let gold: Vec<usize> = rows.iter().map(|row| argmax(&row.target)).collect();
    let part = stratified(&gold, labels, rows.len().div_ceil(MOST_ROWS), random::derive(seed, "rows of the start", 0));
    let (chosen, gold): (Vec<&TrainRow<Vec<f32>>>, Vec<usize>) =
        rows.iter().zip(gold).zip(part).filter(|(_, part)| *part == 0).map(|(row, _)| row).unzip();
    let Read { features, flops } = read(reader, model, &chosen)?;
    let shape = Shape { labels, width: features[0].len() };
    let fitted = reader.pool.install(|| fit(&features, &gold, shape, seed));
    let (weights, biases) = fitted.parameters(START / fitted.spread(&features).max(START));
    model.set_last_layer(&weights, &biases);
    Ok(flops)
}

/// The same where a text may have several labels: a regression for each label on whether a row more probably has it than not.
///
/// # Errors
/// As [`start_linear`].
pub(super) fn start_linear_for_each(reader: &Reader, model: &mut Classifier, rows: &[TrainRow<Vec<f32>>], seed: u64) -> Result<f64> {
    let part = dealt(rows.len(), rows.len().div_ceil(MOST_ROWS), "rows of the start");
    let chosen: Vec<&TrainRow<Vec<f32>>> = rows.iter().zip(part).filter(|(_, part)| *part == 0).map(|(row, _)| row).collect();
    let Read { features, flops } = read(reader, model, &chosen)?;
    let (labels, width) = (model.labels().len(), features[0].len());
    let of_label = |label: usize| {
        let gold: Vec<usize> = chosen.iter().map(|row| usize::from(row.target[label] > 0.5)).collect();
        let fitted = fit(&features, &gold, Shape { labels: 2, width }, random::derive(seed, "start of a label", label as u64));
        // A sigmoid's logit is the difference of a softmax's two, which is twice what each is apart from their mean.
        let (weights, biases) = fitted.parameters(START / (2.0 * fitted.spread(&features)).max(START));
        let weights: Vec<f32> = weights[width..].iter().zip(&weights[..width]).map(|(has, not)| has - not).collect();
        (weights, biases[1] - biases[0])
    };
    let fitted: Vec<(Vec<f32>, f32)> = reader.pool.install(|| (0..labels).into_par_iter().map(of_label).collect());
    let (weights, biases): (Vec<Vec<f32>>, Vec<f32>) = fitted.into_iter().unzip();
    model.set_last_layer(&weights.concat(), &biases);
    Ok(flops)
}

/// What the last layer reads of rows, and the floating-point operations of reading.
struct Read {
    features: Vec<Vec<f64>>,
    flops: f64,
}

fn read(reader: &Reader, model: &Classifier, rows: &[&TrainRow<Vec<f32>>]) -> Result<Read> {
    let inputs: Vec<Input> = rows.iter().map(|row| row.input()).collect();
    let encoded = reader.encode_all(&inputs, Labels::reading(reader.stated()).max_tokens)?;
    let features = in_batches(reader, &encoded, |batch, threads| model.pooled(batch, threads))?;
    let tokens: usize = encoded.iter().map(|row| row.input_ids.len()).sum();
    Ok(Read { features, flops: 2.0 * model.dense_parameters() as f64 * tokens as f64 })
}

/// A regression with the penalty that is best in cross-validation.
fn fit(features: &[Vec<f64>], gold: &[usize], shape: Shape, seed: u64) -> Logistic {
    let fold = held_out(gold, shape.labels, FOLDS, random::derive(seed, "folds of the start", 0));
    Logistic::fit(features, gold, shape, choose_c(features, gold, shape, &GRID, &fold).c)
}
