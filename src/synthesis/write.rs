//! Stages in which the generator writes: rationales, the seed, extrapolations.

use std::collections::{BTreeMap, HashMap, HashSet};

use rand::seq::{IndexedRandom, SliceRandom};

use super::judge::average;
use super::{Misclassified, Synthesis, SyntheticRow, Written, prompt_error};
use crate::dataset::{Answer, Context, Goal, Input, fingerprint};
use crate::error::{Error, Result};
use crate::generator::{Completion, CompletionRequest, Finish, Prompt};
use crate::math::vectors::centre;
use crate::prompt::{clean, whole_sentences};
use crate::run_dir::write_json;
use crate::seed;
use crate::task::{Kind, WritingPrompt};
use crate::train::{Target, TrainRow};
use crate::verify::{Prompted, Rejection, Verifier};

/// A request and where it comes from, before it is written.
struct Planned<'t> {
    name: &'static str,
    template: &'t WritingPrompt,
    prompt: Prompt,
    goal: Goal,
    parent: Option<usize>,
    context: Option<usize>,
    rationales: Vec<usize>,
}

/// A generator that keeps writing what is rejected is stopped after this many times what was wanted.
const ATTEMPTS: usize = 4;

/// What a round cost.
pub(super) struct Tally {
    /// Completions asked for.
    pub written: usize,
    pub rejected: BTreeMap<Rejection, usize>,
    /// New tokens sampled.
    pub tokens: u64,
}

/// A stage to write: its journal, and what a person reads beside its bar.
struct Writing<'s> {
    journal: &'s str,
    title: &'s str,
    unit: &'static str,
}

impl<'a> Synthesis<'a> {
    /// Algorithm 1, first part: `seed.rationales` distinct reasons for each label, chosen by the judge if more are written.
    pub(super) fn write_rationales(&mut self) -> Result<()> {
        let (task, prompts, labels) = (self.inputs.task, self.inputs.prompts, self.labels());
        let wanted = task.seed.rationale_candidates.unwrap_or(task.seed.rationales);
        let template = task.prompts.rationale.as_ref().ok_or_else(|| prompt_error("prompts.rationale is missing".into()))?;
        let plan = |id: u64| {
            let label = id as usize % labels;
            let prompt = prompts.rationale(label).map_err(prompt_error)?;
            let goal = Goal::Label(label);
            Ok(Planned { name: "rationale", template, prompt, goal, parent: None, context: None, rationales: vec![] })
        };
        let starts =
            (0..labels).map(|label| Ok(prompts.rationale(label).map_err(prompt_error)?.answer_start)).collect::<Result<Vec<_>>>()?;
        let accept = |written: &[Written]| accept_rationales(written, &starts, wanted);
        let count = |written: &[Written]| accept(written).iter().map(Vec::len).sum();
        let stage = Writing { journal: "rationales", title: "rationales", unit: "reasons" };
        let written = self.write(stage, wanted * labels, &plan, &count)?;
        self.rationales = self.most_typical(accept(&written), task.seed.rationales)?;
        if let Some(label) = self.rationales.iter().position(Vec::is_empty) {
            let label = &task.labels[label].name;
            let advice = "look at journal/rationales.jsonl and change prompts.rationale";
            return Err(Error::Failed(format!("the generator wrote no usable rationale for label {label:?}; {advice}")));
        }
        let reasons = task.labels.iter().zip(&self.rationales).map(|(label, reasons)| (label.name.clone(), reasons.clone().into()));
        write_json(&self.run.join("rationales.json"), &reasons.collect::<serde_json::Map<String, serde_json::Value>>())
    }

