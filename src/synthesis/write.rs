//! Sends a stage's requests to the generator until enough rows are accepted, and verifies them.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::head::LoopHead;
use super::rows::{SyntheticRow, Tally, Written};
use super::state::Synthesis;
use super::verify::{Prompted, Verifier};
use crate::error::{Error, Result};
use crate::generator::{Completion, CompletionRequest, Finish, Prompt};
use crate::math::random;
use crate::run::round::Rejection;
use crate::task::file::{SeedBudget, WritingPrompt};
use crate::task::prompts::{clean, whole_sentences};

/// A planned request and its provenance.
pub(super) struct Planned<'t, H: LoopHead> {
    pub(super) name: &'static str,
    pub(super) template: &'t WritingPrompt,
    pub(super) prompt: Prompt,
    pub(super) goal: H::Goal,
    pub(super) parent: Option<usize>,
    pub(super) context: Option<usize>,
    pub(super) rationales: Vec<usize>,
}

/// A stage gives up after this many times as many requests as wanted rows.
const ATTEMPTS: usize = 4;

/// The most requests that writing `wanted` rows takes.
pub fn most_requests(wanted: usize) -> usize {
    wanted * (ATTEMPTS + 1) + LEAST_MORE
}

/// Fewest requests of a further wave.
const LEAST_MORE: usize = 8;

/// A writing stage: its journal, and the title and unit of its progress bar.
pub(super) struct Writing<'s> {
    pub(super) journal: &'s str,
    pub(super) title: &'s str,
    pub(super) unit: &'static str,
    pub(super) budget: Option<SeedBudget>,
}

/// The first texts of a budget, which tell what one costs; each wave may then triple what is written.
const FIRST_OF_BUDGET: usize = 32;

/// Fewer texts are not worth another wave of a budget.
const LEAST_OF_BUDGET: usize = 8;

