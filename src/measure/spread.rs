//! A sample that is spread over all there is: each row is drawn in proportion to the squared distance from the nearest one drawn before
//! (the seeding of k-means++, Arthur and Vassilvitskii 2007). Outliers are among the rows and do not fill them, as they do where the
//! farthest is taken each time.

use rand::{Rng, RngExt};
use rayon::prelude::*;

use crate::math::vectors::dot;

/// Draws `count` of the rows, (rows, features), each of length 1; the places, in the order in which they were drawn. All rows if there are
/// no more.
pub fn spread(features: &[Vec<f64>], count: usize, rng: &mut impl Rng) -> Vec<usize> {
    let count = count.min(features.len());
    let mut nearest = vec![FARTHEST; features.len()];
    let mut drawn = Vec::with_capacity(count);
    while drawn.len() < count {
        let next =
            draw(&nearest, rng).unwrap_or_else(|| (0..features.len()).find(|place| !drawn.contains(place)).expect("not all are drawn"));
        drawn.push(next);
        let own = &features[next];
        nearest.par_iter_mut().zip(features).for_each(|(nearest, row)| *nearest = nearest.min(apart(own, row)));
        nearest[next] = 0.0;
    }
    drawn
}

/// The squared distance of opposites: the first row is drawn as if all were as far.
const FARTHEST: f64 = 4.0;

/// The squared distance of two rows of length 1.
pub(super) fn apart(a: &[f64], b: &[f64]) -> f64 {
    (2.0 - 2.0 * dot(a, b)).max(0.0)
}

/// A place with a chance in proportion to its number; none if all are 0.
fn draw(chances: &[f64], rng: &mut impl Rng) -> Option<usize> {
    let total: f64 = chances.iter().sum();
    let mut left = rng.random::<f64>() * total;
    let passed = |chance: &f64| {
        left -= chance;
        left < 0.0
    };
    // Rounding may leave a rest behind the last.
    chances.iter().position(passed).or_else(|| chances.iter().rposition(|chance| *chance > 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::random;
    use std::collections::HashSet;

    /// Directions in the plane, in degrees.
    fn rows(degrees: &[f64]) -> Vec<Vec<f64>> {
        degrees.iter().map(|degrees| vec![degrees.to_radians().cos(), degrees.to_radians().sin()]).collect()
    }

    #[test]
    fn each_cluster_is_met_before_one_is_met_twice() {
        // A crowd of 90 and two groups of 5.
        let degrees: Vec<f64> =
            (0..100).map(|i| if i < 90 { 0.001 * i as f64 } else { 120.0 * (1 + i % 2) as f64 + 0.001 * i as f64 }).collect();
        let features = rows(&degrees);
        let group = |place: &usize| if *place < 90 { 0 } else { 1 + place % 2 };
        for seed in 0..50 {
            let drawn = spread(&features, 3, &mut random::rng(seed, "test", 0));
            assert_eq!(drawn.iter().map(group).collect::<HashSet<_>>().len(), 3, "{drawn:?}");
        }
    }

    #[test]
    fn no_row_is_drawn_twice() {
        let features = rows(&[0.0, 0.0, 0.0, 90.0, 90.0, 180.0]);
        let all = spread(&features, 9, &mut random::rng(1, "test", 0));
        assert_eq!((all.len(), all.iter().collect::<HashSet<_>>().len()), (6, 6));
        assert!(spread(&[], 3, &mut random::rng(1, "test", 0)).is_empty());
    }
}
