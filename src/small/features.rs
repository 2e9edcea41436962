//! Features of texts, from the pretrained small model or one that has learnt: for the baselines and the distances between sets of texts.

use lacuna_models::{Encoded, ModelError, Network, PackedBatch};

use super::head::SmallHead;
use super::model::SmallModel;
use super::reader::Reader;
use crate::data::example::Input;
use crate::error::{Error, Result};

/// Texts in one forward pass.
const BATCH: usize = 32;

impl<H: SmallHead> SmallModel<H> {
    /// The mean of the pretrained model's last hidden states of each text, scaled to length 1: (texts, hidden).
    ///
    /// # Errors
    /// A text that cannot be encoded.
    pub fn features(&self, texts: &[&str], max_tokens: usize) -> Result<Vec<Vec<f64>>> {
        self.features_of(&self.base, &texts.iter().map(|&text| text.into()).collect::<Vec<_>>(), max_tokens)
    }

    /// The mean of the last hidden states that `network` has of each input, scaled to length 1: (inputs, hidden). A pair is read as one
    /// sequence. The network may be any of this model's architecture and tokenizer.
    ///
    /// # Errors
    /// A text that cannot be encoded.
    pub fn features_of(&self, network: &Network, inputs: &[Input], max_tokens: usize) -> Result<Vec<Vec<f64>>> {
        let encoded = self.reader.encode_all(inputs, max_tokens)?;
        let features = in_batches(&self.reader, &encoded, |batch, threads| network.features(batch, threads))?;
        Ok(features.into_iter().map(unit).collect())
    }

    /// Features for a linear classifier: those of a text, or for a pair with features u and v: (u, v, |u − v|, u · v), as in InferSent
    /// (arXiv 1705.02364).
    pub fn input_features(&self, inputs: &[Input], max_tokens: usize) -> Result<Vec<Vec<f64>>> {
        let first = self.features(&inputs.iter().map(|input| input.text).collect::<Vec<_>>(), max_tokens)?;
        if inputs.iter().all(|input| input.text_pair.is_none()) {
            return Ok(first);
        }
        let second = self.features(&inputs.iter().map(|input| input.text_pair.unwrap_or_default()).collect::<Vec<_>>(), max_tokens)?;
        let join = |(u, v): (Vec<f64>, Vec<f64>)| {
            let difference: Vec<f64> = u.iter().zip(&v).map(|(a, b)| (a - b).abs()).collect();
            let product: Vec<f64> = u.iter().zip(&v).map(|(a, b)| a * b).collect();
            [u, v, difference, product].concat()
        };
        Ok(first.into_iter().zip(second).map(join).collect())
    }
}

/// The numbers that `of_batch` (called with a number of threads) makes of each text: (texts, numbers). Texts of a length are read together.
pub(super) fn in_batches(
    reader: &Reader,
    encoded: &[Encoded],
    of_batch: impl Fn(&PackedBatch, usize) -> Result<Vec<f32>, ModelError> + Sync,
) -> Result<Vec<Vec<f64>>> {
    let mut order: Vec<usize> = (0..encoded.len()).collect();
    order.sort_by_key(|&i| encoded[i].input_ids.len());
    let mut rows = vec![Vec::new(); encoded.len()];
    for chunk in order.chunks(BATCH) {
        let batch = PackedBatch::from_rows(&chunk.iter().map(|&i| &encoded[i]).collect::<Vec<_>>());
        let out = reader.pool.install(|| of_batch(&batch, reader.threads())).map_err(|e| Error::Failed(e.to_string()))?;
        for (&i, row) in chunk.iter().zip(out.chunks_exact(out.len() / chunk.len())) {
            rows[i] = row.iter().map(|&x| f64::from(x)).collect();
        }
    }
    Ok(rows)
}

fn unit(row: Vec<f64>) -> Vec<f64> {
    let length = row.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-12);
    row.into_iter().map(|x| x / length).collect()
}
