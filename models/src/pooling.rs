//! Mean pooling: the mean of each row's last hidden states, `[CLS]` and `[SEP]` included, and its backward.

/// The mean of each row's tokens, (rows, hidden), of `hidden_states` (tokens, hidden).
pub fn means(hidden_states: &[f32], cu_seqlens: &[usize], hidden: usize) -> Vec<f32> {
    let mut means = vec![0.0; (cu_seqlens.len() - 1) * hidden];
    for (mean, ends) in means.chunks_exact_mut(hidden).zip(cu_seqlens.windows(2)) {
        for token in hidden_states[ends[0] * hidden..ends[1] * hidden].chunks_exact(hidden) {
            mean.iter_mut().zip(token).for_each(|(sum, x)| *sum += x);
        }
        let tokens = (ends[1] - ends[0]) as f32;
        mean.iter_mut().for_each(|sum| *sum /= tokens);
    }
    means
}

/// The gradient of the hidden states, (tokens, hidden), from that of their means, `dmeans` (rows, hidden).
pub fn means_backward(dmeans: &[f32], cu_seqlens: &[usize], hidden: usize, dhidden_states: &mut Vec<f32>) {
    dhidden_states.clear();
    for (dmean, ends) in dmeans.chunks_exact(hidden).zip(cu_seqlens.windows(2)) {
        let tokens = ends[1] - ends[0];
        (0..tokens).for_each(|_| dhidden_states.extend(dmean.iter().map(|d| d / tokens as f32)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_different_lengths_have_their_own_means() {
        assert_eq!(means(&[1.0, 2.0, 3.0, 4.0, 5.0, 9.0], &[0, 1, 3], 2), [1.0, 2.0, 4.0, 6.5]);
    }

    #[test]
    fn a_mean_shares_its_gradient_among_its_tokens() {
        let mut dhidden_states = vec![9.0];
        means_backward(&[1.0, 2.0, 3.0, 4.0], &[0, 1, 3], 2, &mut dhidden_states);
        assert_eq!(dhidden_states, [1.0, 2.0, 1.5, 2.0, 1.5, 2.0]);
    }
}
