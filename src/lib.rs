//! lacuna writes training data for small classifiers: a language model writes, a small model is trained and errs, the language model fills the gap.

pub mod cli;
pub mod compare;
pub mod dataset;
pub mod error;
pub mod fetch;
pub mod generator;
pub mod lines;
pub mod manifest;
pub mod metrics;
pub mod predict;
pub mod progress;
pub mod prompt;
pub mod registry;
pub mod report;
pub mod run_dir;
pub mod seed;
pub mod setup;
pub mod sha256;
pub mod soft_targets;
pub mod split;
pub mod synthesis;
pub mod task;
pub mod threshold;
pub mod token_cache;
pub mod train;
pub mod verify;
