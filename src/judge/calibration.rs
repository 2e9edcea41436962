//! Soft targets: the generator's posterior over labels, calibrated on gold rows and mixed with the label that a row was written for.
//!
//! A generator judges better than it writes, but its posterior is biased: it prefers some label words over others. A scale and an
//! offset per label, fitted on gold rows (Platt scaling; for more than two labels, vector scaling with a single scale), correct that.

use crate::math::convex::{Stopping, minimise};
use crate::math::vectors::{centre, cross_entropy, dot, softmax};

/// A scale for each input and an offset for each label: `logits[j] = Σ scales[k] * centred[k][j] + offsets[j]`, where `centred[k]` are the
/// log-probabilities of input k less their mean. Most often there is one input, the label words'.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Calibration {
    #[serde(alias = "scale", deserialize_with = "one_or_several")]
    pub scales: Vec<f64>,
    pub offsets: Vec<f64>,
}

/// A manifest of an earlier version has one scale.
fn one_or_several<'d, D: serde::Deserializer<'d>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Scales {
        One(f64),
        Several(Vec<f64>),
    }
    Ok(match serde::Deserialize::deserialize(deserializer)? {
        Scales::One(scale) => vec![scale],
        Scales::Several(scales) => scales,
    })
}

/// For a mean loss: the offset of a label with one row in a thousand is then within 1e-5 nats of the optimum.
const LIMITS: Stopping = Stopping { tolerance: 1e-8, steps: 2000 };

impl Calibration {
    /// Fits to the log-probabilities `(rows, labels)` and gold labels by maximum likelihood, with a standard normal prior
    /// on the standardised parameters (like logistic regression with C = 1).
    pub fn fit(log_probs: &[Vec<f32>], gold: &[usize]) -> Calibration {
        let rows: Vec<Vec<Vec<f32>>> = log_probs.iter().map(|row| vec![row.clone()]).collect();
        Calibration::of_several(&rows, gold, 1, log_probs.first().map_or(0, Vec::len))
    }

    /// The same for rows of several inputs, (rows, inputs, labels).
    pub fn of_several(rows: &[Vec<Vec<f32>>], gold: &[usize], inputs: usize, labels: usize) -> Calibration {
        let mut rows: Vec<Vec<f64>> = rows.iter().map(|inputs| inputs.iter().flat_map(|row| centre(row)).collect()).collect();
        let entries = (rows.len() * labels).max(1) as f64;
        let mut spreads = Vec::new();
        for input in 0..inputs {
            let own = input * labels..(input + 1) * labels;
            let squares: f64 = rows.iter().flat_map(|row| &row[own.clone()]).map(|x| x * x).sum();
            let spread = (squares / entries).sqrt().max(1e-9);
            rows.iter_mut().for_each(|row| row[own.clone()].iter_mut().for_each(|x| *x /= spread));
            spreads.push(spread);
        }
        let mut start = vec![0.0; inputs + labels];
        start[..inputs].fill(1.0 / inputs.max(1) as f64);
        let found = minimise(start, LIMITS, |at, gradient| objective(&rows, gold, inputs, at, gradient));
        let mut found = found.or_warn("the judge's calibration");
        let offsets = found.split_off(inputs);
        Calibration { scales: found.into_iter().zip(spreads).map(|(scale, spread)| scale / spread).collect(), offsets }
    }

    /// Calibrated logits for a row of log-probabilities.
    pub fn logits(&self, log_probs: &[f32]) -> Vec<f64> {
        self.logits_of(&[log_probs])
    }

    /// Calibrated logits for a row of several inputs (inputs, labels).
    pub fn logits_of(&self, inputs: &[&[f32]]) -> Vec<f64> {
        let mut logits = self.offsets.clone();
        for (scale, input) in self.scales.iter().zip(inputs) {
            logits.iter_mut().zip(centre(input)).for_each(|(logit, x)| *logit += scale * x);
        }
        logits
    }

    /// The soft target of a row written for `label`: the calibrated posterior with `intended` nats added to that label's logit.
    pub fn target(&self, log_probs: &[f32], label: usize, intended: f64) -> Vec<f32> {
        self.target_of(&[log_probs], label, intended)
    }

    /// [`Calibration::target`] from several inputs (inputs, labels).
    pub fn target_of(&self, inputs: &[&[f32]], label: usize, intended: f64) -> Vec<f32> {
        let mut logits = self.logits_of(inputs);
        logits[label] += intended;
        softmax(&logits).into_iter().map(|p| p as f32).collect()
    }
}

