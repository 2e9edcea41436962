//! `lacuna label`: the judge's labels and probabilities for the texts of a file.

use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::path::Path;

use rayon::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::asked::Asked;
use super::options::Options;
use super::setup::{ByHead, Loaded, Setup};
use crate::data::example::{GoldRow, Input, TaskKind};
use crate::data::label_sets::LabelSets;
use crate::data::labels::Labels;
use crate::data::read::ReadGold;
use crate::data::split::Divide;
use crate::data::unlabelled::{Texts, Unlabelled};
use crate::error::{Error, Result};
use crate::files::sha256::{hex, sha256_of};
use crate::files::whole::{folder_of, keep, unfinished};
use crate::generator::Generate;
use crate::judge::knowledge::Knowledge;
use crate::judge::panel::{knowledge, of_question};
use crate::judge::questions::{Judged, Questions};
use crate::judge::reply::{Reply, layers};
use crate::judge::stack::Stack;
use crate::math::vectors::{argmax, to_six_places};
use crate::run::folder::RunDir;
use crate::synthesis::head_with_labels::HeadWithLabels;
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
/// label, and `target`, the probability of each label; of several labels a text, all that are more probable than not. What the generator
/// says is kept, so that it resumes. Without a `generator`, the
/// task's is loaded.
///
/// # Errors
/// An output file that exists; a task without labels or judge prompts; texts that cannot be read; those of the generator; an output that
/// cannot be written. A closed standard output is not an error.
pub fn label(labelling: &Labelling, generator: &mut Option<Box<dyn Generate>>) -> Result<()> {
    let mut out = Out::new(labelling.out)?;
    let setup = Setup::new(labelling.task, labelling.options)?;
    let task_error = |message: &str| Error::Task { path: labelling.task.to_path_buf(), line: None, message: message.into() };
    if setup.task.prompts.judge.is_empty() {
        return Err(task_error("a judge needs labels and prompts.judge"));
    }
    match &setup.loaded {
        ByHead::Labels(loaded) => label_with(labelling, &setup, loaded, &mut out, generator)?,
        ByHead::LabelSets(loaded) => label_with(labelling, &setup, loaded, &mut out, generator)?,
        ByHead::Answers(_) => return Err(task_error("there are no labels in this task")),
    }
    out.finish()
}

fn label_with<H: LabelHead>(
    labelling: &Labelling,
    setup: &Setup,
    loaded: &Loaded<H>,
    out: &mut Out,
    generator: &mut Option<Box<dyn Generate>>,
) -> Result<()> {
    let head = &loaded.small.head;
    let texts = Texts::open(labelling.texts, head.kind() == TaskKind::Pair)?;
    let prompts = setup.prompts(head)?;
    let gold = loaded.drawn(&setup.task, setup.seed)?;
    let folder = RunDir::open(labelling.folder)?;
    let read @ (kind, depth) = (setup.task.judge_kind(), setup.task.judge_depth());
    let asked = Asked { setup, questions: Questions::of_judge(&setup.task, &prompts)?, folder, read };
    let replies = asked.replies(&gold.iter().collect::<Vec<_>>(), "asking about the gold rows", generator)?;
    let (stacks, knowledge) = loaded.small.reader.pool.install(|| learn(head, &replies, &gold, setup.seed));
    setup.machine.progress().say(verdict(&knowledge, stacks.len()));
    let name = journal_name(labelling, &asked, head, &gold)?;
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
    let generator = loaded_generator(setup, generator)?;
    let questions = Questions::of_judge(&setup.task, &prompts)?;
    let probes = stacks.iter().map(|stack| stack.probe().into_iter().collect()).collect();
    let questions = questions.with_probes(probes, layers(generator, kind, depth)?);
    for from in (0..texts.len()).step_by(WAVE) {
        let texts = texts.read(from..(from + WAVE).min(texts.len()))?;
        let keyed: Vec<(u64, Input)> = texts.iter().zip(from as u64..).map(|(text, key)| (key, text.input())).collect();
        let answered = keyed.iter().filter_map(|(key, _)| known.remove(key)).flatten().collect();
        let answers = questions.posteriors(generator, &keyed, answered, &mut |judged| {
            journal.append(judged)?;
            bar.step(1)
        })?;
        for (text, answers) in texts.iter().zip(answers) {
            let said = stacks.iter().zip(answers.chunks(answers.len() / stacks.len()));
            let probabilities: Vec<Vec<f64>> = said.map(|(stack, answers)| stack.probabilities(answers)).collect();
            out.write(&row(head, text, &probabilities))?;
        }
        if matches!(out, Out::Closed) {
            break;
        }
    }
    journal.sync()?;
    bar.finish("");
    Ok(())
}

