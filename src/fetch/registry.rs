//! The registry of models and gold data: their files, sizes, SHA-256 and sources. Opens no socket.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::source::Source;

/// The built-in registry.
const BUILT_IN: &str = include_str!("../../models/models.toml");

/// The gold rows.
pub const GOLD: &str = "gold.jsonl";
/// The held-out test rows.
pub const TEST: &str = "test.jsonl";

/// What an entry is, and so what its cache folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// One GGUF file: a generator.
    Gguf,
    /// A folder with `config.json`, `model.safetensors`, `tokenizer.json`: a small model before it is trained.
    Encoder,
    /// A folder with `gold.jsonl` and `test.jsonl`.
    Gold,
}

/// A model or a data set that is known by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Lower case letters, digits, `.` and `-`; also the name of its folder in the cache.
    pub name: String,
    pub kind: EntryKind,
    /// A one-line description.
    pub about: String,
    /// SPDX licence expression.
    pub licence: String,
    /// Whether the demo needs it: `lacuna fetch` without names brings these.
    #[serde(default)]
    pub demo: bool,
    #[serde(rename = "file")]
    pub files: Vec<File>,
    /// Archives that files are members of; a fetch that has all of these removes them.
    #[serde(default, rename = "archive")]
    pub archives: Vec<File>,
    /// How the published files are converted; set for every [`EntryKind::Gold`] and nothing else.
    #[serde(default)]
    pub convert: Option<Convert>,
}

/// One file of an entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Its name in the entry's folder; a folder in there may stand before it.
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// 64 lower case hexadecimal digits.
    pub sha256: String,
    /// Where to get the file, in the order in which they are tried.
    pub sources: Vec<Source>,
}

/// How published files become `gold.jsonl` and `test.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "format", rename_all = "snake_case")]
pub enum Convert {
    RatedTsv(RatedTsv),
}

/// Tab-separated lines with a text and a number whose sign is the label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RatedTsv {
    /// The file of the entry that is read.
    pub file: String,
    /// Number of columns in a line.
    pub columns: usize,
    /// Which column holds the rating, counted from 1.
    pub rating_column: usize,
    /// Which column holds the text, counted from 1.
    pub text_column: usize,
    /// The label of a rating above 0.
    pub positive: String,
    /// The label of a rating below 0.
    pub negative: String,
    /// Rows whose rating is closer to 0 than this are dropped.
    pub undecided_below: f64,
    /// Number of rows in `test.jsonl`, stratified by label.
    pub test_rows: usize,
    /// Random seed for drawing the test rows.
    pub seed: u64,
}

/// All entries, validated.
#[derive(Clone, Debug, PartialEq)]
pub struct Registry {
    entries: Vec<Entry>,
}

/// A name that cannot be located, or an invalid registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("the registry cannot be read: {0}")]
    Parse(#[from] toml::de::Error),
    #[error("the registry's entry `{entry}`: {reason}")]
    Entry { entry: String, reason: String },
    #[error("`{name}` is neither a file, a folder nor a known name{}; known names: {}", did_you_mean(.close), .known.join(", "))]
    UnknownName { name: String, known: Vec<String>, close: Vec<String> },
    #[error("{unknown}; nothing of it is in {} either", .cache.display())]
    NotInSharedCache { unknown: Box<RegistryError>, cache: PathBuf },
    #[error("{0}")]
    Several(String),
    #[error("`{name}` is not in the cache ({} is missing); get it with `lacuna fetch {name}`", .path.display())]
    NotFetched { name: String, path: PathBuf },
    #[error(
        "{}: {what} is {found}, expected {expected}: the file was changed or damaged; get it again with `lacuna fetch {name}`",
        .path.display()
    )]
    Damaged { name: String, path: PathBuf, what: &'static str, expected: String, found: String },
    #[error("no place for the cache: set LACUNA_HOME or HOME")]
    NoHome,
    #[error("{}: {error}", .path.display())]
    Io { path: PathBuf, error: std::io::Error },
}

