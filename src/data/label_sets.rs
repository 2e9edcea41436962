//! Classification with any number of labels a text, or none.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::dealing::deal;
use super::example::GoldRow;
use super::fields::{kind_of, label_field, label_of, quoted, text_field};
use super::head::Head;
use super::read::ReadGold;
use super::roles::said;
use super::split::{Divide, Split};
use super::table::{Row, Shape};

/// The head of classification with several labels a text: the task's labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSets {
    /// Label names, in the order of logits and posteriors.
    pub names: Vec<String>,
}

/// The labels of a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelSet {
    /// Indices into the task's labels, ascending.
    pub labels: Vec<usize>,
    /// The label that it stands for: that whose turn it is in the seed, that which was mistaken of an error, else the first; the number of
    /// the task's labels where it stands for having none.
    pub lead: usize,
}

impl LabelSet {
    /// Whether a label is in it.
    pub fn has(&self, label: usize) -> bool {
        self.labels.contains(&label)
    }
}

impl LabelSets {
    /// The set of these labels, which stands for the first.
    pub fn set(&self, labels: impl IntoIterator<Item = usize>) -> LabelSet {
        let labels: Vec<usize> = labels.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        LabelSet { lead: labels.first().copied().unwrap_or(self.names.len()), labels }
    }

    /// The names of a set's labels.
    pub fn named(&self, labels: &[usize]) -> Vec<&str> {
        labels.iter().map(|&label| self.names[label].as_str()).collect()
    }

    /// The set in a field `labels`: a list of names, or [`names_in`] one string.
    fn of_field(&self, value: &Value) -> Result<LabelSet, String> {
        let one = |name: &str| self.label(name);
        match value {
            Value::Array(items) => {
                let item = |item: &Value| match item {
                    Value::String(_) | Value::Number(_) | Value::Bool(_) => {
                        one(&label_field(&Row::from_iter([("labels".to_string(), item.clone())]), "labels")?)
                    }
                    other => Err(format!("field \"labels\" must be a list of names, not of {}", kind_of(other))),
                };
                Ok(self.set(items.iter().map(item).collect::<Result<Vec<_>, _>>()?))
            }
            Value::String(text) if text.trim().is_empty() => {
                Err("field \"labels\" is empty: the row was not labelled; write [] where no label applies".to_string())
            }
            Value::String(text) => self.of_text(text),
            Value::Null => Err("field \"labels\" is null: the row was not labelled; write [] where no label applies".to_string()),
            other => Err(format!("field \"labels\" must be a list of names, not {}", kind_of(other))),
        }
    }

    /// The set of names in one string: a single name, or several.
    fn of_text(&self, text: &str) -> Result<LabelSet, String> {
        if let Some(label) = self.names.iter().position(|name| name == text.trim()) {
            return Ok(self.set([label]));
        }
        Ok(self.set(names_in(text).iter().map(|name| self.label(name)).collect::<Result<Vec<_>, _>>()?))
    }

    fn label(&self, name: &str) -> Result<usize, String> {
        label_of(name, &self.names).map_err(|error| error.replacen("field \"label\"", "field \"labels\"", 1))
    }

    /// The set in a column of 0 and 1 for each label.
    fn of_columns(&self, row: &Row) -> Result<LabelSet, String> {
        let missing: Vec<String> = self.names.iter().filter(|name| !row.contains_key(name.as_str())).cloned().collect();
        if missing.len() == self.names.len() {
            return Err("field \"labels\" is missing: a list of names, or a column of 0 and 1 for each label".to_string());
        }
        if !missing.is_empty() {
            return Err(format!("there is no column for the labels {}", quoted(&missing)));
        }
        let of = |name: &String| label_field(row, name).map_err(|_| format!("field {name:?} is empty: write 0 or 1"));
        let has = |name: &String| match of(name)?.trim() {
            "1" | "true" | "True" | "TRUE" => Ok(true),
            "0" | "false" | "False" | "FALSE" => Ok(false),
            other => Err(format!("field {name:?} is {other:?}; a label's column has 0 or 1")),
        };
        let has = self.names.iter().map(has).collect::<Result<Vec<bool>, String>>()?;
        Ok(self.set((0..has.len()).filter(|&label| has[label])))
    }
}

