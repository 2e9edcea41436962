//! What differs between the loop for classification and the loop for question answering.

use serde_json::Value;

use super::rows::SyntheticRow;
use crate::data::example::{Context, GoldRow};
use crate::error::Result;
use crate::run::misclassified::Misclassified;
use crate::run::summary::{Measured, Measures};
use crate::small::head::SmallHead;
use crate::task::file::Parents;
use crate::task::prompts::PromptHead;

/// Maps request number `id` of the seed to its goal, and to the context that it is written for.
pub type Turns<'c, H> = Box<dyn Fn(usize) -> (<H as crate::data::head::Head>::Goal, Option<&'c Context>) + 'c>;

/// What the loop needs from a task's head.
pub trait LoopHead: SmallHead + PromptHead {
    /// The goals and contexts of the seed's requests, in turn; `contexts` are in the order in which they are used, `gold` is what the
    /// rows of *mine* have, `shares` say how often each stratum takes its turn.
    ///
    /// # Errors
    /// No goal is possible, such as no candidate answer in any context.
    fn turns<'c>(&self, contexts: &[&'c Context], gold: &[&Self::Gold], shares: &[f64], seed: u64) -> Result<Turns<'c, Self>>;

    /// The accepted rationales that may be in a prompt for this goal.
    fn rationales_of<'r>(goal: &Self::Goal, rationales: &'r [Vec<String>]) -> &'r [String];

    /// What is written like a row: one goal, unless it has several labels.
    fn parents_of(&self, row: Misclassified<Self>, _: Parents) -> Vec<Misclassified<Self>> {
        vec![row]
    }

    /// The labels of a goal; none for an answer.
    fn one_or_several(goal: &Self::Goal) -> Option<Vec<usize>>;

    /// The wording of the one label of a goal, which a text must not say.
    fn one_label<'s>(goal: &Self::Goal, says: &'s [String]) -> Option<&'s str>;

    /// The answer that a question must not give away.
    fn answer(goal: &Self::Goal) -> Option<&str>;

    /// The fields of a row of `dataset.jsonl` with this target that come before its provenance.
    fn dataset_row(&self, row: &SyntheticRow<Self>, target: &Self::Target) -> Value;

    /// The last fields of a row of `dataset.jsonl`: the rationales in its prompt, and the judge's answers about it.
    fn dataset_reasons(&self, row: &SyntheticRow<Self>, rationales: &[Vec<String>], answers: &[Vec<f32>]) -> Value;

    /// The field of `dataset.jsonl` with the line of a row's context.
    const CONTEXT_LINE: &'static str;

    /// The fields of a line of `predictions.jsonl` after the row's identity.
    fn prediction_row(&self, gold: &Self::Gold, output: &Self::Output) -> Value;

    /// Measures on the test rows besides which predictions are correct.
    fn measures(&self, test: &[GoldRow<Self>], outputs: &[Self::Output]) -> Measures;

    /// All measures on the test rows of a model that was trained on so many synthetic rows, gold rows and steps.
    fn measured(&self, test: &[GoldRow<Self>], outputs: &[Self::Output], [synthetic_rows, gold_rows, steps]: [usize; 3]) -> Measured {
        let correct = test.iter().zip(outputs).map(|(row, output)| row.accepts(&Self::prediction(output))).collect();
        Measured { synthetic_rows, gold_rows, steps, correct, measures: self.measures(test, outputs) }
    }
}