    /// Of each label's rationales those that the judge finds most typical of it, best first; all in their order if they are few enough.
    ///
    /// A small generator judges better than it writes: many of its reasons fit any label.
    fn most_typical(&mut self, candidates: Vec<Vec<Rationale>>, wanted: usize) -> Result<Vec<Vec<String>>> {
        let texts = |reasons: Vec<Rationale>| reasons.into_iter().map(|reason| reason.text).collect();
        if candidates.iter().all(|reasons| reasons.len() <= wanted) {
            return Ok(candidates.into_iter().map(texts).collect());
        }
        let keyed: Vec<(u64, Input)> = candidates.iter().flatten().map(|reason| (reason.id, reason.text.as_str().into())).collect();
        let mut scores = self.score("judge-rationales", "judging the rationales", &keyed)?.into_iter();
        let choose = |(label, reasons): (usize, Vec<Rationale>)| {
            let margin = |scores: Vec<Vec<f32>>| centre(&average(&scores))[label];
            let mut judged: Vec<(f64, Rationale)> =
                reasons.into_iter().map(|reason| (margin(scores.next().expect("one each")), reason)).collect();
            judged.sort_by(|a, b| b.0.total_cmp(&a.0));
            texts(judged.into_iter().take(wanted).map(|(_, reason)| reason).collect())
        };
        Ok(candidates.into_iter().enumerate().map(choose).collect())
    }

    /// Algorithm 1, second part: `seed.rows` examples, each for a label and on a few of its rationales drawn at random, or for an
    /// answer in its context.
    ///
    /// The labels take turns, which is the paper's uniform draw without its variance; so do the contexts.
    pub(super) fn write_seed(&mut self) -> Result<()> {
        let (task, prompts, labels, root) = (self.inputs.task, self.inputs.prompts, self.labels(), self.inputs.seed);
        let rationales = self.rationales.clone();
        let contexts = self.shuffled_contexts();
        let questions = answers_in_turns(&contexts, root);
        if task.kind == Kind::ExtractiveQa && questions.is_empty() {
            return Err(Error::Failed("no context has words that could be an answer; look at data.contexts and data.answers".to_string()));
        }
        let turn = |id: usize| match questions.get(id % questions.len().max(1)) {
            Some(&(context, answer)) => (Goal::Answer(answer.clone()), Some(context)),
            // All labels of a context are neighbours: it tells nothing of the label, and their prompts share a prefix.
            None => (Goal::Label(id % labels), (!contexts.is_empty()).then(|| contexts[id / labels % contexts.len()])),
        };
        let plan = |id: u64| {
            let (goal, context) = turn(id as usize);
            let of_goal = rationales.get(goal.label()).map_or(&[][..], Vec::as_slice);
            let drawn = draw_rationales(of_goal.len(), task.seed.rationales_per_example, root, id);
            let reasons: Vec<&str> = drawn.iter().map(|&i| of_goal[i].as_str()).collect();
            let prompt = prompts.seed(&goal, &reasons, context.map(|context| context.text.as_str())).map_err(prompt_error)?;
            let context = context.map(|context| context.line);
            Ok(Planned { name: "seed", template: &task.prompts.seed, prompt, goal, parent: None, context, rationales: drawn })
        };
        self.write_round(0, task.seed.rows, &plan)
    }

    /// Algorithm 2: texts like those that the model of the round before got wrong, with their gold labels or answers.
    pub(super) fn write_extrapolations(&mut self, round: usize) -> Result<()> {
        let (task, prompts, root) = (self.inputs.task, self.inputs.prompts, self.inputs.seed);
        let rationales = self.rationales.clone();
        let mut errors = self.parents(round - 1)?;
        errors.shuffle(&mut seed::rng(root, "order of errors", round as u64));
        let wanted = task.extrapolate.rows.unwrap_or(errors.len() * task.extrapolate.rows_per_error);
        let errors = if task.extrapolate.rows.is_some() { in_turns(errors) } else { errors };
        let journal_root = seed::derive(root, "extrapolation", round as u64);
        let plan = |id: u64| {
            let error = &errors[id as usize % errors.len()];
            let of_goal = rationales.get(error.goal.label()).map_or(&[][..], Vec::as_slice);
            let drawn = draw_rationales(of_goal.len(), task.extrapolate.rationales_per_example, journal_root, id);
            let reasons: Vec<&str> = drawn.iter().map(|&i| of_goal[i].as_str()).collect();
            let prompt = prompts.extrapolate(&error.goal, error.input(), &error.predicted, &reasons).map_err(prompt_error)?;
            let (template, goal, parent) = (&task.prompts.extrapolate, error.goal.clone(), Some(error.line));
            Ok(Planned { name: "extrapolate", template, prompt, goal, parent, context: None, rationales: drawn })
        };
        self.write_round(round, wanted, &plan)
    }