/// The sets with one more label, that of having none, so that rows without labels are dealt evenly too.
pub fn with_none(sets: Vec<Vec<usize>>, labels: usize) -> Vec<Vec<usize>> {
    sets.into_iter().map(|set| if set.is_empty() { vec![labels] } else { set }).collect()
}

/// The names in a cell: a list of JSON or Python, or names between bars, semicolons or commas.
pub fn names_in(cell: &str) -> Vec<String> {
    let cell = cell.trim();
    if cell.starts_with('[')
        && let Ok(Value::Array(items)) = serde_json::from_str(cell)
    {
        return items.iter().filter_map(said).collect();
    }
    // As Python writes a list.
    let python = cell.strip_prefix('[').and_then(|cell| cell.strip_suffix(']'));
    let cell = python.unwrap_or(cell);
    let separator = ['|', ';', ','].into_iter().find(|separator| cell.contains(*separator)).unwrap_or('|');
    let name = |name: &str| {
        let name = name.trim();
        let quoted = python.and_then(|_| name.strip_prefix(['\'', '"'])?.strip_suffix(['\'', '"']));
        quoted.unwrap_or(name).to_string()
    };
    cell.split(separator).map(name).filter(|name| !name.is_empty()).collect()
}

impl Head for LabelSets {
    type Gold = LabelSet;
    type Goal = LabelSet;
    /// Indices into the task's labels, ascending.
    type Prediction = Vec<usize>;

    fn goal(gold: &LabelSet) -> LabelSet {
        gold.clone()
    }

    fn gold_named(&self, label: &str) -> Option<LabelSet> {
        self.of_text(label).ok()
    }

    fn right(goal: &LabelSet) -> Vec<usize> {
        goal.labels.clone()
    }

    /// All labels, and no other.
    fn accepts(gold: &LabelSet, prediction: &Vec<usize>) -> bool {
        gold.labels == *prediction
    }

    /// Whichever side of the split a single row is on.
    const LEAST: usize = 1;

    /// One per label, and one for texts with none.
    fn strata(&self) -> usize {
        self.names.len() + 1
    }

    fn stratum(goal: &LabelSet) -> usize {
        goal.lead
    }

    fn strata_of(goal: &LabelSet) -> Vec<usize> {
        if goal.labels.is_empty() { vec![goal.lead] } else { goal.labels.clone() }
    }
}

