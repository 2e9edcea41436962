//! How good predictions are and how alike texts are. Knows no model, task or run.

pub mod distance;
pub mod diversity;
pub mod logistic;
pub mod metrics;
