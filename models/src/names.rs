//! What an architecture calls its parameters in checkpoints.

/// The names of the parameters of an architecture.
pub struct Names {
    /// Before every name of the encoder.
    pub prefix: &'static str,
    /// Before the number of a layer.
    pub layer: &'static str,
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
}
