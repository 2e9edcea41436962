//! The numbers of a fine-tuning run, their ranges and the schedule of the learning rate.

use crate::ModelError;
use crate::config::Architecture;
use crate::masks::Masks;
use crate::precision::Precision;

/// How to train.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainConfig {
    /// The peak learning rate.
    pub lr: f32,
    /// Decoupled weight decay; not applied to biases and LayerNorms.
    pub weight_decay: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub eps: f32,
    /// Share of the steps in which the learning rate rises from 0, rounded up to whole steps.
    pub warmup_ratio: f32,
    /// Gradients of a larger L2 norm are scaled down to it.
    pub max_grad_norm: Option<f32>,
    /// Dropout after the embeddings, the feed-forward and (not DistilBERT, and by `attention_dropout` in ModernBERT)
    /// the attention output.
    pub hidden_dropout: f32,
    /// Dropout of attention probabilities.
    pub attention_dropout: f32,
    /// Dropout before the classifier.
    pub classifier_dropout: f32,
    /// The learning rate falls to 0 at this step.
    pub total_steps: usize,
    /// The jobs that a step is split into, no more than rows: its sums depend on their number. They run in the caller's rayon pool.
    pub threads: usize,
    /// Number format of the matrix products.
    pub precision: Precision,
    /// Seed of the dropout masks.
    pub seed: u64,
}

impl Default for TrainConfig {
    /// Usual numbers for fine-tuning BERT, on one thread.
    fn default() -> Self {
        TrainConfig {
            lr: 5e-5,
            weight_decay: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            warmup_ratio: 0.06,
            max_grad_norm: Some(1.0),
            hidden_dropout: 0.1,
            attention_dropout: 0.1,
            classifier_dropout: 0.1,
            total_steps: 100,
            threads: 1,
            precision: Precision::Auto,
            seed: 0,
        }
    }
}

impl TrainConfig {
    /// The learning rate of step `step`, counted from 0: linear from 0 over the warm-up, then linear to 0 at `total_steps`, as
    /// transformers' `get_linear_schedule_with_warmup`.
    pub fn lr_at(&self, step: usize) -> f32 {
        let total = self.total_steps as f64;
        // A ratio like 0.2 is a little more than a fifth in f32; that must not make a step.
        let warmup = (total * self.warmup_ratio as f64 - 1e-4).ceil().max(0.0);
        let step = step as f64;
        let factor = if step < warmup { step / warmup } else { ((total - step) / (total - warmup).max(1.0)).max(0.0) };
        (self.lr as f64 * factor) as f32
    }

    /// The dropout of step `step`.
    pub(crate) fn masks(&self, step: usize, architecture: Architecture) -> Masks {
        Masks {
            seed: self.seed,
            step: step as u64,
            first_row: 0,
            hidden: self.hidden_dropout,
            attention_output: match architecture {
                Architecture::DistilBert => 0.0,
                Architecture::ModernBert => self.attention_dropout,
                _ => self.hidden_dropout,
            },
            attention: self.attention_dropout,
            classifier: self.classifier_dropout,
        }
    }

    /// Whether every number is in its range; an error names the first that is not.
    pub(crate) fn check(&self) -> Result<(), ModelError> {
        let rate = |x: f32| (0.0..1.0).contains(&x);
        let from_zero = |x: f32| x >= 0.0 && x.is_finite();
        let checks = [
            ("lr must be a finite number, 0 or more", from_zero(self.lr)),
            ("weight_decay must be a finite number, 0 or more", from_zero(self.weight_decay)),
            ("beta1 and beta2 must be in [0, 1)", rate(self.beta1) && rate(self.beta2)),
            ("eps must be above 0", self.eps > 0.0 && self.eps.is_finite()),
            ("warmup_ratio must be in [0, 1]", (0.0..=1.0).contains(&self.warmup_ratio)),
            ("max_grad_norm must be above 0", self.max_grad_norm.is_none_or(|norm| norm > 0.0)),
            ("dropout rates must be in [0, 1)", rate(self.hidden_dropout) && rate(self.attention_dropout) && rate(self.classifier_dropout)),
        ];
        match checks.iter().find(|(_, holds)| !holds) {
            Some((rule, _)) => Err(ModelError::Train(format!("{rule}; the configuration is {self:?}"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::masks::Site;

    #[test]
    fn places_of_dropout() {
        let config = TrainConfig { attention_dropout: 0.0, ..TrainConfig::default() };
        let off = |architecture| {
            let masks = config.masks(0, architecture);
            [Site::Embeddings, Site::Probabilities(0), Site::AttentionOutput(0), Site::Output(0), Site::Classifier]
                .map(|site| masks.at(site, 0).is_off())
        };
        assert_eq!(off(Architecture::Bert), [false, true, false, false, false]);
        assert_eq!(off(Architecture::DistilBert), [false, true, true, false, false]);
    }
}
