//! The manifest of a run: its inputs, splits, progress, and the results of each round.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::folder::{MANIFEST, RunDir};
use super::round::RoundRecord;
use super::stage::Stage;
use crate::data::example::GoldRow;
use crate::data::head::Head;
use crate::data::split::Split;
use crate::error::{Error, Result};
use crate::files::whole::write_json;
use crate::judge::calibration::Calibration;
use crate::judge::knowledge::Knowledge;

/// `manifest.json`: written atomically, after everything that it refers to is on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub lacuna: String,
    pub stage: Stage,
    /// Everything that determines the run's output: task keys, seeds, SHA-256 of data and models.
    pub inputs: BTreeMap<String, Value>,
    pub splits: Splits,
    /// The generator's settings when the run was last started or resumed, and the measured weight formats.
    #[serde(default)]
    pub generator: Option<Value>,
    /// How it was loaded by earlier processes, where that was otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub generator_before: Vec<Value>,
    /// Of the judge of *mine*, one for each question that is asked about a text; earlier versions had one alone.
    #[serde(default, alias = "calibration", deserialize_with = "all")]
    pub calibrations: Vec<Calibration>,
    /// How well the generator judges the gold rows, out of fold.
    #[serde(default)]
    pub judge: Option<Knowledge>,
    pub rounds: Vec<RoundRecord>,
    /// The round that is delivered; set at the end of the run.
    pub best_round: Option<usize>,
}

/// A list, or what earlier versions wrote: one, or none.
fn all<'d, D: serde::Deserializer<'d>>(deserializer: D) -> std::result::Result<Vec<Calibration>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Read {
        Several(Vec<Calibration>),
        One(Calibration),
    }
    Ok(match Option::<Read>::deserialize(deserializer)? {
        Some(Read::Several(all)) => all,
        Some(Read::One(one)) => vec![one],
        None => Vec::new(),
    })
}

/// Line numbers of the rows in each split. Test rows are identified by their file's hash alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Splits {
    pub gold_file: String,
    pub mine: Vec<usize>,
    pub select: Vec<usize>,
    pub test_file: Option<String>,
    pub test: Vec<usize>,
}

impl Splits {
    pub fn new<H: Head>(split: &Split<H>, gold_file: &Path, test: Option<(&Path, &[GoldRow<H>])>) -> Self {
        let lines = |rows: &[GoldRow<H>]| rows.iter().map(|row| row.line).collect();
        Splits {
            gold_file: gold_file.display().to_string(),
            mine: lines(&split.mine),
            select: lines(&split.select),
            test_file: test.map(|(path, _)| path.display().to_string()),
            test: test.map(|(_, rows)| lines(rows)).unwrap_or_default(),
        }
    }
}

impl Manifest {
    /// Reads the manifest of the run in a folder, without locking it.
    ///
    /// # Errors
    /// A folder without one; a damaged file.
    pub fn read_in(folder: &Path) -> Result<Manifest> {
        let path = folder.join(MANIFEST);
        let content = match std::fs::read(&path) {
            Err(error) if [std::io::ErrorKind::NotFound, std::io::ErrorKind::NotADirectory].contains(&error.kind()) => {
                return Err(Error::Run(format!("{}: not the folder of a run, which has a manifest.json", folder.display())));
            }
            other => other.map_err(Error::io("read", &path))?,
        };
        serde_json::from_slice(&content).map_err(|error| Error::Run(format!("{}: damaged ({error})", path.display())))
    }

