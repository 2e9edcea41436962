//! Helpers for tests on a scripted generator: start a run and read its files.

use std::path::Path;

use lacuna::commands::options::{Machine, Options};
use lacuna::commands::setup::Setup;
use lacuna::generator::Generate;
use lacuna::generator::llama::Weights;
use serde_json::Value;

use crate::common::Fixture;

pub fn boxed(generator: impl Generate + 'static) -> Option<Box<dyn Generate>> {
    Some(Box::new(generator))
}

pub fn options() -> Options {
    Options {
        machine: Machine { threads: 1, quiet: true, checkpoint_every: 120, ..Machine::default() },
        weights: Weights::AsIs,
        ..Options::default()
    }
}

pub fn setup(fixture: &Fixture) -> Setup {
    Setup::new(&fixture.path("task.toml"), &options()).unwrap()
}

pub fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).unwrap()
}

pub fn json_lines(path: &Path) -> Vec<Value> {
    let content = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    content.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