fn did_you_mean(close: &[String]) -> String {
    if close.is_empty() { String::new() } else { format!(" (did you mean {}?)", close.join(" or ")) }
}

impl Registry {
    /// The registry that comes with lacuna.
    pub fn built_in() -> &'static Registry {
        static REGISTRY: OnceLock<Registry> = OnceLock::new();
        REGISTRY.get_or_init(|| Registry::parse(BUILT_IN).expect("models.toml is compiled in and a test parses it"))
    }

    /// Parses and validates a registry; the error names the line or the entry.
    pub fn parse(text: &str) -> Result<Registry, RegistryError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Document {
            #[serde(rename = "entry")]
            entries: Vec<Entry>,
        }
        let entries = toml::from_str::<Document>(text)?.entries;
        let mut names = HashSet::new();
        for entry in &entries {
            let unique = if names.insert(&entry.name) { Ok(()) } else { Err("duplicate name".to_string()) };
            unique.and_then(|()| entry.check()).map_err(|reason| RegistryError::Entry { entry: entry.name.clone(), reason })?;
        }
        Ok(Registry { entries })
    }

    /// All entries in the order of the registry.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry of that name; the error lists the known names and suggests similar ones.
    pub fn entry(&self, name: &str) -> Result<&Entry, RegistryError> {
        if let Some(entry) = self.entries.iter().find(|entry| entry.name == name) {
            return Ok(entry);
        }
        let known: Vec<String> = self.entries.iter().map(|entry| entry.name.clone()).collect();
        let alike = |other: &&String| strsim::jaro_winkler(&name.to_lowercase(), other) > 0.8;
        let close = known.iter().filter(alike).cloned().collect();
        Err(RegistryError::UnknownName { name: name.to_string(), known, close })
    }
}

impl Entry {
    fn check(&self) -> Result<(), String> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '-';
        if !self.name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !self.name.chars().all(plain) {
            return Err("a name may have lower case letters, digits, `.` and `-` only".to_string());
        }
        let mut names = HashSet::new();
        for file in self.files.iter().chain(&self.archives) {
            file.check().map_err(|reason| format!("file `{}`: {reason}", file.name))?;
            if !names.insert(file.name.as_str()) {
                return Err(format!("duplicate file `{}`", file.name));
            }
        }
        self.archives_are_there()?;
        self.archives.iter().for_each(|archive| _ = names.remove(archive.name.as_str()));
        match (self.kind, &self.convert) {
            (EntryKind::Gguf, None) if self.files.len() == 1 => Ok(()),
            (EntryKind::Gguf, None) => Err("a gguf entry must have exactly one file".to_string()),
            (EntryKind::Encoder, None) if names.contains("model.safetensors") && names.contains("tokenizer.json") => Ok(()),
            (EntryKind::Encoder, None) => Err("an encoder needs model.safetensors and tokenizer.json".to_string()),
            (EntryKind::Gold, Some(Convert::RatedTsv(convert))) => convert.check(&names),
            (EntryKind::Gold, None) => Err("gold data needs `[entry.convert]`".to_string()),
            (_, Some(_)) => Err("only gold data is converted".to_string()),
        }
    }
}

impl Entry {
    /// Whether the archives that sources name are there, and have sources of another kind.
    fn archives_are_there(&self) -> Result<(), String> {
        let named = |files: &[File]| -> Vec<String> {
            let sources = files.iter().flat_map(|file| &file.sources);
            sources.filter_map(|source| if let Source::Archive { name, .. } = source { Some(name.clone()) } else { None }).collect()
        };
        if let Some(name) = named(&self.files).iter().find(|name| self.archives.iter().all(|archive| &archive.name != *name)) {
            return Err(format!("`{name}` is no archive of this entry"));
        }
        if named(&self.archives).is_empty() { Ok(()) } else { Err("an archive is a member of another".to_string()) }
    }
}

