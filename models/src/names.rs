//! What an architecture calls its parameters in checkpoints.

/// The names of the parameters of an architecture.
pub struct Names {
    /// Before every name of the encoder.
    pub prefix: &'static str,
    /// The word embeddings.
    pub words: &'static str,
    pub embedding_norm: &'static str,
    /// Before the number of a layer.
    pub layer: &'static str,
    /// Query, key and value; where there is no name of a key, they are one matrix.
    pub query: &'static str,
    pub key: &'static str,
    pub value: &'static str,
    pub attention_output: &'static str,
    pub attention_norm: &'static str,
    pub intermediate: &'static str,
    pub output: &'static str,
    pub output_norm: &'static str,
    /// The dense layer between `[CLS]` and the classifier, with its prefix.
    pub head: &'static str,
    /// The classifier, with its prefix.
    pub classifier: &'static str,
    /// The last layer of a head for answers.
    pub spans: &'static str,
}
