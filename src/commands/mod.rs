//! The command line: one file per command, the shared options, and the printed tables.

mod asked;
pub mod baseline;
pub mod cli;
pub mod compare;
pub mod compare_table;
mod contexts;
pub mod curves;
mod data;
pub mod doctor;
pub mod equal_steps;
pub mod fetch;
mod incoming;
pub mod judge;
pub mod label;
pub mod learning_curve;
mod lend;
pub mod methods;
pub mod options;
pub mod pool;
pub mod predict;
pub mod provenance;
pub mod report;
pub mod setup;
pub mod sweep;
pub mod sweep_line;
pub mod worth;
