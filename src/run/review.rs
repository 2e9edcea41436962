//! What people decided about rows of a run: `review.jsonl`, a line a decision. The last one about a row counts, as long as the row's text
//! is the one that was decided about.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::journal::Journal;
use crate::error::{Error, Result};
use crate::files::sha256::mark_of;
use crate::files::whole::write_json_lines;

/// What becomes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It stays as it is, and is not asked about again.
    Accept,
    /// No model learns from it. A gold row is no longer judged either, and chooses nothing.
    Reject,
    /// It has another label, alone.
    Relabel,
}

/// A decision about a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// As in `dataset.jsonl`; `gold-LINE` for a gold row.
    pub id: String,
    /// A mark of the row's texts.
    pub of: String,
    pub verdict: Verdict,
    /// The label that it has from then on; only where it is relabelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The beginning of the row's text, for those who read it later.
    #[serde(default)]
    pub text: String,
    pub author: String,
    /// Seconds since 1970.
    pub at: u64,
}

/// The file in a run's folder, and the copy of it that the run goes by: what is decided while it works changes nothing under it.
pub const REVIEW: &str = "review.jsonl";
const HEEDED: &str = "journal/decisions.jsonl";

impl Decision {
    /// Whether it is about a gold row.
    pub fn is_of_gold(&self) -> bool {
        self.id.starts_with(GOLD)
    }
}

/// How the id of a gold row begins; its line follows.
pub const GOLD: &str = "gold-";

/// The decisions about the rows of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decisions(BTreeMap<String, Decision>);

impl Decisions {
    /// Those in a run's folder; none without a file. A line torn by a crash is skipped.
    ///
    /// # Errors
    /// A file that cannot be read; a damaged line that is not the last.
    pub fn read(folder: &Path) -> Result<Self> {
        Self::read_file(&folder.join(REVIEW))
    }

    /// Those that a run goes by.
    ///
    /// # Errors
    /// As [`Decisions::read`].
    pub fn heeded(folder: &Path) -> Result<Self> {
        Self::read_file(&folder.join(HEEDED))
    }

    /// Whether people have decided something that the run in a folder does not go by yet.
    ///
    /// # Errors
    /// As [`Decisions::read`].
    pub fn wait(folder: &Path) -> Result<bool> {
        Ok(Self::read(folder)?.mark(false) != Self::heeded(folder)?.mark(false))
    }

    /// Lets a run go by these from here on.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn heed(&self, folder: &Path) -> Result<()> {
        write_json_lines(&folder.join(HEEDED), self.0.values())
    }

    fn read_file(path: &Path) -> Result<Self> {
        let content = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other.map_err(Error::io("read", path))?,
        };
        let whole = content.rfind('\n').map_or("", |end| &content[..end]);
        let parse = |(place, line): (usize, &str)| {
            let decision = serde_json::from_str::<Decision>(line);
            decision.map_err(|error| Error::data(path, place + 1, format!("no decision about a row: {error}")))
        };
        let all = whole.lines().enumerate().map(parse).collect::<Result<Vec<_>>>()?;
        Ok(Self(all.into_iter().map(|decision| (decision.id.clone(), decision)).collect()))
    }

    /// Appends decisions to the file in a run's folder.
    ///
    /// # Errors
    /// A file that cannot be written, or is damaged.
    pub fn append(folder: &Path, decisions: &[Decision]) -> Result<()> {
        let (mut journal, _) = Journal::open::<Decision>(&folder.join(REVIEW))?;
        decisions.iter().try_for_each(|decision| journal.append(decision))?;
        journal.sync()
    }

    /// That about the row with this id and these texts.
    pub fn about(&self, id: &str, text: &str, text_pair: Option<&str>) -> Option<&Decision> {
        self.0.get(id).filter(|decision| decision.of == mark(text, text_pair))
    }

    /// A mark of all that change something, or of those about gold rows alone.
    pub fn mark(&self, of_gold: bool) -> String {
        let telling = self.0.values().filter(|own| own.verdict != Verdict::Accept && (!of_gold || own.is_of_gold()));
        let all: Vec<String> = telling.map(|own| format!("{} {} {:?} {:?}", own.id, own.of, own.verdict, own.label)).collect();
        mark_of(all.iter().map(String::as_str))
    }

    /// All, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Decision> {
        self.0.values()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A mark of a row's texts.
pub fn mark(text: &str, text_pair: Option<&str>) -> String {
    mark_of([text, text_pair.unwrap_or_default()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(id: &str, verdict: Verdict) -> Decision {
        Decision { id: id.into(), of: mark("a text", None), verdict, label: None, text: String::new(), author: "ann".into(), at: 1 }
    }

    #[test]
    fn the_last_decision_about_a_row_counts_as_long_as_its_text_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Decisions::read(folder.path()).unwrap().is_empty());
        Decisions::append(folder.path(), &[decision("0-1", Verdict::Reject), decision("0-2", Verdict::Accept)]).unwrap();
        Decisions::append(folder.path(), &[decision("0-1", Verdict::Accept)]).unwrap();
        let all = Decisions::read(folder.path()).unwrap();
        assert_eq!((all.len(), all.about("0-1", "a text", None).unwrap().verdict), (2, Verdict::Accept));
        assert_eq!((all.about("0-1", "another", None), all.about("0-3", "a text", None)), (None, None));
        let mark = all.mark(false);
        assert_eq!(mark, Decisions::default().mark(false), "what is accepted changes nothing");
        Decisions::append(folder.path(), &[decision("0-1", Verdict::Reject)]).unwrap();
        let all = Decisions::read(folder.path()).unwrap();
        assert!(all.mark(false) != mark && all.mark(true) == mark);
        let path = folder.path().join(REVIEW);
        let content = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{content}{{\"id\":\"0-2\"")).unwrap();
        assert_eq!(Decisions::read(folder.path()).unwrap(), all, "a torn line is skipped");
        std::fs::write(&path, format!("{{}}\n{content}")).unwrap();
        assert!(Decisions::read(folder.path()).unwrap_err().to_string().contains("review.jsonl:1"));
    }
}
