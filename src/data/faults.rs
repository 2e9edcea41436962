//! What is wrong with the rows of a file, counted by kind, so that one message tells all of it.

use super::table::Table;
use crate::error::Error;

/// Kinds of faults that a message names, and places of each.
const KINDS: usize = 30;
const PLACES: usize = 8;

/// Faults of one file, in the order in which they were found.
#[derive(Default)]
pub struct Faults {
    kinds: Vec<(String, Vec<usize>)>,
    /// How many there are besides, of kinds that are not named.
    others: usize,
}

impl Faults {
    /// Adds a fault at a line (or question) of the file.
    pub fn add(&mut self, line: usize, message: String) {
        match self.kinds.iter().position(|(kind, _)| *kind == message) {
            Some(known) => self.kinds[known].1.push(line),
            None if self.kinds.len() < KINDS => self.kinds.push((message, vec![line])),
            None => self.others += 1,
        }
    }

    /// An error for each kind of fault, at its first place.
    pub fn into_errors(self, table: &Table) -> Vec<Error> {
        let more = |places: &[usize]| match places {
            [_] => String::new(),
            [_, more @ ..] => format!(" (and {} more: {})", more.len(), list(table.unit(), more)),
            [] => String::new(),
        };
        let mut errors: Vec<Error> =
            self.kinds.iter().map(|(message, places)| table.error(places[0], format!("{message}{}", more(places)))).collect();
        if self.others > 0 {
            let message = format!("and {} more rows with other faults", self.others);
            errors.push(Error::Data { path: table.path().to_path_buf(), line: None, message });
        }
        errors
    }
}

/// The first few places: `line 3`, or `lines 3, 4, 5, …`.
pub fn list(unit: &str, places: &[usize]) -> String {
    let named: Vec<String> = places.iter().take(PLACES).map(usize::to_string).collect();
    let (plural, more) = (if places.len() == 1 { "" } else { "s" }, if places.len() > PLACES { ", …" } else { "" });
    format!("{unit}{plural} {}{more}", named.join(", "))
}
