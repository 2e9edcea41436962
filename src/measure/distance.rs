//! Distances between two sets of texts, on their features: Fréchet distance, a classifier two-sample test, a MAUVE-style area.

use rand::RngExt;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::math::random;
use crate::math::vectors::dot;
use crate::measure::logistic::{Logistic, Shape};

/// Distances between two sets of features.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distances {
    /// 0 for equal means and covariances.
    pub frechet: f64,
    /// Held-out accuracy of a linear classifier that tells the sets apart: 0.5 is chance.
    pub two_sample: f64,
    /// 1 for equal distributions, near 0 for disjoint ones.
    pub mauve: f64,
}

impl Distances {
    /// The distances between two sets (rows, features) of at least four rows each; `None` for smaller sets.
    pub fn of(a: &[Vec<f64>], b: &[Vec<f64>]) -> Option<Distances> {
        if a.len().min(b.len()) < 4 {
            return None;
        }
        let (p, q) = histograms(a, b, (a.len().min(b.len()) / 10).max(2));
        Some(Distances { frechet: frechet(a, b), two_sample: two_sample(a, b), mauve: mauve_area(&p, &q) })
    }
}

/// |mean a − mean b|² + tr(A + B − 2 (A B)^½) with the covariances A and B (Heusel et al., 2017).
///
/// With the centred rows X and Y, tr (A B)^½ is the sum of the singular values of X Yᵀ over √((n − 1)(m − 1)): no square
/// root of a (features, features) matrix is needed.
pub fn frechet(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (x, y) = (centred(a, &mean_a), centred(b, &mean_b));
    let (x, y) = if x.len() <= y.len() { (x, y) } else { (y, x) };
    let (n, m) = ((x.len() - 1) as f64, (y.len() - 1) as f64);
    let cross: Vec<Vec<f64>> = x.iter().map(|row| y.iter().map(|other| dot(row, other)).collect()).collect();
    let gram: Vec<Vec<f64>> = cross.iter().map(|row| cross.iter().map(|other| dot(row, other)).collect()).collect();
    let root: f64 = eigenvalues(gram).into_iter().map(|value| value.max(0.0).sqrt()).sum();
    let variance = |rows: &[Vec<f64>], n: f64| rows.iter().map(|row| dot(row, row)).sum::<f64>() / n;
    let apart: f64 = mean_a.iter().zip(&mean_b).map(|(p, q)| (p - q) * (p - q)).sum();
    apart + variance(&x, n) + variance(&y, m) - 2.0 * root / (n * m).sqrt()
}

fn mean(rows: &[Vec<f64>]) -> Vec<f64> {
    let mut mean = vec![0.0; rows[0].len()];
    rows.iter().for_each(|row| mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += x));
    mean.iter_mut().for_each(|sum| *sum /= rows.len() as f64);
    mean
}

fn centred(rows: &[Vec<f64>], mean: &[f64]) -> Vec<Vec<f64>> {
    rows.iter().map(|row| row.iter().zip(mean).map(|(x, m)| x - m).collect()).collect()
}

/// The eigenvalues of a symmetric matrix, by Jacobi rotations.
fn eigenvalues(mut a: Vec<Vec<f64>>) -> Vec<f64> {
    let n = a.len();
    let scale: f64 = a.iter().flatten().map(|x| x * x).sum::<f64>();
    for _ in 0..60 {
        let off: f64 = (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i][j] * a[i][j]).sum();
        if off <= 1e-24 * scale {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut a, p, q);
            }
        }
    }
    (0..n).map(|i| a[i][i]).collect()
}

