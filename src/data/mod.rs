//! Examples: gold rows, their splits, answers and SQuAD's metrics. Knows no model and no prompt.

pub mod answers;
pub mod columns;
pub mod dealing;
pub mod example;
pub mod faults;
pub mod fields;
pub mod gold_file;
mod groups;
pub mod head;
pub mod label_sets;
pub mod labels;
pub mod language;
pub mod near;
pub mod overlap;
mod parquet_file;
mod place;
pub mod read;
pub mod roles;
pub mod shares;
pub mod spans;
pub mod split;
pub mod squad;
mod squad_file;
pub mod table;
pub mod unlabelled;
mod workbook;

pub use fields::{string_field, text_field};