/// A head whose texts can be labelled.
trait LabelHead: HeadWithLabels + Divide + ReadGold {
    /// The fields of a line about a text: its labels, and the probability of each, from those of the judge's answers.
    fn said(&self, probabilities: &[Vec<f64>]) -> Value;
}

impl LabelHead for Labels {
    fn said(&self, probabilities: &[Vec<f64>]) -> Value {
        let p = &probabilities[0];
        let label = argmax(p);
        json!({"label": self.names[label], "probability": to_six_places(p[label]), "target": target(&self.names, p)})
    }
}

impl LabelHead for LabelSets {
    fn said(&self, probabilities: &[Vec<f64>]) -> Value {
        let p: Vec<f64> = probabilities.iter().map(|of_label| of_label[1]).collect();
        let labels: Vec<usize> = (0..p.len()).filter(|&label| p[label] > 0.5).collect();
        json!({"labels": self.named(&labels), "target": target(&self.names, &p)})
    }
}

fn target(names: &[String], probabilities: &[f64]) -> Value {
    names.iter().cloned().zip(probabilities.iter().map(|p| json!(to_six_places(*p)))).collect::<serde_json::Map<_, _>>().into()
}

/// The judges, fitted to the gold rows, one for each question about a text; and what others that have not seen a row know of it.
fn learn<H: LabelHead>(head: &H, replies: &[Reply], gold: &[GoldRow<H>], seed: u64) -> (Vec<Stack>, Knowledge) {
    let answers: Vec<Vec<usize>> = gold.iter().map(|row| head.answers(&row.gold)).collect();
    let stack = |question: usize| {
        let (replies, gold) = of_question(replies, &answers, question);
        Stack::fit(&replies, &gold, seed)
    };
    let questions = answers.first().map_or(0, Vec::len);
    ((0..questions).into_par_iter().map(stack).collect(), knowledge(replies, &answers, seed))
}

fn loaded_generator<'g>(setup: &Setup, generator: &'g mut Option<Box<dyn Generate>>) -> Result<&'g mut dyn Generate> {
    if generator.is_none() {
        *generator = Some(setup.load_generator()?);
    }
    Ok(generator.as_deref_mut().expect("loaded above"))
}

/// The journal of these texts and this judge.
fn journal_name<H: LabelHead>(labelling: &Labelling, asked: &Asked<H>, head: &H, gold: &[GoldRow<H>]) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(asked.key(&gold.iter().map(GoldRow::input).collect::<Vec<_>>()));
    gold.iter().flat_map(|row| head.answers(&row.gold)).for_each(|answer| hash.update(answer.to_le_bytes()));
    hash.update(sha256_of(labelling.texts).map_err(Error::io("read", labelling.texts))?);
    hash.update(format!("{:?} {}", asked.read, asked.setup.seed));
    Ok(format!("label-{}", &hex(hash.finalize())[..16]))
}

fn row<H: LabelHead>(head: &H, text: &Unlabelled, probabilities: &[Vec<f64>]) -> Value {
    let mut row = text.id.as_ref().map_or_else(|| json!({}), |id| json!({"id": id}));
    row["text"] = json!(text.text);
    if let Some(text_pair) = &text.text_pair {
        row["text_pair"] = json!(text_pair);
    }
    head.said(probabilities).as_object().into_iter().flatten().for_each(|(name, value)| row[name] = value.clone());
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