    /// Writes until `wanted` rows of `round` are accepted, and keeps them.
    fn write_round(&mut self, round: usize, wanted: usize, plan: &dyn Fn(u64) -> Result<Planned<'a>>) -> Result<()> {
        let (split, labels) = (self.inputs.split, self.labels());
        let (earlier, rationales, givens) = (self.rows.clone(), self.rationales.clone(), self.givens());
        let verify = |written: &[Written]| {
            let mut verifier = Verifier::new(split.mine.iter().chain(&split.select).map(|row| row.written()));
            verifier.remember(earlier.iter().map(|row| row.own_text()));
            let known = Known { round, rationales: &rationales, givens: &givens, labels };
            written.iter().map(|row| verify_row(&mut verifier, row, &known)).collect::<Vec<_>>()
        };
        let count = |written: &[Written]| verify(written).iter().filter(|row| row.is_ok()).count();
        let journal = format!("round-{round}");
        let title = if round == 0 { "seed · writing".to_string() } else { format!("round {round} · extrapolating errors") };
        let written = self.write(Writing { journal: &journal, title: &title, unit: "texts" }, wanted, plan, &count)?;

        let mut tally =
            Tally { written: written.len(), rejected: BTreeMap::new(), tokens: written.iter().map(|row| u64::from(row.tokens)).sum() };
        let mut accepted = Vec::new();
        for row in verify(&written) {
            match row {
                Ok(row) => accepted.push(row),
                Err(reason) => *tally.rejected.entry(reason).or_default() += 1,
            }
        }
        accepted.truncate(wanted);
        if accepted.is_empty() {
            let advice = format!("look at journal/{journal}.jsonl and at the prompts");
            return Err(Error::Failed(format!("nothing that the generator wrote was accepted; {advice}")));
        }
        self.rows.extend(accepted);
        self.tallies.push(tally);
        Ok(())
    }

    /// Has requests `0, 1, 2 …` of a stage written until `count` of them reaches `wanted`; returns all, in order of id.
    ///
    /// Each request is a pure function of its id and the stages before, so what the journal already holds is not asked again.
    fn write(
        &mut self,
        stage: Writing,
        wanted: usize,
        plan: &dyn Fn(u64) -> Result<Planned<'a>>,
        count: &dyn Fn(&[Written]) -> usize,
    ) -> Result<Vec<Written>> {
        let (mut journal, mut written) = self.run.journal::<Written>(stage.journal)?;
        written.sort_by_key(|row| row.id);
        let mut bar = self.inputs.progress.stage(stage.title, stage.unit, wanted, written.len());
        let mut planned = wanted;
        loop {
            bar.extend_to(planned);
            let done: HashSet<u64> = written.iter().map(|row| row.id).collect();
            let missing: Vec<u64> = (0..planned as u64).filter(|id| !done.contains(id)).collect();
            let rows = missing.into_iter().map(|id| self.plan_row(stage.journal, id, plan)).collect::<Result<Vec<_>>>()?;
            let (requests, mut rows): (Vec<_>, HashMap<_, _>) = rows.into_iter().map(|(request, row)| (request, (row.id, row))).unzip();
            self.generator.complete(&requests, &mut |Completion { id, text, tokens, finish }| {
                let row = rows.remove(&id).ok_or_else(|| Error::Failed(format!("the generator answered request {id} twice")))?;
                let row = Written { text, tokens, finish, ..row };
                journal.append(&row)?;
                written.push(row);
                bar.step(1);
                Ok(())
            })?;
            journal.sync()?;
            written.sort_by_key(|row| row.id);
            // A crash may have left answers of the next wave; they count when their wave does, so that its end is the same.
            let of_this_wave = written.partition_point(|row| row.id < planned as u64);
            let accepted = count(&written[..of_this_wave]).min(wanted);
            if accepted == wanted || planned > wanted * ATTEMPTS {
                bar.finish(&format!("{accepted} accepted"));
                written.truncate(of_this_wave);
                return Ok(written);
            }
            planned += (wanted - accepted).max(8);
        }
    }

