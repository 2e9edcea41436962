//! The solver for smooth convex problems: L-BFGS, which learns the curvature of each direction from its own steps.
//!
//! A descent with one step for all directions must take the smallest that any of them needs. The offset of one label among hundreds
//! then hardly moves in thousands of steps: its curvature is a hundredth of that of a scale that all labels share.

use std::collections::VecDeque;

use super::vectors::dot;

/// Where to stop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stopping {
    /// A point is the minimum where every entry of the gradient is below it, without its sign. In loss per unit of a parameter.
    pub tolerance: f64,
    /// Steps after which it is given up.
    pub steps: usize,
}

/// Where [`minimise`] ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Minimum {
    /// (parameters)
    pub at: Vec<f64>,
    /// The loss there.
    pub loss: f64,
    /// The gradient's largest entry there, without its sign.
    pub gradient: f64,
    /// Steps taken.
    pub steps: usize,
    /// Whether `gradient` is below the tolerance; not where the steps ran out, or where no step lowers the loss.
    pub converged: bool,
}

impl Minimum {
    /// The point, and a warning in the log where it is not the minimum that `what` should be.
    pub fn or_warn(self, what: &str) -> Vec<f64> {
        if !self.converged {
            tracing::warn!("{what} did not converge: the gradient's largest entry is {:.1e} after {} steps", self.gradient, self.steps);
        }
        self.at
    }
}

/// The minimum of a smooth convex function, sought from `start` (parameters). `objective` returns the loss at its first argument and
/// adds the gradient to its second, which holds zeros. L-BFGS: Nocedal and Wright, Numerical Optimization (2006), algorithm 7.5.
pub fn minimise(start: Vec<f64>, stopping: Stopping, mut objective: impl FnMut(&[f64], &mut [f64]) -> f64) -> Minimum {
    let mut evaluate = |at: Vec<f64>| {
        let mut gradient = vec![0.0; at.len()];
        let loss = objective(&at, &mut gradient);
        Point { at, loss, gradient }
    };
    let mut here = evaluate(start);
    let mut memory = Memory::default();
    let mut steps = 0;
    while steps < stopping.steps && !here.is_flat(stopping.tolerance) {
        let Some(next) = search(&here, &memory.direction(&here.gradient), &mut evaluate) else {
            if memory.0.is_empty() {
                break;
            }
            // Rounding has spoilt what was learnt; the gradient alone still leads downhill.
            memory.0.clear();
            continue;
        };
        memory.learn(&here, &next);
        here = next;
        steps += 1;
    }
    let gradient = here.gradient.iter().fold(0.0, |most: f64, g| most.max(g.abs()));
    Minimum { converged: here.is_flat(stopping.tolerance), at: here.at, loss: here.loss, gradient, steps }
}

/// A point, and the function there.
struct Point {
    at: Vec<f64>,
    loss: f64,
    gradient: Vec<f64>,
}

impl Point {
    /// Not where the loss or an entry of the gradient is not a number.
    fn is_flat(&self, tolerance: f64) -> bool {
        self.loss.is_finite() && self.gradient.iter().all(|g| g.abs() < tolerance)
    }
}

/// The latest steps, each with the change of the gradient over it.
#[derive(Default)]
struct Memory(VecDeque<(Vec<f64>, Vec<f64>)>);

/// Steps that are remembered.
const REMEMBERED: usize = 10;

