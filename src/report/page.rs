//! Pages: HTML files that load nothing, of templates that share a layout and a style sheet.

use std::path::{Path, PathBuf};

use minijinja::{Environment, Value, context};

use super::words::{duration, thousands};
use crate::error::{Error, Result};
use crate::files::whole::write;

/// A page: the name of its file, and its template.
pub(super) struct Page {
    pub(super) file: &'static str,
    pub(super) template: &'static str,
}

impl Page {
    /// Writes the page into a folder; returns where it is.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(super) fn write(&self, folder: &Path, context: Value) -> Result<PathBuf> {
        let page = self.render(context).map_err(|error| Error::Failed(format!("{} cannot be made: {error:#}", self.file)))?;
        let path = folder.join(self.file);
        write(&path, page.as_bytes())?;
        Ok(path)
    }

    fn render(&self, own: Value) -> Result<String, minijinja::Error> {
        let mut environment = Environment::new();
        // Names that end so have what they are given escaped.
        environment.add_template("layout.html", include_str!("layout.html"))?;
        environment.add_template("made.html", include_str!("made.html"))?;
        environment.add_template(self.file, self.template)?;
        environment.add_filter("thousands", |number: f64| thousands(number.round() as u64));
        environment.add_filter("percent", |share: f64| format!("{:.1}", 100.0 * share));
        environment.add_filter("points", |share: f64| format!("{:+.1}", 100.0 * share));
        environment.add_filter("fixed", |number: f64, digits: usize| format!("{number:.digits$}"));
        environment.add_filter("duration", |seconds: f64| duration(seconds));
        environment.get_template(self.file)?.render(context! { css => drawn(include_str!("page.css").to_string()), ..own })
    }
}

/// What is no text but markup of ours.
pub(super) fn drawn(svg: String) -> Value {
    Value::from_safe_string(svg)
}
