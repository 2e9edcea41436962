//! What differs between a loop that writes texts for labels and one that writes questions for answers.

use serde_json::Value;

use super::rows::SyntheticRow;
use crate::data::example::{Context, GoldRow};
use crate::error::Result;
use crate::run::summary::Measures;
use crate::small::head::SmallHead;
use crate::task::prompts::PromptHead;

/// What request number `id` of the seed is for: a goal, and the context that it is written for.
pub type Turns<'c, H> = Box<dyn Fn(usize) -> (<H as crate::data::head::Head>::Goal, Option<&'c Context>) + 'c>;

/// A task's head, as the loop needs it.
pub trait LoopHead: SmallHead + PromptHead {
    /// What the seed asks for, in turns; `contexts` in the order in which they are taken.
    ///
    /// # Errors
    /// There is nothing to ask for.
    fn turns<'c>(&self, contexts: &[&'c Context], seed: u64) -> Result<Turns<'c, Self>>;

    /// Which of the accepted rationales may stand in a prompt for this goal.
    fn rationales_of<'r>(goal: &Self::Goal, rationales: &'r [Vec<String>]) -> &'r [String];

    /// The answer that a question must not give away.
    fn answer(goal: &Self::Goal) -> Option<&str>;

    /// A row of `dataset.jsonl`, before where it comes from is added.
    fn dataset_row(&self, row: &SyntheticRow<Self>) -> Value;

    /// What is added at the end of a row of `dataset.jsonl`: what stood in its prompt, and how it was judged.
    fn dataset_reasons(&self, row: &SyntheticRow<Self>, rationales: &[Vec<String>]) -> Value;

    /// The name in `dataset.jsonl` for the line of a row's context.
    const CONTEXT_LINE: &'static str;

    /// A line of `predictions.jsonl`, besides which row it is.
    fn prediction_row(&self, gold: &Self::Gold, output: &Self::Output) -> Value;

    /// What is said of predictions of the test rows besides which are right.
    fn measures(&self, test: &[GoldRow<Self>], predicted: &[Self::Prediction]) -> Measures;
}
