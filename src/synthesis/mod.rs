//! The S3 loop (arXiv 2310.13671): rationales, seed, training, extrapolation of errors, until *select* stops improving.
//!
//! [`next`] decides which stage comes next, `walk.rs` runs it; each stage has its own file.

mod answers;
mod choice;
mod deliver;
mod extrapolate;
pub mod head;
pub mod head_with_labels;
pub mod judge;
mod label_sets;
mod labels;
pub mod likeness;
mod list;
mod map;
pub mod next;
pub mod pace;
pub mod plan;
mod rationales;
mod read;
mod round;
pub mod rows;
mod seed;
pub mod stages;
pub mod state;
mod union;
pub mod verify;
mod walk;
pub mod waves;
pub mod write;
