//! Averages the posteriors of several judge prompts.

/// The mean over judge prompts of the log-probability of each label's word; `answers` (prompts, labels), in nats.
pub fn mean_log_probs(answers: &[Vec<f32>]) -> Vec<f32> {
    let labels = answers.first().map_or(0, Vec::len);
    (0..labels).map(|label| answers.iter().map(|of_prompt| of_prompt[label]).sum::<f32>() / answers.len() as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_over_prompts_for_each_label() {
        assert_eq!(mean_log_probs(&[vec![-1.0, -4.0], vec![-3.0, -2.0]]), [-2.0, -3.0]);
        assert!(mean_log_probs(&[]).is_empty());
    }
}
