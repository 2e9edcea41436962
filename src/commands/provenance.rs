//! Where a table comes from, of which machine and models; and its place in a Markdown file.

use std::path::Path;

use super::setup::Setup;
use crate::error::{Error, Result};
use crate::files::whole::write;
use crate::generator::llama::Host;
use crate::report::made::Made;

/// Which command made a table of these draws, on which machine, from which models and test rows.
pub fn provenance(command: String, setup: &Setup, draws: std::ops::Range<u64>) -> Made {
    let sums = |role: &str| setup.sum(role).map(|sum| format!(" (sha256 {})", &sum[..12])).unwrap_or_default();
    let mut facts = vec![
        format!("lacuna {}", env!("CARGO_PKG_VERSION")),
        Host::processor(),
        format!("{} threads", setup.machine.threads()),
        format!("small model {}{}", setup.task.models.small, sums("small model")),
    ];
    if setup.sum("generator").is_some() {
        facts.push(format!("generator {}{}", setup.task.models.generator, sums("generator")));
    }
    facts.push(format!("test rows{}", sums("test")));
    facts.push(format!("draws {} to {}", draws.start, draws.end.saturating_sub(1)));
    Made { command, facts }
}

/// Puts `text` into a Markdown file, between the lines `<!-- begin NAME -->` and `<!-- end NAME -->`; the rest of the file stays.
///
/// # Errors
/// A file that cannot be read or written, or without the two lines.
pub fn put_into(path: &Path, name: &str, text: &str) -> Result<()> {
    let content = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
    let missing = || Error::Failed(format!("{}: put the lines {:?} and {end:?} where the table is to stand", path.display(), begin.trim()));
    let start = content.find(&begin).map(|at| at + begin.len()).ok_or_else(missing)?;
    let stop = content[start..].find(&end).map(|at| start + at).ok_or_else(missing)?;
    write(path, format!("{}{text}{}", &content[..start], &content[stop..]).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_takes_the_place_between_its_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.md");
        std::fs::write(&path, "# Title\n<!-- begin a -->\nold\n<!-- end a -->\nrest\n").unwrap();
        put_into(&path, "a", "new\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "# Title\n<!-- begin a -->\nnew\n<!-- end a -->\nrest\n");
        assert!(put_into(&path, "b", "new\n").unwrap_err().to_string().contains("<!-- end b -->"));
    }
}
