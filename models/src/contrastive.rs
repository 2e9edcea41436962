//! Pairs of texts, and the contrastive loss of their embeddings: sentence-transformers' `CosineSimilarityLoss`, as in SetFit's first stage
//! (Tunstall et al., arXiv 2209.11055).

use crate::ModelError;

/// Two rows of a batch, and how similar their embeddings should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// Place of a row in the batch.
    pub first: usize,
    /// Place of the other row; the same one is allowed, and teaches nothing.
    pub second: usize,
    /// The cosine that is wanted, from -1 to 1: in SetFit 1 for texts of one label, 0 for those of two.
    pub similarity: f32,
}

/// A row of a smaller norm counts as one of this norm, as in PyTorch's `cosine_similarity`.
const SMALLEST_NORM: f64 = 1e-8;

/// Whether there are pairs, and every one is of rows of the batch and has a similarity in its range.
pub fn check_pairs(pairs: &[Pair], rows: usize) -> Result<(), ModelError> {
    if pairs.is_empty() {
        return Err(ModelError::Batch("it has no pairs".into()));
    }
    for (i, Pair { first, second, similarity }) in pairs.iter().enumerate() {
        if first.max(second) >= &rows {
            return Err(ModelError::Batch(format!("pair {i} is of rows {first} and {second}, but there are {rows} rows, counted from 0")));
        }
        if !(-1.0..=1.0).contains(similarity) {
            return Err(ModelError::Batch(format!("the similarity of pair {i} is {similarity}; it must be from -1 to 1")));
        }
    }
    Ok(())
}

/// The mean over checked pairs of (cos(u, v) − similarity)², and its gradient (rows, hidden). u and v are rows of `embeddings`
/// (rows, hidden). The sums are made in f64 in the order of the pairs.
pub fn cosine_similarity_loss(embeddings: &[f32], hidden: usize, pairs: &[Pair]) -> (f64, Vec<f32>) {
    let row = |i: usize| &embeddings[i * hidden..][..hidden];
    let norms: Vec<f64> = embeddings.chunks_exact(hidden).map(|x| dot(x, x).sqrt().max(SMALLEST_NORM)).collect();
    let (mut loss, mut gradient, scale) = (0.0, vec![0.0; embeddings.len()], 1.0 / pairs.len() as f64);
    for &Pair { first, second, similarity } in pairs {
        let norms_product = norms[first] * norms[second];
        let cosine = dot(row(first), row(second)) / norms_product;
        let error = cosine - similarity as f64;
        loss += scale * error * error;
        for (of, other) in [(first, second), (second, first)] {
            // ∂cos/∂u = v / (|u| |v|) − cos · u / |u|²
            let dcosine = 2.0 * scale * error;
            let (of_other, of_own) = (dcosine / norms_product, dcosine * cosine / norms[of].powi(2));
            for ((sum, &u), &v) in gradient[of * hidden..][..hidden].iter_mut().zip(row(of)).zip(row(other)) {
                *sum += of_other * v as f64 - of_own * u as f64;
            }
        }
    }
    (loss, gradient.iter().map(|&g| g as f32).collect())
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| a as f64 * b as f64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIDDEN: usize = 3;
    const EMBEDDINGS: [f32; 4 * HIDDEN] = [0.5, -1.0, 2.0, 1.5, 0.25, -0.5, -2.0, 0.75, 1.0, 0.1, 0.2, -0.3];
    /// A row in several pairs, one in none, and one with itself.
    const PAIRS: [Pair; 4] = [pair(0, 1, 1.0), pair(2, 0, -0.5), pair(1, 0, 0.0), pair(2, 2, 0.3)];

    const fn pair(first: usize, second: usize, similarity: f32) -> Pair {
        Pair { first, second, similarity }
    }

    #[test]
    fn values() {
        // Perpendicular, of an angle of 60 degrees, and opposite; lengths do not matter.
        let embeddings = [2.0, 0.0, 0.0, 3.0, 1.0, 3f32.sqrt(), -5.0, 0.0];
        for (pair, expected) in [(pair(0, 1, 0.5), 0.25), (pair(0, 2, 1.0), 0.25), (pair(3, 0, 1.0), 4.0), (pair(0, 0, 1.0), 0.0)] {
            let (loss, _) = cosine_similarity_loss(&embeddings, 2, &[pair]);
            assert!((loss - expected).abs() < 1e-6, "{pair:?}: {loss}");
        }
        let (both, _) = cosine_similarity_loss(&embeddings, 2, &[pair(0, 1, 0.5), pair(3, 0, 1.0)]);
        assert!((both - (0.25 + 4.0) / 2.0).abs() < 1e-6);
    }

    #[test]
    fn gradient_by_finite_differences() {
        let (_, gradient) = cosine_similarity_loss(&EMBEDDINGS, HIDDEN, &PAIRS);
        for (i, &found) in gradient.iter().enumerate() {
            let loss = |step: f32| {
                let mut moved = EMBEDDINGS;
                moved[i] += step;
                cosine_similarity_loss(&moved, HIDDEN, &PAIRS).0
            };
            let step = 1.0 / 1024.0;
            let expected = (loss(step) - loss(-step)) / (2.0 * step as f64);
            assert!((found as f64 - expected).abs() < 1e-5, "{i}: {found}, expected {expected}");
        }
        assert!(gradient[..3 * HIDDEN].iter().all(|&g| g.abs() > 1e-3), "{gradient:?}");
        assert!(gradient[3 * HIDDEN..].iter().all(|&g| g == 0.0), "{gradient:?}");
    }

    #[test]
    fn a_row_of_zeros_has_finite_gradients() {
        let (loss, gradient) = cosine_similarity_loss(&[0.0, 0.0, 1.0, 2.0], 2, &[pair(0, 1, 1.0)]);
        assert!(loss == 1.0 && gradient.iter().all(|g| g.is_finite()), "{loss} {gradient:?}");
    }
}
