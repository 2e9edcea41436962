//! A map of texts: like ones lie near each other (t-SNE, van der Maaten and Hinton 2008, by bhtsne).

use rand::RngExt;

use super::spread::apart;
use crate::error::{Error, Result};
use crate::math::random;

/// Fewer texts are no map.
const LEAST: usize = 12;
const EPOCHS: usize = 500;
/// About how many neighbours a text is taken to have.
const NEIGHBOURS: f64 = 30.0;

/// The place of each row on a map from 0 to 1, (rows, 2), from features of length 1, (rows, features). The same rows and seed give the same
/// map. No places for a handful of rows.
///
/// # Errors
/// The system lends no thread.
pub fn places(features: &[Vec<f64>], seed: u64) -> Result<Vec<[f64; 2]>> {
    if features.len() < LEAST {
        return Ok(Vec::new());
    }
    let mut rng = random::rng(seed, "map", 0);
    let begin: Vec<f64> = (0..2 * features.len()).map(|_| 1e-3 * (rng.random::<f64>() - 0.5)).collect();
    let rows: Vec<&[f64]> = features.iter().map(Vec::as_slice).collect();
    // On one thread: sums of several depend on which is first.
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(|error| Error::Failed(error.to_string()))?;
    let found = alone.install(|| {
        let mut map = bhtsne::tSNE::<f64, &[f64], 2>::new(&rows);
        map.perplexity(NEIGHBOURS.min((rows.len() - 1) as f64 / 3.5)).epochs(EPOCHS).initial_embedding(begin);
        map.exact(|a, b| apart(a, b));
        map.embedding()
    });
    let bounds = [0, 1].map(|axis| {
        let own = || found.iter().skip(axis).step_by(2).copied();
        (own().fold(f64::INFINITY, f64::min), own().fold(f64::NEG_INFINITY, f64::max))
    });
    let scaled = |value: f64, (low, high): (f64, f64)| if high > low { (value - low) / (high - low) } else { 0.5 };
    Ok(found.chunks_exact(2).map(|place| [scaled(place[0], bounds[0]), scaled(place[1], bounds[1])]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two bunches of rows, far from each other.
    fn bunches() -> Vec<Vec<f64>> {
        let row = |i: usize| {
            let mut row = vec![0.0; 8];
            row[i % 2] = 1.0;
            row[2 + i % 6] = 0.1 + 0.01 * i as f64;
            let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
            row.into_iter().map(|x| x / length).collect()
        };
        (0..40).map(row).collect()
    }

    #[test]
    fn like_rows_lie_near_each_other_and_the_map_is_always_the_same() {
        let map = places(&bunches(), 1).unwrap();
        assert_eq!(places(&bunches(), 1).unwrap(), map);
        let apart = |a: usize, b: usize| (map[a][0] - map[b][0]).hypot(map[a][1] - map[b][1]);
        let mean = |pairs: &dyn Fn(usize, usize) -> bool| {
            let own: Vec<f64> =
                (0..40).flat_map(|a| (0..a).filter(move |&b| pairs(a, b)).map(move |b| (a, b))).map(|(a, b)| apart(a, b)).collect();
            own.iter().sum::<f64>() / own.len() as f64
        };
        let (own, other) = (mean(&|a, b| a % 2 == b % 2), mean(&|a, b| a % 2 != b % 2));
        assert!(own < 0.7 * other, "{own} {other}");
        assert!(map.iter().flatten().all(|x| (0.0..=1.0).contains(x)));
    }

    #[test]
    fn a_handful_of_rows_or_equal_ones_are_no_trouble() {
        assert!(places(&bunches()[..5], 1).unwrap().is_empty());
        let equal = vec![vec![1.0, 0.0]; 20];
        assert_eq!(places(&equal, 1).unwrap().len(), 20);
    }
}
