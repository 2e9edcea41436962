//! Parses the sources of a file: `hf:`, `pypi:`, `pypi-sdist:`, `file:`, `parts:` of these, and `archive:` of the entry.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One place that holds a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Source {
    /// `hf:OWNER/REPO@REVISION/PATH`: a file of a Hugging Face model repository.
    Hub { repo: String, revision: String, path: String },
    /// `pypi:PACKAGE==VERSION/PATH` (the wheel) or `pypi-sdist:…` (the source archive); `members` is the path
    /// inside nested archives, outermost first.
    Pypi { package: String, version: String, sdist: bool, members: Vec<String> },
    /// `file:PATH` or `file:ARCHIVE!MEMBER`: a local file.
    File { path: PathBuf, members: Vec<String> },
    /// `parts:COUNT:SOURCE`: the file is the parts joined in order. In SOURCE, `{n}` is the part's number from 1, `{nn}` and `{nnn}` the
    /// number with two and three digits at least.
    Parts { count: usize, each: String },
    /// `archive:NAME!MEMBER`: a member of an archive of the same entry.
    Archive { name: String, members: Vec<String> },
}

/// A file has at most so many parts.
const MOST_PARTS: usize = 999;

/// A source that cannot be parsed.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a valid source: expected {expected}")]
pub struct SourceSyntax {
    text: String,
    expected: &'static str,
}

impl TryFrom<String> for Source {
    type Error = SourceSyntax;

    fn try_from(text: String) -> Result<Source, SourceSyntax> {
        let (parsed, expected) = match text.split_once(':') {
            Some(("hf", rest)) => (hub(rest), "hf:OWNER/REPO@REVISION/PATH"),
            Some(("pypi", rest)) => (pypi(rest, false), "pypi:PACKAGE==VERSION/PATH[!MEMBER]"),
            Some(("pypi-sdist", rest)) => (pypi(rest, true), "pypi-sdist:PACKAGE==VERSION/PATH[!MEMBER]"),
            Some(("file", rest)) => (file(rest), "file:PATH[!MEMBER]"),
            Some(("parts", rest)) => {
                (parts(rest), "parts:COUNT:SOURCE, with {n}, {nn} or {nnn} for the part's number in a source of another kind")
            }
            Some(("archive", rest)) => (archive(rest), "archive:NAME!MEMBER"),
            _ => (None, "hf:…, pypi:…, pypi-sdist:…, file:…, parts:… or archive:…"),
        };
        parsed.ok_or(SourceSyntax { text, expected })
    }
}

/// The pieces, if none of them is empty.
fn filled<const N: usize>(pieces: [&str; N]) -> Option<[String; N]> {
    pieces.iter().all(|piece| !piece.is_empty()).then(|| pieces.map(String::from))
}

fn members(text: &str) -> Option<Vec<String>> {
    text.split('!').map(|member| (!member.is_empty()).then(|| member.to_string())).collect()
}

fn hub(text: &str) -> Option<Source> {
    let (repo, rest) = text.split_once('@')?;
    let (revision, path) = rest.split_once('/')?;
    let (owner, name) = repo.split_once('/')?;
    filled([owner, name])?;
    filled([repo, revision, path]).map(|[repo, revision, path]| Source::Hub { repo, revision, path })
}

fn pypi(text: &str, sdist: bool) -> Option<Source> {
    let (requirement, path) = text.split_once('/')?;
    let (package, version) = requirement.split_once("==")?;
    let [package, version] = filled([package, version])?;
    // Both become part of pip's command line: they must not look like an option or a second requirement.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
    let safe = package.starts_with(|c: char| c.is_ascii_alphanumeric()) && package.chars().chain(version.chars()).all(plain);
    if !safe {
        return None;
    }
    Some(Source::Pypi { package, version, sdist, members: members(path)? })
}

fn file(text: &str) -> Option<Source> {
    let mut pieces = members(text)?;
    let path = PathBuf::from(pieces.remove(0));
    Some(Source::File { path, members: pieces })
}

