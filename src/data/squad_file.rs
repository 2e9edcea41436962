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
///
/// # Errors
/// Articles, one of which lacks something: what, and where.
pub fn flatten(articles: &RawValue) -> Result<Option<Vec<u8>>, String> {
    #[derive(Deserialize)]
    struct Shape {
        paragraphs: Option<serde::de::IgnoredAny>,
    }
    let shapes: Vec<Shape> = serde_json::from_str(articles.get()).unwrap_or_default();
    if shapes.iter().all(|article| article.paragraphs.is_none()) {
        return Ok(None);
    }
    let of_squad =
        |error: serde_json::Error| format!("articles of paragraphs, as SQuAD's, and one cannot be read: {error} of its list \"data\"");
    let articles: Vec<Article> = serde_json::from_str(articles.get()).map_err(of_squad)?;
    let mut rows = Vec::new();
    for paragraph in articles.iter().flat_map(|article| &article.paragraphs) {
        for Question { question, answers, is_impossible } in &paragraph.qas {
            let answers = answers.map_or(Ok(Value::Array(Vec::new())), |answers| serde_json::from_str(answers.get())).map_err(of_squad)?;
            let row = Flat { context: paragraph.context, question, answers, is_impossible: *is_impossible };
            serde_json::to_writer(&mut rows, &row).map_err(of_squad)?;
            rows.push(b'\n');
        }
    }
    Ok(Some(rows))
}
