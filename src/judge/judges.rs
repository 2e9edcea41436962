//! The judges of a run: alike, but for the gold rows that each has learnt from.
//!
//! A round's targets come from a judge of *mine*, so that *select* can choose among rounds; those of the delivered model from a judge of
//! all gold rows; and what is said of gold rows out of fold from judges that have not seen the fold. All read a text's states at once.

use super::calibration::Calibration;
use super::probe::Probe;
use super::reply::Reply;
use super::stack::Stack;
use crate::math::random;

/// Which gold rows a judge, or a model, has learnt from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LearntFrom {
    Mine,
    All,
    /// All but those of a fold.
    Without(usize),
}

/// The judges of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Judges {
    /// Of *mine*, of all gold rows, and without each fold.
    stacks: Vec<Stack>,
    /// Number of judge prompts.
    prompts: usize,
    /// What the judge without its fold says of each gold row, in logits; empty for a row in no fold.
    of_gold: Vec<Vec<f32>>,
}

impl Judges {
    /// Fits them to replies about the gold rows, of which the first `mine` are *mine*. `fold` has the fold of each row, none for one that
    /// is always learnt from; it is empty where no fold is judged.
    ///
    /// # Panics
    /// Without rows of *mine*.
    pub fn fit(replies: &[Reply], gold: &[usize], mine: usize, fold: &[Option<usize>], prompts: usize, seed: u64) -> Judges {
        let folds = fold.iter().flatten().max().map_or(0, |last| last + 1);
        let learnt = [LearntFrom::Mine, LearntFrom::All].into_iter().chain((0..folds).map(LearntFrom::Without));
        let of = |learnt: LearntFrom| {
            let (chosen, seed): (Vec<usize>, u64) = match learnt {
                LearntFrom::Mine => ((0..mine).collect(), seed),
                LearntFrom::All => ((0..gold.len()).collect(), random::derive(seed, "judge of all gold rows", 0)),
                LearntFrom::Without(own) => {
                    ((0..gold.len()).filter(|&i| fold[i] != Some(own)).collect(), random::derive(seed, "judge without a fold", own as u64))
                }
            };
            let (rows, of_rows): (Vec<Reply>, Vec<usize>) = chosen.iter().map(|&i| (replies[i].clone(), gold[i])).unzip();
            Stack::fit(&rows, &of_rows, seed)
        };
        let stacks: Vec<Stack> = learnt.map(of).collect();
        let says = |(reply, fold): (&Reply, &Option<usize>)| {
            let logits = fold.map(|fold| stacks[Judges::place(LearntFrom::Without(fold))].logits(reply));
            logits.unwrap_or_default().into_iter().map(|x| x as f32).collect()
        };
        let of_gold = replies.iter().zip(fold).map(says).collect();
        Judges { stacks, prompts, of_gold }
    }

    fn place(learnt: LearntFrom) -> usize {
        match learnt {
            LearntFrom::Mine => 0,
            LearntFrom::All => 1,
            LearntFrom::Without(fold) => 2 + fold,
        }
    }

    /// What a judge that has not learnt a gold row says of it, in logits; empty for a row in no fold.
    pub fn of_gold(&self, row: usize) -> Vec<f32> {
        self.of_gold.get(row).cloned().unwrap_or_default()
    }

    /// The calibration of the judge of *mine*.
    pub fn calibration(&self) -> &Calibration {
        self.stacks[0].calibration()
    }

    /// The same judges, that of *mine* with another calibration of the same inputs.
    #[must_use]
    pub fn with_calibration(mut self, calibration: Calibration) -> Judges {
        self.stacks[0] = self.stacks[0].clone().with_calibration(calibration);
        self
    }

    /// The heads on hidden states, one a judge; none where the generator shows no states.
    pub fn probes(&self) -> Vec<&Probe> {
        self.stacks.iter().filter_map(Stack::probe).collect()
    }

