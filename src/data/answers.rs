//! Extractive question answering: the answer to a question is a span of its context.

use std::collections::HashSet;

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::example::{Answer, GoldRow};
use super::fields::{kind_of, string_field, text_field};
use super::head::Head;
use super::place;
use super::read::ReadGold;
use super::split::{Divide, Split};
use super::squad;
use super::table::{Row, Shape};
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

    fn gold_named(&self, _: &str) -> Option<GoldAnswers> {
        None
    }

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
    fn shape(&self) -> Shape {
        Shape {
            example: r#"{"context": "…", "question": "…", "answers": {"text": ["…"], "answer_start": [0]}}"#,
            fields: &["context", "question"],
            plain: false,
        }
    }

    /// The context is not trimmed: answer positions count its characters.
    fn parse(&self, row: &Row, line: usize) -> Result<Option<GoldRow<Answers>>, String> {
        let context = string_field(row, "context")?;
        text_field(row, "context")?;
        let question = text_field(row, "question")?;
        let mut answers = parse_answers(row, context)?.into_iter();
        let Some(answer) = answers.next() else { return Ok(None) };
        let mut seen = HashSet::from([answer.text.clone()]);
        let others = answers.map(|answer| answer.text).filter(|text| seen.insert(text.clone())).collect();
        Ok(Some(GoldRow { line, text: context.to_string(), text_pair: Some(question), gold: GoldAnswers { answer, others } }))
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

/// The answers of a row: SQuAD's `answers`, `{"text": […], "answer_start": […]}`, a list of `{"text": …, "answer_start": …}`, or a single
/// `answer` with its `answer_start`; none for a question that says it has none.
fn parse_answers(row: &Row, context: &str) -> Result<Vec<Answer>, String> {
    let impossible = match row.get("is_impossible") {
        Some(Value::Bool(impossible)) => *impossible,
        // As CSV has it.
        Some(Value::String(said)) => said.eq_ignore_ascii_case("true") || said == "1",
        _ => false,
    };
    if impossible {
        return Ok(Vec::new());
    }
    match row.get("answers") {
        Some(Value::Object(answers)) => parse_lists(answers, context),
        Some(Value::Array(answers)) => answers.iter().map(|answer| parse_object(answer, context)).collect(),
        Some(other) => Err(format!("field \"answers\" must be an object or a list, not {}", kind_of(other))),
        None => match row.get("answer") {
            Some(Value::Null) => Ok(Vec::new()),
            Some(Value::String(text)) if text.is_empty() => Ok(Vec::new()),
            Some(text) => Ok(vec![parse_answer(text, row.get("answer_start"), context)?]),
            None => Err("field \"answers\" is missing".to_string()),
        },
    }
}

fn parse_lists(answers: &Row, context: &str) -> Result<Vec<Answer>, String> {
    let list = |name: &str| match answers.get(name) {
        Some(Value::Array(items)) => Ok(items),
        Some(other) => Err(format!("field \"answers.{name}\" must be a list, not {}", kind_of(other))),
        None => Err(format!("field \"answers.{name}\" is missing")),
    };
    let (texts, starts) = (list("text")?, list("answer_start")?);
    if texts.len() != starts.len() {
        return Err(format!("field \"answers\" has {} in \"text\", but {} in \"answer_start\"", texts.len(), starts.len()));
    }
    texts.iter().zip(starts).map(|(text, start)| parse_answer(text, Some(start), context)).collect()
}

fn parse_object(answer: &Value, context: &str) -> Result<Answer, String> {
    let wanted = || format!("field \"answers\" must hold objects like {{\"text\": \"…\", \"answer_start\": 0}}, not {}", kind_of(answer));
    let answer = answer.as_object().ok_or_else(wanted)?;
    parse_answer(answer.get("text").ok_or("field \"answers.text\" is missing")?, answer.get("answer_start"), context)
}

/// An answer where it is said to be; one without a place stands in the context once.
fn parse_answer(text: &Value, start: Option<&Value>, context: &str) -> Result<Answer, String> {
    let text = text.as_str().ok_or_else(|| format!("field \"answers.text\" must hold strings, not {}", kind_of(text)))?;
    if text.trim().is_empty() {
        return Err("field \"answers.text\" has an empty answer".to_string());
    }
    let Some(start) = start else {
        return place::only(context, text)
            .map_err(|places| format!("field \"answer_start\" is missing, and {text:?} stands in the context {places} times"));
    };
    let whole = || format!("field \"answers.answer_start\" must hold whole numbers from 0, not {start}");
    // In CSV a number is a string.
    let number = start.as_u64().or_else(|| start.as_str()?.trim().parse().ok());
    let start = number.and_then(|start| usize::try_from(start).ok()).ok_or_else(whole)?;
    place::at(context, text, start).ok_or_else(|| {
        let advice = match context.find(text).and_then(|byte| Answer::at(context, byte..byte + text.len())) {
            Some(found) => format!("it begins at character {}; answer_start counts characters, not bytes", found.start),
            None => "and nowhere else in it".to_string(),
        };
        format!("field \"answers\": {text:?} is not at character {start} of the context ({advice})")
    })
}
