//! Exact match and F1 of an answer, as the evaluation script of SQuAD v1.1 computes them.

use std::collections::HashMap;

/// SQuAD's normalisation: lower case, without ASCII punctuation, the articles a, an and the, and extra white space.
pub fn normalise(answer: &str) -> String {
    let kept: String = answer.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    without_articles(&kept).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Removes articles that are whole words.
fn without_articles(text: &str) -> String {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut out, mut word) = (String::new(), String::new());
    for c in text.chars().chain(['\n']) {
        if in_word(c) {
            word.push(c);
            continue;
        }
        out += if ["a", "an", "the"].contains(&word.as_str()) { " " } else { &word };
        word.clear();
        out.push(c);
    }
    out
}

/// 1 if the answer is one of the references after [`normalise`], 0 otherwise.
pub fn exact_match(answer: &str, references: &[&str]) -> f64 {
    let answer = normalise(answer);
    f64::from(u8::from(references.iter().any(|reference| normalise(reference) == answer)))
}

/// The best F1 of the answer's words over the references.
pub fn f1(answer: &str, references: &[&str]) -> f64 {
    references.iter().map(|reference| f1_of_one(answer, reference)).fold(0.0, f64::max)
}

fn f1_of_one(answer: &str, reference: &str) -> f64 {
    let (answer, reference) = (normalise(answer), normalise(reference));
    let mut left = HashMap::<&str, usize>::new();
    reference.split_whitespace().for_each(|word| *left.entry(word).or_default() += 1);
    let mut same = 0;
    for word in answer.split_whitespace() {
        if let Some(count) = left.get_mut(word).filter(|count| **count > 0) {
            *count -= 1;
            same += 1;
        }
    }
    let all = answer.split_whitespace().count() + reference.split_whitespace().count();
    if same == 0 { 0.0 } else { 2.0 * same as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of `tests/reference/metrics.py`, which computes as the official script does.
    #[test]
    fn exact_match_and_f1_match_the_official_script() {
        let golden: serde_json::Value = serde_json::from_str(include_str!("../../tests/reference/metrics.json")).unwrap();
        for case in golden["squad"].as_array().unwrap() {
            let references: Vec<&str> = case["truths"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
            let answer = case["prediction"].as_str().unwrap();
            assert_eq!(exact_match(answer, &references), case["em"].as_f64().unwrap(), "{case}");
            assert!((f1(answer, &references) - case["f1"].as_f64().unwrap()).abs() < 1e-12, "{case}");
        }
    }
}