impl Memory {
    fn learn(&mut self, from: &Point, to: &Point) {
        let less = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x - y).collect::<Vec<f64>>();
        let (step, change) = (less(&to.at, &from.at), less(&to.gradient, &from.gradient));
        // A convex function curves upward along any step; less than this is rounding.
        if dot(&step, &change) > 1e-12 * dot(&change, &change).sqrt() * dot(&step, &step).sqrt() {
            self.0.push_back((step, change));
        }
        if self.0.len() > REMEMBERED {
            self.0.pop_front();
        }
    }

    /// Minus the remembered inverse of the curvature times the gradient (algorithm 7.4). With no memory a step of length 1, or the
    /// gradient itself where that is shorter.
    fn direction(&self, gradient: &[f64]) -> Vec<f64> {
        let mut direction: Vec<f64> = gradient.iter().map(|g| -g).collect();
        let mut shares = Vec::with_capacity(self.0.len());
        for (step, change) in self.0.iter().rev() {
            let share = dot(step, &direction) / dot(step, change);
            direction.iter_mut().zip(change).for_each(|(d, y)| *d -= share * y);
            shares.push(share);
        }
        let unit = match self.0.back() {
            Some((step, change)) => dot(step, change) / dot(change, change),
            None => 1.0 / dot(gradient, gradient).sqrt().max(1.0),
        };
        direction.iter_mut().for_each(|d| *d *= unit);
        for ((step, change), share) in self.0.iter().zip(shares.into_iter().rev()) {
            let back = share - dot(change, &direction) / dot(step, change);
            direction.iter_mut().zip(step).for_each(|(d, s)| *d += back * s);
        }
        direction
    }
}

/// Wolfe's conditions: the share of the fall that the first slope promises, and the share of that slope that may be left.
const FALL: f64 = 1e-4;
const SLOPE_LEFT: f64 = 0.9;
/// What rounding may add to a loss, as a share of it: near the minimum a fall is smaller.
const ROUNDING: f64 = 1e-13;
/// Lengths tried on one line.
const TRIES: usize = 60;

/// A lower point on the line from `from`, as far as Wolfe's conditions ask. None if the line does not lead downhill.
fn search(from: &Point, direction: &[f64], evaluate: &mut impl FnMut(Vec<f64>) -> Point) -> Option<Point> {
    let first = dot(&from.gradient, direction);
    if first.is_nan() || first >= 0.0 {
        return None;
    }
    let (mut low, mut high) = ((0.0, first), None);
    let mut length = 1.0;
    for _ in 0..TRIES {
        let to = evaluate(from.at.iter().zip(direction).map(|(x, d)| x + length * d).collect());
        let slope = dot(&to.gradient, direction);
        let fallen = to.loss <= from.loss + FALL * length * first + ROUNDING * from.loss.abs();
        if !fallen || slope.is_nan() {
            high = Some((length, slope));
        } else if slope < SLOPE_LEFT * first {
            low = (length, slope);
        } else {
            return Some(to);
        }
        length = between(low, high);
    }
    None
}

/// The next length to try, after `low` (length, slope), which is too short, and `high`, which is too long, if there is one: where a
/// straight line between the slopes is 0, but well inside.
fn between(low: (f64, f64), high: Option<(f64, f64)>) -> f64 {
    let Some(high) = high else { return 4.0 * low.0 };
    let share = -low.1 / (high.1 - low.1);
    low.0 + (high.0 - low.0) * if share.is_nan() { 0.5 } else { share.clamp(0.1, 0.9) }
}

