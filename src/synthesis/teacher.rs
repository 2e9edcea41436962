//! Who says what the label of a text is that was read: the judge, and the small model that has learnt the gold rows alone.
//!
//! The two err on different texts. How much each is worth is learnt out of fold: from what a judge and a small model say of gold rows that
//! neither has learnt. For a twin's fold these are the rows of other folds, of which models speak that have learnt the fold: so two scales
//! and the labels' offsets know of it, and nothing else. The rounds' models learn from the judge alone.

use serde::{Deserialize, Serialize};

use crate::judge::calibration::Calibration;
use crate::judge::judges::LearntFrom;
use crate::math::vectors::softmax;

/// What a model says of the gold rows of a fold that it has not learnt, and of all texts that were read, in logits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Said {
    /// (rows of the fold, labels)
    pub(super) fold: Vec<Vec<f32>>,
    /// (texts, labels); empty but for the gold rows' own model.
    pub(super) texts: Vec<Vec<f32>>,
}

/// A judge and a small model that have learnt the same gold rows.
pub(super) struct Teacher {
    /// Of the judge's logits and the small model's.
    pub(super) weights: Calibration,
    /// What the small model says of each text that was read, (texts, labels).
    pub(super) small: Vec<Vec<f32>>,
}

impl Teacher {
    /// The probabilities of the labels of a text, by its place, from the judge's.
    pub(super) fn probabilities(&self, place: usize, judged: &[f32]) -> Vec<f32> {
        let judged: Vec<f32> = judged.iter().map(|p| p.max(1e-30).ln()).collect();
        let logits = self.weights.logits_of(&[&judged, &self.small[place]]);
        softmax(&logits).into_iter().map(|p| p as f32).collect()
    }
}

/// The teachers of a run.
pub(super) struct Teachers {
    pub(super) all: Teacher,
    /// One a fold.
    pub(super) without: Vec<Teacher>,
}

impl Teachers {
    /// The teacher that has learnt from these gold rows; none for those of *mine*.
    pub(super) fn of(&self, learnt: LearntFrom) -> Option<&Teacher> {
        match learnt {
            LearntFrom::Mine => None,
            LearntFrom::All => Some(&self.all),
            LearntFrom::Without(fold) => self.without.get(fold),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_believed_as_far_as_it_was_right() {
        // The judge knows nothing, the small model is right on nine of ten.
        let gold: Vec<usize> = (0..100).map(|i| i % 2).collect();
        let small = |i: usize| if (i % 2 == 1) == (i % 20 < 18) { vec![-1.0, 1.0] } else { vec![1.0, -1.0] };
        let rows: Vec<Vec<Vec<f32>>> = (0..100).map(|i| vec![vec![(i % 3) as f32, (i % 7) as f32], small(i)]).collect();
        let weights = Calibration::of_several(&rows, &gold, 2, 2);
        let teacher = Teacher { weights, small: vec![vec![-1.0, 1.0]] };
        let (for_it, against) = (teacher.probabilities(0, &[0.1, 0.9]), teacher.probabilities(0, &[0.9, 0.1]));
        assert!(for_it[1] > 0.75 && against[1] > 0.75 && (for_it[1] - against[1]).abs() < 0.1, "{for_it:?} {against:?}");
        assert!((for_it[0] + for_it[1] - 1.0).abs() < 1e-6);
    }
}
