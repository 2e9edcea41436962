//! The small model: training, prediction, offsets and thresholds, devices. Knows no generator and no run.

pub mod answers;
pub mod card;
pub mod checkpoint;
pub mod contrastive;
pub mod device;
pub mod evaluation;
pub mod features;
pub mod fit;
pub mod folds;
pub mod head;
pub mod label_sets;
pub mod labels;
pub mod model;
pub mod offsets;
pub mod plan;
pub mod reader;
pub mod row;
mod start;
pub mod temperature;
pub mod threshold;
pub mod token_cache;