    /// A request, and its journal row as far as it is known before it is written.
    fn plan_row(&self, journal: &str, id: u64, plan: &dyn Fn(u64) -> Result<Planned<'a>>) -> Result<(CompletionRequest, Written)> {
        let Planned { name, template, prompt, goal, parent, context, rationales } = plan(id)?;
        let seed = seed::derive(self.inputs.seed, journal, id);
        let (text, tokens, finish) = (String::new(), 0, Finish::Length);
        let row = Written { id, prompt: name.to_string(), goal, seed, parent, context, rationales, text, tokens, finish };
        Ok((self.inputs.prompts.request(id, template, prompt, seed), row))
    }

    /// What the rows of all rounds up to `round` teach.
    pub(super) fn union(&self, round: usize) -> Vec<TrainRow> {
        let rows = self.rows.iter().filter(|row| row.round <= round);
        rows.map(|row| TrainRow { text: row.text.clone(), text_pair: row.text_pair.clone(), target: row.target.clone() }).collect()
    }

    /// The contexts in the order in which the seed takes them, drawn once.
    fn shuffled_contexts(&self) -> Vec<&'a Context> {
        let mut contexts: Vec<&Context> = self.inputs.contexts.iter().collect();
        contexts.shuffle(&mut seed::rng(self.inputs.seed, "order of contexts", 0));
        contexts
    }

    /// The first text of a pair, or the context of a question, by where it comes from; empty for texts.
    fn givens(&self) -> HashMap<Given, &'a str> {
        let contexts = self.inputs.contexts.iter().map(|context| (Given::Context(context.line), context.text.as_str()));
        let pairs = self.inputs.split.mine.iter().filter(|row| row.text_pair.is_some());
        contexts.chain(pairs.map(|row| (Given::Parent(row.line), row.text.as_str()))).collect()
    }
}

/// What the seed asks for: the contexts take turns, each with its answers in an order of its own, until all answers were asked for.
fn answers_in_turns<'c>(contexts: &[&'c Context], root: u64) -> Vec<(&'c Context, &'c Answer)> {
    let shuffled = |context: &&'c Context| {
        let mut answers: Vec<&Answer> = context.answers.iter().collect();
        answers.shuffle(&mut seed::rng(root, "order of answers", context.line as u64));
        answers
    };
    let answers: Vec<Vec<&Answer>> = contexts.iter().map(shuffled).collect();
    let turns = answers.iter().map(Vec::len).max().unwrap_or(0);
    let of_turn = |turn: usize| contexts.iter().zip(&answers).filter_map(move |(context, own)| Some((*context, *own.get(turn)?)));
    (0..turns).flat_map(of_turn).collect()
}

/// `k` of `n` rationales without replacement, a draw of its own for each example; in order, so that more prompts share a prefix.
fn draw_rationales(n: usize, k: usize, root: u64, id: u64) -> Vec<usize> {
    let all: Vec<usize> = (0..n).collect();
    let mut drawn: Vec<usize> = all.sample(&mut seed::rng(root, "rationales of an example", id), k.min(n)).copied().collect();
    drawn.sort_unstable();
    drawn
}

/// The errors in an order, to be gone through again and again, in which the labels that have any take turns.
///
/// A model that leans to a label errs on the others; rows in proportion to its errors would make the next one lean the other way.
fn in_turns(errors: Vec<Misclassified>) -> Vec<Misclassified> {
    let mut by_label: BTreeMap<usize, Vec<Misclassified>> = BTreeMap::new();
    errors.into_iter().for_each(|error| by_label.entry(error.goal.label()).or_default().push(error));
    let turns = by_label.values().map(Vec::len).max().unwrap_or(0);
    (0..turns).flat_map(|turn| by_label.values().map(move |errors| errors[turn % errors.len()].clone())).collect()
}

/// A reason for a label, and the request that wrote it.
struct Rationale {
    id: u64,
    text: String,
}

