//! What the generator says of a text, and the hidden states with which it says it.

/// The generator's reply to the judge's questions about a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    /// (labels): the mean of ln p of each label's word over the judge prompts.
    pub log_probs: Vec<f32>,
    /// (layers, hidden): states at the end of the first question.
    pub states: Vec<Vec<f32>>,
}

/// The depths of the layers whose states are read, as shares of all layers.
const DEPTHS: [f64; 4] = [0.4, 0.6, 0.8, 1.0];

/// The layers whose states are read of a generator with so many layers, ascending; none if it shows none.
pub fn layers(of: usize) -> Vec<usize> {
    let mut layers: Vec<usize> = DEPTHS.iter().map(|depth| (depth * of as f64).round() as usize).filter(|&layer| layer > 0).collect();
    layers.dedup();
    layers
}
