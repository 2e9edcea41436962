//! Classification: a text, or a pair of texts, has one of a few labels.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::example::{GoldRow, fingerprint};
use super::fields::{label_field, label_of, text_field};
use super::groups;
use super::head::Head;
use super::read::ReadGold;
use super::split::{Divide, Split, shuffled_by_stratum};
use super::table::{Row, Shape};

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

    fn gold_named(&self, label: &str) -> Option<Label> {
        self.names.iter().position(|name| name == label).map(|label| Label { label })
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
    fn shape(&self) -> Shape {
        match self.pairs {
            true => {
                Shape {
                    example: r#"{"text": "…", "text_pair": "…", "label": "…"}"#, fields: &["text", "text_pair", "label"], plain: false
                }
            }
            false => Shape { example: r#"{"text": "…", "label": "…"}"#, fields: &["text", "label"], plain: false },
        }
    }

    fn parse(&self, row: &Row, line: usize) -> Result<Option<GoldRow<Labels>>, String> {
        let text_pair = self.pairs.then(|| text_field(row, "text_pair")).transpose()?;
        let text = text_field(row, "text")?;
        let label = label_of(&label_field(row, "label")?, &self.names)?;
        Ok(Some(GoldRow { line, text, text_pair, gold: Label { label } }))
    }

    fn merge(&self, row: &mut GoldRow<Labels>, again: GoldRow<Labels>) -> Result<(), String> {
        if row.gold == again.gold {
            return Ok(());
        }
        Err(format!("{}, {}", self.names[row.gold.label], self.names[again.gold.label]))
    }
}

impl Divide for Labels {
    /// Stratified by label; each label has at least one row on each side. Pairs with the same first text go to the same side.
    fn divide(&self, gold: &[GoldRow<Labels>], select_share: f64, seed: u64) -> Result<Split<Labels>, String> {
        if self.pairs { self.divide_pairs(gold, select_share, seed) } else { self.divide_texts(gold, select_share, seed) }
    }
}

impl Labels {
    fn divide_texts(&self, gold: &[GoldRow<Labels>], select_share: f64, seed: u64) -> Result<Split<Labels>, String> {
        let (mut mine, mut select) = (Vec::new(), Vec::new());
        for (label, rows) in shuffled_by_stratum(self, gold, seed, "split").into_iter().enumerate() {
            let share = self.wanted(label, rows.len(), select_share)?;
            let mut rows = rows.into_iter();
            select.extend(rows.by_ref().take(share));
            mine.extend(rows);
        }
        Ok(Split::in_order_of_lines(mine, select))
    }

    /// Groups of pairs with the same first text, assigned as wholes: *select* measures what a model makes of new first texts.
    fn divide_pairs(&self, gold: &[GoldRow<Labels>], select_share: f64, seed: u64) -> Result<Split<Labels>, String> {
        let groups = by_first_text(gold);
        let count = |group: &[&GoldRow<Labels>], label: usize| group.iter().filter(|row| row.gold.label == label).count();
        let counts: Vec<Vec<usize>> = groups.iter().map(|group| (0..self.names.len()).map(|label| count(group, label)).collect()).collect();
        let total = |label: usize| counts.iter().map(|group| group[label]).sum::<usize>();
        let wanted = (0..self.names.len()).map(|label| self.wanted(label, total(label), select_share)).collect::<Result<Vec<_>, _>>()?;
        let selected = groups::assign(&counts, &wanted, seed).map_err(|lacking| self.indivisible(&counts, &lacking))?;
        let (mut mine, mut select) = (Vec::new(), Vec::new());
        for (group, selected) in groups.into_iter().zip(selected) {
            if selected { &mut select } else { &mut mine }.extend(group.into_iter().cloned());
        }
        Ok(Split::in_order_of_lines(mine, select))
    }

    /// How many of a label's `rows` rows *select* should have.
    fn wanted(&self, label: usize, rows: usize, select_share: f64) -> Result<usize, String> {
        if rows < 2 {
            let name = &self.names[label];
            return Err(format!("label {name:?} has {rows} gold rows; it needs at least 2, one for each split (mine, select)"));
        }
        Ok(((rows as f64 * select_share).round() as usize).clamp(1, rows - 1))
    }

    /// Says that pairs cannot be divided, and names the label with the fewest first texts among those that a side would lack.
    fn indivisible(&self, counts: &[Vec<usize>], lacking: &[usize]) -> String {
        let texts = |label: usize| counts.iter().filter(|group| group[label] > 0).count();
        let label = lacking.iter().copied().min_by_key(|&label| texts(label)).expect("a label is lacking");
        format!(
            "the first texts cannot be divided between the splits (mine, select) so that both have label {:?}, whose gold rows have {} \
             different first texts; pairs with the same first text stay together: raise gold_rows, or add rows with other first texts",
            self.names[label],
            texts(label)
        )
    }
}

/// The rows with each first text, in order of its first appearance.
fn by_first_text(gold: &[GoldRow<Labels>]) -> Vec<Vec<&GoldRow<Labels>>> {
    let mut place = HashMap::new();
    let mut groups: Vec<Vec<&GoldRow<Labels>>> = Vec::new();
    for row in gold {
        let group = *place.entry(fingerprint(&row.text)).or_insert(groups.len());
        if group == groups.len() {
            groups.push(Vec::new());
        }
        groups[group].push(row);
    }
    groups
}
