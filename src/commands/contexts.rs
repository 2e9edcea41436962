//! First texts of pairs and contexts of questions: from a file, or from the gold rows in *mine*.

use crate::data::answers::Answers;
use crate::data::example::{Answer, Context};
use crate::data::head::Head;
use crate::data::labels::Labels;
use crate::data::read::distinct;
use crate::data::spans;
use crate::data::split::Split;
use crate::task::file::{AnswersFrom, Task};

/// The contexts that the seed is written for, by the head of the task.
pub trait Contexts: Head {
    /// `given` are the contexts of the task's contexts file, if it has one.
    fn contexts(&self, task: &Task, given: Option<&[Context]>, split: &Split<Self>) -> Vec<Context>;
}

impl Contexts for Labels {
    fn contexts(&self, _: &Task, given: Option<&[Context]>, split: &Split<Labels>) -> Vec<Context> {
        if self.pairs { given_or_mine(given, split) } else { Vec::new() }
    }
}

impl Contexts for Answers {
    /// Each context with its possible answers: those of its questions in *mine*, or candidate spans found in it.
    fn contexts(&self, task: &Task, given: Option<&[Context]>, split: &Split<Answers>) -> Vec<Context> {
        let answers = |context: &Context| match task.answers_from() {
            AnswersFrom::Gold => gold_answers(context, split),
            AnswersFrom::Found => spans::candidates(&context.text),
        };
        given_or_mine(given, split).into_iter().map(|context| Context { answers: answers(&context), ..context }).collect()
    }
}

fn given_or_mine<H: Head>(given: Option<&[Context]>, split: &Split<H>) -> Vec<Context> {
    let of_mine = split.mine.iter().map(|row| Context { line: row.line, text: row.text.clone(), answers: Vec::new() });
    given.map_or_else(|| distinct(of_mine), <[Context]>::to_vec)
}

fn gold_answers(context: &Context, split: &Split<Answers>) -> Vec<Answer> {
    let own = split.mine.iter().filter(|row| row.text == context.text);
    let mut answers: Vec<Answer> = own.map(|row| row.gold.answer.clone()).collect();
    answers.sort_by(|a, b| (a.start, &a.text).cmp(&(b.start, &b.text)));
    answers.dedup();
    answers
}
