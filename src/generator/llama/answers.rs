//! The answers to a question as paths of tokens: where several begin alike, the next token decides between them.

use crate::generator::prefix::Token;
use crate::math::vectors::log_sum_exp;

/// A point where the next token decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TokenFork {
    /// The tokens of the answer so far.
    pub(super) said: Vec<Token>,
    /// The candidate tokens, all different.
    pub(super) next: Vec<Token>,
    /// For each answer, the place in `next` of the token that leads to it; `None` if it does not come here, or ends here.
    branch: Vec<Option<usize>>,
    /// The answer that ends here, where others go on.
    ends: Option<usize>,
}

/// The forks that tell answers apart, the first one first. An answer is its tokens, at least one.
///
/// # Errors
/// Two equal answers, by their places.
pub(super) fn token_forks(answers: &[Vec<Token>]) -> Result<Vec<TokenFork>, (usize, usize)> {
    let mut found = Vec::new();
    follow(answers, 0, (0..answers.len()).collect(), &mut found)?;
    Ok(found)
}

/// Adds the forks of the answers `among`, which agree on their first `at` tokens.
fn follow(answers: &[Vec<Token>], mut at: usize, among: Vec<usize>, found: &mut Vec<TokenFork>) -> Result<(), (usize, usize)> {
    loop {
        let ending: Vec<usize> = among.iter().copied().filter(|&answer| answers[answer].len() == at).collect();
        if let [one, other, ..] = ending[..] {
            return Err((one, other));
        }
        let mut next: Vec<Token> = Vec::new();
        let mut branch = vec![None; answers.len()];
        for &answer in among.iter().filter(|&&answer| answers[answer].len() > at) {
            let token = answers[answer][at];
            let place = next.iter().position(|own| *own == token).unwrap_or_else(|| {
                next.push(token);
                next.len() - 1
            });
            branch[answer] = Some(place);
        }
        // The first fork is there even if there is nothing to decide yet: hidden states are read at the end of the prompt.
        let decides = next.len() + ending.len() > 1 || found.is_empty() && !among.is_empty();
        if decides {
            let said = answers[among[0]][..at].to_vec();
            found.push(TokenFork { said, next: next.clone(), branch: branch.clone(), ends: ending.first().copied() });
        }
        if among.len() < 2 || next.is_empty() {
            return Ok(());
        }
        at += 1;
        if next.len() == 1 && ending.is_empty() {
            continue;
        }
        for place in 0..next.len() {
            let own: Vec<usize> = among.iter().copied().filter(|&answer| branch[answer] == Some(place)).collect();
            if own.len() > 1 {
                follow(answers, at, own, found)?;
            }
        }
        return Ok(());
    }
}

/// ln p of each answer, from ln p of the candidate tokens at each fork. At the first fork these are used as they are, at later ones they
/// are normalised over the candidates; what ends at a fork has the probability that none of the candidates has.
pub(super) fn of_answers(forks: &[TokenFork], log_probs: &[Vec<f32>]) -> Vec<f32> {
    let mut total = vec![0.0; forks.first().map_or(0, |fork| fork.branch.len())];
    for (i, (fork, log_probs)) in forks.iter().zip(log_probs).enumerate() {
        let all = if i == 0 || fork.ends.is_some() { 0.0 } else { log_sum_exp(log_probs) };
        for (total, branch) in total.iter_mut().zip(&fork.branch) {
            *total += branch.map_or(0.0, |place| log_probs[place] - all);
        }
        if let Some(answer) = fork.ends {
            let others: f64 = log_probs.iter().map(|&x| f64::from(x).exp()).sum();
            total[answer] += (1.0 - others).max(f64::from(f32::MIN_POSITIVE)).ln() as f32;
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answers_that_differ_at_once_need_one_fork() {
        let forks = token_forks(&[vec![5, 6], vec![7]]).unwrap();
        assert_eq!((forks.len(), &forks[0].said[..], &forks[0].next[..]), (1, &[][..], &[5, 7][..]));
        assert_eq!(of_answers(&forks, &[vec![-1.0, -2.0]]), [-1.0, -2.0]);
        assert_eq!(of_answers(&token_forks(&[vec![3, 4]]).unwrap(), &[vec![-1.5]]), [-1.5]);
        assert!(token_forks(&[]).unwrap().is_empty());
    }

    #[test]
    fn what_all_begin_with_is_shared() {
        let forks = token_forks(&[vec![1, 2, 3], vec![1, 2, 4]]).unwrap();
        assert_eq!(
            forks.iter().map(|fork| (&fork.said[..], &fork.next[..])).collect::<Vec<_>>(),
            [(&[][..], &[1][..]), (&[1, 2], &[3, 4])]
        );
        let found = of_answers(&forks, &[vec![0.5f32.ln()], vec![0.2f32.ln(), 0.2f32.ln()]]);
        assert!(found.iter().all(|x| (x.exp() - 0.25).abs() < 1e-6), "{found:?}");
    }

    #[test]
    fn an_answer_may_end_where_another_goes_on() {
        let forks = token_forks(&[vec![1, 0], vec![1], vec![5]]).unwrap();
        assert_eq!(forks.iter().map(|fork| fork.said.len()).collect::<Vec<_>>(), [0, 1]);
        let (half, tenth) = (0.5f32.ln(), 0.1f32.ln());
        let found = of_answers(&forks, &[vec![half, tenth], vec![tenth]]);
        for (found, expected) in found.iter().zip([0.05f32, 0.45, 0.1]) {
            assert!((found.exp() - expected).abs() < 1e-5, "{found}");
        }
        assert_eq!(token_forks(&[vec![1, 2], vec![3], vec![1, 2]]).unwrap_err(), (0, 2));
    }

    proptest! {
        /// However answers branch, their probabilities sum to what the first fork gives.
        #[test]
        fn answers_share_the_first_forks_probability(
            answers in proptest::collection::btree_set(proptest::collection::vec(0i32..3, 1..5), 2..8), raw in proptest::collection::vec(-4f32..0.0, 64)
        ) {
            let answers: Vec<Vec<Token>> = answers.into_iter().collect();
            let forks = token_forks(&answers).unwrap();
            let mut raw = raw.into_iter().cycle();
            let log_probs: Vec<Vec<f32>> = forks.iter().map(|fork| {
                // Of a vocabulary with one more token: the candidates' probabilities sum to less than one.
                let own: Vec<f32> = (0..=fork.next.len()).map(|_| raw.next().unwrap()).collect();
                let all = log_sum_exp(&own);
                own[..fork.next.len()].iter().map(|x| x - all).collect()
            }).collect();
            let total: f32 = of_answers(&forks, &log_probs).iter().map(|x| x.exp()).sum();
            let first: f32 = if forks[0].ends.is_some() { 1.0 } else { log_probs[0].iter().map(|x| x.exp()).sum() };
            prop_assert!((total - first).abs() < 1e-4, "{} {}", total, first);
        }
    }
}
