//! A line of a sweep's table: one method at one value of the varied setting.

use serde::{Deserialize, Serialize};

use crate::measure::interval::Interval;
use crate::run::cost::Cost;
use crate::run::summary::Method;

/// One method at one point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepLine {
    pub axis: String,
    pub value: usize,
    pub method: Method,
    /// Mean over random seeds.
    pub synthetic_rows: f64,
    pub cost: Cost,
    /// Optimiser steps, the same for all lines of a sweep.
    #[serde(default)]
    pub steps: usize,
    /// What `accuracy` is called: that, exact match for questions, F1 of rows for several labels.
    #[serde(default)]
    pub measure: String,
    /// Mean over random seeds, interval over seeds and test rows.
    pub accuracy: Interval,
    /// Accuracy of each draw.
    #[serde(default)]
    pub draws: Vec<f64>,
    /// For questions: SQuAD F1, as above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub f1: Option<Interval>,
}

impl SweepLine {
    /// What its accuracy is called; lines of earlier versions do not say.
    pub fn measure(&self) -> &str {
        match (self.measure.as_str(), &self.f1) {
            ("", Some(_)) => "EM",
            ("", None) => "accuracy",
            (measure, _) => measure,
        }
    }
}
