//! Sends a stage's requests to the generator until enough rows are accepted, and verifies them.

use std::collections::{HashMap, VecDeque};

use super::head::LoopHead;
use super::rows::{Reviewed, SyntheticRow, Tally, Written, not_needed};
use super::state::Synthesis;
use super::verify::{Prompted, Verifier};
use super::waves::Waves;
use crate::data::language::whole_sentences;
use crate::error::{Error, Result};
use crate::files::sha256::mark_of;
use crate::generator::{Completion, CompletionRequest, Finish, Prompt};
use crate::math::random;
use crate::run::round::Rejection;
use crate::task::file::SeedBudget;
use crate::task::prompt_keys::WritingPrompt;
use crate::task::prompts::clean;

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

/// A writing stage.
pub(super) struct Writing<'s, 't, H: LoopHead> {
    /// Its journal, and the title and unit of its progress bar.
    pub(super) journal: &'s str,
    pub(super) title: &'s str,
    pub(super) unit: &'static str,
    /// How many rows to accept: of each stratum as many as requests `0, 1 … wanted - 1` are of it.
    pub(super) wanted: usize,
    pub(super) budget: Option<SeedBudget>,
    /// A request by its id: a pure function of the id and the earlier stages.
    pub(super) plan: &'s dyn Fn(u64) -> Result<Planned<'t, H>>,
    /// The stratum of a request's goal.
    pub(super) stratum: &'s dyn Fn(u64) -> usize,
}

/// What came of a stage.
pub(super) struct Outcome {
    pub(super) tally: Tally,
    /// Accepted and wanted rows, and requests, of each stratum.
    pub(super) strata: Vec<(usize, usize, usize)>,
}

/// The first texts of a budget, which tell what one costs; each wave may then triple what is written.
const FIRST_OF_BUDGET: usize = 32;

/// Fewer texts are not worth another wave of a budget.
const LEAST_OF_BUDGET: usize = 8;

impl<'a, H: LoopHead> Synthesis<'a, H> {
    /// Writes until `wanted` rows of `round` are accepted, and keeps them.
    pub(super) fn write_round(
        &mut self,
        round: usize,
        wanted: usize,
        plan: &dyn Fn(u64) -> Result<Planned<'a, H>>,
        stratum: &dyn Fn(u64) -> usize,
    ) -> Result<()> {
        let (task, head) = (self.inputs.task, &self.inputs.small.head);
        let says = task.label_words();
        let mut verifier = self.verifier();
        verifier.remember(self.rows.iter().map(SyntheticRow::input));
        verifier.remember(self.read.iter().filter(|row| !row.is_real()).map(|row| row.text.input()));
        let (rationales, givens) = (self.rationales.clone(), self.givens());
        let known = Known { round, rationales: &rationales, givens: &givens, head, says: &says };
        let mut accepted = Vec::new();
        let mut accept = |row: &Written<H>| verify_row(&mut verifier, row, &known).map(|row| accepted.push(row));
        let journal = format!("round-{round}");
        let title = if round == 0 { "seed · writing".to_string() } else { format!("round {round} · extrapolating errors") };
        let budget = task.seed.budget.filter(|_| round == 0);
        let stage = Writing { journal: &journal, title: &title, unit: "texts", wanted, budget, plan, stratum };
        let outcome = self.write(stage, &mut accept)?;
        if accepted.is_empty() {
            let why = outcome.tally.in_words();
            return Err(Error::Failed(format!("no generated text was accepted ({why}); check journal/{journal}.jsonl and the prompts")));
        }
        accepted.sort_by_key(|row| row.written.id);
        let mut room: Vec<usize> = outcome.strata.iter().map(|(_, wanted, _)| *wanted).collect();
        accepted.retain(|row| {
            let room = &mut room[H::stratum(&row.written.goal)];
            let fits = *room > 0;
            *room -= usize::from(fits);
            fits
        });
        self.report_starving(round, &outcome)?;
        self.rows.extend(accepted);
        self.tallies.push(outcome.tally);
        Ok(())
    }

    /// That of the run's task.
    pub(super) fn verifier(&self) -> Verifier {
        Verifier::of_task(self.inputs.task, self.inputs.drawn.gold())
    }

