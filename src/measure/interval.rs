//! 95 % intervals of means over draws of the gold rows, test rows and data sets.
//!
//! A method is measured on every draw (other gold rows, another random seed) with the same test rows, so that `values[draw][row]` is a
//! crossed table with two random effects. The variance of its mean is estimated by the analysis of variance of such a table:
//! `draws / (D·R) + (rows − rest) / (D·R)`, with the mean squares between draws (D − 1 degrees of freedom), between rows, and of the rest.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// A mean with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
}

impl Interval {
    fn around(mean: f64, half: f64) -> Interval {
        Interval { mean, low: mean - half, high: mean + half }
    }
}

/// The variance of a mean, in its two parts.
struct Variance {
    /// From the draws, with their degrees of freedom; 0 for one draw.
    draws: f64,
    draws_freedom: f64,
    /// From the rows, which all draws share.
    rows: f64,
    rows_freedom: f64,
}

/// The mean of `values[draw][row]` and its interval over draws and rows; with one draw, over rows only. A paired difference of two methods
/// is such a table too.
///
/// The critical value lies halfway between Satterthwaite's, which is too small for three draws (coverage 92 to 95 %), and Cochran's
/// (1964), which is too large (95 to 97 %); see the test.
pub fn mean(values: &[Vec<f64>]) -> Interval {
    let Some((mean, variance)) = analyse(values) else { return Interval { mean: f64::NAN, low: f64::NAN, high: f64::NAN } };
    let total = variance.draws + variance.rows;
    let (of_draws, of_rows) = (critical(variance.draws_freedom), critical(variance.rows_freedom));
    if total <= 0.0 {
        return Interval::around(mean, 0.0);
    }
    let squares = variance.draws.powi(2) / variance.draws_freedom.max(1.0) + variance.rows.powi(2) / variance.rows_freedom;
    let satterthwaite = critical(total * total / squares);
    let cochran = (variance.draws * of_draws + variance.rows * of_rows) / total;
    Interval::around(mean, 0.5 * (satterthwaite + cochran) * total.sqrt())
}

/// [`mean`] of values in [0, 1], such as whether a row is correct. Where the table does not vary, or there is one draw of zeros and
/// ones, the interval is Wilson's (1927), which is sound near 0 and 1 and for few rows.
pub fn share(values: &[Vec<f64>]) -> Interval {
    let found = mean(values);
    let zeros_and_ones = values.iter().flatten().all(|&x| x == 0.0 || x == 1.0);
    if zeros_and_ones && (values.len() == 1 || found.low == found.high) {
        return wilson(found.mean, values[0].len());
    }
    Interval { mean: found.mean, low: found.low.max(0.0), high: found.high.min(1.0) }
}

/// The mean over data sets of a measure's mean on each, and its interval over data sets like these: Student's t on their means, whose
/// spread holds the noise of draws and rows too. `None` for fewer than two.
pub fn over_data_sets(means: &[f64]) -> Option<Interval> {
    let n = means.len() as f64;
    if means.len() < 2 {
        return None;
    }
    let mean = means.iter().sum::<f64>() / n;
    let variance = means.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
    Some(Interval::around(mean, critical(n - 1.0) * (variance / n).sqrt()))
}

/// The mean of a table and its variance; `None` for a table without values.
fn analyse(values: &[Vec<f64>]) -> Option<(f64, Variance)> {
    let (draws, rows) = (values.len() as f64, values.first()?.len() as f64);
    assert!(values.iter().all(|of_draw| of_draw.len() == values[0].len()), "all draws are measured on the same rows");
    if rows == 0.0 {
        return None;
    }
    let of_draws: Vec<f64> = values.iter().map(|of_draw| of_draw.iter().sum::<f64>() / rows).collect();
    let of_rows: Vec<f64> = (0..values[0].len()).map(|row| values.iter().map(|of_draw| of_draw[row]).sum::<f64>() / draws).collect();
    let mean = of_draws.iter().sum::<f64>() / draws;
    let squares = |means: &[f64]| means.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
    let (draws_freedom, rows_freedom) = (draws - 1.0, (rows - 1.0).max(1.0));
    let between_rows = draws * squares(&of_rows) / rows_freedom;
    if values.len() == 1 {
        return Some((mean, Variance { draws: 0.0, draws_freedom, rows: between_rows / rows, rows_freedom }));
    }
    let all: f64 = values.iter().flatten().map(|x| (x - mean).powi(2)).sum();
    let rest = (all - rows * squares(&of_draws) - draws * squares(&of_rows)).max(0.0) / (draws_freedom * rows_freedom);
    let from_draws = squares(&of_draws) / draws_freedom / draws;
    // Draws that happen to have one and the same mean do not make it certain: then their rest says how far they differ.
    let from_draws = if from_draws > 0.0 { from_draws } else { rest / (draws * rows) };
    let from_rows = (between_rows - rest).max(0.0) / (draws * rows);
    Some((mean, Variance { draws: from_draws, draws_freedom, rows: from_rows, rows_freedom }))
}

