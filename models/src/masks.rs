//! The dropout of a training step, place by place.

use lacuna_kernels::dropout::Dropout;

/// Dropout of one training step.
#[derive(Clone, Copy)]
pub struct Masks {
    pub seed: u64,
    pub step: u64,
    /// Place in the whole batch of the first row of the part that the shards are cut from.
    pub first_row: usize,
    pub hidden: f32,
    /// After the attention's linear layer: BERT has a dropout there, DistilBERT has none.
    pub attention_output: f32,
    pub attention: f32,
    pub classifier: f32,
}

/// The places of dropout in the network.
#[derive(Clone, Copy)]
pub enum Site {
    Embeddings,
    Probabilities(usize),
    AttentionOutput(usize),
    Output(usize),
    Classifier,
}

impl Masks {
    /// The masks of a place, for a shard whose first row in its part is `first_row`.
    pub fn at(&self, site: Site, first_row: usize) -> Dropout {
        let (number, rate) = match site {
            Site::Embeddings => (0, self.hidden),
            Site::Classifier => (1, self.classifier),
            Site::Probabilities(layer) => (2 + 3 * layer, self.attention),
            Site::AttentionOutput(layer) => (3 + 3 * layer, self.attention_output),
            Site::Output(layer) => (4 + 3 * layer, self.hidden),
        };
        Dropout::new(self.seed, self.step, number as u64, self.first_row + first_row, rate)
    }
}
