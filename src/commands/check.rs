//! `lacuna check`: everything that can be known to be wrong with a task, in seconds, and what it will work with.

use std::fmt::Write;
use std::path::Path;

use super::init::DEFAULT_ABOUT;
use super::options::Options;
use super::report::table;
use super::setup::{ByHead, Loaded, Setup};
use super::student;
use crate::data::example::{GoldRow, TaskKind};
use crate::data::fields::quoted;
use crate::data::read::ReadGold;
use crate::data::split::Divide;
use crate::error::{Error, Result};
use crate::generator::llama::is_gguf;
use crate::synthesis::stages::Stages;
use crate::task::file::Task;

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
        ByHead::LabelSets(loaded) => {
            let names = [setup.task.label_names(), vec!["(no label)".to_string()]].concat();
            describe(&setup, loaded, &names)
        }
        ByHead::Answers(loaded) => describe(&setup, loaded, &["questions".to_string()]),
    }
}

/// Fewer gold rows of a label say little of it.
const FEW: usize = 5;

/// What is no error, and makes a run worth less. `rows` says how many gold and test rows a label has.
fn look_at(task: &Task, strata: &[String], rows: &dyn Fn(usize) -> (usize, Option<usize>)) -> Vec<String> {
    let mut notes = Vec::new();
    if task.about.as_deref().is_some_and(|about| DEFAULT_ABOUT.contains(&about)) {
        notes.push("about: say what a text is; the generator knows nothing else of the task".to_string());
    }
    if task.kind != TaskKind::ExtractiveQa && task.label_words().iter().all(|said| said.chars().all(|c| !c.is_alphabetic())) {
        notes.push("labels: their wordings are numbers; write what they mean, the generator cannot know it".to_string());
    }
    let named =
        |few: &dyn Fn(usize) -> bool| strata.iter().enumerate().filter(|(i, _)| few(*i)).map(|(_, name)| name.clone()).collect::<Vec<_>>();
    let (few, untested) = (named(&|i| rows(i).0 < FEW), named(&|i| rows(i).1 == Some(0)));
    for (labels, what) in [(few, format!("labels with fewer than {FEW} gold rows")), (untested, "labels without a test row".to_string())] {
        if !labels.is_empty() {
            notes.push(format!("{what}: {}", quoted(&labels)));
        }
    }
    notes
}

fn describe<H: Stages + Divide + ReadGold>(setup: &Setup, loaded: &Loaded<H>, strata: &[String]) -> Result<String> {
    setup.check_training_memory(loaded)?;
    let split = loaded.split(&setup.task, setup.seed)?;
    let test = loaded.data.test.as_ref().map(|(_, rows)| rows.as_slice());
    let number = |rows: &[GoldRow<H>], stratum: usize| rows.iter().filter(|row| H::strata_of(&row.goal()).contains(&stratum)).count();
    let count = |rows: &[GoldRow<H>], stratum: usize| number(rows, stratum).to_string();
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
    let mut notes = student::notes(&setup.task, &loaded.small, &split.gold().cloned().collect::<Vec<_>>())?;
    // That a text has no label is none.
    let labels = if setup.task.kind == TaskKind::MultiLabel { &strata[..strata.len() - 1] } else { strata };
    notes.extend(look_at(&setup.task, labels, &|stratum| {
        let of = |rows: &[GoldRow<H>]| number(rows, stratum);
        (of(&split.mine) + of(&split.select), test.map(of))
    }));
    notes.iter().for_each(|note| _ = writeln!(text, "look at this: {note}"));
    text.push_str("nothing wrong was found\n");
    Ok(text)
}