/// The 97.5 % point of Student's t; with no degree of freedom, that of one.
fn critical(freedom: f64) -> f64 {
    StudentsT::new(0.0, 1.0, freedom.max(1.0)).map_or(f64::NAN, |t| t.inverse_cdf(0.975))
}

/// Wilson's interval of a share found in `rows` rows.
fn wilson(share: f64, rows: usize) -> Interval {
    let (n, z) = (rows as f64, 1.959_963_984_540_054_f64);
    let centre = (share + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    Interval { mean: share, low: (centre - half).max(0.0), high: (centre + half).min(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::random;
    use rand::{Rng, RngExt};
    use rayon::prelude::*;
    use statrs::distribution::Normal;

    const EXPERIMENTS: u64 = 2000;
    const ROWS: usize = 500;
    /// Standard deviation of how hard a row is, beside noise of 1: draws agree on most rows.
    const ROW_SD: f64 = 1.5;

    fn normal(rng: &mut impl Rng) -> f64 {
        let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// Simulated methods: a row is correct where `level + draw + row + noise` is above 0; rows are shared by methods, draws in part.
    struct World {
        draws: usize,
        /// The variance of a draw's accuracy, in units of the variance that its test rows give it.
        ratio: f64,
    }

    impl World {
        /// Standard deviation of a draw's effect.
        fn draw_sd(&self, level: f64) -> f64 {
            let spread = (1.0 + ROW_SD * ROW_SD).sqrt();
            let standard = Normal::standard();
            let accuracy = standard.cdf(level / spread);
            let slope = (-0.5 * (level / spread).powi(2)).exp() / std::f64::consts::TAU.sqrt() / spread;
            (self.ratio * accuracy * (1.0 - accuracy) / ROWS as f64).sqrt() / slope
        }

        /// The accuracy over all draws and rows.
        fn truth(&self, level: f64) -> f64 {
            Normal::standard().cdf(level / (1.0 + ROW_SD * ROW_SD + self.draw_sd(level).powi(2)).sqrt())
        }

        fn experiment(&self, levels: [f64; 2], id: u64) -> [Vec<Vec<f64>>; 2] {
            let mut rng = random::rng(id, "coverage", self.draws as u64);
            let rows: Vec<f64> = (0..ROWS).map(|_| ROW_SD * normal(&mut rng)).collect();
            let shared: Vec<f64> = (0..self.draws).map(|_| normal(&mut rng)).collect();
            levels.map(|level| {
                let sd = self.draw_sd(level) * 0.5f64.sqrt();
                let draw = |shared: &f64| {
                    let effect = level + sd * (shared + normal(&mut rng));
                    rows.iter().map(|row| f64::from(u8::from(effect + row + normal(&mut rng) > 0.0))).collect()
                };
                shared.iter().map(draw).collect()
            })
        }

        /// The shares of intervals that hold the truth: of a mean, and of a paired difference.
        fn coverage(&self) -> [f64; 2] {
            let levels = [1.2, 1.5];
            let truth = levels.map(|level| self.truth(level));
            let holds = |interval: Interval, truth: f64| (interval.low <= truth && truth <= interval.high) as u64;
            let one = |id: u64| {
                let [a, b] = self.experiment(levels, id);
                let less = |(a, b): (&Vec<f64>, &Vec<f64>)| b.iter().zip(a).map(|(b, a)| b - a).collect();
                let differences: Vec<Vec<f64>> = a.iter().zip(&b).map(less).collect();
                [holds(share(&a), truth[0]), holds(mean(&differences), truth[1] - truth[0])]
            };
            let add = |x: [u64; 2], y: [u64; 2]| [x[0] + y[0], x[1] + y[1]];
            (0..EXPERIMENTS).into_par_iter().map(one).reduce(|| [0; 2], add).map(|n| n as f64 / EXPERIMENTS as f64)
        }
    }

    #[test]
    fn intervals_cover() {
        for draws in [1, 3, 5, 10] {
            for ratio in [0.0, 1.0, 5.0] {
                if draws == 1 && ratio > 0.0 {
                    continue; // One draw says nothing about others.
                }
                let [of_mean, of_difference] = World { draws, ratio }.coverage();
                println!("{draws} draws, ratio {ratio}: mean {:.1} %, difference {:.1} %", 100.0 * of_mean, 100.0 * of_difference);
                for coverage in [of_mean, of_difference] {
                    assert!((0.93..=0.97).contains(&coverage), "{draws} draws, ratio {ratio}: {coverage}");
                }
            }
        }
    }

    /// Eight data sets whose effects differ by more than their noise, and such as differ by noise alone.
    #[test]
    fn intervals_over_data_sets_cover() {
        for (sets, sd) in [(3, 0.0), (3, 2.0), (8, 0.0), (8, 2.0)] {
            let one = |id: &u64| {
                let mut rng = random::rng(*id, "data sets", sets);
                let means: Vec<f64> = (0..sets).map(|_| 1.0 + sd * normal(&mut rng) + 0.5 * normal(&mut rng)).collect();
                over_data_sets(&means).is_some_and(|interval| interval.low <= 1.0 && 1.0 <= interval.high)
            };
            let coverage = (0..EXPERIMENTS).filter(one).count() as f64 / EXPERIMENTS as f64;
            assert!((0.93..=0.97).contains(&coverage), "{sets} sets, {sd}: {coverage}");
        }
        assert_eq!(over_data_sets(&[1.0]), None);
    }

    /// The value of `tests/reference/interval.py`.
    #[test]
    fn a_small_table_matches_the_reference() {
        let golden: serde_json::Value = serde_json::from_str(include_str!("../../tests/reference/interval.json")).unwrap();
        let values: Vec<Vec<f64>> = serde_json::from_value(golden["values"].clone()).unwrap();
        let found = mean(&values);
        for (name, value) in [("mean", found.mean), ("low", found.low), ("high", found.high)] {
            assert!((value - golden[name].as_f64().unwrap()).abs() < 1e-9, "{name}: {found:?}");
        }
    }

    #[test]
    fn one_draw_has_the_binomial_interval() {
        let values: Vec<f64> = (0..3000).map(|i| f64::from(i % 4 != 0)).collect();
        let found = share(&[values]);
        let half = 1.96 * (0.75f64 * 0.25 / 3000.0).sqrt();
        assert!((found.high - 0.75 - half).abs() < 5e-4 && (0.75 - found.low - half).abs() < 5e-4, "{found:?}");
    }

    #[test]
    fn rows_that_are_all_correct_do_not_make_it_certain() {
        for draws in [1, 3] {
            let found = share(&vec![vec![1.0; 40]; draws]);
            assert!(found.mean == 1.0 && (0.91..0.92).contains(&found.low) && found.high == 1.0, "{found:?}");
        }
        assert_eq!(mean(&[vec![0.0; 40], vec![0.0; 40]]), Interval { mean: 0.0, low: 0.0, high: 0.0 });
    }

    /// Two draws with one mean, right on other rows: that they agree is luck.
    #[test]
    fn draws_that_happen_to_agree_do_not_make_it_certain() {
        let draw = |odd: usize| (0..30).map(|i| f64::from(u8::from(i % 2 == odd))).collect::<Vec<_>>();
        let found = mean(&[draw(0), draw(1)]);
        assert!(found.mean == 0.5 && found.high - found.low > 0.2, "{found:?}");
    }

    #[test]
    fn draws_that_differ_widen_it() {
        let draw = |share: usize| (0..1000).map(|i| f64::from(i % 100 < share)).collect::<Vec<_>>();
        let (same, apart) = (mean(&[draw(70), draw(70), draw(70)]), mean(&[draw(60), draw(70), draw(80)]));
        assert!((same.mean - apart.mean).abs() < 1e-9);
        // Student's t with two degrees of freedom on 60, 70, 80 %: ± 24.8 points.
        assert!(apart.high - apart.mean > 0.24, "{apart:?}");
        assert!((same.high - same.mean - 1.96 * (0.21f64 / 1000.0).sqrt()).abs() < 1e-3, "{same:?}");
    }
}
