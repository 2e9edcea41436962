//! `lacuna judge`: how well the generator judges the texts of a task, by its prompt, by its hidden states, and by both.

use std::collections::BTreeMap;
use std::path::Path;

use super::asked::Asked;
use super::options::Options;
use super::provenance::provenance;
use super::report::{interval_title, percent, table};
use super::setup::{ByHead, Loaded, Setup};
use crate::data::example::GoldRow;
use crate::data::labels::Labels;
use crate::data::split::sample;
use crate::error::{Error, Result};
use crate::files::whole::write;
use crate::generator::Generate;
use crate::judge::questions::Questions;
use crate::judge::reply::{DEPTHS, Reply};
use crate::judge::stack::Stack;
use crate::math::vectors::{argmax, softmax};
use crate::measure::interval;
use crate::measure::metrics::{expected_calibration_error, log_loss};
use crate::run::folder::RunDir;
use crate::task::file::JudgeKind;

/// What is judged, and how often.
pub struct JudgeReport<'a> {
    pub task: &'a Path,
    pub options: &'a Options,
    /// Numbers of gold rows that the judges learn from.
    pub gold: &'a [usize],
    /// Number of draws of gold rows, counted from the options' seed.
    pub draws: u64,
    /// Number of test rows, drawn by label; all if there are no more.
    pub test_rows: usize,
    /// Folder for the generator's replies and the table.
    pub folder: &'a Path,
}

const BINS: usize = 15;

/// A draw: the number of gold rows, the random seed, and the rows.
type Drawn = (usize, u64, Vec<GoldRow<Labels>>);

/// What a judge says of rows: the probabilities of the labels of each.
type Said = Vec<Vec<f64>>;

/// Judges the test rows after learning from each draw of gold rows; writes `judge.md` and returns it. The generator's replies are kept, so
/// that a report resumes. Without a `generator`, the task's generator is loaded when it is needed.
///
/// # Errors
/// A task without labels, judge prompts or test rows; too few gold rows; those of the generator.
pub fn judge(report: &JudgeReport, generator: &mut Option<Box<dyn Generate>>) -> Result<String> {
    let setup = Setup::new(report.task, report.options)?;
    let task_error = |message: &str| Error::Task { path: report.task.to_path_buf(), line: None, message: message.into() };
    let ByHead::Labels(loaded) = &setup.loaded else { return Err(task_error("this report is about judges of one label a text")) };
    if setup.task.prompts.judge.is_empty() {
        return Err(task_error("a judge needs prompts.judge"));
    }
    let (_, test) = loaded.data.test.as_ref().ok_or_else(|| task_error("the report needs test rows: add data.test"))?;
    let head = &loaded.small.head;
    if report.test_rows < 2 * head.names.len() {
        return Err(Error::Failed(format!("--test-rows: {} labels need at least {} test rows", head.names.len(), 2 * head.names.len())));
    }
    let test = sample(head, test, report.test_rows.min(test.len()), 0)
        .map_err(|reason| Error::Failed(format!("--test-rows, on data.test: {reason}")))?;
    let draws = drawn(report, &setup, loaded)?;
    let prompts = setup.prompts(head)?;
    let asked = Asked {
        setup: &setup,
        questions: Questions::of(&setup.task, &prompts)?,
        folder: RunDir::open(report.folder)?,
        read: (JudgeKind::Stack, 1.0),
    };
    let by_line: BTreeMap<usize, &GoldRow<Labels>> = draws.iter().flat_map(|(_, _, rows)| rows).map(|row| (row.line, row)).collect();
    let known: BTreeMap<usize, Reply> = {
        let replies = asked.replies(&by_line.values().copied().collect::<Vec<_>>(), "asking about the gold rows", generator)?;
        by_line.keys().copied().zip(replies).collect()
    };
    let replies = asked.replies(&test.iter().collect::<Vec<_>>(), "asking about the test rows", generator)?;
    let truth: Vec<usize> = test.iter().map(|row| row.gold.label).collect();
    let mut rows = Vec::new();
    for &gold in report.gold {
        let judges = judges();
        let mut found: Vec<Vec<Found>> = vec![Vec::new(); judges.len()];
        for (_, seed, drawn) in draws.iter().filter(|(count, _, _)| *count == gold) {
            setup.machine.progress().say(format!("— {gold} gold rows, draw {seed}"));
            let of_gold: Vec<Reply> = drawn.iter().map(|row| known[&row.line].clone()).collect();
            let labels: Vec<usize> = drawn.iter().map(|row| row.gold.label).collect();
            let said = loaded.small.reader.pool.install(|| said((&of_gold, &labels), &replies, *seed));
            for (found, said) in found.iter_mut().zip(said) {
                found.push(Found::of(said, &truth, &labels));
            }
        }
        let known = judges.iter().zip(&found).filter(|(_, of_draws)| !of_draws.is_empty());
        rows.extend(known.map(|(judge, of_draws)| line(judge, gold, of_draws)));
    }
    let last = report.options.seed + report.draws;
    let made = provenance(report.command(), &setup, report.options.seed..last);
    let accuracy = interval_title(&format!("accuracy on {} test rows", test.len()), report.draws as usize);
    let header = ["judge", "gold rows", &accuracy, "log loss", "ECE", "log loss out of fold", "each draw"];
    let text = made.in_markdown() + &table(&header, &rows);
    write(&report.folder.join("judge.md"), text.as_bytes())?;
    Ok(text)
}

