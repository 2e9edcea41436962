//! The loop where a text may have several labels: texts are written for sets of labels that gold rows have, and judged label by label.

use rand::seq::SliceRandom;
use serde_json::{Value, json};

use super::head::{LoopHead, Turns};
use super::head_with_labels::{HeadWithLabels, entropy};
use super::labels::{SURE, by_label, cycle};
use super::rows::{ReadRow, Reviewed, SyntheticRow};
use super::stages::Stages;
use super::state::Synthesis;
use crate::data::example::{Context, GoldRow};
use crate::data::head::Head;
use crate::data::label_sets::{LabelSet, LabelSets};
use crate::error::Result;
use crate::judge::judges::LearntFrom;
use crate::judge::panel::JudgedHead;
use crate::math::random;
use crate::run::misclassified::Misclassified;
use crate::run::summary::{Choice, Measures, OfLabelSets};
use crate::small::folds::Folds;
use crate::small::label_sets::Scores;
use crate::task::file::{Parents, TargetKind};

impl LoopHead for LabelSets {
    const CONTEXT_LINE: &'static str = "context";

    /// The labels take turns, and having none too where gold rows have none. Whose turn it is leads a set that a gold row with it has, in
    /// turn: which labels go together is seen in no other way.
    fn turns<'c>(&self, _: &[&'c Context], gold: &[&LabelSet], shares: &[f64], seed: u64) -> Result<Turns<'c, LabelSets>> {
        let sets = |lead: usize| {
            let mut sets: Vec<LabelSet> = gold
                .iter()
                .filter(|set| Self::strata_of(set).contains(&lead))
                .map(|set| LabelSet { labels: set.labels.clone(), lead })
                .collect();
            sets.shuffle(&mut random::rng(seed, "sets of labels", lead as u64));
            if sets.is_empty() && lead < self.names.len() { vec![LabelSet { lead, ..self.set([lead]) }] } else { sets }
        };
        let (leads, sets): (Vec<usize>, Vec<Vec<LabelSet>>) =
            (0..self.strata()).map(|lead| (lead, sets(lead))).filter(|(_, sets)| !sets.is_empty()).unzip();
        let cycle = cycle(&leads.iter().map(|&lead| shares[lead]).collect::<Vec<_>>());
        let turns_of = |lead: usize| cycle.iter().filter(|own| **own == lead).count();
        let (all, before): (Vec<usize>, Vec<usize>) = cycle
            .iter()
            .enumerate()
            .map(|(place, &lead)| (turns_of(lead), cycle[..place].iter().filter(|own| **own == lead).count()))
            .unzip();
        Ok(Box::new(move |id| {
            let (round, place) = (id / cycle.len(), id % cycle.len());
            let own = &sets[cycle[place]];
            (own[(round * all[place] + before[place]) % own.len()].clone(), None)
        }))
    }

    fn rationales_of<'r>(_: &LabelSet, _: &'r [Vec<String>]) -> &'r [String] {
        &[]
    }

    fn one_or_several(goal: &LabelSet) -> Option<Vec<usize>> {
        Some(goal.labels.clone())
    }

    /// A text about something may well name it.
    fn one_label<'s>(_: &LabelSet, _: &'s [String]) -> Option<&'s str> {
        None
    }

    fn answer(_: &LabelSet) -> Option<&str> {
        None
    }

    /// One for each label that is mistaken, or one for each that the row has.
    fn parents_of(&self, row: Misclassified<LabelSets>, from: Parents) -> Vec<Misclassified<LabelSets>> {
        let mistaken = |label: &usize| row.goal.has(*label) != row.predicted.contains(label);
        let leads = match from {
            Parents::Errors => (0..self.names.len()).filter(mistaken).collect(),
            Parents::Mine => Self::strata_of(&row.goal),
        };
        leads.into_iter().map(|lead| Misclassified { goal: LabelSet { lead, ..row.goal.clone() }, ..row.clone() }).collect()
    }

    /// The text, its labels and its soft target.
    fn dataset_row(&self, row: &SyntheticRow<LabelSets>, target: &Vec<f32>) -> Value {
        let relabelled = if let Reviewed::Relabelled(labels) = &row.reviewed { self.gold_named(labels) } else { None };
        let set = relabelled.unwrap_or_else(|| row.written.goal.clone());
        json!({"text": row.text, "labels": self.named(&set.labels), "target": by_label(&self.names, target)})
    }

    /// For each label, what the judge prompts and the judge's head say of no and yes.
    fn dataset_reasons(&self, _: &SyntheticRow<LabelSets>, _: &[Vec<String>], answers: &[Vec<f32>]) -> Value {
        let each = answers.len() / self.names.len();
        let of_label: Vec<&[Vec<f32>]> = if each == 0 { Vec::new() } else { answers.chunks(each).collect() };
        json!({"log_probs": by_label(&self.names, &of_label)})
    }

    fn prediction_row(&self, gold: &LabelSet, scores: &Scores) -> Value {
        json!({"labels": self.named(&gold.labels), "predicted": self.named(&scores.labels()), "logits": scores.logits})
    }

    fn measures(&self, test: &[GoldRow<LabelSets>], scores: &[Scores]) -> Measures {
        let gold: Vec<&[usize]> = test.iter().map(|row| row.gold.labels.as_slice()).collect();
        let predicted: Vec<Vec<usize>> = scores.iter().map(Scores::labels).collect();
        let probabilities: Vec<Vec<f64>> = scores.iter().map(Scores::probabilities).collect();
        Measures::LabelSets(OfLabelSets::new(&self.names, &gold, &predicted, &probabilities))
    }
}

