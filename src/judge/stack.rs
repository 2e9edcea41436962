//! The judge that learns from the gold rows: the prompt's log-probabilities and the head on hidden states, weighed and calibrated on
//! rows that the head has not learnt from.

use super::calibration::Calibration;
use super::posterior::mean_log_probs;
use super::probe::{Fitted, Probe};
use super::reply::{Reply, held_out};
use crate::math::random;
use crate::math::vectors::softmax;
use crate::measure::folds::stratified;

/// A judge of texts from the generator's replies.
#[derive(Clone, Debug, PartialEq)]
pub struct Stack {
    /// None where the generator shows no hidden states.
    probe: Option<Probe>,
    /// Of the prompt's log-probabilities, and of the probe's behind them.
    calibration: Calibration,
}

/// The head learns from at most so many rows.
const MOST_ROWS: usize = 1000;
/// Folds in which a whole judge is fitted anew, to say how good it is.
const FOLDS: usize = 5;

impl Stack {
    /// Fits to the replies about gold rows. Where there are very many, the head learns from a part of them.
    ///
    /// # Panics
    /// Without rows.
    pub fn fit(replies: &[Reply], gold: &[usize], seed: u64) -> Stack {
        let labels = replies[0].log_probs.len();
        if replies.iter().any(|reply| reply.states.is_empty()) {
            let prompt: Vec<Vec<f32>> = replies.iter().map(|reply| reply.log_probs.clone()).collect();
            return Stack { probe: None, calibration: Calibration::fit(&prompt, gold) };
        }
        let part = stratified(gold, labels, replies.len().div_ceil(MOST_ROWS), random::derive(seed, "rows of the head", 0));
        let (learnt, of_learnt): (Vec<Reply>, Vec<usize>) =
            (0..replies.len()).filter(|&i| part[i] == 0).map(|i| (replies[i].clone(), gold[i])).unzip();
        let Fitted { probe, held_out } = Probe::fit(&learnt, &of_learnt, labels, seed);
        // A row that is always learnt from counts for the prompt alone: equal log-probabilities say nothing.
        let nothing = || vec![0.0; labels];
        let mut held_out = held_out.into_iter();
        let input = |(i, reply): (usize, &Reply)| {
            let probed = if part[i] == 0 { held_out.next().flatten().unwrap_or_else(nothing) } else { probe.log_probs(&reply.states) };
            vec![reply.log_probs.clone(), probed]
        };
        let inputs: Vec<Vec<Vec<f32>>> = replies.iter().enumerate().map(input).collect();
        Stack { calibration: Calibration::of_several(&inputs, gold, 2, labels), probe: Some(probe) }
    }

    /// The probe, unless the generator shows no hidden states.
    pub fn probe(&self) -> Option<&Probe> {
        self.probe.as_ref()
    }

    /// The same judge with another calibration of the same inputs.
    #[must_use]
    pub fn with_calibration(self, calibration: Calibration) -> Stack {
        Stack { calibration, ..self }
    }

    pub fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// Probabilities of the labels of a text. `answers` (prompts, labels) are those of [`Questions`], the probe's behind the prompts'.
    ///
    /// [`Questions`]: super::questions::Questions
    pub fn probabilities(&self, answers: &[Vec<f32>]) -> Vec<f64> {
        self.of_answers(answers, |inputs| softmax(&self.calibration.logits_of(inputs)))
    }

    /// The soft target of a row written for `label`, as [`Calibration::target`], from answers as in [`Stack::probabilities`].
    pub fn target(&self, answers: &[Vec<f32>], label: usize, intended: f64) -> Vec<f32> {
        self.of_answers(answers, |inputs| self.calibration.target_of(inputs, label, intended))
    }

    /// Calls `with` the calibration's inputs: the mean over the prompts, then the probe's.
    fn of_answers<T>(&self, answers: &[Vec<f32>], with: impl Fn(&[&[f32]]) -> T) -> T {
        let prompts = &answers[..answers.len() - usize::from(self.probe.is_some())];
        let mean = mean_log_probs(prompts);
        with(&std::iter::once(&mean).chain(&answers[prompts.len()..]).map(Vec::as_slice).collect::<Vec<_>>())
    }

    /// Logits of the labels of a text.
    pub fn logits(&self, reply: &Reply) -> Vec<f64> {
        let probed = self.probe.as_ref().map(|probe| probe.log_probs(&reply.states));
        let inputs: Vec<&[f32]> = std::iter::once(reply.log_probs.as_slice()).chain(probed.as_deref()).collect();
        self.calibration.logits_of(&inputs)
    }

