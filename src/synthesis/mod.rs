//! The loop of S3 (arXiv 2310.13671): rationales, seed, train, extrapolate the errors, until that stops paying.
//!
//! [`next`] says what follows a stage, [`walk`] does it, one file a stage.

mod deliver;
mod judge;
pub mod likeness;
pub mod next;
mod round;
pub mod rows;
pub mod state;
pub mod verify;
mod walk;
mod write;
