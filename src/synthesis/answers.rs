//! The loop for question answering: questions are written for answers in their contexts, without rationales or a judge.

use rand::seq::SliceRandom;
use serde_json::{Value, json};

use super::head::{LoopHead, Turns};
use super::rows::{ReadRow, SyntheticRow};
use super::stages::Stages;
use super::state::Synthesis;
use crate::data::answers::{AnswerGoal, Answers, GoldAnswers};
use crate::data::example::{Answer, Context, GoldRow};
use crate::error::{Error, Result};
use crate::judge::judges::LearntFrom;
use crate::math::random;
use crate::run::summary::{Choice, Measures};
use crate::small::answers::Found;
use crate::small::head::SmallHead;

impl LoopHead for Answers {
    const CONTEXT_LINE: &'static str = "context_line";

    fn turns<'c>(&self, contexts: &[&'c Context], _: &[&GoldAnswers], _: &[f64], seed: u64) -> Result<Turns<'c, Answers>> {
        let goals = answers_in_turns(contexts, seed);
        if goals.is_empty() {
            return Err(Error::Failed("no context has a candidate answer; check data.contexts and data.answers".to_string()));
        }
        Ok(Box::new(move |id| {
            let (context, answer) = goals[id % goals.len()];
            (AnswerGoal { answer: answer.clone() }, Some(context))
        }))
    }

    fn rationales_of<'r>(_: &AnswerGoal, _: &'r [Vec<String>]) -> &'r [String] {
        &[]
    }

    fn one_or_several(_: &AnswerGoal) -> Option<Vec<usize>> {
        None
    }

    fn one_label<'s>(_: &AnswerGoal, _: &'s [String]) -> Option<&'s str> {
        None
    }

    fn answer(goal: &AnswerGoal) -> Option<&str> {
        Some(&goal.answer.text)
    }

    /// SQuAD's format: a context, a question and its answer.
    fn dataset_row(&self, row: &SyntheticRow<Answers>, _: &<Answers as SmallHead>::Target) -> Value {
        let Answer { text, start } = &row.written.goal.answer;
        json!({"context": row.text, "question": row.text_pair, "answers": {"text": [text], "answer_start": [start]}})
    }

    fn dataset_reasons(&self, _: &SyntheticRow<Answers>, _: &[Vec<String>], _: &[Vec<f32>]) -> Value {
        json!({})
    }

    fn prediction_row(&self, gold: &GoldAnswers, found: &Found) -> Value {
        json!({"answer": gold.answer, "predicted": found.answer, "score": found.probability})
    }

    fn measures(&self, test: &[GoldRow<Answers>], found: &[Found]) -> Measures {
        Measures::Answers { f1: test.iter().zip(found).map(|(row, found)| row.gold.f1(&found.answer.text)).collect() }
    }
}

impl Stages for Answers {
    fn try_the_judge(_: &mut Synthesis<Answers>) -> Result<()> {
        Ok(())
    }

    fn write_rationales(_: &mut Synthesis<Answers>) -> Result<()> {
        Ok(())
    }

    fn calibrate(_: &mut Synthesis<Answers>) -> Result<()> {
        Ok(())
    }

    fn list(_: &mut Synthesis<Answers>) -> Result<()> {
        Ok(())
    }

    fn read(_: &mut Synthesis<Answers>, _: usize) -> Result<()> {
        Ok(())
    }

    fn judge(_: &mut Synthesis<Answers>, _: usize) -> Result<()> {
        Ok(())
    }

    fn choose(_: &Synthesis<Answers>) -> Result<Option<Choice>> {
        Ok(None)
    }

    fn can_be_taught(_: &Synthesis<Answers>, _: usize, _: &AnswerGoal) -> bool {
        true
    }

    fn target(_: &Synthesis<Answers>, row: &SyntheticRow<Answers>, _: LearntFrom) -> <Answers as SmallHead>::Target {
        row.target.clone()
    }

    fn target_of_read(_: &Synthesis<Answers>, _: &ReadRow, _: LearntFrom) -> <Answers as SmallHead>::Target {
        unreachable!("no text is read for questions")
    }

    fn read_row(_: &Synthesis<Answers>, _: &ReadRow) -> Value {
        unreachable!("no text is read for questions")
    }
}

/// All pairs of a context and one of its answers, round-robin over the contexts; each context's answers are shuffled.
fn answers_in_turns<'c>(contexts: &[&'c Context], root: u64) -> Vec<(&'c Context, &'c Answer)> {
    let shuffled = |context: &&'c Context| {
        let mut answers: Vec<&Answer> = context.answers.iter().collect();
        answers.shuffle(&mut random::rng(root, "order of answers", context.line as u64));
        answers
    };
    let answers: Vec<Vec<&Answer>> = contexts.iter().map(shuffled).collect();
    let turns = answers.iter().map(Vec::len).max().unwrap_or(0);
    let of_turn = |turn: usize| contexts.iter().zip(&answers).filter_map(move |(context, own)| Some((*context, *own.get(turn)?)));
    (0..turns).flat_map(of_turn).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_take_turns_until_every_answer_is_used() {
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