/// That `objective` writes the gradient of what it returns, by finite differences around `at`.
#[cfg(test)]
pub(crate) fn check_gradient(at: &[f64], objective: impl Fn(&[f64], &mut [f64]) -> f64) {
    let mut gradient = vec![0.0; at.len()];
    objective(at, &mut gradient);
    for (i, g) in gradient.iter().enumerate() {
        let moved = |by: f64| {
            objective(&at.iter().enumerate().map(|(j, x)| if i == j { x + by } else { *x }).collect::<Vec<_>>(), &mut vec![0.0; at.len()])
        };
        let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        assert!((g - slope).abs() < 1e-6 * slope.abs().max(1.0), "parameter {i}: {g} is not {slope}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::vectors::cross_entropy;
    use proptest::prelude::*;

    const LIMITS: Stopping = Stopping { tolerance: 1e-8, steps: 1000 };

    /// Σ c (x − m)² / 2
    fn bowl(curvature: &[f64], middle: &[f64], at: &[f64], gradient: &mut [f64]) -> f64 {
        for (i, g) in gradient.iter_mut().enumerate() {
            *g += curvature[i] * (at[i] - middle[i]);
        }
        (0..at.len()).map(|i| curvature[i] * (at[i] - middle[i]).powi(2) / 2.0).sum()
    }

    #[test]
    fn curvatures_of_all_sizes_are_learnt() {
        let curvature: Vec<f64> = (0..40).map(|i| 10f64.powf(f64::from(i) / 39.0 * 4.0 - 3.0)).collect();
        let middle: Vec<f64> = (0..40).map(|i| f64::from(i % 7) - 3.0).collect();
        let found = minimise(vec![0.0; 40], LIMITS, |at, gradient| bowl(&curvature, &middle, at, gradient));
        assert!(found.converged && found.gradient < LIMITS.tolerance, "{found:?}");
        assert!(found.at.iter().zip(&middle).all(|(x, m)| (x - m).abs() < 1e-5), "{found:?}");
    }

    #[test]
    fn it_says_when_it_has_not_converged() {
        let few = Stopping { steps: 3, ..LIMITS };
        let far = minimise(vec![9.0; 3], few, |at, gradient| bowl(&[1.0, 10.0, 100.0], &[0.0; 3], at, gradient));
        assert!(!far.converged && far.steps == 3 && far.gradient > LIMITS.tolerance, "{far:?}");
        let lost = minimise(vec![1.0], LIMITS, |_, gradient| {
            gradient[0] = f64::NAN;
            f64::NAN
        });
        assert!(!lost.converged && lost.steps == 0, "{lost:?}");
        // A gradient of the wrong sign leads uphill: no step lowers the loss.
        let uphill = minimise(vec![1.0], LIMITS, |at, gradient| {
            gradient[0] = -at[0];
            at[0] * at[0] / 2.0
        });
        assert!(!uphill.converged && uphill.at == [1.0], "{uphill:?}");
        // A straight line has no minimum.
        let line = minimise(vec![0.0], few, |at, gradient| {
            gradient[0] = 1.0;
            at[0]
        });
        assert!(!line.converged, "{line:?}");
    }

    #[test]
    fn nothing_to_do_takes_no_step() {
        let still = minimise(vec![2.0], LIMITS, |at, gradient| bowl(&[1.0], &[2.0], at, gradient));
        assert!(still.converged && still.steps == 0, "{still:?}");
        let none = minimise(vec![], LIMITS, |_, _| 0.0);
        assert!(none.converged && none.at.is_empty(), "{none:?}");
    }

    #[test]
    fn a_start_where_the_function_overflows_on_the_way_is_left() {
        let found = minimise(vec![-30.0], LIMITS, |at, gradient| {
            gradient[0] = at[0].exp() - (-at[0]).exp() * 1e-3;
            at[0].exp() + (-at[0]).exp() * 1e-3
        });
        assert!(found.converged && (found.at[0] - 0.5 * 1e-3f64.ln()).abs() < 1e-5, "{found:?}");
    }

    proptest! {
        /// Cross-entropies of random rows with a random, often tiny, penalty: the gradient is 0 at the end.
        #[test]
        fn the_gradient_is_nothing_at_the_end(
            rows in proptest::collection::vec(proptest::collection::vec(-5f64..5.0, 4), 2..30),
            scales in proptest::collection::vec(-2f64..1.0, 4),
            penalty in -3f64..1.0,
        ) {
            let penalty = 10f64.powf(penalty);
            let found = minimise(vec![0.0; 8], LIMITS, |at, gradient| {
                gradient.iter_mut().zip(at).for_each(|(g, x)| *g = penalty * x);
                let mut loss = 0.5 * penalty * dot(at, at);
                for (i, row) in rows.iter().enumerate() {
                    let row: Vec<f64> = row.iter().zip(&scales).map(|(x, s)| x * 10f64.powf(*s)).collect();
                    let mut errors = [dot(&at[..4], &row), dot(&at[4..], &row)];
                    loss += cross_entropy(&mut errors, i % 2);
                    for (j, x) in row.iter().enumerate() {
                        gradient[j] += errors[0] * x;
                        gradient[4 + j] += errors[1] * x;
                    }
                }
                loss
            });
            prop_assert!(found.converged && found.gradient < LIMITS.tolerance, "{found:?}");
        }
    }
}
