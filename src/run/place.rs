//! The places of a run's texts on a map: `map.jsonl`.

use serde::{Deserialize, Serialize};

/// A text on the map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// From 0 to 1.
    pub x: f64,
    pub y: f64,
    /// `gold`, `written`, `read` or `listed`.
    pub origin: String,
    /// The round that it was written or read in; 0 for a gold row.
    pub round: usize,
    pub label: Option<String>,
    /// Its beginning.
    pub text: String,
}

/// The file in a run's folder.
pub const MAP: &str = "map.jsonl";
