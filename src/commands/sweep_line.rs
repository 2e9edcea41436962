//! A line of a sweep's table: one method at one value of what is varied.

use serde::{Deserialize, Serialize};

use crate::measure::metrics::Interval;
use crate::run::cost::Cost;
use crate::run::summary::Method;

/// One method at one point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepLine {
    pub axis: String,
    pub value: usize,
    pub method: Method,
    /// Means over seeds.
    pub synthetic_rows: f64,
    pub cost: Cost,
    /// Mean over seeds, interval over seeds and test rows; for questions, of exact match.
    pub accuracy: Interval,
    /// Of questions: F1, as accuracy above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub f1: Option<Interval>,
}