fn parts(text: &str) -> Option<Source> {
    let (count, each) = text.split_once(':')?;
    let count = count.parse().ok().filter(|count| (1..=MOST_PARTS).contains(count) && !text.starts_with(['0', '+']))?;
    let numbered = ["{n}", "{nn}", "{nnn}"].iter().any(|number| each.contains(number));
    let numbered = numbered && !each.starts_with("parts:") && !each.starts_with("archive:");
    let known = numbered && (1..=count).all(|number| Source::try_from(part(each, number)).is_ok());
    known.then(|| Source::Parts { count, each: each.to_string() })
}

fn part(each: &str, number: usize) -> String {
    each.replace("{nnn}", &format!("{number:03}")).replace("{nn}", &format!("{number:02}")).replace("{n}", &number.to_string())
}

fn archive(text: &str) -> Option<Source> {
    let mut pieces = members(text)?;
    let name = pieces.remove(0);
    (!pieces.is_empty()).then_some(Source::Archive { name, members: pieces })
}

impl Source {
    /// The sources of the parts, in order; none of a file that is published whole.
    pub fn parts(&self) -> Vec<Source> {
        match self {
            Source::Parts { count, each } => (1..=*count).filter_map(|number| Source::try_from(part(each, number)).ok()).collect(),
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Hub { repo, revision, path } => write!(f, "hf:{repo}@{revision}/{path}"),
            Source::Pypi { package, version, sdist, members } => {
                let scheme = if *sdist { "pypi-sdist" } else { "pypi" };
                write!(f, "{scheme}:{package}=={version}/{}", members.join("!"))
            }
            Source::File { path, members } => {
                write!(f, "file:{}", path.display())?;
                members.iter().try_for_each(|member| write!(f, "!{member}"))
            }
            Source::Parts { count, each } => write!(f, "parts:{count}:{each}"),
            Source::Archive { name, members } => write!(f, "archive:{name}!{}", members.join("!")),
        }
    }
}

impl From<Source> for String {
    fn from(source: Source) -> String {
        source.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Source, SourceSyntax> {
        Source::try_from(text.to_string())
    }

    #[test]
    fn every_scheme_is_parsed() {
        let hub = Source::Hub { repo: "o/r".into(), revision: "abc".into(), path: "d/f.bin".into() };
        assert_eq!(parse("hf:o/r@abc/d/f.bin").unwrap(), hub);
        let sdist = Source::Pypi {
            package: "p".into(),
            version: "1.0".into(),
            sdist: true,
            members: vec!["p-1.0/a.tar.gz".into(), "a/c.txt".into()],
        };
        assert_eq!(parse("pypi-sdist:p==1.0/p-1.0/a.tar.gz!a/c.txt").unwrap(), sdist);
        assert_eq!(parse("file:/a b/c").unwrap(), Source::File { path: "/a b/c".into(), members: vec![] });
        let parts = parse("parts:11:pypi:p{n}==1/p{n}/{nn}.bin").unwrap().parts();
        assert_eq!((parts.len(), parts[0].to_string().as_str()), (11, "pypi:p1==1/p1/01.bin"));
        assert_eq!(parts[10].to_string(), "pypi:p11==1/p11/11.bin");
        assert_eq!(parse("parts:2:file:/{nnn}").unwrap().parts()[1].to_string(), "file:/002");
        assert_eq!(parse("archive:a.zip!d/b").unwrap(), Source::Archive { name: "a.zip".into(), members: vec!["d/b".into()] });
    }

    #[test]
    fn an_invalid_source_is_refused() {
        for text in [
            "",
            "x",
            "hf:o/r/f",
            "hf:r@a/f",
            "hf:o/r@a/",
            "pypi:p/f",
            "pypi:p==/f",
            "pypi:p==1",
            "pypi:-p==1/f",
            "pypi:p q==1/f",
            "file:",
            "file:/a!",
            "parts:0:file:/{n}",
            "parts:1000:file:/{n}",
            "parts:2:file:/a",
            "parts:2:file:/{n}!",
            "parts:2:parts:2:file:/{n}",
            "parts:2:archive:a!{n}",
            "archive:a.zip",
            "archive:!b",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("is not a valid source: expected"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_round_trips(text in "(hf|pypi|pypi-sdist|file|archive|parts:[0-9]{1,4}:file):[a-z{}/@=!.-]{0,24}") {
            if let Ok(source) = parse(&text) {
                prop_assert_eq!(source.to_string(), text);
            }
        }
    }
}
