//! Where a fit of labels starts: what the encoder already says of the rows, read by a logistic regression.
//!
//! A last layer of random numbers would first pull the encoder about (Kumar et al., arXiv 2202.10054): hundreds of steps where there are
//! many labels.

use lacuna_models::Classifier;

use super::features::in_batches;
use super::head::SmallHead;
use super::reader::Reader;
use super::row::TrainRow;
use crate::data::example::Input;
use crate::data::labels::Labels;
use crate::error::Result;
use crate::math::random;
use crate::math::vectors::argmax;
use crate::measure::folds::{held_out, stratified};
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
    let (inputs, gold): (Vec<Input>, Vec<usize>) =
        rows.iter().zip(gold).zip(part).filter(|(_, part)| *part == 0).map(|((row, label), _)| (row.input(), label)).unzip();
    let encoded = reader.encode_all(&inputs, Labels::reading(reader.stated()).max_tokens)?;
    let features = in_batches(reader, &encoded, |batch, threads| model.pooled(batch, threads))?;
    let shape = Shape { labels, width: features[0].len() };
    let fitted = reader.pool.install(|| {
        let fold = held_out(&gold, labels, FOLDS, random::derive(seed, "folds of the start", 0));
        Logistic::fit(&features, &gold, shape, choose_c(&features, &gold, shape, &GRID, &fold).c)
    });
    let (weights, biases) = fitted.parameters(START / fitted.spread(&features).max(START));
    model.set_last_layer(&weights, &biases);
    let tokens: usize = encoded.iter().map(|row| row.input_ids.len()).sum();
    Ok(2.0 * model.dense_parameters() as f64 * tokens as f64)
}