/// The rotation that makes `a[p][q]` zero.
fn rotate(a: &mut [Vec<f64>], p: usize, q: usize) {
    if a[p][q] == 0.0 {
        return;
    }
    let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
    let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let t = if theta == 0.0 { 1.0 } else { t };
    let c = 1.0 / (t * t + 1.0).sqrt();
    let s = t * c;
    let (head, tail) = a.split_at_mut(q);
    for (x, y) in head[p].iter_mut().zip(&mut tail[0]) {
        (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
    }
    for row in a.iter_mut() {
        (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
    }
}

/// The accuracy of a logistic regression that tells the sets apart, on held-out halves; the larger set is cut to the smaller one's size.
pub fn two_sample(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    let each = a.len().min(b.len());
    let draw = |rows: &[Vec<f64>], which: u64| {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.shuffle(&mut random::rng(0, "two-sample test", which));
        order[..each].iter().map(|&i| rows[i].clone()).collect::<Vec<_>>()
    };
    let (a, b) = (draw(a, 0), draw(b, 1));
    let half = |first: bool| {
        let part = |rows: &[Vec<f64>]| if first { rows[..each / 2].to_vec() } else { rows[each / 2..each / 2 * 2].to_vec() };
        let labels = vec![0; each / 2].into_iter().chain(vec![1; each / 2]).collect::<Vec<usize>>();
        ([part(&a), part(&b)].concat(), labels)
    };
    let right = |(train, labels): &(Vec<Vec<f64>>, Vec<usize>), (test, truth): &(Vec<Vec<f64>>, Vec<usize>)| {
        let fitted = Logistic::fit(train, labels, Shape { labels: 2, width: a[0].len() }, 1.0);
        test.iter().zip(truth).filter(|(row, label)| fitted.predict(*row) == **label).count() as f64 / test.len() as f64
    };
    let (one, two) = (half(true), half(false));
    0.5 * (right(&one, &two) + right(&two, &one))
}

/// Most iterations of k-means, and its number of restarts.
const PASSES: usize = 50;
const BEGINNINGS: u64 = 5;

/// Each set's histogram over `k` clusters of both sets together (k-means, the best of several restarts).
fn histograms(a: &[Vec<f64>], b: &[Vec<f64>], k: usize) -> (Vec<f64>, Vec<f64>) {
    let all: Vec<&[f64]> = a.iter().chain(b).map(Vec::as_slice).collect();
    let tries = (0..BEGINNINGS).map(|which| k_means(&all, k, which));
    let (_, clusters) = tries.min_by(|x, y| x.0.total_cmp(&y.0)).expect("there is a try");
    let share = |clusters: &[usize]| {
        let mut share = vec![0.0; k];
        clusters.iter().for_each(|&cluster| share[cluster] += 1.0 / clusters.len() as f64);
        share
    };
    (share(&clusters[..a.len()]), share(&clusters[a.len()..]))
}

/// Lloyd's k-means: the summed squared distance, and each row's cluster.
fn k_means(rows: &[&[f64]], k: usize, which: u64) -> (f64, Vec<usize>) {
    let mut rng = random::rng(0, "k-means", which);
    let mut centres: Vec<Vec<f64>> = (0..k).map(|_| rows[rng.random_range(0..rows.len())].to_vec()).collect();
    let mut clusters = vec![0; rows.len()];
    for _ in 0..PASSES {
        let before = clusters.clone();
        rows.iter().zip(&mut clusters).for_each(|(row, cluster)| *cluster = nearest(row, &centres).1);
        for (cluster, centre) in centres.iter_mut().enumerate() {
            let own: Vec<Vec<f64>> = rows.iter().zip(&clusters).filter(|(_, c)| **c == cluster).map(|(row, _)| row.to_vec()).collect();
            if !own.is_empty() {
                *centre = mean(&own);
            }
        }
        if clusters == before {
            break;
        }
    }
    (rows.iter().map(|row| nearest(row, &centres).0).sum(), clusters)
}

/// The squared distance to the nearest centre, and its index.
fn nearest(row: &[f64], centres: &[Vec<f64>]) -> (f64, usize) {
    let distance = |centre: &[f64]| row.iter().zip(centre).map(|(x, c)| (x - c) * (x - c)).sum::<f64>();
    let all = centres.iter().enumerate().map(|(i, centre)| (distance(centre), i));
    all.min_by(|x, y| x.0.total_cmp(&y.0)).expect("there is a centre")
}

/// Number of points on the divergence curve, and its scaling factor, as in `mauve-text`.
const POINTS: usize = 25;
const SCALING: f64 = 5.0;

/// The area under the divergence curve of two distributions over the same clusters (Pillutla et al., arXiv 2102.01454), the
/// mean of both directions.
pub fn mauve_area(p: &[f64], q: &[f64]) -> f64 {
    let mut curve = vec![(1.0, 0.0)];
    for i in 0..POINTS {
        let w = 1e-6 + (1.0 - 2e-6) * i as f64 / (POINTS - 1) as f64;
        let mixed: Vec<f64> = p.iter().zip(q).map(|(p, q)| w * p + (1.0 - w) * q).collect();
        curve.push(((-SCALING * divergence(q, &mixed)).exp(), (-SCALING * divergence(p, &mixed)).exp()));
    }
    curve.push((0.0, 1.0));
    let swapped = curve.iter().map(|&(x, y)| (y, x)).collect();
    0.5 * (area(curve) + area(swapped))
}

/// Kullback-Leibler divergence, in nats.
fn divergence(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).filter(|(p, _)| **p > 0.0).map(|(p, q)| if *q > 0.0 { p * (p / q).ln() } else { f64::INFINITY }).sum()
}

/// The area under a curve, by the trapezoidal rule over x.
fn area(mut curve: Vec<(f64, f64)>) -> f64 {
    curve.sort_by(|a, b| a.0.total_cmp(&b.0));
    curve.windows(2).map(|ends| (ends[1].0 - ends[0].0) * 0.5 * (ends[0].1 + ends[1].1)).sum()
}

#[cfg(test)]
mod tests {
    use super::super::golden::{numbers, rows};
    use super::*;
    use serde_json::Value;

    fn golden() -> Value {
        serde_json::from_str(include_str!("../../tests/reference/metrics.json")).unwrap()
    }

    /// Values of `tests/reference/metrics.py`: scipy's `sqrtm`.
    #[test]
    fn frechet_matches_scipy() {
        let case = &golden()["frechet"];
        let (a, b) = (rows(&case["a"]), rows(&case["b"]));
        for found in [frechet(&a, &b), frechet(&b, &a)] {
            assert!((found - case["value"].as_f64().unwrap()).abs() < 1e-6, "{found}");
        }
        assert!(frechet(&a, &a).abs() < 1e-6);
    }

    /// Values of `tests/reference/metrics.py`: mauve-text's own curve and area.
    #[test]
    fn the_area_matches_mauve_text() {
        for case in golden()["mauve"].as_array().unwrap() {
            let found = mauve_area(&numbers(&case["p"]), &numbers(&case["q"]));
            assert!((found - case["value"].as_f64().unwrap()).abs() < 1e-6, "{found} {case}");
        }
    }

    fn cloud(shift: f64, seed: u64) -> Vec<Vec<f64>> {
        let mut rng = random::rng(seed, "test", 0);
        (0..120).map(|_| (0..3).map(|_| shift + rng.random_range(-1.0..1.0)).collect()).collect()
    }

    #[test]
    fn similar_sets_are_close_and_different_sets_are_separable() {
        let near = Distances::of(&cloud(0.0, 1), &cloud(0.0, 2)).unwrap();
        let far = Distances::of(&cloud(0.0, 1), &cloud(3.0, 2)).unwrap();
        assert!(near.two_sample < 0.65 && near.mauve > 0.8 && near.frechet < 0.1, "{near:?}");
        assert!(far.two_sample > 0.99 && far.mauve < 0.1 && far.frechet > 20.0, "{far:?}");
        assert_eq!(Distances::of(&cloud(0.0, 1)[..3], &cloud(0.0, 2)), None);
    }
}
