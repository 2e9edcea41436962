//! What a person types: one file a command, the options they share, and the tables they print.

pub mod cli;
pub mod compare;
mod contexts;
pub mod curves;
pub mod doctor;
pub mod fetch;
pub mod options;
pub mod predict;
pub mod report;
pub mod setup;
pub mod sweep;
pub mod sweep_line;
