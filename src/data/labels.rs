//! Classification: a text, or a pair of texts, has one of a few labels.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::example::GoldRow;
use super::fields::{quoted, string_field, text_field};
use super::head::Head;
use super::read::ReadGold;
use super::split::{Divide, Split, shuffled_by_stratum};

/// The head of classification: the task's labels, for texts or pairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    /// Label names, in the order of logits and posteriors.
    pub names: Vec<String>,
    /// Whether an example is a pair of texts.
    pub pairs: bool,
}

/// A label as an index into the task's labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    pub label: usize,
}

impl Head for Labels {
    type Gold = Label;
    type Goal = Label;
    /// An index into the task's labels.
    type Prediction = usize;

    fn goal(gold: &Label) -> Label {
        *gold
    }

    fn right(goal: &Label) -> usize {
        goal.label
    }

    fn accepts(gold: &Label, prediction: &usize) -> bool {
        gold.label == *prediction
    }

    fn strata(&self) -> usize {
        self.names.len()
    }

    fn stratum(goal: &Label) -> usize {
        goal.label
    }
}

impl ReadGold for Labels {
    fn example(&self) -> &'static str {
        if self.pairs { r#"{"text": "…", "text_pair": "…", "label": "…"}"# } else { r#"{"text": "…", "label": "…"}"# }
    }

    fn parse(&self, object: &Map<String, Value>, line: usize) -> Result<GoldRow<Labels>, String> {
        let text_pair = self.pairs.then(|| text_field(object, "text_pair")).transpose()?;
        let text = text_field(object, "text")?;
        let name = string_field(object, "label")?;
        let label = self.names.iter().position(|own| own == name);
        let label = label.ok_or_else(|| format!("field \"label\" is {name:?}; the task's labels are {}", quoted(&self.names)))?;
        Ok(GoldRow { line, text, text_pair, gold: Label { label } })
    }

    fn merge(&self, row: &mut GoldRow<Labels>, again: GoldRow<Labels>) -> Result<(), String> {
        if row.gold == again.gold {
            return Ok(());
        }
        let (line, label) = (row.line, &self.names[row.gold.label]);
        Err(format!("same text as line {line}, but another label ({label} there); remove one"))
    }
}

impl Divide for Labels {
    /// Stratified by label; each label has at least one row on each side.
    fn divide(&self, gold: &[GoldRow<Labels>], select_share: f64, seed: u64) -> Result<Split<Labels>, String> {
        let (mut mine, mut select) = (Vec::new(), Vec::new());
        for (rows, name) in shuffled_by_stratum(self, gold, seed, "split").into_iter().zip(&self.names) {
            if rows.len() < 2 {
                let count = rows.len();
                return Err(format!("label {name:?} has {count} gold rows; it needs at least 2, one for each split (mine, select)"));
            }
            let share = ((rows.len() as f64 * select_share).round() as usize).clamp(1, rows.len() - 1);
            let mut rows = rows.into_iter();
            select.extend(rows.by_ref().take(share));
            mine.extend(rows);
        }
        Ok(Split::in_order_of_lines(mine, select))
    }
}
