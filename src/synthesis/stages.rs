//! Stages that a task may not have: those of rationales and of judging.

use super::head::LoopHead;
use super::state::Synthesis;
use crate::data::example::GoldRow;
use crate::error::Result;

/// The stages of a task's loop that depend on its head. A head without such a stage does nothing in it.
pub trait Stages: LoopHead {
    /// Asks each judge prompt about one gold row, before hours are spent.
    ///
    /// # Errors
    /// Label words that the generator cannot tell apart.
    fn try_the_judge(run: &mut Synthesis<Self>) -> Result<()>;

    /// Reasons for each label (Algorithm 1, lines 1–3).
    ///
    /// # Errors
    /// A label without a usable reason.
    fn write_rationales(run: &mut Synthesis<Self>) -> Result<()>;

    /// Judges the gold rows and fits the calibration to them.
    ///
    /// # Errors
    /// What the generator runs into.
    fn calibrate(run: &mut Synthesis<Self>) -> Result<()>;

    /// Judges the rows of a round and gives them their soft targets.
    ///
    /// # Errors
    /// What the generator runs into.
    fn judge(run: &mut Synthesis<Self>, round: usize) -> Result<()>;

    /// What a logistic regression on features of all gold rows says of the test rows.
    ///
    /// # Errors
    /// A head that has no classes.
    fn predict_by_embeddings(run: &Synthesis<Self>, test: &[GoldRow<Self>]) -> Result<Vec<Self::Prediction>>;
}
