//! `lacuna label`: the judge's labels and probabilities for the texts of a file.

use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::asked::Asked;
use super::options::Options;
use super::setup::{ByHead, Setup};
use crate::data::example::{GoldRow, Input};
use crate::data::labels::Labels;
use crate::data::unlabelled::{Texts, Unlabelled};
use crate::error::{Error, Result};
use crate::files::sha256::{hex, sha256_of};
use crate::files::whole::{folder_of, keep, unfinished};
use crate::generator::Generate;
use crate::judge::knowledge::Knowledge;
use crate::judge::questions::{Judged, Questions};
use crate::judge::reply::{Reply, layers};
use crate::judge::stack::Stack;
use crate::math::vectors::{argmax, to_six_places};
use crate::run::folder::RunDir;
use crate::synthesis::judge::verdict;

/// What is labelled, and where the labels go.
pub struct Labelling<'a> {
    pub task: &'a Path,
    pub options: &'a Options,
    /// The texts: JSON lines, CSV or plain lines.
    pub texts: &'a Path,
    /// The file of labels; without one they go to standard output.
    pub out: Option<&'a Path>,
    /// Folder for what the generator said.
    pub folder: &'a Path,
}

/// Texts that are asked about, and written, together.
const WAVE: usize = 4096;

/// Fits the judge to the gold rows and writes a JSON line for each text, in order: its `id` if it has one, its texts, the most probable
/// label, and `target`, the probability of each label. What the generator says is kept, so that it resumes. Without a `generator`, the
/// task's is loaded.
///
/// # Errors
/// An output file that exists; a task without labels or judge prompts; texts that cannot be read; those of the generator; an output that
/// cannot be written. A closed standard output is not an error.
pub fn label(labelling: &Labelling, generator: &mut Option<Box<dyn Generate>>) -> Result<()> {
    let mut out = Out::new(labelling.out)?;
    let setup = Setup::new(labelling.task, labelling.options)?;
    let task_error = |message: &str| Error::Task { path: labelling.task.to_path_buf(), line: None, message: message.into() };
    let ByHead::Labels(loaded) = &setup.loaded else { return Err(task_error("there are no labels in this task")) };
    if setup.task.prompts.judge.is_empty() {
        return Err(task_error("a judge needs prompts.judge"));
    }
    let head = &loaded.small.head;
    let texts = Texts::open(labelling.texts, head.pairs)?;
    let prompts = setup.prompts(head)?;
    let gold = loaded.drawn(&setup.task, setup.seed)?;
    let folder = RunDir::open(labelling.folder)?;
    let read @ (kind, depth) = (setup.task.judge_kind(), setup.task.judge_depth());
    let asked = Asked { setup: &setup, questions: Questions::of_judge(&setup.task, &prompts)?, folder, read };
    let replies = asked.replies(&gold.iter().collect::<Vec<_>>(), "asking about the gold rows", generator)?;
    let (stack, knowledge) = loaded.small.reader.pool.install(|| learn(&replies, &gold, setup.seed));
    setup.machine.progress().say(verdict(&knowledge));
    let name = journal_name(labelling, &asked, &gold)?;
    let (mut journal, known) = asked.folder.journal::<Judged>(&name)?;
    if known.is_empty() && std::fs::read_dir(asked.folder.join("journal")).is_ok_and(|files| files.count() > 1) {
        let folder = labelling.folder.display();
        setup
            .machine
            .progress()
            .say(format!("{folder}: what it has was said of other texts, or by another judge; all texts are asked about"));
    }
    let mut known: HashMap<u64, Vec<Judged>> = known.into_iter().fold(HashMap::new(), |mut by_text, judged| {
        by_text.entry(judged.text(asked.questions.for_each_text())).or_insert_with(Vec::new).push(judged);
        by_text
    });
    let each = asked.questions.for_each_text();
    let done = known.values().map(Vec::len).sum();
    let mut bar = setup.machine.progress().bar("labelling", "questions", texts.len() * each, done);
    let generator = loaded_generator(&setup, generator)?;
    let questions = Questions::of_judge(&setup.task, &prompts)?;
    let questions = questions.with_probes(stack.probe().into_iter().collect(), layers(generator, kind, depth)?);
    for from in (0..texts.len()).step_by(WAVE) {
        let texts = texts.read(from..(from + WAVE).min(texts.len()))?;
        let keyed: Vec<(u64, Input)> = texts.iter().zip(from as u64..).map(|(text, key)| (key, text.input())).collect();
        let answered = keyed.iter().filter_map(|(key, _)| known.remove(key)).flatten().collect();
        let answers = questions.posteriors(generator, &keyed, answered, &mut |judged| {
            journal.append(judged)?;
            bar.step(1)
        })?;
        for (text, answers) in texts.iter().zip(answers) {
            out.write(&row(head, text, &stack.probabilities(&answers)))?;
        }
        if matches!(out, Out::Closed) {
            break;
        }
    }
    journal.sync()?;
    bar.finish("");
    out.finish()
}