impl JudgedHead for LabelSets {
    fn answers(&self, gold: &LabelSet) -> Vec<usize> {
        (0..self.names.len()).map(|label| usize::from(gold.has(label))).collect()
    }
}

impl HeadWithLabels for LabelSets {
    fn folds(&self, gold: &[GoldRow<LabelSets>], count: usize, seed: u64) -> Vec<Option<usize>> {
        self.held_out(gold, count, seed)
    }

    fn doubt(scores: &Scores) -> f64 {
        scores.probabilities().into_iter().map(|p| entropy([p, 1.0 - p])).sum()
    }

    /// With the labels that both dispute.
    fn doubtful(&self, row: &GoldRow<LabelSets>, judged: &[Vec<f64>], scores: &Scores) -> Option<(f64, Value)> {
        let said = scores.probabilities();
        let own = |p: f64, label: usize| if row.gold.has(label) { p } else { 1.0 - p };
        // By what is more probable than not: thresholds for the best F1 say less of what a model believes.
        let disputes = |&label: &usize| {
            let judged = judged.get(label).and_then(|p| p.get(1)).is_some_and(|&p| own(p, label) < 0.5);
            judged && own(said[label], label) < 0.5
        };
        let disputed: Vec<usize> = (0..self.names.len()).filter(disputes).collect();
        let probability = disputed.iter().map(|&label| own(judged[label][1], label) * own(said[label], label)).reduce(f64::min)?;
        let of =
            |p: &dyn Fn(usize) -> f64| -> Value { disputed.iter().map(|&label| (self.names[label].clone(), json!(p(label)))).collect() };
        let line = json!({
            "text": row.text, "labels": self.named(&row.gold.labels), "disputed": self.named(&disputed),
            "judged": of(&|label| judged[label][1]), "predicted": of(&|label| said[label]),
        });
        Some((probability, line))
    }
}

impl Stages for LabelSets {
    fn try_the_judge(run: &mut Synthesis<LabelSets>) -> Result<()> {
        run.try_the_judge()
    }

    /// Texts with several labels are written without rationales.
    fn write_rationales(_: &mut Synthesis<LabelSets>) -> Result<()> {
        Ok(())
    }

    fn calibrate(run: &mut Synthesis<LabelSets>) -> Result<()> {
        run.calibrate()
    }

    /// Lists are for texts with one label.
    fn list(_: &mut Synthesis<LabelSets>) -> Result<()> {
        Ok(())
    }

    fn read(run: &mut Synthesis<LabelSets>, round: usize) -> Result<()> {
        run.read_texts(round)
    }

    fn judge(run: &mut Synthesis<LabelSets>, round: usize) -> Result<()> {
        run.judge(round)
    }

    fn choose(run: &Synthesis<LabelSets>) -> Result<Option<Choice>> {
        run.choose_model()
    }

    fn can_be_taught(run: &Synthesis<LabelSets>, place: usize, goal: &LabelSet) -> bool {
        let soft = run.inputs.task.targets.kind == TargetKind::Soft;
        let judged = run.judges.as_ref().filter(|_| soft).map_or_else(Vec::new, |judges| judges.of_gold(place));
        let other = usize::from(!goal.has(goal.lead));
        judged.get(goal.lead).and_then(|p| p.get(other)).is_none_or(|p| *p < SURE)
    }

