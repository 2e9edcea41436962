//! SQuAD's nested file: articles of paragraphs of questions, taken apart into one row a question.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Article<'d> {
    #[serde(borrow)]
    paragraphs: Vec<Paragraph<'d>>,
}

#[derive(Deserialize)]
struct Paragraph<'d> {
    #[serde(borrow)]
    context: &'d RawValue,
    qas: Vec<Question<'d>>,
}

/// A question with the fields that a row has.
#[derive(Deserialize)]
struct Question<'d> {
    #[serde(borrow)]
    question: &'d RawValue,
    #[serde(borrow, default)]
    answers: Option<&'d RawValue>,
    #[serde(default)]
    is_impossible: bool,
}

/// A row a question.
#[derive(Serialize)]
struct Flat<'d> {
    context: &'d RawValue,
    question: &'d RawValue,
    answers: Value,
    is_impossible: bool,
}

/// One JSON line for each question of a list of articles; `None` if it is no such list.
pub fn flatten(articles: &RawValue) -> Option<Vec<u8>> {
    let articles: Vec<Article> = serde_json::from_str(articles.get()).ok()?;
    let mut rows = Vec::new();
    for paragraph in articles.iter().flat_map(|article| &article.paragraphs) {
        for Question { question, answers, is_impossible } in &paragraph.qas {
            let answers = answers.map_or(Some(Value::Array(Vec::new())), |answers| serde_json::from_str(answers.get()).ok())?;
            let row = Flat { context: paragraph.context, question, answers, is_impossible: *is_impossible };
            serde_json::to_writer(&mut rows, &row).ok()?;
            rows.push(b'\n');
        }
    }
    Some(rows)
}
