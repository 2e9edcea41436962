//! The loop for classification: texts are written for the labels in turn, with rationales and a judge.

use serde_json::{Value, json};

use super::head::{LoopHead, Turns};
use super::rows::SyntheticRow;
use super::stages::Stages;
use super::state::Synthesis;
use crate::data::example::{Context, GoldRow};
use crate::data::labels::{Label, Labels};
use crate::error::Result;
use crate::math::vectors::argmax;
use crate::run::summary::{Measures, OfLabels};

impl LoopHead for Labels {
    const CONTEXT_LINE: &'static str = "context";

    /// The labels take turns: the paper's uniform draw without its variance. A context is used for all labels in succession, so that it
    /// is not informative of the label, and the prompts share a prefix.
    fn turns<'c>(&self, contexts: &[&'c Context], _: u64) -> Result<Turns<'c, Labels>> {
        let (contexts, labels) = (contexts.to_vec(), self.names.len());
        Ok(Box::new(move |id| {
            let context = (!contexts.is_empty()).then(|| contexts[id / labels % contexts.len()]);
            (Label { label: id % labels }, context)
        }))
    }

    fn rationales_of<'r>(goal: &Label, rationales: &'r [Vec<String>]) -> &'r [String] {
        rationales.get(goal.label).map_or(&[], Vec::as_slice)
    }

    fn answer(_: &Label) -> Option<&str> {
        None
    }

    /// The text or pair, its label and its soft target.
    fn dataset_row(&self, row: &SyntheticRow<Labels>) -> Value {
        let mut line = json!({"text": row.text});
        if let Some(text_pair) = &row.text_pair {
            line["text_pair"] = json!(text_pair);
        }
        line["label"] = json!(self.names[row.written.goal.label]);
        line["target"] = by_label(&self.names, &row.target);
        line
    }

    fn dataset_reasons(&self, row: &SyntheticRow<Labels>, rationales: &[Vec<String>]) -> Value {
        let own = Labels::rationales_of(&row.written.goal, rationales);
        let rationales: Vec<&str> = row.written.rationales.iter().map(|&i| own[i].as_str()).collect();
        let log_probs: Vec<Value> = row.log_probs.iter().map(|of_prompt| by_label(&self.names, of_prompt)).collect();
        json!({"rationales": rationales, "log_probs": log_probs})
    }

    fn prediction_row(&self, gold: &Label, logits: &Vec<f32>) -> Value {
        json!({"label": self.names[gold.label], "predicted": self.names[argmax(logits)], "logits": logits})
    }

    fn measures(&self, test: &[GoldRow<Labels>], logits: &[Vec<f32>]) -> Measures {
        let gold: Vec<usize> = test.iter().map(|row| row.gold.label).collect();
        Measures::Labels(OfLabels::new(&self.names, &gold, logits))
    }
}

/// An object with a number for each label.
fn by_label(names: &[String], values: &[f32]) -> Value {
    names.iter().zip(values).map(|(name, &x)| (name.clone(), json!(x))).collect()
}

impl Stages for Labels {
    fn try_the_judge(run: &mut Synthesis<Labels>) -> Result<()> {
        run.try_the_judge()
    }

    fn write_rationales(run: &mut Synthesis<Labels>) -> Result<()> {
        run.write_rationales()
    }

    fn calibrate(run: &mut Synthesis<Labels>) -> Result<()> {
        run.calibrate()
    }

    fn judge(run: &mut Synthesis<Labels>, round: usize) -> Result<()> {
        run.judge(round)
    }
}
