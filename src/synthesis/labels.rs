//! The loop for classification: texts are written for the labels in turn, with rationales and a judge.

use serde::Serialize;
use serde_json::{Value, json};

use super::head::{LoopHead, Turns};
use super::head_with_labels::{HeadWithLabels, entropy};
use super::rows::{ReadRow, Reviewed, SyntheticRow};
use super::stages::Stages;
use super::state::Synthesis;
use crate::data::example::{Context, GoldRow, Input};
use crate::data::head::Head;
use crate::data::labels::{Label, Labels};
use crate::error::Result;
use crate::judge::judges::LearntFrom;
use crate::judge::panel::JudgedHead;
use crate::math::vectors::argmax;
use crate::measure::folds::stratified;
use crate::run::summary::{Choice, Measures, OfLabels};
use crate::small::folds::Folds;
use crate::small::labels::probabilities;
use crate::task::file::TargetKind;

/// A judge that gives another label this probability is not asked to teach the row's own.
pub(super) const SURE: f64 = 0.7;

impl LoopHead for Labels {
    const CONTEXT_LINE: &'static str = "context";

    /// The labels take turns: the paper's uniform draw without its variance. A context is used for as many requests in succession as there
    /// are labels, so that it is not informative of the label, and the prompts share a prefix.
    fn turns<'c>(&self, contexts: &[&'c Context], _: &[&Label], shares: &[f64], _: u64) -> Result<Turns<'c, Labels>> {
        let (contexts, labels, cycle) = (contexts.to_vec(), self.names.len(), cycle(shares));
        Ok(Box::new(move |id| {
            let context = (!contexts.is_empty()).then(|| contexts[id / labels % contexts.len()]);
            (Label { label: cycle[id % cycle.len()] }, context)
        }))
    }

    fn rationales_of<'r>(goal: &Label, rationales: &'r [Vec<String>]) -> &'r [String] {
        rationales.get(goal.label).map_or(&[], Vec::as_slice)
    }

    fn one_or_several(goal: &Label) -> Option<Vec<usize>> {
        Some(vec![goal.label])
    }

    fn one_label<'s>(goal: &Label, says: &'s [String]) -> Option<&'s str> {
        says.get(goal.label).map(String::as_str)
    }

    fn answer(_: &Label) -> Option<&str> {
        None
    }

    /// The text or pair, its label and its soft target.
    fn dataset_row(&self, row: &SyntheticRow<Labels>, target: &Vec<f32>) -> Value {
        let relabelled = if let Reviewed::Relabelled(label) = &row.reviewed { self.gold_named(label) } else { None };
        labelled(self, row.input(), relabelled.unwrap_or(row.written.goal).label, target)
    }

    fn dataset_reasons(&self, row: &SyntheticRow<Labels>, rationales: &[Vec<String>], answers: &[Vec<f32>]) -> Value {
        let own = Labels::rationales_of(&row.written.goal, rationales);
        let rationales: Vec<&str> = row.written.rationales.iter().map(|&i| own[i].as_str()).collect();
        let log_probs: Vec<Value> = answers.iter().map(|of_prompt| by_label(&self.names, of_prompt)).collect();
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

/// Turns of labels that repeat without end, each label as often as its share says, and as evenly as can be: at each turn it is the label
/// that is furthest behind. Equal shares are one turn each.
pub(super) fn cycle(shares: &[f64]) -> Vec<usize> {
    const LONGEST: f64 = 1000.0;
    let (least, total) = (shares.iter().copied().filter(|share| *share > 0.0).fold(f64::INFINITY, f64::min), shares.iter().sum::<f64>());
    let length = (total / least).min(LONGEST).max(shares.len() as f64).round() as usize;
    // Each label first has one turn: none is forgotten.
    let mut taken = vec![1.0; shares.len()];
    let rest = (shares.len() + 1..=length).map(|turn| {
        let behind = |label: usize| shares[label] / total * turn as f64 - taken[label];
        let next = (0..shares.len()).fold(0, |best, label| if behind(label) > behind(best) + 1e-9 { label } else { best });
        taken[next] += 1.0;
        next
    });
    (0..shares.len()).chain(rest).collect()
}

/// A text or pair with its label and its target.
fn labelled(head: &Labels, input: Input, label: usize, target: &[f32]) -> Value {
    let mut line = with_label(head, input, label);
    line["target"] = by_label(&head.names, target);
    line
}

/// A text or pair with its label.
pub(super) fn with_label(head: &Labels, input: Input, label: usize) -> Value {
    let mut line = json!({"text": input.text});
    if let Some(text_pair) = input.text_pair {
        line["text_pair"] = json!(text_pair);
    }
    line["label"] = json!(head.names[label]);
    line
}

/// An object with a number for each label.
pub(super) fn by_label(names: &[String], values: &[impl Serialize]) -> Value {
    names.iter().zip(values).map(|(name, x)| (name.clone(), json!(x))).collect()
}

impl JudgedHead for Labels {
    fn answers(&self, gold: &Label) -> Vec<usize> {
        vec![gold.label]
    }
}

impl HeadWithLabels for Labels {
    fn folds(&self, gold: &[GoldRow<Labels>], count: usize, seed: u64) -> Vec<Option<usize>> {
        if self.pairs {
            return self.held_out(gold, count, seed);
        }
        // A label of two rows has them in two folds, so that there are as many folds however rare a label is.
        let labels: Vec<usize> = gold.iter().map(|row| row.gold.label).collect();
        let alone = |label: usize| labels.iter().filter(|own| **own == label).count() < 2;
        stratified(&labels, self.names.len(), count, seed)
            .into_iter()
            .zip(&labels)
            .map(|(fold, &label)| (!alone(label)).then_some(fold))
            .collect()
    }

    fn doubt(logits: &Vec<f32>) -> f64 {
        entropy(probabilities(logits))
    }

    fn doubtful(&self, row: &GoldRow<Labels>, judged: &[Vec<f64>], logits: &Vec<f32>) -> Option<(f64, Value)> {
        let (judged, predicted, own) = (judged.first()?, probabilities(logits), row.gold.label);
        if judged.is_empty() || argmax(judged) == own || argmax(&predicted) == own {
            return None;
        }
        let mut line = with_label(self, row.input(), own);
        line["judged"] = by_label(&self.names, judged);
        line["predicted"] = by_label(&self.names, &predicted);
        Some((judged[own] * predicted[own], line))
    }
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

    fn list(run: &mut Synthesis<Labels>) -> Result<()> {
        run.write_lists()
    }

    fn read(run: &mut Synthesis<Labels>, round: usize) -> Result<()> {
        run.read_texts(round)
    }

    fn judge(run: &mut Synthesis<Labels>, round: usize) -> Result<()> {
        run.judge(round)
    }

    fn choose(run: &Synthesis<Labels>) -> Result<Option<Choice>> {
        run.choose_model()
    }

    fn can_be_taught(run: &Synthesis<Labels>, place: usize, goal: &Label) -> bool {
        let soft = run.inputs.task.targets.kind == TargetKind::Soft;
        let judged = run.judges.as_ref().filter(|_| soft).map_or_else(Vec::new, |judges| judges.of_gold(place).concat());
        judged.iter().enumerate().all(|(label, p)| label == goal.label || *p < SURE)
    }

    /// The label it was written for, or the judge's probabilities mixed with it.
    fn target(run: &Synthesis<Labels>, row: &SyntheticRow<Labels>, learnt: LearntFrom) -> Vec<f32> {
        let keys = &run.inputs.task.targets;
        match &run.judges {
            Some(judges) if keys.kind == TargetKind::Soft => {
                judges.of(0).target(&row.answers, learnt, row.written.goal.label, keys.intended)
            }
            _ => row.target.clone(),
        }
    }

    /// The judge's probabilities.
    fn target_of_read(run: &Synthesis<Labels>, row: &ReadRow, learnt: LearntFrom) -> Vec<f32> {
        run.judges.as_ref().expect("a text is read after the gold rows are judged").of(0).probabilities(&row.answers, learnt)
    }

    fn read_row(run: &Synthesis<Labels>, row: &ReadRow) -> Value {
        let target = run.target_of_read(row, LearntFrom::All);
        labelled(&run.inputs.small.head, row.text.input(), argmax(&target), &target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_take_turns_as_their_shares_say() {
        assert_eq!(cycle(&[1.0, 1.0, 1.0]), [0, 1, 2]);
        assert_eq!(cycle(&[3.0, 1.0]).iter().filter(|label| **label == 0).count(), 3);
        let rare = cycle(&[90.0, 9.0, 1.0]);
        assert_eq!([0, 1, 2].map(|label| rare.iter().filter(|own| **own == label).count()), [90, 9, 1]);
        assert!(cycle(&[1e6, 1.0]).len() <= 1000 && cycle(&[1e6, 1.0])[1] == 1);
    }
}
