//! Stops runs after some answers of the generator, lets them go on, and compares what they leave.

use std::collections::BTreeMap;
use std::path::Path;

use lacuna::commands::setup::Setup;
use lacuna::run::summary::Method;

use crate::common::Fixture;
use crate::scripted::boxed;
use crate::words::of_words;

/// The content of every file of a run except its lock, by name.
pub fn content(run: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, into: &mut BTreeMap<String, Vec<u8>>) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                walk(root, &entry.path(), into);
            } else {
                let name = entry.path().strip_prefix(root).unwrap().display().to_string();
                into.insert(name, std::fs::read(entry.path()).unwrap());
            }
        }
    }
    let mut files = BTreeMap::new();
    walk(run, run, &mut files);
    files.remove("lock");
    files.remove("seconds.jsonl");
    files
}

/// A run that fails after so many answers and goes on leaves what one left alone does, in `whole`.
pub fn crashes_change_nothing(fixture: &Fixture, setup: &Setup, methods: &[Method], crashes: &[usize]) {
    let whole = fixture.path("whole");
    setup.run(&whole, methods, &mut boxed(of_words())).unwrap();
    let expected = content(&whole);
    for &crash in crashes {
        let run = fixture.path(&format!("crash-{crash}"));
        setup.run(&run, methods, &mut boxed(of_words().shuffled(crash as u64).failing_after(crash))).unwrap_err();
        setup.run(&run, methods, &mut boxed(of_words().shuffled(7))).unwrap();
        let found = content(&run);
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "crash after {crash}");
        for (name, bytes) in &found {
            // Journals are in order of completion; everything else is the same to the byte.
            let same = if name.ends_with(".jsonl") && name.starts_with("journal/") {
                sorted(bytes) == sorted(&expected[name])
            } else {
                *bytes == expected[name]
            };
            assert!(same, "crash after {crash}: {name} differs");
        }
    }
}

fn sorted(lines: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = lines.split(|&b| b == b'\n').collect();
    lines.sort_unstable();
    lines
}
