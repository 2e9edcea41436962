//! The loop of S3 (arXiv 2310.13671): rationales, seed, train, extrapolate the errors, until that stops paying.
//!
//! [`next`] says what follows a stage, [`walk`] does it, one file a stage.

mod answers;
mod deliver;
mod extrapolate;
pub mod head;
mod judge;
mod labels;
pub mod likeness;
pub mod next;
mod rationales;
mod round;
pub mod rows;
mod seed;
pub mod stages;
pub mod state;
pub mod verify;
mod walk;
mod write;
