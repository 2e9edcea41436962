//! First texts of pairs and contexts of questions: from a file, or from the gold rows in *mine*; as many as a seed can use.

use std::collections::HashSet;

use rand::seq::SliceRandom;

use crate::data::answers::Answers;
use crate::data::example::{Answer, Context, fingerprint};
use crate::data::head::Head;
use crate::data::label_sets::LabelSets;
use crate::data::labels::Labels;
use crate::data::spans;
use crate::data::split::Split;
use crate::data::unlabelled::Texts;
use crate::error::Result;
use crate::math::random;
use crate::synthesis::waves::most_requests;
use crate::task::file::{AnswersFrom, Task};

/// The contexts that the seed is written for, by the head of the task.
pub trait Contexts: Head {
    /// In the order in which the seed uses them, shuffled with `seed`; those that it cannot reach are left out. `given` are those of the
    /// task's contexts file, if it has one.
    ///
    /// # Errors
    /// A file that has changed since it was opened.
    fn contexts(&self, task: &Task, given: Option<&Texts>, split: &Split<Self>, seed: u64) -> Result<Vec<Context>>;
}

impl Contexts for Labels {
    fn contexts(&self, task: &Task, given: Option<&Texts>, split: &Split<Labels>, seed: u64) -> Result<Vec<Context>> {
        if !self.pairs {
            return Ok(Vec::new());
        }
        Shuffled::of(given, split, seed).take(most_requests(task.seed.rows, self.strata()), &Some)
    }
}

impl Contexts for LabelSets {
    /// Single texts have none.
    fn contexts(&self, _: &Task, _: Option<&Texts>, _: &Split<LabelSets>, _: u64) -> Result<Vec<Context>> {
        Ok(Vec::new())
    }
}

impl Contexts for Answers {
    /// Each context with its possible answers: those of its questions in *mine*, or candidate spans found in it.
    fn contexts(&self, task: &Task, given: Option<&Texts>, split: &Split<Answers>, seed: u64) -> Result<Vec<Context>> {
        let answers = |context: &Context| match task.answers_from() {
            AnswersFrom::Gold => gold_answers(context, split),
            AnswersFrom::Found => spans::candidates(&context.text),
        };
        let with_answers = |context| Some(Context { answers: answers(&context), ..context }).filter(|context| !context.answers.is_empty());
        Shuffled::of(given, split, seed).take(most_requests(task.seed.rows, self.strata()), &with_answers)
    }
}

/// All contexts in the order of the seed, and how each is read.
struct Shuffled<'c> {
    given: Option<&'c Texts>,
    of_mine: Vec<Context>,
    order: Vec<usize>,
}

impl<'c> Shuffled<'c> {
    fn of<H: Head>(given: Option<&'c Texts>, split: &Split<H>, seed: u64) -> Self {
        let of_mine = if given.is_some() { Vec::new() } else { distinct(split) };
        let mut order: Vec<usize> = (0..given.map_or(of_mine.len(), Texts::len)).collect();
        order.shuffle(&mut random::rng(seed, "order of contexts", 0));
        Shuffled { given, of_mine, order }
    }

    /// The first `count` of which `usable` makes something.
    fn take(self, count: usize, usable: &dyn Fn(Context) -> Option<Context>) -> Result<Vec<Context>> {
        let of = |place: usize| self.given.map_or_else(|| Ok(self.of_mine[place].clone()), |given| given.context(place));
        self.order.iter().map(|place| of(*place)).filter_map(|context| context.map(usable).transpose()).take(count).collect()
    }
}

/// The first texts of *mine*, each once.
fn distinct<H: Head>(split: &Split<H>) -> Vec<Context> {
    let mut seen = HashSet::new();
    let of_mine = split.mine.iter().map(|row| Context { line: row.line, text: row.text.clone(), answers: Vec::new() });
    of_mine.filter(|context| seen.insert(fingerprint(&context.text))).collect()
}

fn gold_answers(context: &Context, split: &Split<Answers>) -> Vec<Answer> {
    let own = split.mine.iter().filter(|row| row.text == context.text);
    let mut answers: Vec<Answer> = own.map(|row| row.gold.answer.clone()).collect();
    answers.sort_by(|a, b| (a.start, &a.text).cmp(&(b.start, &b.text)));
    answers.dedup();
    answers
}
