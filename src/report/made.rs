//! Where a table comes from: the command that makes it, the machine, versions, models and draws.

use serde::Serialize;

#[derive(Clone, Debug, Default, Serialize)]
pub struct Made {
    pub command: String,
    /// Each a few words.
    pub facts: Vec<String>,
}

impl Made {
    /// A paragraph of Markdown.
    pub fn in_markdown(&self) -> String {
        format!("`{}`: {}.\n\n", self.command, self.facts.join(", "))
    }
}
