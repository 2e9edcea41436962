//! The page about a finished run.

use std::path::{Path, PathBuf};

use minijinja::context;
use minijinja::value::Serde;

use super::charts;
use super::estimates::{Estimate, shares};
use super::facts::{Facts, MethodFacts};
use super::page::{Page, drawn};
use crate::error::Result;
use crate::run::place::Place;

/// Texts of the map in the table beneath it.
const MOST_ON_THE_TABLE: usize = 200;

const PAGE: Page = Page { file: "report.html", template: include_str!("run.html") };

/// Writes the page about the finished run in a folder; returns where it is.
///
/// # Errors
/// A folder without a finished run; files of the run that cannot be read; a page that cannot be written.
pub fn write_page(folder: &Path) -> Result<PathBuf> {
    let facts = Facts::of(folder)?;
    let methods: Vec<Estimate> = facts.methods.iter().map(MethodFacts::estimate).collect();
    let context = context! {
        methods_chart => drawn(shares(&methods, "Share of the test rows that each model has right, with 95 % intervals")),
        rounds_chart => drawn(charts::rounds(&facts.rounds)),
        likeness_chart => drawn(charts::likeness(&facts.rounds)),
        map_chart => drawn(charts::map(&facts.map)),
        map_kinds => charts::kinds(&facts.map),
        map_table => facts.map.iter().take(MOST_ON_THE_TABLE).map(on_the_table).collect::<Vec<_>>(),
        reliability_chart => drawn(charts::reliability(&facts.bins)),
        facts => minijinja::Value::from(Serde(&facts)),
    };
    PAGE.write(folder, context)
}

/// The kind of a text on the map, its label, its beginning and where it lies.
fn on_the_table(place: &Place) -> (String, Option<String>, String, f64, f64) {
    (charts::kind_of(place), place.label.clone(), place.text.clone(), place.x, place.y)
}
