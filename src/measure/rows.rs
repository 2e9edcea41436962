//! Rows of features, dense or sparse, as a linear model reads them.

use crate::math::vectors;

/// A row of features; how many there are (the width) is known to whoever has the weights.
pub trait Row {
    /// Σ w · x over the features, for weights `w` (width).
    fn dot(&self, w: &[f64]) -> f64;

    /// Adds `scale` times the row to `sum` (width).
    fn add_to(&self, scale: f64, sum: &mut [f64]);
}

impl Row for Vec<f64> {
    fn dot(&self, w: &[f64]) -> f64 {
        vectors::dot(self, w)
    }

    fn add_to(&self, scale: f64, sum: &mut [f64]) {
        sum.iter_mut().zip(self).for_each(|(s, x)| *s += scale * x);
    }
}

/// A row of which only the features that are not 0 are kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sparse {
    /// Which features, each below the width, each once.
    pub index: Vec<u32>,
    /// Their values, in the order of `index`.
    pub value: Vec<f64>,
}

impl Row for Sparse {
    fn dot(&self, w: &[f64]) -> f64 {
        self.index.iter().zip(&self.value).map(|(&i, x)| w[i as usize] * x).sum()
    }

    fn add_to(&self, scale: f64, sum: &mut [f64]) {
        self.index.iter().zip(&self.value).for_each(|(&i, x)| sum[i as usize] += scale * x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_sparse_row_is_its_dense_row(
            row in proptest::collection::vec(prop_oneof![Just(0.0), -3f64..3.0], 6),
            w in proptest::collection::vec(-3f64..3.0, 6),
            scale in -2f64..2.0,
        ) {
            let index: Vec<u32> = (0..6).filter(|&i| row[i as usize] != 0.0).collect();
            let sparse = Sparse { value: index.iter().map(|&i| row[i as usize]).collect(), index };
            prop_assert!((sparse.dot(&w) - row.dot(&w)).abs() < 1e-12);
            let (mut a, mut b) = (w.clone(), w.clone());
            sparse.add_to(scale, &mut a);
            row.add_to(scale, &mut b);
            prop_assert_eq!(&a, &b);
            let expected: Vec<f64> = w.iter().zip(&row).map(|(w, x)| w + scale * x).collect();
            prop_assert_eq!(a, expected);
        }
    }
}
