//! Metrics of predictions and of texts. Knows no model, task or run.

pub mod distance;
pub mod diversity;
pub mod folds;
#[cfg(test)]
mod golden;
pub mod interval;
pub mod isotonic;
pub mod logistic;
pub mod map;
pub mod metrics;
pub mod rows;
pub mod scale;
pub mod span;
pub mod spread;
pub mod tfidf;
