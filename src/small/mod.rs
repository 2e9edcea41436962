//! The small model: training, prediction, thresholds, devices. Knows no generator and no run.

pub mod device;
pub mod features;
pub mod model;
pub mod threshold;
pub mod token_cache;
pub mod train;
pub mod train_span;
