//! The folder of a run and every file in it: journals, manifest, summary, costs; and progress output. Knows no generator.

pub mod cost;
pub mod folder;
pub mod interrupt;
pub mod journal;
pub mod live;
pub mod manifest;
pub mod misclassified;
pub mod outcome;
pub mod outlook;
pub mod place;
pub mod progress;
pub mod review;
pub mod round;
pub mod stage;
pub mod summary;
