//! The temperature of the delivered model: its probabilities are made to say how often it is right.
//!
//! The delivered model has learnt all gold rows, so none is left to fit a temperature on. Two twins are trained as it was, each without
//! one half of *select*, on which its logits are taken; the round that the twin's rows come from is chosen by the other half. So no row
//! that fits the temperature has taught or chosen what is measured on it.

use std::collections::HashMap;

use rand::seq::SliceRandom;

use super::stages::Stages;
use super::state::Synthesis;
use crate::data::example::GoldRow;
use crate::error::Result;
use crate::math::random;
use crate::run::summary::{Method, Scaled};
use crate::small::threshold::cross_fit;

/// Twins, and folds of *select*.
const FOLDS: usize = 2;

impl<H: Stages> Synthesis<'_, H> {
    /// The temperature of a method's model, if its head has one; without rows to fit it on, `None`.
    pub(super) fn temperature_of(&self, method: Method) -> Result<Option<Scaled>> {
        let select = &self.inputs.split.select;
        if !H::HAS_TEMPERATURE || select.len() < 2 * FOLDS {
            return Ok(None);
        }
        let outputs = match method {
            Method::GoldOnly | Method::S3Gold => self.twins_on_select(method)?,
            Method::S3 | Method::Seed => self.round_on(if method == Method::Seed { 0 } else { self.best_round() }, select)?,
        };
        let all: Vec<usize> = (0..select.len()).collect();
        let fit = |chosen: &[usize]| {
            let (rows, of_rows): (Vec<_>, Vec<_>) = chosen.iter().map(|&i| (&select[i], &outputs[i])).unzip();
            H::temperature(&rows, &of_rows)
        };
        let (mut scaled, folds) = (outputs.clone(), self.folds_of_select());
        for fold in 0..FOLDS {
            let (own, others): (Vec<usize>, Vec<usize>) = all.iter().partition(|&&i| folds[i] == fold);
            let temperature = fit(&others);
            own.iter().for_each(|&i| H::cool(&mut scaled[i], temperature));
        }
        let loss = |outputs: &[H::Output]| H::evaluate(select, outputs).log_loss;
        let log_loss = [loss(&outputs), loss(&scaled)];
        Ok(Some(Scaled { temperature: fit(&all), log_loss, calibration_error: None, brier: None }))
    }

    /// The fold of each row of *select*: shuffled, all rows with one first text in one fold.
    fn folds_of_select(&self) -> Vec<usize> {
        let select = &self.inputs.split.select;
        let mut texts: Vec<&str> = select.iter().map(|row| row.text.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        texts.shuffle(&mut random::rng(self.inputs.seed, "folds of the temperature", 0));
        let place: HashMap<&str, usize> = texts.into_iter().enumerate().map(|(place, text)| (text, place % FOLDS)).collect();
        select.iter().map(|row| place[row.text.as_str()]).collect()
    }

    /// For each *select* row, the output of the twin that has not learnt it.
    fn twins_on_select(&self, method: Method) -> Result<Vec<H::Output>> {
        let (split, small) = (self.inputs.split, self.inputs.small);
        let mut outputs: Vec<Option<H::Output>> = vec![None; split.select.len()];
        let folds = self.folds_of_select();
        for fold in 0..FOLDS {
            let (own, others): (Vec<usize>, Vec<usize>) = (0..split.select.len()).partition(|&i| folds[i] == fold);
            let gold: Vec<&GoldRow<H>> = split.mine.iter().chain(others.iter().map(|&i| &split.select[i])).collect();
            let round = (method == Method::S3Gold).then(|| self.best_round_on(&others)).transpose()?;
            let name = format!("twin {}", fold + 1);
            let seed = random::derive(self.inputs.seed, "training of a twin", fold as u64);
            let twin = self.fit_with_gold(&name, round, &gold, seed)?;
            let rows: Vec<GoldRow<H>> = own.iter().map(|&i| split.select[i].clone()).collect();
            own.iter().zip(small.outputs(&twin.model, &rows)?).for_each(|(&i, output)| outputs[i] = Some(output));
        }
        Ok(outputs.into_iter().map(|output| output.expect("each row is held out once")).collect())
    }

    /// The best round by the chosen *select* rows.
    fn best_round_on(&self, chosen: &[usize]) -> Result<usize> {
        let mut best = (0, f64::INFINITY);
        for round in 0..self.manifest.rounds.len() {
            let rows: Vec<GoldRow<H>> = chosen.iter().map(|&i| self.inputs.split.select[i].clone()).collect();
            let of_rows = self.round_on(round, &rows)?;
            let loss = H::evaluate(&rows, &of_rows).log_loss;
            if loss < best.1 {
                best = (round, loss);
            }
        }
        Ok(best.0)
    }

    /// A round model's outputs on rows of *select*, with thresholds of the other folds of these rows.
    fn round_on(&self, round: usize, rows: &[GoldRow<H>]) -> Result<Vec<H::Output>> {
        let mut model = self.load_round(round)?;
        let back: Vec<f64> = self.manifest.rounds[round].offsets.iter().map(|offset| -offset).collect();
        H::add_offsets(&mut model, &back);
        let mut outputs = self.inputs.small.outputs(&model, rows)?;
        if self.inputs.task.train.use_select {
            cross_fit(rows, &mut outputs);
        }
        Ok(outputs)
    }
}
