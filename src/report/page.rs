//! Renders `report.html`.

use std::path::{Path, PathBuf};

use minijinja::value::Serde;
use minijinja::{Environment, Value, context};

use super::charts;
use super::facts::Facts;
use super::words::{duration, thousands};
use crate::error::{Error, Result};
use crate::files::whole::write;

/// The file in a run's folder.
const PAGE: &str = "report.html";

/// Writes the page about the finished run in a folder; returns where it is. It asks for nothing when it is opened.
///
/// # Errors
/// A folder without a finished run; files of the run that cannot be read; a page that cannot be written.
pub fn write_page(folder: &Path) -> Result<PathBuf> {
    let facts = Facts::of(folder)?;
    let page = render(&facts).map_err(|error| Error::Failed(format!("the report cannot be made: {error:#}")))?;
    let path = folder.join(PAGE);
    write(&path, page.as_bytes())?;
    Ok(path)
}

fn render(facts: &Facts) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    // A name that ends so has what it is given escaped.
    environment.add_template(PAGE, include_str!("page.html"))?;
    environment.add_filter("thousands", |number: u64| thousands(number));
    environment.add_filter("percent", |share: f64| format!("{:.1}", 100.0 * share));
    environment.add_filter("fixed", |number: f64, digits: usize| format!("{number:.digits$}"));
    environment.add_filter("duration", |seconds: f64| duration(seconds));
    let drawn = |svg: String| Value::from_safe_string(svg);
    environment.get_template(PAGE)?.render(context! {
        facts => Value::from(Serde(facts)),
        css => drawn(include_str!("page.css").to_string()),
        methods_chart => drawn(charts::intervals(&facts.methods)),
        rounds_chart => drawn(charts::rounds(&facts.rounds)),
        likeness_chart => drawn(charts::likeness(&facts.rounds)),
        map_chart => drawn(charts::map(&facts.map)),
        map_kinds => charts::kinds(&facts.map),
        reliability_chart => drawn(charts::reliability(&facts.bins)),
    })
}
