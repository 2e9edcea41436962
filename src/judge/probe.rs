//! A linear head on the generator's hidden states: what it knows of a text, whether or not a word at the end of the prompt says it.

use rayon::prelude::*;

use super::reply::{Reply, held_out};
use crate::math::random;
use crate::measure::logistic::{Logistic, Shape, cross_fitted};
use crate::measure::metrics::log_loss;
use crate::measure::scale::Scale;
use crate::measure::span::Span;

/// A logistic regression on the states of one layer, or of all of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    layers: Layers,
    scale: Scale,
    logistic: Logistic,
}

/// Whose states are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layers {
    One(usize),
    All,
}

/// A probe, and what probes like it say of rows that they have not learnt from.
pub struct Fitted {
    pub probe: Probe,
    /// For each row, ln p of the labels; none for a row that no fold holds out. They have chosen layers and penalty.
    pub held_out: Vec<Option<Vec<f32>>>,
}

/// The strengths of the penalty to choose from; rows have a mean squared length of 1.
const GRID: [f64; 4] = [0.1, 1.0, 10.0, 100.0];
const FOLDS: usize = 5;

impl Probe {
    /// Fits the states of replies, and labels. Layers and penalty are those with the least log loss in cross-validation; of equals
    /// the first layers and the strongest penalty.
    ///
    /// # Panics
    /// Without replies, or with one without states.
    pub fn fit(replies: &[Reply], gold: &[usize], labels: usize, seed: u64) -> Fitted {
        let fold = held_out(replies, gold, labels, FOLDS, random::derive(seed, "folds of the probe", 0));
        let states: Vec<&[Vec<f32>]> = replies.iter().map(|reply| reply.states.as_slice()).collect();
        let of = states[0].len();
        let several = (of > 1).then_some(Layers::All);
        let candidates: Vec<Layers> = (0..of).map(Layers::One).chain(several).collect();
        let tried = candidates.into_par_iter().map(|layers| Tried::of(layers, &states, gold, labels, &fold));
        // The first of equals, however the work is dealt; only the best one's rows are kept.
        let best = tried.reduce_with(|a, b| if b.log_loss < a.log_loss { b } else { a }).expect("there are layers");
        let shape = Shape { labels, width: best.span.coordinates()[0].len() };
        let logistic = Logistic::fit(best.span.coordinates(), gold, shape, best.c).mapped(|w| best.span.weights(w));
        let log = |p: Vec<f64>| p.iter().map(|p| p.max(1e-30).ln() as f32).collect();
        let held_out = best.probabilities.into_iter().map(|p| p.map(log)).collect();
        Fitted { probe: Probe { layers: best.layers, scale: best.scale, logistic }, held_out }
    }

    /// ln p of the labels of a text with these states (layers, hidden).
    pub fn log_probs(&self, states: &[Vec<f32>]) -> Vec<f32> {
        let p = self.logistic.probabilities(&self.scale.apply(&self.layers.features(states)));
        p.iter().map(|p| p.max(1e-30).ln() as f32).collect()
    }
}

/// Layers with their best penalty.
struct Tried {
    layers: Layers,
    scale: Scale,
    span: Span,
    c: f64,
    /// Of the rows that are held out in some fold.
    log_loss: f64,
    probabilities: Vec<Option<Vec<f64>>>,
}

impl Tried {
    fn of(layers: Layers, states: &[&[Vec<f32>]], gold: &[usize], labels: usize, fold: &[Option<usize>]) -> Tried {
        let features: Vec<Vec<f64>> = states.iter().map(|of_text| layers.features(of_text)).collect();
        let parts = if layers == Layers::All { states[0].len() } else { 1 };
        let scale = Scale::fit(&features, parts);
        let span = Span::of(features.iter().map(|row| scale.apply(row)).collect());
        let shape = Shape { labels, width: span.coordinates()[0].len() };
        let by_c = cross_fitted(span.coordinates(), gold, shape, &GRID, fold);
        let loss = |probabilities: &[Option<Vec<f64>>]| {
            let (p, truth): (Vec<_>, Vec<_>) = probabilities.iter().zip(gold).filter_map(|(p, &label)| Some((p.clone()?, label))).unzip();
            if p.is_empty() { 0.0 } else { log_loss(&p, &truth) }
        };
        let tried = by_c.into_iter().zip(GRID).map(|(probabilities, c)| (loss(&probabilities), c, probabilities));
        let (log_loss, c, probabilities) = tried.min_by(|a, b| a.0.total_cmp(&b.0)).expect("the grid is not empty");
        Tried { layers, scale, span, c, log_loss, probabilities }
    }
}

impl Layers {
    /// The features of a text with these states (layers, hidden).
    fn features(self, states: &[Vec<f32>]) -> Vec<f64> {
        let read = |state: &Vec<f32>| state.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        match self {
            Layers::One(layer) => read(&states[layer]),
            Layers::All => states.iter().flat_map(read).collect(),
        }
    }
}
