//! The task file, its prompts and its label words. Knows no run.

mod document;
pub mod file;
pub mod prompts;
pub mod words;
