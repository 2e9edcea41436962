//! Baselines: what the same gold rows, the same small model and the same generator are worth without synthetic rows.
//!
//! Each chooses its settings on its own gold rows by cross-validation. The test rows are only predicted.

pub mod baseline;
pub mod bench;
pub mod fitting;
pub mod gold_only;
pub mod judged_texts;
pub mod linear;
pub mod predict;
pub mod prompted;
pub mod setfit;
pub mod student;
pub mod tune;

pub use baseline::Baseline;
pub use bench::{Bench, Predicted};
pub use predict::Baselines;