    /// Says of which labels less was accepted than wanted, and why.
    ///
    /// # Errors
    /// In the seed, a label of which nothing was accepted, where nothing is read either: it would be learnt from nothing.
    fn report_starving(&self, round: usize, outcome: &Outcome) -> Result<()> {
        for (stratum, (accepted, wanted, sent)) in outcome.strata.iter().enumerate() {
            if accepted >= wanted || (self.inputs.task.seed.budget.is_some() && *accepted > 0) {
                continue;
            }
            let of = self.inputs.task.labels.get(stratum).map(|label| format!(" of label {:?}", label.name));
            let none = if stratum > 0 { " without a label" } else { "" };
            let name = of.unwrap_or(none.to_string());
            let (why, examples) = outcome.tally.of_stratum(stratum);
            let message = format!(
                "round {round}: {accepted} of {wanted} rows{name} accepted after {sent} texts ({why}); for example {examples}. Look at \
                 prompts.seed, or take another generator"
            );
            if *accepted == 0 && round == 0 && self.read.is_empty() {
                return Err(Error::Failed(message));
            }
            self.inputs.progress.say(message);
        }
        Ok(())
    }

    /// Sends requests in waves until each stratum has the rows that it should, or is given up; `accept` sees each answer once, in the
    /// order of the requests. Requests that the journal has answers to are not sent again. With a budget, it ends when that is spent.
    pub(super) fn write(
        &mut self,
        stage: Writing<'_, 'a, H>,
        accept: &mut dyn FnMut(&Written<H>) -> Result<(), Rejection>,
    ) -> Result<Outcome> {
        let (mut journal, known) = self.run.journal::<Written<H>>(stage.journal)?;
        let mut answers: HashMap<u64, Written<H>> = known.into_iter().map(|row| (row.id, row)).collect();
        let mut bar = self.inputs.progress.bar(stage.title, stage.unit, stage.wanted, answers.len());
        let mut intake = Intake {
            waves: Waves::new(self.strata(), stage.wanted, stage.stratum),
            wave: VecDeque::new(),
            accept,
            computed: 0,
            tally: Tally::default(),
        };
        let first = stage.wanted.min(FIRST_OF_BUDGET);
        intake.wave = if stage.budget.is_some() { intake.waves.next_some(first) } else { intake.waves.next_missing() }.into();
        let mut stale = 0;
        while !intake.wave.is_empty() {
            bar.extend_to(intake.tally.written + intake.wave.len());
            let rows = intake.wave.iter().map(|&id| self.plan_row(stage.journal, id, stage.plan)).collect::<Result<Vec<_>>>()?;
            let before = answers.len();
            for (_, row) in &rows {
                if answers.get(&row.id).is_some_and(|known| known.mark != row.mark) {
                    answers.remove(&row.id);
                }
            }
            stale += before - answers.len();
            let rows = rows.into_iter().filter(|(_, row)| !answers.contains_key(&row.id));
            let (requests, mut rows): (Vec<_>, HashMap<_, _>) = rows.map(|(request, row)| (request, (row.id, row))).unzip();
            intake.take(&mut answers);
            self.generator.complete(&requests, &mut |Completion { id, text, tokens, computed, finish }| {
                let row = rows.remove(&id).ok_or_else(|| Error::Failed(format!("the generator answered request {id} twice")))?;
                let row = Written { text, tokens, computed, finish, ..row };
                journal.append(&row)?;
                answers.insert(id, row);
                intake.take(&mut answers);
                bar.step(1)?;
                bar.tell(intake.tally.in_words());
                Ok(())
            })?;
            journal.sync()?;
            intake.wave = intake.next(stage.budget).into();
        }
        if stale > 0 {
            let journal = stage.journal;
            self.inputs
                .progress
                .say(format!("journal/{journal}.jsonl: {stale} answers were to other requests than today's; they are written anew"));
        }
        let Intake { waves, tally, .. } = intake;
        let spare = not_needed(tally.accepted() - waves.accepted());
        bar.finish(&format!("{} accepted{}{spare}", waves.accepted(), tally.rejections()));
        Ok(Outcome { tally, strata: waves.counts().collect() })
    }