/// The judge, fitted to the gold rows, and what one that has not seen a row knows of it.
fn learn(replies: &[Reply], gold: &[GoldRow<Labels>], seed: u64) -> (Stack, Knowledge) {
    let labels: Vec<usize> = gold.iter().map(|row| row.gold.label).collect();
    (Stack::fit(replies, &labels, seed), Knowledge::of(replies, &labels, seed))
}

fn loaded_generator<'g>(setup: &Setup, generator: &'g mut Option<Box<dyn Generate>>) -> Result<&'g mut dyn Generate> {
    if generator.is_none() {
        *generator = Some(setup.load_generator()?);
    }
    Ok(generator.as_deref_mut().expect("loaded above"))
}

/// The journal of these texts and this judge.
fn journal_name(labelling: &Labelling, asked: &Asked, gold: &[GoldRow<Labels>]) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(asked.key(&gold.iter().map(GoldRow::input).collect::<Vec<_>>()));
    gold.iter().for_each(|row| hash.update(row.gold.label.to_le_bytes()));
    hash.update(sha256_of(labelling.texts).map_err(Error::io("read", labelling.texts))?);
    hash.update(format!("{:?} {}", asked.read, asked.setup.seed));
    Ok(format!("label-{}", &hex(hash.finalize())[..16]))
}

fn row(head: &Labels, text: &Unlabelled, probabilities: &[f64]) -> Value {
    let mut row = text.id.as_ref().map_or_else(|| json!({}), |id| json!({"id": id}));
    row["text"] = json!(text.text);
    if let Some(text_pair) = &text.text_pair {
        row["text_pair"] = json!(text_pair);
    }
    let label = argmax(probabilities);
    row["label"] = json!(head.names[label]);
    row["probability"] = json!(to_six_places(probabilities[label]));
    row["target"] =
        head.names.iter().cloned().zip(probabilities.iter().map(|p| json!(to_six_places(*p)))).collect::<serde_json::Map<_, _>>().into();
    row
}

/// Where the lines go.
enum Out<'a> {
    Stdout(BufWriter<std::io::Stdout>),
    /// A file that gets its name when it is whole.
    File(&'a Path, BufWriter<tempfile::NamedTempFile>),
    /// Standard output that nobody reads any more.
    Closed,
}

impl<'a> Out<'a> {
    fn new(path: Option<&'a Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Out::Stdout(BufWriter::new(std::io::stdout()))) };
        if path.symlink_metadata().is_ok() {
            return Err(Error::Run(format!(
                "--out {}: it exists and is not written over: give another name, or remove it",
                path.display()
            )));
        }
        Ok(Out::File(path, BufWriter::new(unfinished(folder_of(path)).map_err(Error::io("write beside", path))?)))
    }

    fn write(&mut self, row: &Value) -> Result<()> {
        let line = format!("{row}\n");
        match self {
            Out::Stdout(stdout) => match stdout.write_all(line.as_bytes()) {
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => *self = Out::Closed,
                other => other.map_err(Error::io("write to", Path::new("standard output")))?,
            },
            Out::File(path, file) => file.write_all(line.as_bytes()).map_err(Error::io("write", path))?,
            Out::Closed => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        match self {
            Out::Stdout(mut stdout) => match stdout.flush() {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                    Err(Error::io("write to", Path::new("standard output"))(error))
                }
                _ => Ok(()),
            },
            Out::File(path, file) => {
                let file = file.into_inner().map_err(|error| Error::io("write", path)(error.into_error()))?;
                keep(file, path).map_err(Error::io("write", path))
            }
            Out::Closed => Ok(()),
        }
    }
}