impl File {
    fn check(&self) -> Result<(), String> {
        let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains('\\');
        if self.name.matches('/').count() > 1 || !self.name.split('/').all(plain) {
            return Err("a file name must have one folder at most and no leading dot".to_string());
        }
        if self.size == 0 {
            return Err("size is 0".to_string());
        }
        if self.sha256.len() != 64 || !self.sha256.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')) {
            return Err("sha256 must be 64 lower case hexadecimal digits".to_string());
        }
        if self.sources.is_empty() {
            return Err("no source".to_string());
        }
        Ok(())
    }
}

impl RatedTsv {
    fn check(&self, files: &HashSet<&str>) -> Result<(), String> {
        let column = |column: usize| (1..=self.columns).contains(&column);
        if !files.contains(self.file.as_str()) {
            return Err(format!("convert: `{}` is not a file of this entry", self.file));
        }
        if [GOLD, TEST].iter().any(|made| files.contains(made)) {
            return Err(format!("convert writes {} and {}: no other file may have these names", GOLD, TEST));
        }
        if !column(self.rating_column) || !column(self.text_column) || self.rating_column == self.text_column {
            return Err(format!("convert: rating_column and text_column must be two different columns from 1 to {}", self.columns));
        }
        if self.positive == self.negative {
            return Err("convert: the two labels must differ".to_string());
        }
        if !self.undecided_below.is_finite() || self.undecided_below < 0.0 {
            return Err("convert: undecided_below must be 0 or more".to_string());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUM: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn gguf(change: impl Fn(String) -> String) -> Result<Registry, RegistryError> {
        Registry::parse(&change(format!(
            "[[entry]]\nname = 'a-1'\nkind = 'gguf'\nabout = ''\nlicence = 'MIT'\n\
             [[entry.file]]\nname = 'a.gguf'\nsize = 1\nsha256 = '{SUM}'\nsources = ['file:/a']\n"
        )))
    }

    #[test]
    fn the_built_in_registry_is_well_formed_and_has_what_the_demo_needs() {
        let registry = Registry::parse(BUILT_IN).unwrap();
        let demo: Vec<(&str, EntryKind)> = registry.entries().iter().filter(|e| e.demo).map(|e| (e.name.as_str(), e.kind)).collect();
        let expected =
            [("smollm2-135m-instruct", EntryKind::Gguf), ("all-minilm-l6-v2", EntryKind::Encoder), ("movie-snippets", EntryKind::Gold)];
        assert_eq!(demo, expected);
        for entry in registry.entries() {
            assert!(!entry.about.is_empty() && !entry.licence.is_empty(), "{}", entry.name);
        }
    }

    #[test]
    fn an_invalid_registry_is_refused_with_the_reason() {
        assert!(gguf(|t| t).is_ok());
        let cases: [(&str, &str, &str); 11] = [
            ("size = 1", "size = 0", "size is 0"),
            (SUM, "E3B0", "sha256 must be 64"),
            ("'a.gguf'", "'../a.gguf'", "no leading dot"),
            ("'a.gguf'", "'/a.gguf'", "no leading dot"),
            ("'a.gguf'", "'a/b/c.gguf'", "one folder at most"),
            ("'file:/a'", "'archive:a.zip!a'", "`a.zip` is no archive of this entry"),
            ("['file:/a']", "[]", "no source"),
            ("'a-1'", "'A 1'", "lower case letters"),
            ("'gguf'", "'gold'", "[entry.convert]"),
            ("'file:/a'", "'ftp:/a'", "ftp:/a"),
            ("size = 1", "size = 1\nsise = 2", "unknown field `sise`"),
        ];
        for (from, to, message) in cases {
            let error = gguf(|text| text.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(message), "{from} -> {to}: {error}");
        }
        let twice = gguf(|text| format!("{text}{text}")).unwrap_err().to_string();
        assert!(twice.contains("`a-1`") && twice.contains("duplicate name"), "{twice}");
    }
}