/// The first `wanted` distinct, finished rationales of each label, each as it reads after its label's start of the answer.
fn accept_rationales(written: &[Written], starts: &[String], wanted: usize) -> Vec<Vec<Rationale>> {
    let mut accepted: Vec<Vec<Rationale>> = starts.iter().map(|_| Vec::new()).collect();
    let mut seen = HashSet::new();
    for row in written {
        let label = row.goal.label();
        let text = clean(&format!("{}{}", starts[label], row.text));
        let long_enough = clean(&row.text).split_whitespace().count() >= 3;
        let new = seen.insert((label, fingerprint(&text)));
        if new && long_enough && row.finish != Finish::Length && accepted[label].len() < wanted {
            accepted[label].push(Rationale { id: row.id, text });
        }
    }
    accepted
}

/// Where the first text of a pair, or a context, comes from: a line of the contexts, or of the gold rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Given {
    Context(usize),
    Parent(usize),
}

/// What stood in the prompts of a round.
struct Known<'s> {
    round: usize,
    rationales: &'s [Vec<String>],
    givens: &'s HashMap<Given, &'s str>,
    labels: usize,
}

/// Verifies one row; an accepted one has the hard target of its goal until it is judged.
fn verify_row(verifier: &mut Verifier, row: &Written, known: &Known) -> Result<SyntheticRow, Rejection> {
    let text = if row.finish == Finish::Length { whole_sentences(&row.text) } else { &row.text };
    let text = clean(text);
    let rationales: Vec<&str> = row.rationales.iter().map(|&i| known.rationales[row.goal.label()][i].as_str()).collect();
    let given = row.context.map(Given::Context).or(row.parent.map(Given::Parent));
    let given = given.and_then(|given| known.givens.get(&given).copied());
    let answer = row.goal.answer().map(|answer| answer.text.as_str());
    verifier.accept(&text, row.finish, &Prompted { rationales: &rationales, context: given, answer })?;
    let (text, text_pair) = match given {
        Some(given) => (given.to_string(), Some(text)),
        None => (text, None),
    };
    let target = Target::hard(&row.goal, known.labels);
    Ok(SyntheticRow { round: known.round, text, text_pair, written: row.clone(), log_probs: Vec::new(), target })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Guess;

    #[test]
    fn labels_with_errors_take_turns() {
        let error = |line, label| {
            let (goal, predicted) = (Goal::Label(label), Guess::Label(9));
            Misclassified { line, text: String::new(), text_pair: None, goal, predicted }
        };
        let order = |errors: &[(usize, usize)]| {
            let errors = errors.iter().map(|&(line, label)| error(line, label)).collect();
            in_turns(errors).iter().map(|e| (e.line, e.goal.label())).collect::<Vec<_>>()
        };
        let expected = [(2, 0), (1, 2), (2, 0), (3, 2), (2, 0), (4, 2)];
        assert_eq!(order(&[(1, 2), (2, 0), (3, 2), (4, 2)]), expected);
        assert_eq!(order(&[(5, 1), (6, 1)]), [(5, 1), (6, 1)]);
        assert!(order(&[]).is_empty());
    }

    #[test]
    fn contexts_take_turns_until_every_answer_was_asked_for() {
        let answer = |text: &str| Answer { text: text.into(), start: 0 };
        let context = |line, answers: &[&str]| Context { line, text: String::new(), answers: answers.iter().map(|a| answer(a)).collect() };
        let contexts = [context(1, &["a", "b", "c"]), context(2, &[]), context(3, &["d"])];
        let turns = |root| {
            let found = answers_in_turns(&contexts.iter().collect::<Vec<_>>(), root);
            found.into_iter().map(|(context, answer)| (context.line, answer.text.clone())).collect::<Vec<_>>()
        };
        for root in 0..9 {
            let mut turns = turns(root);
            assert_eq!(turns.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 3, 1, 1]);
            turns.sort();
            assert_eq!(turns.iter().map(|(_, answer)| answer.as_str()).collect::<String>(), "abcd");
        }
        assert!((1..9).any(|root| turns(root) != turns(0)));
    }
}
