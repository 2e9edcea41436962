//! lacuna writes training data for small classifiers: a language model writes, a small model is trained and errs, the language model fills the gap.

pub mod fetch;
pub mod generator;
pub mod registry;
