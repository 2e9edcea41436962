//! lacuna writes training data for small classifiers: a language model writes, a small model is trained and errs, the language model
//! fills the gap.

pub mod commands;
pub mod data;
pub mod error;
pub mod fetch;
pub mod files;
pub mod generator;
pub mod judge;
pub mod math;
pub mod measure;
pub mod run;
pub mod small;
pub mod synthesis;
pub mod task;
