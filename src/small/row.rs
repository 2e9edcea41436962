//! A training row.

use crate::data::example::Input;

/// Texts and their training target.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainRow<T> {
    pub text: String,
    /// The second text of a pair, or a question.
    pub text_pair: Option<String>,
    pub target: T,
}

impl<T> TrainRow<T> {
    pub fn input(&self) -> Input<'_> {
        Input { text: &self.text, text_pair: self.text_pair.as_deref() }
    }
}
