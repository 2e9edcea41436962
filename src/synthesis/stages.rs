//! The stages that depend on the head: rationales and judging.

use super::head::LoopHead;
use super::state::Synthesis;
use crate::error::Result;

/// The stages that depend on the head. A head without such a stage does nothing in it.
pub trait Stages: LoopHead {
    /// Asks each judge prompt about one gold row, before hours of writing.
    ///
    /// # Errors
    /// Label words that the generator cannot tell apart.
    fn try_the_judge(run: &mut Synthesis<Self>) -> Result<()>;

    /// Writes rationales for each label (Algorithm 1, lines 1–3).
    ///
    /// # Errors
    /// A label without a usable rationale.
    fn write_rationales(run: &mut Synthesis<Self>) -> Result<()>;

    /// Judges the gold rows and fits the calibration to them.
    ///
    /// # Errors
    /// The generator's errors.
    fn calibrate(run: &mut Synthesis<Self>) -> Result<()>;

    /// Judges the rows of a round and sets their soft targets.
    ///
    /// # Errors
    /// The generator's errors.
    fn judge(run: &mut Synthesis<Self>, round: usize) -> Result<()>;
}
