//! lacuna writes training data for small classifiers: a language model writes, a small model is trained and errs, the language model fills the gap.

pub mod dataset;
pub mod error;
pub mod fetch;
pub mod generator;
pub mod prompt;
pub mod registry;
pub mod run_dir;
pub mod seed;
pub mod soft_targets;
pub mod split;
pub mod task;
pub mod verify;