    /// Reads the manifest of an earlier process, if there is one; refuses it if the inputs differ.
    ///
    /// # Errors
    /// A damaged file; changed inputs, each named.
    pub fn resume(run: &RunDir, inputs: &BTreeMap<String, Value>) -> Result<Option<Manifest>> {
        let path = run.join(MANIFEST);
        let content = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(Error::io("read", &path))?,
        };
        let manifest: Manifest = serde_json::from_slice(&content)
            .map_err(|e| Error::Run(format!("{}: damaged ({e}); remove the run folder to start over", path.display())))?;
        if manifest.lacuna != env!("CARGO_PKG_VERSION") && manifest.stage != Stage::Done {
            let (folder, by) = (run.path().display(), &manifest.lacuna);
            return Err(Error::Run(format!(
                "{folder} was begun by lacuna {by}, which accepts texts by other rules than {}: finish it with that version, or start anew in \
                 another folder with --run",
                env!("CARGO_PKG_VERSION")
            )));
        }
        let changes = changes(&manifest.inputs, inputs);
        if changes.is_empty() {
            return Ok(Some(manifest));
        }
        let folder = run.path().display();
        let device = if changes.iter().any(|change| change.contains("sha256.generator")) {
            " The generator's weights depend on where it runs: it may have been --device cpu, --device gpu or --weights as-is."
        } else {
            ""
        };
        Err(Error::Run(format!(
            "{folder} was started with other inputs:\n  {}\nRestore them, or choose another folder with --run.{device}",
            changes.join("\n  ")
        )))
    }

    /// Refuses to go on with other rows than the run was started with, as another version of lacuna may draw or read them.
    ///
    /// # Errors
    /// Which split differs.
    pub fn check_splits(&self, run: &RunDir, now: &Splits) -> Result<()> {
        let before = &self.splits;
        let pairs = [("mine", &before.mine, &now.mine), ("select", &before.select, &now.select), ("test", &before.test, &now.test)];
        let Some((name, ..)) = pairs.into_iter().find(|(_, before, now)| before != now) else { return Ok(()) };
        let folder = run.path().display();
        Err(Error::Run(format!(
            "{folder} was started with other rows in {name}, by a version of lacuna that divides them otherwise; start anew in another \
             folder with --run, or go on with that version"
        )))
    }

    /// Notes how the generator is loaded from now on; returns whether it was otherwise before.
    pub fn loaded(&mut self, generator: Value) -> bool {
        let before = self.generator.replace(generator);
        let changed = before.filter(|before| Some(before) != self.generator.as_ref());
        self.generator_before.extend(changed.clone());
        changed.is_some()
    }

    pub fn write(&self, run: &RunDir) -> Result<()> {
        write_json(&run.join(MANIFEST), self)
    }
}

/// Which inputs differ, in words.
pub fn changes(before: &BTreeMap<String, Value>, now: &BTreeMap<String, Value>) -> Vec<String> {
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let show = |value: Option<&Value>| value.map_or("absent".to_string(), shortened);
    keys.into_iter()
        .filter(|key| before.get(*key) != now.get(*key))
        .map(|key| format!("{key}: was {}, now {}", show(before.get(key)), show(now.get(key))))
        .collect()
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 60 { text.chars().take(59).chain(['…']).collect() } else { text }
}

/// The leaves of a JSON value under dotted names that start with `prefix`.
pub fn flatten(prefix: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| flatten(&format!("{prefix}.{key}"), value, into)),
        Value::Array(items) => items.iter().enumerate().for_each(|(i, value)| flatten(&format!("{prefix}[{i}]"), value, into)),
        leaf => drop(into.insert(prefix.to_string(), leaf.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn inputs(rows: usize) -> BTreeMap<String, Value> {
        let mut inputs = BTreeMap::new();
        flatten("task", &json!({"seed": {"rows": rows}, "labels": ["a", "b"]}), &mut inputs);
        inputs
    }

    #[test]
    fn changed_inputs_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::open(folder.path()).unwrap();
        assert_eq!(Manifest::resume(&run, &inputs(5)).unwrap(), None);
        let manifest = Manifest {
            lacuna: env!("CARGO_PKG_VERSION").into(),
            stage: Stage::Rationales,
            inputs: inputs(5),
            splits: Splits { gold_file: "g".into(), mine: vec![1], select: vec![2], test_file: None, test: vec![] },
            generator: None,
            generator_before: Vec::new(),
            calibrations: Vec::new(),
            judge: None,
            rounds: vec![],
            best_round: None,
        };
        manifest.write(&run).unwrap();
        assert_eq!(Manifest::resume(&run, &inputs(5)).unwrap().as_ref(), Some(&manifest));
        let error = Manifest::resume(&run, &inputs(6)).unwrap_err();
        assert!(error.to_string().contains("task.seed.rows: was 5, now 6"), "{error}");
        assert_eq!(error.exit_code(), 5);
        manifest.check_splits(&run, &Splits { gold_file: "moved".into(), ..manifest.splits.clone() }).unwrap();
        let error = manifest.check_splits(&run, &Splits { select: vec![3], ..manifest.splits.clone() }).unwrap_err();
        assert!(error.to_string().contains("was started with other rows in select"), "{error}");
        assert_eq!(error.exit_code(), 5);
        std::fs::write(run.join("manifest.json"), "{").unwrap();
        assert!(Manifest::resume(&run, &inputs(5)).unwrap_err().to_string().contains("damaged"));
    }
}
