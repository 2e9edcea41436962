//! Where a run is.

use serde::{Deserialize, Serialize};

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Reasons for each label (Algorithm 1, lines 1–3).
    Rationales,
    /// The generator judges the gold rows, to calibrate its posterior of a label.
    Calibrate,
    /// Round 0: the seed (Algorithm 1). Later: one text or more for each error (Algorithm 2).
    Write {
        round: usize,
    },
    /// The generator judges what it wrote.
    Judge {
        round: usize,
    },
    /// The small model, reinitialised, learns the union and errs on *mine*.
    Train {
        round: usize,
    },
    /// The best round is delivered, and the test rows are opened.
    Deliver,
    Done,
}