impl ReadGold for LabelSets {
    fn shape(&self) -> Shape {
        Shape { example: r#"{"text": "…", "labels": ["…", "…"]}"#, fields: &["text"], plain: false }
    }

    fn parse(&self, row: &Row, line: usize) -> Result<Option<GoldRow<LabelSets>>, String> {
        let text = text_field(row, "text")?;
        let gold = match row.get("labels").or_else(|| row.get("label")) {
            Some(value) => self.of_field(value)?,
            None => self.of_columns(row)?,
        };
        Ok(Some(GoldRow { line, text, text_pair: None, gold }))
    }

    fn merge(&self, row: &mut GoldRow<LabelSets>, again: GoldRow<LabelSets>) -> Result<(), String> {
        if row.gold == again.gold {
            return Ok(());
        }
        let said = |set: &LabelSet| if set.labels.is_empty() { "none".to_string() } else { self.named(&set.labels).join(" + ") };
        Err(format!("{}, {}", said(&row.gold), said(&again.gold)))
    }
}

impl Divide for LabelSets {
    /// Each label has its share on both sides, as nearly as can be; one with a single row is on one side alone, one without rows on none.
    fn divide(&self, gold: &[GoldRow<LabelSets>], select_share: f64, seed: u64) -> Result<Split<LabelSets>, String> {
        if gold.len() < 2 {
            return Err(format!("{} gold rows; at least 2 are needed, one for each split (mine, select)", gold.len()));
        }
        let sets: Vec<Vec<usize>> = gold.iter().map(|row| row.gold.labels.clone()).collect();
        let side = deal(&with_none(sets, self.names.len()), self.names.len() + 1, &[1.0 - select_share, select_share], seed);
        let of = |own: usize| gold.iter().zip(&side).filter(|(_, side)| **side == own).map(|(row, _)| row.clone()).collect::<Vec<_>>();
        let (mut mine, mut select) = (of(0), of(1));
        if select.is_empty() {
            select.extend(mine.pop());
        }
        if mine.is_empty() {
            mine.extend(select.pop());
        }
        Ok(Split::in_order_of_lines(mine, select))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn head() -> LabelSets {
        LabelSets { names: ["joy", "anger", "big news"].map(String::from).to_vec() }
    }

    fn parsed(row: Value) -> Result<Vec<usize>, String> {
        let row = row.as_object().unwrap();
        head().parse(row, 1).map(|row| row.unwrap().gold.labels)
    }

    #[test]
    fn lists_strings_and_columns_are_read() {
        for (labels, found) in [
            (json!(["anger", "joy"]), vec![0, 1]),
            (json!([]), vec![]),
            (json!("joy"), vec![0]),
            (json!("big news, joy"), vec![0, 2]),
            (json!("joy|big news"), vec![0, 2]),
            (json!("anger; joy; anger"), vec![0, 1]),
            (json!("[\"anger\"]"), vec![1]),
            (json!("['anger', \"joy\"]"), vec![0, 1]),
            (json!("[]"), vec![]),
        ] {
            assert_eq!(parsed(json!({"text": "a", "labels": labels})), Ok(found), "{labels}");
        }
        assert_eq!(parsed(json!({"text": "a", "label": "anger"})), Ok(vec![1]));
        assert_eq!(parsed(json!({"text": "a", "joy": "1", "anger": 0, "big news": true})), Ok(vec![0, 2]));
        assert_eq!(parsed(json!({"text": "a", "joy": 0.0, "anger": "0", "big news": false})), Ok(vec![]));
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for (row, words) in [
            (json!({"text": "a"}), "field \"labels\" is missing"),
            (json!({"text": "a", "labels": null}), "null"),
            (json!({"text": "a", "labels": " "}), "field \"labels\" is empty: the row was not labelled"),
            (json!({"text": "a", "labels": 3}), "must be a list of names, not a number"),
            (json!({"text": "a", "labels": ["joy", null]}), "must be a list of names, not of null"),
            (json!({"text": "a", "labels": ["Joy"]}), "upper and lower case"),
            (json!({"text": "a", "labels": "joy, fear"}), "\"fear\"; the task's labels are"),
            (json!({"text": "a", "joy": 1, "anger": 0}), "no column for the labels \"big news\""),
            (json!({"text": "a", "joy": 1, "anger": 0, "big news": 2}), "field \"big news\" is \"2\"; a label's column has 0 or 1"),
            (json!({"text": " ", "labels": []}), "field \"text\" is empty"),
        ] {
            let error = parsed(row.clone()).unwrap_err();
            assert!(error.contains(words), "{row}: {error}");
        }
    }

    fn rows(sets: &[Vec<usize>]) -> Vec<GoldRow<LabelSets>> {
        let row = |(i, set): (usize, &Vec<usize>)| GoldRow {
            line: i + 1,
            text: format!("text {i}"),
            text_pair: None,
            gold: head().set(set.iter().copied()),
        };
        sets.iter().enumerate().map(row).collect()
    }

    #[test]
    fn a_label_may_have_a_single_row_or_none() {
        assert_eq!(head().divide(&rows(&[vec![0], vec![1], vec![0, 1]]), 0.5, 1).unwrap().gold().count(), 3);
        let split = head().divide(&rows(&[vec![0], vec![1], vec![0, 1], vec![2], vec![]]), 0.5, 1).unwrap();
        assert!((2..=3).contains(&split.mine.len()) && split.gold().count() == 5);
        assert!(head().divide(&rows(&[vec![0, 1, 2]]), 0.5, 1).is_err());
    }

    proptest! {
        #[test]
        fn every_row_is_on_exactly_one_side(
            mut sets in proptest::collection::vec(proptest::collection::vec(0usize..3, 0..3), 0..50), share in 0.05f64..0.95, seed: u64,
        ) {
            sets.extend([vec![0], vec![1], vec![2], vec![0, 1, 2]]);
            let split = head().divide(&rows(&sets), share, seed).unwrap();
            prop_assert!(!split.mine.is_empty() && !split.select.is_empty());
            let mut lines: Vec<usize> = split.gold().map(|row| row.line).collect();
            lines.sort_unstable();
            prop_assert_eq!(lines, (1..=sets.len()).collect::<Vec<_>>());
        }
    }
}
