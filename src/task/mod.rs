//! The task file, its prompts and its label words. Knows no run.

mod default_prompts;
mod document;
pub mod file;
pub mod label_keys;
pub mod prompt_keys;
pub mod prompts;
pub mod words;