    /// For each row, the logits of a judge that has not learnt from it; none for a row that no fold holds out.
    pub fn out_of_fold(replies: &[Reply], gold: &[usize], seed: u64) -> Vec<Option<Vec<f64>>> {
        let labels = replies.first().map_or(0, |reply| reply.log_probs.len());
        let fold = held_out(replies, gold, labels, FOLDS, random::derive(seed, "folds of the judge", 0));
        let mut logits = vec![None; gold.len()];
        for own in 0..fold.iter().flatten().max().map_or(0, |last| last + 1) {
            let others: Vec<usize> = (0..gold.len()).filter(|&i| fold[i] != Some(own)).collect();
            let (learnt, of_learnt): (Vec<Reply>, Vec<usize>) = others.iter().map(|&i| (replies[i].clone(), gold[i])).unzip();
            let judge = Stack::fit(&learnt, &of_learnt, random::derive(seed, "judge of a fold", own as u64));
            (0..gold.len()).filter(|&i| fold[i] == Some(own)).for_each(|i| logits[i] = Some(judge.logits(&replies[i])));
        }
        logits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::vectors::argmax;
    use rand::RngExt;

    /// Replies about rows of two labels: the prompt says `by_prompt` nats of the label, the second layer `by_state`, all among noise.
    fn replies(rows: usize, by_prompt: f32, by_state: f32) -> (Vec<Reply>, Vec<usize>) {
        let mut rng = random::rng(5, "test", 0);
        let gold: Vec<usize> = (0..rows).map(|i| i % 2).collect();
        let mut reply = |&label: &usize| {
            let sign = 2.0 * label as f32 - 1.0;
            let noise = rng.random_range(-1.0..1.0f32);
            let mut state = || (0..40).map(|_| rng.random_range(-1.0..1.0f32)).collect::<Vec<f32>>();
            let mut states = vec![state(), state()];
            states[1][3] += by_state * sign;
            Reply { log_probs: vec![-3.0, -3.0 + by_prompt * sign + noise], states, group: None }
        };
        (gold.iter().map(&mut reply).collect(), gold)
    }

    fn accuracy(learnt: (&[Reply], &[usize]), tested: (&[Reply], &[usize])) -> f64 {
        let judge = Stack::fit(learnt.0, learnt.1, 0);
        let right = tested.0.iter().zip(tested.1).filter(|(reply, label)| argmax(&judge.logits(reply)) == **label).count();
        right as f64 / tested.1.len() as f64
    }

    #[test]
    fn what_the_states_know_is_learnt_and_what_the_prompt_says_is_kept() {
        for (by_prompt, by_state, least) in [(0.0, 2.0, 0.9), (2.0, 0.0, 0.9), (0.4, 0.8, 0.75)] {
            let (all, gold) = replies(400, by_prompt, by_state);
            let found = accuracy((&all[..100], &gold[..100]), (&all[100..], &gold[100..]));
            assert!(found > least, "{by_prompt} {by_state}: {found}");
        }
    }

    #[test]
    fn out_of_fold_says_what_new_rows_will_show() {
        // Labels that nothing tells: in sample, 80 numbers of state would fit 60 rows perfectly.
        let (nothing, gold) = replies(60, 0.0, 0.0);
        let logits = Stack::out_of_fold(&nothing, &gold, 0);
        let right = logits.iter().zip(&gold).filter(|(row, label)| argmax(row.as_ref().unwrap()) == **label).count();
        assert!((15..=45).contains(&right), "{right} of 60");
        let (clear, gold) = replies(60, 0.0, 3.0);
        let logits = Stack::out_of_fold(&clear, &gold, 0);
        let right = logits.iter().zip(&gold).filter(|(row, label)| argmax(row.as_ref().unwrap()) == **label).count();
        assert!(right > 54, "{right} of 60");
    }

    /// Rows that are the only ones of their label, of which no head can be tested: the prompt's knowledge stays.
    #[test]
    fn one_row_a_label_leaves_the_prompt() {
        let reply = |label: usize| Reply {
            log_probs: (0..6).map(|l| if l == label { -0.5 } else { -3.0 }).collect(),
            states: vec![(0..10).map(|i| (i * label) as f32).collect()],
            group: None,
        };
        for rows in [6, 7, 12] {
            let gold: Vec<usize> = (0..rows).map(|i| i % 6).collect();
            let replies: Vec<Reply> = gold.iter().map(|&label| reply(label)).collect();
            let judge = Stack::fit(&replies, &gold, 0);
            assert!((0..6).all(|label| argmax(&judge.logits(&reply(label))) == label), "{rows} rows: {judge:?}");
        }
    }

    /// Pairs of a few first texts, whose label each shares: a head that knows the texts again knows nothing of others.
    #[test]
    fn pairs_are_held_out_by_their_first_texts() {
        let mut rng = random::rng(6, "test", 0);
        let of_text: Vec<Vec<f32>> = (0..12).map(|_| (0..40).map(|_| rng.random_range(-3.0..3.0f32)).collect()).collect();
        let row = |i: usize| Reply { log_probs: vec![-1.0, -1.0], states: vec![of_text[i % 12].clone()], group: Some(i as u64 % 12) };
        let gold: Vec<usize> = (0..60).map(|i| (i % 12) % 2).collect();
        let mut replies: Vec<Reply> = (0..60).map(row).collect();
        let right = |replies: &[Reply]| {
            let logits = Stack::out_of_fold(replies, &gold, 0);
            logits.iter().zip(&gold).filter(|(row, label)| argmax(row.as_ref().unwrap()) == **label).count()
        };
        assert!(right(&replies) < 48, "{}", right(&replies));
        replies.iter_mut().for_each(|reply| reply.group = None);
        assert!(right(&replies) > 55, "{}", right(&replies));
    }

    #[test]
    fn without_states_it_is_the_prompts_calibration() {
        let (mut all, gold) = replies(50, 1.0, 0.0);
        all.iter_mut().for_each(|reply| reply.states.clear());
        let prompt: Vec<Vec<f32>> = all.iter().map(|reply| reply.log_probs.clone()).collect();
        let (judge, calibration) = (Stack::fit(&all, &gold, 0), Calibration::fit(&prompt, &gold));
        assert_eq!(judge.logits(&all[3]), calibration.logits(&prompt[3]));
    }
}
