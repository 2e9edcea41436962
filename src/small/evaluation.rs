//! Evaluation of a small model on gold rows.

use serde::{Deserialize, Serialize};

/// Metrics on gold rows. Rounds are chosen by log loss: on 50 rows accuracy moves in steps of two points and is too noisy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    #[serde(flatten)]
    pub right: Right,
    /// Log loss in nats: mean −ln p of the label, of each of several labels, or of the first and last token of the answer.
    pub log_loss: f64,
}

/// How often a model is correct, in the metrics of its task; shares in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Right {
    /// Several labels a text.
    LabelSets {
        /// The share of rows whose labels are all right, and no other.
        exact_match: f64,
        /// F1 of all rows and labels together.
        micro_f1: f64,
        /// The mean of the labels' F1.
        macro_f1: f64,
    },
    /// SQuAD's measures. Earlier versions called the exact match an accuracy.
    Answers {
        #[serde(alias = "accuracy")]
        exact_match: f64,
        f1: f64,
    },
    Labels {
        accuracy: f64,
    },
}

impl Evaluation {
    pub fn better_than(&self, other: &Evaluation) -> bool {
        self.log_loss < other.log_loss
    }

    /// The share that is right: accuracy, for answers exact matches, for several labels micro-F1.
    pub fn share(&self) -> f64 {
        match self.right {
            Right::Labels { accuracy } => accuracy,
            Right::Answers { exact_match, .. } => exact_match,
            Right::LabelSets { micro_f1, .. } => micro_f1,
        }
    }

    /// What [`Evaluation::share`] is called.
    pub fn measure(&self) -> &'static str {
        match self.right {
            Right::Labels { .. } => "accuracy",
            Right::Answers { .. } => "exact match",
            Right::LabelSets { .. } => "micro-F1",
        }
    }

    /// `accuracy 0.700`, for answers `EM 0.100, F1 0.200`, for several labels `micro-F1 0.500, macro-F1 0.400, exact match 0.300`.
    pub fn in_words(&self) -> String {
        match self.right {
            Right::Labels { accuracy } => format!("accuracy {accuracy:.3}"),
            Right::Answers { exact_match, f1 } => format!("EM {exact_match:.3}, F1 {f1:.3}"),
            Right::LabelSets { exact_match, micro_f1, macro_f1 } => {
                format!("micro-F1 {micro_f1:.3}, macro-F1 {macro_f1:.3}, exact match {exact_match:.3}")
            }
        }
    }
}

/// The mean over rows; 0 without rows.
pub(super) fn mean(values: impl Iterator<Item = f64>, rows: usize) -> f64 {
    values.sum::<f64>() / rows.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_of_earlier_versions_are_read() {
        let read = |text: &str| serde_json::from_str::<Evaluation>(text).unwrap().right;
        assert_eq!(read(r#"{"accuracy": 0.5, "log_loss": 0.7}"#), Right::Labels { accuracy: 0.5 });
        for name in ["accuracy", "exact_match"] {
            let text = format!(r#"{{"{name}": 0.5, "log_loss": 0.7, "f1": 0.6}}"#);
            assert_eq!(read(&text), Right::Answers { exact_match: 0.5, f1: 0.6 });
        }
    }
}
