//! Examples: gold rows, their splits, answers and the measures of SQuAD. Knows no model and no prompt.

pub mod example;
pub mod read;
pub mod spans;
pub mod split;
pub mod squad;
