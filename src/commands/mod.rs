//! The command line: one file per command, the shared options, and the printed tables.

pub mod cli;
pub mod compare;
mod contexts;
pub mod curves;
mod data;
pub mod doctor;
pub mod fetch;
pub mod options;
pub mod predict;
pub mod report;
pub mod setup;
pub mod sweep;
pub mod sweep_line;