/// The mean cross-entropy of standardised rows (rows, inputs × labels) plus the prior divided by the number of rows, at
/// `at = [scales.., offsets..]`; writes its gradient to `gradient`.
fn objective(rows: &[Vec<f64>], gold: &[usize], inputs: usize, at: &[f64], gradient: &mut [f64]) -> f64 {
    let n = rows.len().max(1) as f64;
    let (scales, offsets) = at.split_at(inputs);
    let labels = offsets.len();
    let mut loss = 0.5 * dot(at, at);
    gradient.copy_from_slice(at);
    let mut logits = vec![0.0; labels];
    for (row, &label) in rows.iter().zip(gold) {
        logits.copy_from_slice(offsets);
        for (scale, input) in scales.iter().zip(row.chunks_exact(labels)) {
            logits.iter_mut().zip(input).for_each(|(logit, x)| *logit += scale * x);
        }
        loss += cross_entropy(&mut logits, label);
        gradient.iter_mut().zip(row.chunks_exact(labels)).for_each(|(g, input)| *g += dot(&logits, input));
        gradient[inputs..].iter_mut().zip(&logits).for_each(|(g, error)| *g += error);
    }
    gradient.iter_mut().for_each(|g| *g /= n);
    loss / n
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::convex::check_gradient;
    use crate::math::vectors::{argmax, log_sum_exp};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use rand::RngExt;

    /// Labels drawn with log-odds `slope * difference + offset`: the fit must recover slope and offset.
    #[test]
    fn recovers_the_scale_and_offset_of_the_labels() {
        let mut rng = crate::math::random::rng(3, "test", 0);
        let (slope, offset) = (0.8, 1.5);
        let mut rows = Vec::new();
        let mut gold = Vec::new();
        for _ in 0..20_000 {
            let difference: f64 = rng.random_range(-6.0..3.0);
            let p = 1.0 / (1.0 + (-(slope * difference + offset)).exp());
            rows.push(vec![-5.0, -5.0 + difference as f32]);
            gold.push(usize::from(rng.random_bool(p)));
        }
        let fitted = Calibration::fit(&rows, &gold);
        assert!((fitted.scales[0] - slope).abs() < 0.03, "{fitted:?}");
        assert!((fitted.offsets[1] - fitted.offsets[0] - offset).abs() < 0.06, "{fitted:?}");
    }

    #[test]
    fn a_manifest_of_an_earlier_version_is_read() {
        let read = |text: &str| serde_json::from_str::<Calibration>(text).unwrap();
        assert_eq!(read(r#"{"scale":0.5,"offsets":[1.0,-1.0]}"#), read(r#"{"scales":[0.5],"offsets":[1.0,-1.0]}"#));
    }

    /// Of two inputs, the one that says nothing gets no weight.
    #[test]
    fn inputs_are_weighed() {
        let (log_probs, gold) = biased_judge(3, 3000);
        let (noise, _) = biased_judge(3, 6000);
        // Of a label that says nothing of the row's.
        let both: Vec<Vec<Vec<f32>>> = log_probs.iter().enumerate().map(|(i, own)| vec![noise[i / 2].clone(), own.clone()]).collect();
        let (alone, fitted) = (Calibration::fit(&log_probs, &gold), Calibration::of_several(&both, &gold, 2, 3));
        assert!(fitted.scales[0].abs() < 0.1 && (fitted.scales[1] - alone.scales[0]).abs() < 0.05, "{fitted:?} {alone:?}");
    }

    #[test]
    fn a_constant_judge_gives_the_label_frequencies() {
        let fitted = Calibration::fit(&vec![vec![-1.0, -1.0]; 400], &[vec![0; 100], vec![1; 300]].concat());
        let posterior = softmax(&fitted.logits(&[-1.0, -1.0]));
        assert!((posterior[1] - 0.75).abs() < 0.01, "{posterior:?}");
    }

    /// A simulated judge with biased words: log-probabilities with a bias of N(0, 1.5²) nats per label, N(0, 1) of noise, and 3 nats
    /// for the gold label.
    fn biased_judge(labels: usize, rows: usize) -> (Vec<Vec<f32>>, Vec<usize>) {
        let mut rng = crate::math::random::rng(7, "biased judge", labels as u64);
        let mut normal = || (-2.0 * rng.random_range(1e-12f64..1.0).ln()).sqrt() * (std::f64::consts::TAU * rng.random::<f64>()).cos();
        let bias: Vec<f64> = (0..labels).map(|_| 1.5 * normal()).collect();
        let gold: Vec<usize> = (0..rows).map(|i| i % labels).collect();
        let row = |&label: &usize| (0..labels).map(|j| (bias[j] + normal() + if j == label { 3.0 } else { 0.0 }) as f32).collect();
        (gold.iter().map(row).collect(), gold)
    }

    /// The rows scaled to a mean square of 1, and the scale in nats.
    fn standardised(rows: &[Vec<f32>]) -> (Vec<Vec<f64>>, f64) {
        let centred: Vec<Vec<f64>> = rows.iter().map(|row| centre(row)).collect();
        let unit = (centred.iter().flatten().map(|x| x * x).sum::<f64>() / (rows.len() * rows[0].len()) as f64).sqrt().max(1e-9);
        (centred.into_iter().map(|row| row.into_iter().map(|x| x / unit).collect()).collect(), unit)
    }

    /// The fit's objective, implemented independently.
    fn loss(rows: &[Vec<f64>], gold: &[usize], at: &[f64]) -> f64 {
        let row_loss = |(row, &label): (&Vec<f64>, &usize)| {
            let logits: Vec<f64> = row.iter().zip(&at[1..]).map(|(x, b)| at[0] * x + b).collect();
            log_sum_exp(&logits) - logits[label]
        };
        (rows.iter().zip(gold).map(row_loss).sum::<f64>() + at.iter().map(|x| x * x / 2.0).sum::<f64>()) / rows.len() as f64
    }

    /// The gradient of `loss` and the lower triangle of its Hessian, times the number of rows.
    fn curvature(rows: &[Vec<f64>], gold: &[usize], at: &[f64]) -> (Vec<f64>, Vec<Vec<f64>>) {
        let mut gradient = at.to_vec();
        let mut hessian: Vec<Vec<f64>> = (0..at.len()).map(|i| (0..=i).map(|j| if i == j { 1.0 } else { 0.0 }).collect()).collect();
        for (row, &label) in rows.iter().zip(gold) {
            let p = softmax(&row.iter().zip(&at[1..]).map(|(x, b)| at[0] * x + b).collect::<Vec<_>>());
            let mean: f64 = p.iter().zip(row).map(|(p, x)| p * x).sum();
            gradient[0] += mean - row[label];
            gradient[1 + label] -= 1.0;
            for (j, (&p_j, x)) in p.iter().zip(row).enumerate() {
                gradient[1 + j] += p_j;
                hessian[0][0] += p_j * (x - mean) * (x - mean);
                hessian[1 + j][0] += p_j * (x - mean);
                hessian[1 + j][1 + j] += p_j;
                hessian[1 + j][1..].iter_mut().zip(&p).for_each(|(h, p_k)| *h -= p_j * p_k);
            }
        }
        (gradient, hessian)
    }

    /// Solves `a x = b` by Cholesky decomposition; only the lower triangle of `a` is read.
    fn solved(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
        for i in 0..b.len() {
            let (above, own) = a.split_at_mut(i);
            for j in 0..i {
                own[0][j] = (own[0][j] - dot(&own[0][..j], &above[j][..j])) / above[j][j];
            }
            own[0][i] = (own[0][i] - dot(&own[0][..i], &own[0][..i])).sqrt();
            b[i] = (b[i] - dot(&own[0][..i], &b[..i])) / own[0][i];
        }
        for i in (0..b.len()).rev() {
            b[i] /= a[i][i];
            let x = b[i];
            b[..i].iter_mut().zip(&a[i]).for_each(|(b, l)| *b -= l * x);
        }
        b
    }

    /// The minimum of `loss` by another method: Newton's on the full Hessian, halving the step until the loss falls.
    fn newton(rows: &[Vec<f64>], gold: &[usize]) -> Vec<f64> {
        let mut at = vec![0.0; 1 + rows[0].len()];
        for _ in 0..100 {
            let (gradient, hessian) = curvature(rows, gold, &at);
            if gradient.iter().all(|g| g.abs() < 1e-9 * rows.len() as f64) {
                return at;
            }
            let step = solved(hessian, gradient);
            let moved = |by: f64| at.iter().zip(&step).map(|(x, s)| x - by * s).collect::<Vec<f64>>();
            let tries = (0..30).map(|halvings| moved(0.5f64.powi(halvings)));
            at = tries.into_iter().find(|to| loss(rows, gold, to) < loss(rows, gold, &at)).expect("a step that lowers the loss");
        }
        panic!("Newton's method did not converge");
    }

    /// The standardised rows that a fit saw, and its parameters in that unit.
    fn as_fitted(fitted: &Calibration, log_probs: &[Vec<f32>]) -> (Vec<Vec<f64>>, Vec<f64>) {
        let (rows, unit) = standardised(log_probs);
        (rows, [fitted.scales[0] * unit].into_iter().chain(fitted.offsets.iter().copied()).collect())
    }

    /// How far a fit is from the minimum: excess loss, largest error of a parameter, largest entry of the gradient.
    fn from_the_best(fitted: &Calibration, log_probs: &[Vec<f32>], gold: &[usize]) -> [f64; 3] {
        let largest = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, |most: f64, x| most.max(x.abs()));
        let (rows, at) = as_fitted(fitted, log_probs);
        let best = newton(&rows, gold);
        let off = largest(&mut at.iter().zip(&best).map(|(a, b)| a - b));
        let gradient = largest(&mut curvature(&rows, gold, &at).0.into_iter()) / rows.len() as f64;
        [loss(&rows, gold, &at) - loss(&rows, gold, &best), off, gradient]
    }

    /// With many labels the fit must still remove the words' bias, although an offset's curvature is only its label's share.
    #[test]
    fn the_fit_is_optimal_with_any_number_of_labels() {
        for (labels, rows, right) in [(2, 300, 0.98), (21, 105, 0.88), (77, 308, 0.63), (500, 2000, 0.43)] {
            let (log_probs, gold) = biased_judge(labels, rows);
            let fitted = Calibration::fit(&log_probs, &gold);
            let [above, off, gradient] = from_the_best(&fitted, &log_probs, &gold);
            let correct = log_probs.iter().zip(&gold).filter(|(row, label)| argmax(&fitted.logits(row)) == **label).count();
            let accuracy = correct as f64 / rows as f64;
            let found = format!("{labels} labels: {above:.1e} above, {off:.1e} off, gradient {gradient:.1e}, right {accuracy:.3}");
            assert!(above < 1e-9 && off < 1e-5 && gradient < 1.01 * LIMITS.tolerance && accuracy > right, "{found}");
        }
    }

    #[test]
    fn the_gradient_matches_the_loss() {
        let (log_probs, gold) = biased_judge(4, 30);
        let (x, _) = standardised(&log_probs);
        let at = [0.7, 0.3, -0.4, 0.2, -0.9];
        check_gradient(&at, |at, gradient| objective(&x, &gold, 1, at, gradient));
        assert!((objective(&x, &gold, 1, &at, &mut [0.0; 5]) - loss(&x, &gold, &at)).abs() < 1e-12);
        let twice: Vec<Vec<f64>> = x.iter().map(|row| row.iter().chain(row.iter().rev()).copied().collect()).collect();
        check_gradient(&[0.7, -0.5, 0.3, -0.4, 0.2, -0.9], |at, gradient| objective(&twice, &gold, 2, at, gradient));
    }

    proptest! {
        #[test]
        fn a_target_sums_to_one_and_leans_to_the_intended_label(a in -30f32..0.0, b in -30f32..0.0, c in -30f32..0.0, label in 0usize..3) {
            let calibration = Calibration { scales: vec![0.5], offsets: vec![0.1, -0.2, 0.1] };
            let without = calibration.target(&[a, b, c], label, 0.0);
            let with = calibration.target(&[a, b, c], label, 1.0);
            prop_assert!((with.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            prop_assert!(with[label] >= without[label]);
        }

        #[test]
        fn any_log_probabilities_give_a_finite_converged_fit(
            rows in (2usize..7).prop_flat_map(|labels| vec((vec(-80f32..0.0, labels), 0..labels), 1..40)),
        ) {
            let (log_probs, gold): (Vec<Vec<f32>>, Vec<usize>) = rows.into_iter().unzip();
            let fitted = Calibration::fit(&log_probs, &gold);
            prop_assert!(fitted.scales[0].is_finite() && fitted.offsets.iter().all(|b| b.is_finite()));
            let (rows, at) = as_fitted(&fitted, &log_probs);
            let gradient = curvature(&rows, &gold, &at).0.iter().fold(0.0, |most: f64, g| most.max(g.abs())) / gold.len() as f64;
            prop_assert!(gradient < 1.01 * LIMITS.tolerance, "{gradient}");
        }
    }
}
