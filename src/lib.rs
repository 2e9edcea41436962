//! lacuna writes training data for small classifiers: a language model writes examples, a small model is trained on them and makes
//! errors, and the language model writes more examples like those errors.

pub mod baselines;
pub mod commands;
pub mod data;
pub mod error;
pub mod fetch;
pub mod files;
pub mod generator;
pub mod judge;
pub mod last_words;
pub mod math;
pub mod measure;
pub mod report;
pub mod run;
pub mod small;
pub mod synthesis;
pub mod task;
