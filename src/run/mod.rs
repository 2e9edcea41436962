//! The folder of a run and every file in it: journals, manifest, summary, costs; and progress output. Knows no generator.

pub mod cost;
pub mod folder;
pub mod journal;
pub mod manifest;
pub mod misclassified;
pub mod outcome;
pub mod progress;
pub mod round;
pub mod stage;
pub mod summary;
