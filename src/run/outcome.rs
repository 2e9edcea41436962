//! What one method found on one draw, and what it cost; kept in a file, so that it is measured once.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cost::Cost;
use super::manifest::changes;
use super::summary::Measured;
use crate::error::{Error, Result};
use crate::files::whole::write_json;

/// Result and cost of one method on one draw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    #[serde(flatten)]
    pub measured: Measured,
    pub cost: Cost,
}

/// The file: an outcome, and what it was made from.
#[derive(Serialize, Deserialize)]
struct Kept {
    inputs: BTreeMap<String, Value>,
    outcome: Outcome,
}

/// The outcome in the file `path` if it was made from these inputs; else `make` makes it, and it is kept there.
///
/// # Errors
/// A file that was made from other inputs, or is damaged; those of `make`.
pub fn once(path: &Path, inputs: BTreeMap<String, Value>, make: impl FnOnce() -> Result<(Measured, Cost)>) -> Result<Outcome> {
    if path.exists() {
        let content = std::fs::read(path).map_err(Error::io("read", path))?;
        let kept: Kept = serde_json::from_slice(&content)
            .map_err(|e| Error::Run(format!("{}: damaged ({e}); remove it to measure it again", path.display())))?;
        let changes = changes(&kept.inputs, &inputs);
        if changes.is_empty() {
            return Ok(kept.outcome);
        }
        let (path, changes) = (path.display(), changes.join("\n  "));
        return Err(Error::Run(format!(
            "{path} was made with other inputs:\n  {changes}\nRestore them, or choose another folder with --out."
        )));
    }
    let (measured, cost) = make()?;
    let outcome = Outcome { measured, cost };
    write_json(path, &Kept { inputs, outcome: outcome.clone() })?;
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::summary::Measures;

    #[test]
    fn an_outcome_is_measured_once_and_belongs_to_its_inputs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/outcome.json");
        let inputs = |seed: u64| BTreeMap::from([("seed".to_string(), Value::from(seed))]);
        let measures = Measures::Answers { f1: vec![0.5] };
        let measured = Measured { synthetic_rows: 0, gold_rows: 3, steps: 9, correct: vec![true], measures };
        let cost = Cost { sampled: 0, computed: 7, seconds: 1.5, flops: 1e12 };
        let made = once(&path, inputs(1), || Ok((measured, cost))).unwrap();
        assert_eq!(once(&path, inputs(1), || panic!("it is there")).unwrap(), made);
        let error = once(&path, inputs(2), || panic!("it is refused")).unwrap_err().to_string();
        assert!(error.contains("seed: was 1, now 2"), "{error}");
        std::fs::write(&path, "{").unwrap();
        assert!(once(&path, inputs(1), || panic!("it is refused")).unwrap_err().to_string().contains("damaged"));
    }
}