    /// A request, and its journal row without the result.
    fn plan_row(&self, journal: &str, id: u64, plan: &dyn Fn(u64) -> Result<Planned<'a, H>>) -> Result<(CompletionRequest, Written<H>)> {
        let Planned { name, template, prompt, goal, parent, context, rationales } = plan(id)?;
        let seed = random::derive(self.inputs.seed, journal, id);
        let (text, tokens, computed, finish) = (String::new(), 0, 0, Finish::Length);
        let request = self.inputs.prompts.request(id, template, prompt, seed);
        let CompletionRequest { prompt, sampling, max_tokens, stop, .. } = &request;
        let said = [prompt.system.as_deref().unwrap_or_default(), &prompt.user, &prompt.answer_start];
        let how = format!("{seed} {sampling:?} {max_tokens}");
        let mark = mark_of(said.into_iter().chain([how.as_str()]).chain(stop.iter().map(String::as_str)));
        let row = Written { id, prompt: name.to_string(), goal, seed, parent, context, rationales, text, tokens, computed, finish, mark };
        Ok((request, row))
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

/// Answers of a wave, looked at in the order of its requests as far as they have come.
struct Intake<'s, 'c, H: LoopHead> {
    waves: Waves<'s>,
    /// Requests whose answers were not looked at yet.
    wave: VecDeque<u64>,
    accept: &'c mut dyn FnMut(&Written<H>) -> Result<(), Rejection>,
    /// Tokens that the generator computed.
    computed: u64,
    tally: Tally,
}

impl<H: LoopHead> Intake<'_, '_, H> {
    /// Looks at the answers whose turn it is.
    fn take(&mut self, answers: &mut HashMap<u64, Written<H>>) {
        while let Some(row) = self.wave.front().and_then(|id| answers.remove(id)) {
            self.wave.pop_front();
            let verdict = (self.accept)(&row);
            self.waves.settle(row.id, verdict.is_ok());
            self.tally.add(&row, verdict.err());
            self.computed += u64::from(row.computed);
        }
    }

    /// The next wave.
    fn next(&mut self, budget: Option<SeedBudget>) -> Vec<u64> {
        let Some(budget) = budget else { return self.waves.next_missing() };
        let sent = self.tally.written;
        let more = budget.more(sent, self.waves.accepted(), self.computed);
        let full = self.waves.counts().all(|(accepted, wanted, _)| accepted >= wanted);
        if full || more < LEAST_OF_BUDGET { Vec::new() } else { self.waves.next_some(more.min(2 * sent)) }
    }
}

/// What the prompts of a round can contain.
struct Known<'s, H> {
    round: usize,
    /// The wording of each label.
    says: &'s [String],
    rationales: &'s [Vec<String>],
    givens: &'s HashMap<Given, &'s str>,
    head: &'s H,
}

/// A completion as a text: up to its last whole sentence if it was cut off, cleaned.
pub fn finished(text: &str, finish: Finish) -> String {
    clean(if finish == Finish::Length { whole_sentences(text) } else { text })
}

/// Verifies one row. An accepted row has the hard target of its goal until it is judged.
fn verify_row<H: LoopHead>(verifier: &mut Verifier, row: &Written<H>, known: &Known<H>) -> Result<SyntheticRow<H>, Rejection> {
    let text = finished(&row.text, row.finish);
    let of_goal = H::rationales_of(&row.goal, known.rationales);
    let rationales: Vec<&str> = row.rationales.iter().map(|&i| of_goal[i].as_str()).collect();
    let given = row.context.map(Given::Context).or(row.parent.map(Given::Parent));
    let given = given.and_then(|given| known.givens.get(&given).copied());
    let answer = H::answer(&row.goal);
    let label = H::one_label(&row.goal, known.says);
    verifier.accept(&text, row.finish, &Prompted { rationales: &rationales, context: given, answer, label })?;
    let (text, text_pair) = match given {
        Some(given) => (given.to_string(), Some(text)),
        None => (text, None),
    };
    let target = known.head.hard_target(&row.goal);
    Ok(SyntheticRow { round: known.round, text, text_pair, written: row.clone(), answers: Vec::new(), target, reviewed: Reviewed::AsItIs })
}