    /// What one judge goes by of the `answers` about a text, (prompts and probes, labels): the prompts', and its own probe's.
    pub fn answers(&self, answers: &[Vec<f32>], learnt: LearntFrom) -> Vec<Vec<f32>> {
        let probed = answers.get(self.prompts + Judges::place(learnt)).cloned();
        answers[..self.prompts].iter().cloned().chain(probed).collect()
    }

    /// The soft target of a text from the `answers` about it: a judge's probabilities, (labels).
    pub fn probabilities(&self, answers: &[Vec<f32>], learnt: LearntFrom) -> Vec<f32> {
        let p = self.stacks[Judges::place(learnt)].probabilities(&self.answers(answers, learnt));
        p.into_iter().map(|p| p as f32).collect()
    }

    /// The same of a text that was written for `label`, see [`Calibration::target`].
    pub fn target(&self, answers: &[Vec<f32>], learnt: LearntFrom, label: usize, intended: f64) -> Vec<f32> {
        self.stacks[Judges::place(learnt)].target(&self.answers(answers, learnt), label, intended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::vectors::argmax;

    /// Rows whose states tell the label, but for those of fold 0, where they tell the other one.
    fn replies(fold: &[Option<usize>]) -> (Vec<Reply>, Vec<usize>) {
        let gold: Vec<usize> = (0..fold.len()).map(|i| i % 2).collect();
        let reply = |i: usize| {
            let said = if fold[i] == Some(0) { 1 - gold[i] } else { gold[i] };
            let noise = ((i * 7919) % 13) as f32 / 13.0;
            Reply { log_probs: vec![-1.0, -1.0], states: vec![vec![2.0 * said as f32 - 1.0, noise]], group: None }
        };
        ((0..fold.len()).map(reply).collect(), gold)
    }

    #[test]
    fn each_judge_has_learnt_from_its_own_rows() {
        let fold: Vec<Option<usize>> = (0..60).map(|i| Some(if i < 20 { 1 } else { 0 })).collect();
        let (replies, gold) = replies(&fold);
        let judges = Judges::fit(&replies, &gold, 16, &fold, 1, 0);
        assert_eq!(judges.probes().len(), 4);
        let text = [vec![vec![-1.0, -1.0]], judges.probes().iter().map(|probe| probe.log_probs(&[vec![1.0, 0.5]])).collect()].concat();
        let says = |learnt| argmax(&judges.probabilities(&text, learnt));
        // Rows of fold 0, most of all rows, say the opposite of what those of fold 1 say, of which all of *mine* are.
        let found = [LearntFrom::Mine, LearntFrom::All, LearntFrom::Without(0), LearntFrom::Without(1)].map(says);
        assert_eq!(found, [1, 0, 1, 0]);
        // Each row is judged by the other fold's, which says the opposite.
        assert!((0..60).all(|row| argmax(&judges.of_gold(row).into_iter().map(f64::from).collect::<Vec<_>>()) != gold[row]));
        assert_eq!(judges.answers(&text, LearntFrom::Without(0)), [text[0].clone(), text[3].clone()]);
        assert!(judges.target(&text, LearntFrom::Without(0), 0, 9.0)[0] > 0.5);
    }

    #[test]
    fn without_states_they_go_by_the_prompt() {
        let fold: Vec<Option<usize>> = (0..20).map(|i| Some(i % 5)).collect();
        let gold: Vec<usize> = (0..20).map(|i| i % 2).collect();
        let reply = |&label: &usize| Reply { log_probs: vec![-1.0, label as f32 - 1.5], ..Reply::default() };
        let judges = Judges::fit(&gold.iter().map(reply).collect::<Vec<_>>(), &gold, 12, &fold, 2, 0);
        assert!(judges.probes().is_empty());
        let text = vec![vec![-1.0, -0.5], vec![-1.0, -0.3]];
        assert_eq!(judges.answers(&text, LearntFrom::Without(4)), text);
        assert_eq!(argmax(&judges.probabilities(&text, LearntFrom::Without(4))), 1);
    }
}
