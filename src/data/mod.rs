//! Examples: gold rows, their splits, answers and SQuAD's metrics. Knows no model and no prompt.

pub mod answers;
pub mod example;
mod fields;
mod groups;
pub mod head;
pub mod labels;
pub mod near;
pub mod overlap;
pub mod read;
pub mod spans;
pub mod split;
pub mod squad;
pub mod unlabelled;

pub use fields::string_field;
