//! Where a fit of labels starts: what the encoder already says of the rows, read by a logistic regression.
//!
//! A last layer of random numbers would first pull the encoder about (Kumar et al., arXiv 2202.10054): hundreds of steps where there are
//! many labels.

use lacuna_models::{Classifier, PackedBatch};

use super::model::SmallModel;
use super::plan::FitPlan;
use crate::data::example::Input;
use crate::data::labels::Labels;
use crate::error::{Error, Result};
use crate::math::random;
use crate::math::vectors::argmax;
use crate::measure::folds::{held_out, stratified};
use crate::measure::logistic::{Logistic, Shape, choose_c};

/// Texts in one forward pass.
const BATCH: usize = 32;
/// Rows that the regression learns from at most.
const MOST_ROWS: usize = 1000;
/// The strengths of the penalty to choose from, and the folds that choose.
const GRID: [f64; 4] = [0.001, 0.01, 0.1, 1.0];
const FOLDS: usize = 3;

impl SmallModel<Labels> {
    /// Sets the last layer of `model` to a logistic regression of the rows' most probable labels on what that layer reads of them;
    /// returns the floating-point operations of reading.
    ///
    /// # Errors
    /// A text that cannot be encoded.
    pub(super) fn start_from(&self, model: &mut Classifier, plan: &FitPlan<Labels>) -> Result<f64> {
        let (labels, rows, seed) = (self.head.names.len(), plan.rows, plan.seed);
        let gold: Vec<usize> = rows.iter().map(|row| argmax(&row.target)).collect();
        let part = stratified(&gold, labels, rows.len().div_ceil(MOST_ROWS).max(1), random::derive(seed, "rows of the start", 0));
        let (inputs, gold): (Vec<Input>, Vec<usize>) =
            rows.iter().zip(gold).zip(part).filter(|(_, part)| *part == 0).map(|((row, label), _)| (row.input(), label)).unzip();
        let (features, tokens) = self.pooled(model, &inputs)?;
        let shape = Shape { labels, width: features[0].len() };
        let fitted = self.reader.pool.install(|| {
            let fold = held_out(&gold, labels, FOLDS, random::derive(seed, "folds of the start", 0));
            Logistic::fit(&features, &gold, shape, choose_c(&features, &gold, shape, &GRID, &fold).c)
        });
        let (weights, biases) = fitted.parameters();
        model.set_last_layer(&weights, &biases);
        Ok(2.0 * model.dense_parameters() as f64 * tokens as f64)
    }

    /// What the last layer of `model` reads of inputs, (inputs, hidden), and their tokens.
    fn pooled(&self, model: &Classifier, inputs: &[Input]) -> Result<(Vec<Vec<f64>>, usize)> {
        let encoded = self.reader.encode_all(inputs, self.reading().max_tokens)?;
        let mut order: Vec<usize> = (0..inputs.len()).collect();
        order.sort_by_key(|&i| encoded[i].input_ids.len());
        let mut pooled = vec![Vec::new(); inputs.len()];
        for chunk in order.chunks(BATCH) {
            let batch = PackedBatch::from_rows(&chunk.iter().map(|&i| &encoded[i]).collect::<Vec<_>>());
            let out = self.reader.pool.install(|| model.pooled(&batch, self.reader.threads()));
            let out = out.map_err(|e| Error::Failed(e.to_string()))?;
            for (&i, row) in chunk.iter().zip(out.chunks_exact(out.len() / chunk.len())) {
                pooled[i] = row.iter().map(|&x| f64::from(x)).collect();
            }
        }
        Ok((pooled, encoded.iter().map(|row| row.input_ids.len()).sum()))
    }
}