impl<'a, H: LoopHead> Synthesis<'a, H> {
    /// Writes until `wanted` rows of `round` are accepted, and keeps them.
    pub(super) fn write_round(&mut self, round: usize, wanted: usize, plan: &dyn Fn(u64) -> Result<Planned<'a, H>>) -> Result<()> {
        let (split, head) = (self.inputs.split, &self.inputs.small.head);
        let reads_gold = self.inputs.task.reads_gold();
        let (earlier, rationales, givens) = (self.rows.clone(), self.rationales.clone(), self.givens());
        let verify = |written: &[Written<H>]| {
            let mut verifier = Verifier::new(split.gold().filter(|_| reads_gold).map(|row| row.written()));
            verifier.remember(earlier.iter().map(|row| row.own_text()));
            let known = Known { round, rationales: &rationales, givens: &givens, head };
            written.iter().map(|row| verify_row(&mut verifier, row, &known)).collect::<Vec<_>>()
        };
        let count = |written: &[Written<H>]| verify(written).iter().filter(|row| row.is_ok()).count();
        let journal = format!("round-{round}");
        let title = if round == 0 { "seed · writing".to_string() } else { format!("round {round} · extrapolating errors") };
        let budget = self.inputs.task.seed.budget.filter(|_| round == 0);
        let written = self.write(Writing { journal: &journal, title: &title, unit: "texts", budget }, wanted, plan, &count)?;

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
            let advice = format!("check journal/{journal}.jsonl and the prompts");
            return Err(Error::Failed(format!("no generated text was accepted; {advice}")));
        }
        self.rows.extend(accepted);
        self.tallies.push(tally);
        Ok(())
    }

    /// Sends requests `0, 1, 2 …` of a stage until `count` of the results reaches `wanted`; returns all results, in order of id.
    ///
    /// Each request is a pure function of its id and the earlier stages, so requests that the journal has answers to are not sent again.
    /// With a budget, it ends when that is spent.
    pub(super) fn write(
        &mut self,
        stage: Writing,
        wanted: usize,
        plan: &dyn Fn(u64) -> Result<Planned<'a, H>>,
        count: &dyn Fn(&[Written<H>]) -> usize,
    ) -> Result<Vec<Written<H>>> {
        let (mut journal, mut written) = self.run.journal::<Written<H>>(stage.journal)?;
        written.sort_by_key(|row| row.id);
        let mut bar = self.inputs.progress.bar(stage.title, stage.unit, wanted, written.len());
        let known = written.last().map_or(0, |row| row.id as usize + 1);
        let mut planned = if stage.budget.is_some() { wanted.min(FIRST_OF_BUDGET).max(known) } else { wanted };
        loop {
            bar.extend_to(planned);
            let done: HashSet<u64> = written.iter().map(|row| row.id).collect();
            let missing: Vec<u64> = (0..planned as u64).filter(|id| !done.contains(id)).collect();
            let rows = missing.into_iter().map(|id| self.plan_row(stage.journal, id, plan)).collect::<Result<Vec<_>>>()?;
            let (requests, mut rows): (Vec<_>, HashMap<_, _>) = rows.into_iter().map(|(request, row)| (request, (row.id, row))).unzip();
            self.generator.complete(&requests, &mut |Completion { id, text, tokens, computed, finish }| {
                let row = rows.remove(&id).ok_or_else(|| Error::Failed(format!("the generator answered request {id} twice")))?;
                let row = Written { text, tokens, computed, finish, ..row };
                journal.append(&row)?;
                written.push(row);
                bar.step(1);
                Ok(())
            })?;
            journal.sync()?;
            written.sort_by_key(|row| row.id);
            // A crash may have left answers of the next wave. They count only in their own wave, so that a resumed stage ends the same.
            let of_this_wave = written.partition_point(|row| row.id < planned as u64);
            let accepted = count(&written[..of_this_wave]).min(wanted);
            let affordable = stage.budget.map(|budget| {
                let spent = written[..of_this_wave].iter().map(|row| u64::from(row.computed)).sum();
                let more = budget.more(planned, accepted, spent);
                if more < LEAST_OF_BUDGET { 0 } else { more.min(2 * planned) }
            });
            if accepted == wanted || planned > wanted * ATTEMPTS || affordable == Some(0) {
                bar.finish(&format!("{accepted} accepted"));
                written.truncate(of_this_wave);
                return Ok(written);
            }
            planned += affordable.unwrap_or((wanted - accepted).max(LEAST_MORE));
        }
    }

    /// A request, and its journal row without the result.
    fn plan_row(&self, journal: &str, id: u64, plan: &dyn Fn(u64) -> Result<Planned<'a, H>>) -> Result<(CompletionRequest, Written<H>)> {
        let Planned { name, template, prompt, goal, parent, context, rationales } = plan(id)?;
        let seed = random::derive(self.inputs.seed, journal, id);
        let (text, tokens, computed, finish) = (String::new(), 0, 0, Finish::Length);
        let row = Written { id, prompt: name.to_string(), goal, seed, parent, context, rationales, text, tokens, computed, finish };
        Ok((self.inputs.prompts.request(id, template, prompt, seed), row))
    }

    /// First texts of pairs, or contexts of questions, by their origin; empty for single texts.
    fn givens(&self) -> HashMap<Given, &'a str> {
        let contexts = self.inputs.contexts.iter().map(|context| (Given::Context(context.line), context.text.as_str()));
        let pairs = self.inputs.split.mine.iter().filter(|row| row.text_pair.is_some());
        contexts.chain(pairs.map(|row| (Given::Parent(row.line), row.text.as_str()))).collect()
    }
}

/// The origin of a first text or a context: a line of the contexts, or of the gold rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Given {
    Context(usize),
    Parent(usize),
}

/// What the prompts of a round can contain.
struct Known<'s, H> {
    round: usize,
    rationales: &'s [Vec<String>],
    givens: &'s HashMap<Given, &'s str>,
    head: &'s H,
}

/// Verifies one row. An accepted row has the hard target of its goal until it is judged.
fn verify_row<H: LoopHead>(verifier: &mut Verifier, row: &Written<H>, known: &Known<H>) -> Result<SyntheticRow<H>, Rejection> {
    let text = if row.finish == Finish::Length { whole_sentences(&row.text) } else { &row.text };
    let text = clean(text);
    let of_goal = H::rationales_of(&row.goal, known.rationales);
    let rationales: Vec<&str> = row.rationales.iter().map(|&i| of_goal[i].as_str()).collect();
    let given = row.context.map(Given::Context).or(row.parent.map(Given::Parent));
    let given = given.and_then(|given| known.givens.get(&given).copied());
    let answer = H::answer(&row.goal);
    verifier.accept(&text, row.finish, &Prompted { rationales: &rationales, context: given, answer })?;
    let (text, text_pair) = match given {
        Some(given) => (given.to_string(), Some(text)),
        None => (text, None),
    };
    let target = known.head.hard_target(&row.goal);
    Ok(SyntheticRow { round: known.round, text, text_pair, written: row.clone(), answers: Vec::new(), target })
}
