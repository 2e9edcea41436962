//! Label words as a tree: where several begin with the same word, a further question asks for the next word.

use crate::math::vectors::log_sum_exp;

/// A point in the answer where the next word decides between labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The answer so far.
    pub said: String,
    /// The candidate words.
    pub next: Vec<String>,
    /// For each label, the index in `next` of the word that leads to it; `None` if the label was ruled out before.
    pub branch: Vec<Option<usize>>,
}

/// The forks that tell `words` apart, root first. `words` has one answer of one or more words for each label.
///
/// # Errors
/// Two equal answers, or one that is the beginning of another: no word tells them apart.
pub fn forks(words: &[&str]) -> Result<Vec<Fork>, String> {
    let mut found = Vec::new();
    follow(words, String::new(), (0..words.len()).collect(), &mut found)?;
    Ok(found)
}

/// Adds the forks of the labels `among`, whose answers all begin with `said`.
fn follow(words: &[&str], mut said: String, among: Vec<usize>, found: &mut Vec<Fork>) -> Result<(), String> {
    loop {
        let mut branches: Vec<(&str, Vec<usize>)> = Vec::new();
        for &label in &among {
            let next = first_word(&words[label][said.len()..]);
            if next.is_empty() && among.len() > 1 {
                let other = among.iter().find(|&&other| other != label).expect("there are two or more");
                return Err(format!("the word {:?} begins with {:?}; nothing tells them apart", words[*other], words[label]));
            }
            match branches.iter_mut().find(|(word, _)| *word == next) {
                Some((_, labels)) => labels.push(label),
                None => branches.push((next, vec![label])),
            }
        }
        if among.len() < 2 {
            return Ok(());
        }
        if branches.len() == 1 {
            said += branches[0].0;
            continue;
        }
        let branch_of = |label| branches.iter().position(|(_, labels)| labels.contains(&label));
        let next = branches.iter().map(|(word, _)| word.to_string()).collect();
        found.push(Fork { said: said.clone(), next, branch: (0..words.len()).map(branch_of).collect() });
        for (word, labels) in branches {
            follow(words, format!("{said}{word}"), labels, found)?;
        }
        return Ok(());
    }
}

/// The first word, with the white space before it.
fn first_word(text: &str) -> &str {
    let space = text.len() - text.trim_start().len();
    let word = text[space..].find(char::is_whitespace).map_or(text.len(), |end| space + end);
    &text[..word]
}

/// ln p of each label's whole answer, from `word_log_probs`, ln p of the candidate words at each fork. At the first fork these are used
/// as they are, at later forks they are normalised over the candidates.
pub fn log_probs(forks: &[Fork], word_log_probs: &[Vec<f32>]) -> Vec<f32> {
    let labels = forks.first().map_or(0, |fork| fork.branch.len());
    let mut total = vec![0.0; labels];
    for (i, (fork, words)) in forks.iter().zip(word_log_probs).enumerate() {
        let all = if i == 0 { 0.0 } else { log_sum_exp(words) };
        for (label, branch) in fork.branch.iter().enumerate() {
            total[label] += branch.map_or(0.0, |branch| words[branch] - all);
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn different_words_need_one_question() {
        let found = forks(&[" good", " bad"]).unwrap();
        assert_eq!(found, [Fork { said: String::new(), next: vec![" good".into(), " bad".into()], branch: vec![Some(0), Some(1)] }]);
        assert_eq!(log_probs(&found, &[vec![-1.0, -2.0]]), [-1.0, -2.0]);
    }

    #[test]
    fn words_that_begin_alike_need_further_questions() {
        let found = forks(&[" card lost", " transfer", " card not here", " card not working"]).unwrap();
        let of = |fork: &Fork| (fork.said.clone(), fork.next.join("|"));
        assert_eq!(
            found.iter().map(of).collect::<Vec<_>>(),
            [
                ("".to_string(), " card| transfer".to_string()),
                (" card".to_string(), " lost| not".to_string()),
                (" card not".to_string(), " here| working".to_string()),
            ]
        );
        assert_eq!(found[2].branch, [None, None, Some(0), Some(1)]);
        let even = 0.5f32.ln();
        let total = log_probs(&found, &[vec![-1.0, -3.0], vec![-7.0, -7.0], vec![-2.0, -2.0]]);
        for (found, expected) in total.iter().zip([-1.0 + even, -3.0, -1.0 + 2.0 * even, -1.0 + 2.0 * even]) {
            assert!((found - expected).abs() < 1e-6, "{total:?}");
        }
    }

    #[test]
    fn an_answer_that_is_the_beginning_of_another_is_refused() {
        assert_eq!(forks(&[" card", " card lost"]).unwrap_err(), "the word \" card lost\" begins with \" card\"; nothing tells them apart");
        assert!(forks(&[" a b", " a b"]).is_err());
    }

    proptest! {
        /// However the words branch, the answers' probabilities sum to those of the first fork.
        #[test]
        fn answers_share_the_first_forks_probability(answers in proptest::collection::btree_set("( [ab]){3}", 2..9), raw in proptest::collection::vec(-9f32..0.0, 64)) {
            let answers: Vec<&str> = answers.iter().map(String::as_str).collect();
            let forks = forks(&answers).unwrap();
            let mut raw = raw.into_iter().cycle();
            let words: Vec<Vec<f32>> = forks.iter().map(|fork| fork.next.iter().map(|_| raw.next().unwrap()).collect()).collect();
            let total: f32 = log_probs(&forks, &words).iter().map(|x| x.exp()).sum();
            let first: f32 = words[0].iter().map(|x| x.exp()).sum();
            prop_assert!((total - first).abs() < 1e-4 * first, "{} {}", total, first);
        }
    }
}
