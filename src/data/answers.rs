//! Extractive question answering: the answer to a question is a span of its context.

use std::collections::HashSet;

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::example::{Answer, GoldRow};
use super::fields::{kind_of, string_field, text_field};
use super::head::Head;
use super::read::ReadGold;
use super::split::{Divide, Split};
use super::squad;
use crate::math::random;

/// The head of extractive question answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers;

/// The gold answers of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoldAnswers {
    pub answer: Answer,
    /// Alternative gold answers.
    pub others: Vec<String>,
}

impl GoldAnswers {
    /// All gold answers.
    pub fn references(&self) -> Vec<&str> {
        std::iter::once(self.answer.text.as_str()).chain(self.others.iter().map(String::as_str)).collect()
    }

    /// SQuAD's F1 of a predicted answer, in [0, 1].
    pub fn f1(&self, predicted: &str) -> f64 {
        squad::f1(predicted, &self.references())
    }
}

/// The answer that a question is written for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerGoal {
    pub answer: Answer,
}

impl Head for Answers {
    type Gold = GoldAnswers;
    type Goal = AnswerGoal;
    /// The text of the answer.
    type Prediction = String;

    fn goal(gold: &GoldAnswers) -> AnswerGoal {
        AnswerGoal { answer: gold.answer.clone() }
    }

    fn right(goal: &AnswerGoal) -> String {
        goal.answer.text.clone()
    }

    /// SQuAD's exact match with one of the gold answers.
    fn accepts(gold: &GoldAnswers, prediction: &String) -> bool {
        squad::exact_match(prediction, &gold.references()) == 1.0
    }

    fn strata(&self) -> usize {
        1
    }

    fn stratum(_: &AnswerGoal) -> usize {
        0
    }
}

impl ReadGold for Answers {
    fn example(&self) -> &'static str {
        r#"{"context": "…", "question": "…", "answers": {"text": ["…"], "answer_start": [0]}}"#
    }

    /// The context is not trimmed: answer positions count its characters.
    fn parse(&self, object: &Map<String, Value>, line: usize) -> Result<GoldRow<Answers>, String> {
        let context = string_field(object, "context")?;
        text_field(object, "context")?;
        let question = text_field(object, "question")?;
        let mut answers = parse_answers(object, context)?.into_iter();
        let answer = answers.next().ok_or("field \"answers.text\" is empty; every question needs an answer in its context")?;
        let mut others: Vec<String> = answers.map(|answer| answer.text).filter(|text| *text != answer.text).collect();
        others.dedup();
        Ok(GoldRow { line, text: context.to_string(), text_pair: Some(question), gold: GoldAnswers { answer, others } })
    }

    /// A question that is asked twice of a context keeps the answers of both lines.
    fn merge(&self, row: &mut GoldRow<Answers>, again: GoldRow<Answers>) -> Result<(), String> {
        let known: HashSet<&str> = row.gold.references().into_iter().collect();
        let new: Vec<String> = again.gold.references().into_iter().filter(|answer| !known.contains(answer)).map(str::to_string).collect();
        row.gold.others.extend(new);
        Ok(())
    }
}

impl Divide for Answers {
    /// Contexts, shuffled with `seed`, go to *select* until it has its share, each with all its questions, so that no context is on both
    /// sides. The last context never goes to *select*.
    fn divide(&self, gold: &[GoldRow<Answers>], select_share: f64, seed: u64) -> Result<Split<Answers>, String> {
        let mut contexts: Vec<&str> = gold.iter().map(|row| row.text.as_str()).collect();
        contexts.sort_unstable();
        contexts.dedup();
        if contexts.len() < 2 {
            return Err("all questions are about one context; at least 2 are needed, one for each split (mine, select)".to_string());
        }
        contexts.shuffle(&mut random::rng(seed, "split", 0));
        let (mut mine, mut select) = (Vec::new(), Vec::new());
        for (i, context) in contexts.iter().enumerate() {
            let own = gold.iter().filter(|row| row.text == *context).cloned();
            let more = i + 1 < contexts.len() && (select.len() as f64) < select_share * gold.len() as f64;
            if more { &mut select } else { &mut mine }.extend(own);
        }
        Ok(Split::in_order_of_lines(mine, select))
    }
}

fn parse_answers(object: &Map<String, Value>, context: &str) -> Result<Vec<Answer>, String> {
    let answers = match object.get("answers") {
        Some(Value::Object(answers)) => answers,
        Some(other) => return Err(format!("field \"answers\" must be an object, not {}", kind_of(other))),
        None => return Err("field \"answers\" is missing".to_string()),
    };
    let list = |name: &str| match answers.get(name) {
        Some(Value::Array(items)) => Ok(items),
        Some(other) => Err(format!("field \"answers.{name}\" must be a list, not {}", kind_of(other))),
        None => Err(format!("field \"answers.{name}\" is missing")),
    };
    let (texts, starts) = (list("text")?, list("answer_start")?);
    if texts.len() != starts.len() {
        return Err(format!("field \"answers\" has {} in \"text\", but {} in \"answer_start\"", texts.len(), starts.len()));
    }
    texts.iter().zip(starts).map(|(text, start)| parse_answer(text, start, context)).collect()
}

fn parse_answer(text: &Value, start: &Value, context: &str) -> Result<Answer, String> {
    let text = text.as_str().ok_or_else(|| format!("field \"answers.text\" must hold strings, not {}", kind_of(text)))?;
    let whole = || format!("field \"answers.answer_start\" must hold whole numbers from 0, not {start}");
    let start = start.as_u64().and_then(|start| usize::try_from(start).ok()).ok_or_else(whole)?;
    if text.trim().is_empty() {
        return Err("field \"answers.text\" has an empty answer".to_string());
    }
    let answer = Answer { text: text.to_string(), start };
    if answer.bytes_in(context).is_some() {
        return Ok(answer);
    }
    let advice = match context.find(text).and_then(|byte| Answer::at(context, byte..byte + text.len())) {
        Some(found) => format!("it begins at character {}; answer_start counts characters, not bytes", found.start),
        None => "and nowhere else in it".to_string(),
    };
    Err(format!("field \"answers\": {text:?} is not at character {start} of the context ({advice})"))
}
