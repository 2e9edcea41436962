//! The stages of a run.

use serde::{Deserialize, Serialize};

/// The current stage of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Writes rationales for each label (Algorithm 1, lines 1–3).
    Rationales,
    /// The generator judges the gold rows, to calibrate its posterior over labels.
    Calibrate,
    /// Continues lists of gold rows, and judges the texts.
    List,
    /// The generator judges unlabelled texts, before the round that learns from them.
    Read {
        round: usize,
    },
    /// Round 0: writes the seed (Algorithm 1). Later rounds: writes one or more texts for each error (Algorithm 2).
    Write {
        round: usize,
    },
    /// The generator judges the accepted rows.
    Judge {
        round: usize,
    },
    /// Trains the reinitialised small model on the union and finds its errors on *mine*.
    Train {
        round: usize,
    },
    /// Delivers the best round and evaluates on the test rows.
    Deliver,
    Done,
}
