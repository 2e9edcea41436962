//! The stages that depend on the head: rationales, reading and judging.

use serde_json::Value;

use super::head::LoopHead;
use super::rows::{ReadRow, SyntheticRow};
use super::state::Synthesis;
use crate::error::Result;
use crate::judge::judges::LearntFrom;
use crate::run::summary::Choice;

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

    /// Continues lists of gold rows and judges the texts.
    ///
    /// # Errors
    /// The generator's errors; no text was accepted.
    fn list(run: &mut Synthesis<Self>) -> Result<()>;

    /// Judges the unlabelled texts that a round reads.
    ///
    /// # Errors
    /// The generator's errors.
    fn read(run: &mut Synthesis<Self>, round: usize) -> Result<()>;

    /// Judges the rows of a round.
    ///
    /// # Errors
    /// The generator's errors.
    fn judge(run: &mut Synthesis<Self>, round: usize) -> Result<()>;

    /// Chooses the model to deliver by gold rows, out of fold; none for a head without a choice.
    ///
    /// # Errors
    /// A fit's errors.
    fn choose(run: &Synthesis<Self>) -> Result<Option<Choice>>;

    /// Whether the judge could label texts like the gold row at this place, *mine* first, with the goal of its mistake: not where it is
    /// sure of another label itself, having learnt from other rows alone. Where targets are hard, the judge labels nothing.
    fn can_be_taught(run: &Synthesis<Self>, place: usize, goal: &Self::Goal) -> bool;

    /// The target of a written row, from the judge that has learnt from these gold rows.
    fn target(run: &Synthesis<Self>, row: &SyntheticRow<Self>, learnt: LearntFrom) -> Self::Target;

    /// The target of a text that was read.
    ///
    /// # Panics
    /// For a head that reads none.
    fn target_of_read(run: &Synthesis<Self>, row: &ReadRow, learnt: LearntFrom) -> Self::Target;

    /// The fields of a line of `dataset.jsonl` about a text that was read.
    fn read_row(run: &Synthesis<Self>, row: &ReadRow) -> Value;
}