    /// Whether it has each label that it was written for, and no other, or the judge's probabilities mixed with that.
    fn target(run: &Synthesis<LabelSets>, row: &SyntheticRow<LabelSets>, learnt: LearntFrom) -> Vec<f32> {
        let (keys, goal) = (&run.inputs.task.targets, &row.written.goal);
        let judges = run.judges.as_ref().filter(|_| keys.kind == TargetKind::Soft);
        let Some(judges) = judges else { return row.target.clone() };
        let of = |(label, (judges, answers)): (usize, (&crate::judge::judges::Judges, &[Vec<f32>]))| {
            judges.target(answers, learnt, usize::from(goal.has(label)), keys.intended)[1]
        };
        judges.each(&row.answers).enumerate().map(of).collect()
    }

    /// The judge's probabilities.
    fn target_of_read(run: &Synthesis<LabelSets>, row: &ReadRow, learnt: LearntFrom) -> Vec<f32> {
        let judges = run.judges.as_ref().expect("a text is read after the gold rows are judged");
        judges.each(&row.answers).map(|(judges, answers)| judges.probabilities(answers, learnt)[1]).collect()
    }

    fn read_row(run: &Synthesis<LabelSets>, row: &ReadRow) -> Value {
        let (head, target) = (&run.inputs.small.head, run.target_of_read(row, LearntFrom::All));
        let labels: Vec<usize> = (0..target.len()).filter(|&label| target[label] > 0.5).collect();
        json!({"text": row.text.text, "labels": head.named(&labels), "target": by_label(&head.names, &target)})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> LabelSets {
        LabelSets { names: ["a", "b", "c"].map(String::from).to_vec() }
    }

    #[test]
    fn labels_take_turns_with_sets_that_gold_rows_have() {
        let gold = [vec![0, 1], vec![0], vec![1], vec![]].map(|labels| head().set(labels));
        let turns = head().turns(&[], &gold.iter().collect::<Vec<_>>(), &[1.0; 4], 7).unwrap();
        let all: Vec<LabelSet> = (0..16).map(|id| turns(id).0).collect();
        let leads: Vec<usize> = all.iter().map(|set| set.lead).collect();
        assert_eq!(leads, [0, 1, 2, 3].repeat(4));
        // Label c is in no gold row: it stands alone. Both sets with label a have their turns.
        assert!(all.iter().filter(|set| set.lead == 2).all(|set| set.labels == [2]));
        assert!(all.iter().filter(|set| set.lead == 3).all(|set| set.labels.is_empty()));
        let mut of_a: Vec<Vec<usize>> = all.iter().filter(|set| set.lead == 0).map(|set| set.labels.clone()).collect();
        of_a.sort();
        assert_eq!(of_a, [vec![0], vec![0], vec![0, 1], vec![0, 1]]);
        // Where no gold row has none, no text is written for none.
        let turns = head().turns(&[], &gold[..3].iter().collect::<Vec<_>>(), &[1.0; 4], 7).unwrap();
        assert!((0..12).all(|id| turns(id).0.lead == id % 3));
    }

    #[test]
    fn each_label_that_is_mistaken_is_an_error() {
        let error =
            Misclassified::<LabelSets> { line: 1, text: "t".into(), text_pair: None, goal: head().set([0, 1]), predicted: vec![1, 2] };
        let leads = |predicted: Vec<usize>, from: Parents| {
            let parents = head().parents_of(Misclassified { predicted, ..error.clone() }, from);
            assert!(parents.iter().all(|parent| parent.goal.labels == [0, 1]));
            parents.iter().map(|parent| parent.goal.lead).collect::<Vec<_>>()
        };
        assert_eq!(leads(vec![1, 2], Parents::Errors), [0, 2]);
        assert_eq!(leads(vec![], Parents::Errors), [0, 1]);
        assert_eq!(leads(vec![1, 2], Parents::Mine), [0, 1]);
    }

    #[test]
    fn a_row_is_doubtful_where_judge_and_model_dispute_the_same_label() {
        let row = GoldRow::<LabelSets> { line: 3, text: "t".into(), text_pair: None, gold: head().set([0]) };
        let scores = Scores { logits: vec![-2.0, 2.0, -2.0], cuts: vec![0.0; 3] };
        let judged = |p: [f64; 3]| p.map(|p| vec![1.0 - p, p]).to_vec();
        let (probability, line) = head().doubtful(&row, &judged([0.1, 0.2, 0.9]), &scores).unwrap();
        assert_eq!(line["disputed"], json!(["a"]));
        assert!((probability - 0.1 * crate::math::vectors::sigmoid(-2.0)).abs() < 1e-9);
        assert!(head().doubtful(&row, &judged([0.9, 0.2, 0.9]), &scores).is_none());
        assert!(head().doubtful(&row, &[vec![], vec![], vec![]], &scores).is_none());
    }
}