fn drawn(report: &JudgeReport, setup: &Setup, loaded: &Loaded<Labels>) -> Result<Vec<Drawn>> {
    let mut draws = Vec::new();
    for &gold in report.gold {
        for seed in report.options.seed..report.options.seed.saturating_add(report.draws) {
            let mut task = setup.task.clone();
            task.data.gold_rows = Some(gold);
            draws.push((gold, seed, loaded.drawn(&task, seed)?));
        }
    }
    Ok(draws)
}

/// The judges, in the order of the table: with `targets.judge` "prompt" the first, "stack" the third, "states" one of the last.
fn judges() -> Vec<String> {
    let by_depth = DEPTHS[..DEPTHS.len() - 1].iter().map(|depth| format!("states, first {:.0} % of layers", 100.0 * depth));
    ["prompt, calibrated", "hidden states", "both"].into_iter().map(String::from).chain(by_depth).collect()
}

/// For each judge, what it says of the test rows, and of gold rows that it has not learnt from: of the head on hidden states alone
/// nothing, since those rows have chosen its layer. The prompt's judge alone, where the generator shows no hidden states.
fn said((of_gold, labels): (&[Reply], &[usize]), test: &[Reply], seed: u64) -> Vec<(Said, Vec<Option<Vec<f64>>>)> {
    let wordy = |replies: &[Reply]| replies.iter().map(|reply| Reply { states: Vec::new(), ..reply.clone() }).collect::<Vec<_>>();
    let of = |stack: &Stack, replies: &[Reply]| replies.iter().map(|reply| softmax(&stack.logits(reply))).collect::<Said>();
    let out_of_fold = |replies: &[Reply]| -> Vec<Option<Vec<f64>>> {
        Stack::out_of_fold(replies, labels, seed).into_iter().map(|row| row.map(|row| softmax(&row))).collect()
    };
    let prompt = wordy(of_gold);
    let mut all = vec![(of(&Stack::fit(&prompt, labels, seed), &wordy(test)), out_of_fold(&prompt))];
    let stack = Stack::fit(of_gold, labels, seed);
    if let Some(probe) = stack.probe() {
        let probed = test.iter().map(|reply| softmax(&probe.log_probs(&reply.states))).collect();
        all.extend([(probed, Vec::new()), (of(&stack, test), out_of_fold(of_gold))]);
        for first in (1..DEPTHS.len()).filter(|_| of_gold[0].states.len() == DEPTHS.len()) {
            let (of_gold, test) = (by_states(of_gold, first), by_states(test, first));
            all.push((of(&Stack::fit(&of_gold, labels, seed), &test), out_of_fold(&of_gold)));
        }
    }
    all
}

/// The replies without words, and with the states of the first layers alone.
fn by_states(replies: &[Reply], layers: usize) -> Vec<Reply> {
    let cut =
        |reply: &Reply| Reply { log_probs: vec![0.0; reply.log_probs.len()], states: reply.states[..layers].to_vec(), group: reply.group };
    replies.iter().map(cut).collect()
}

/// What a judge of one draw is worth.
#[derive(Clone)]
struct Found {
    right: Vec<f64>,
    log_loss: f64,
    calibration_error: f64,
    /// Log loss of gold rows, each judged by one that has not learnt from it.
    out_of_fold: Option<f64>,
}

impl Found {
    fn of((said, held_out): (Said, Vec<Option<Vec<f64>>>), truth: &[usize], labels: &[usize]) -> Found {
        let right = said.iter().zip(truth).map(|(p, label)| f64::from(u8::from(argmax(p) == *label))).collect();
        let known = held_out.into_iter().zip(labels).filter_map(|(p, label)| Some((p?, *label)));
        let (held_out, of_held_out): (Vec<_>, Vec<_>) = known.unzip();
        let out_of_fold = (!held_out.is_empty()).then(|| log_loss(&held_out, &of_held_out));
        let calibration_error = expected_calibration_error(&said, truth, BINS);
        Found { right, log_loss: log_loss(&said, truth), calibration_error, out_of_fold }
    }
}

fn line(judge: &str, gold: usize, of_draws: &[Found]) -> Vec<String> {
    let mean = |of: fn(&Found) -> Option<f64>| {
        let values: Vec<f64> = of_draws.iter().filter_map(of).collect();
        if values.is_empty() { "–".to_string() } else { format!("{:.3}", values.iter().sum::<f64>() / values.len() as f64) }
    };
    let accuracy = interval::share(&of_draws.iter().map(|found| found.right.clone()).collect::<Vec<_>>());
    let share = |found: &Found| format!("{:.1}", 100.0 * found.right.iter().sum::<f64>() / found.right.len() as f64);
    let draws: Vec<String> = of_draws.iter().map(share).collect();
    let losses = [mean(|found| Some(found.log_loss)), mean(|found| Some(found.calibration_error)), mean(|found| found.out_of_fold)];
    [vec![judge.to_string(), gold.to_string(), percent(&accuracy)], losses.to_vec(), vec![draws.join(" ")]].concat()
}

impl JudgeReport<'_> {
    /// The command line that makes it.
    fn command(&self) -> String {
        let gold: Vec<String> = self.gold.iter().map(usize::to_string).collect();
        let seed = self.options.seed_in_words();
        let (task, options) = (self.task.display(), self.options.in_words());
        format!("lacuna judge {task} --draws {} --gold {} --test-rows {}{seed}{options}", self.draws, gold.join(","), self.test_rows)
    }
}
