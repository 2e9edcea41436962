//! Reads the rows of a table, all of them, over threads: what is wrong with any is said in one pass.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::example::GoldRow;
use super::faults::Faults;
use super::head::Head;
use super::table::{Row, Shape, Table};
use crate::error::Result;

/// How the gold rows of a task are read.
pub trait ReadGold: Head {
    /// What a gold file holds.
    fn shape(&self) -> Shape;

    /// Parses one row of a gold file; `None` for a question that has no answer in its context.
    ///
    /// # Errors
    /// Which field is missing or wrong.
    fn parse(&self, row: &Row, line: usize) -> Result<Option<GoldRow<Self>>, String>;

    /// Merges a later row with the same texts into `row`.
    ///
    /// # Errors
    /// What the two say, if they contradict each other: `negative, positive`.
    fn merge(&self, row: &mut GoldRow<Self>, again: GoldRow<Self>) -> Result<(), String>;
}

/// What is done about rows that should not be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFault {
    /// They are all named, and nothing is done.
    #[default]
    Error,
    /// They are left out and counted.
    Drop,
}

/// What is done about rows of three kinds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// One text with two labels.
    pub conflicts: OnFault,
    /// Test rows that are also in another file.
    pub overlap: OnFault,
    /// Questions without an answer.
    pub unanswerable: OnFault,
}

/// Rows that are parsed before the results of any are looked at.
const TOGETHER: usize = 1 << 16;

/// Parses every row, over the threads of the current pool, and hands the results on in their order. `parse` has a row and its line.
pub(super) fn scan<T: Send>(
    table: &Table,
    parse: impl Fn(&Row, usize) -> Result<T, String> + Sync,
    faults: &mut Faults,
    mut each: impl FnMut(usize, T),
) {
    for from in (0..table.len()).step_by(TOGETHER) {
        let rows = from..(from + TOGETHER).min(table.len());
        let parsed: Vec<Result<T, String>> =
            rows.clone().into_par_iter().map(|i| table.row(i).and_then(|row| parse(&row, table.line(i)))).collect();
        for (i, parsed) in rows.zip(parsed) {
            match parsed {
                Ok(parsed) => each(i, parsed),
                Err(message) => faults.add(table.line(i), message),
            }
        }
    }
}
