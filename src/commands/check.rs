//! `lacuna check`: everything that can be known to be wrong with a task, in seconds, and what it will work with.

use std::fmt::Write;
use std::path::Path;

use super::options::Options;
use super::report::table;
use super::setup::{ByHead, Loaded, Setup};
use crate::data::example::GoldRow;
use crate::data::read::ReadGold;
use crate::data::split::Divide;
use crate::error::{Error, Result};
use crate::generator::llama::is_gguf;
use crate::synthesis::stages::Stages;

/// Checks the task file, its data and both models, without measuring or writing anything; returns what there is.
///
/// # Errors
/// Everything that is wrong, in one.
pub fn check(task: &Path, options: &Options) -> Result<String> {
    let setup = Setup::checked(task, options)?;
    if let Some(path) = setup.generator_path().filter(|path| !is_gguf(path)) {
        return Err(Error::Model(format!("{}: is not a GGUF file", path.display())));
    }
    match &setup.loaded {
        ByHead::Labels(loaded) => describe(&setup, loaded, &setup.task.label_names()),
        ByHead::Answers(loaded) => describe(&setup, loaded, &["questions".to_string()]),
    }
}

fn describe<H: Stages + Divide + ReadGold>(setup: &Setup, loaded: &Loaded<H>, strata: &[String]) -> Result<String> {
    let split = loaded.split(&setup.task, setup.seed)?;
    let test = loaded.data.test.as_ref().map(|(_, rows)| rows.as_slice());
    let count = |rows: &[GoldRow<H>], stratum: usize| rows.iter().filter(|row| row.stratum() == stratum).count().to_string();
    let of_stratum = |(stratum, name): (usize, &String)| {
        let tested = test.map_or("–".to_string(), |rows| count(rows, stratum));
        vec![name.clone(), count(&split.mine, stratum), count(&split.select, stratum), tested]
    };
    let rows: Vec<Vec<String>> = strata.iter().enumerate().map(of_stratum).collect();
    let mut text = table(&["label", "mine", "select", "test"], &rows);
    let (gold, all) = (split.mine.len() + split.select.len(), loaded.data.gold.len());
    // Writing into a string cannot fail.
    let _ = writeln!(text, "\ngold rows    {gold} of {all}");
    if let Some(texts) = setup.unlabelled()? {
        let _ = writeln!(text, "unlabelled   {} texts, {} to be read", texts.len(), setup.texts_to_read());
    }
    if let Some(model) = setup.generator_path() {
        let _ = writeln!(text, "generator    {}", model.display());
    }
    text.push_str("nothing wrong was found\n");
    Ok(text)
}
