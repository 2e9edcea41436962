//! Round 0: the seed (Algorithm 1).

use rand::seq::IndexedRandom;

use super::head::LoopHead;
use super::state::Synthesis;
use super::write::Planned;
use crate::data::example::Context;
use crate::error::Result;
use crate::math::random;
use crate::task::file::Shares;
use crate::task::prompts::prompt_error;

impl<'a, H: LoopHead> Synthesis<'a, H> {
    /// Algorithm 1, second part: `seed.rows` examples, each for a label with a few of its rationales drawn at random, or for an answer in
    /// its context.
    pub(super) fn write_seed(&mut self) -> Result<()> {
        let (task, prompts, root) = (self.inputs.task, self.inputs.prompts, self.inputs.seed);
        let rationales = self.rationales.clone();
        let contexts: Vec<&Context> = self.inputs.contexts.iter().collect();
        let gold: Vec<&H::Gold> = self.inputs.drawn.mine.iter().map(|row| &row.gold).collect();
        let turns = self.inputs.small.head.turns(&contexts, &gold, &self.shares(), root)?;
        let plan = |id: u64| {
            let (goal, context) = turns(id as usize);
            let of_goal = H::rationales_of(&goal, &rationales);
            let drawn = draw_rationales(of_goal.len(), task.seed.rationales_per_example, root, id);
            let reasons: Vec<&str> = drawn.iter().map(|&i| of_goal[i].as_str()).collect();
            let prompt = prompts.seed(&goal, &reasons, context.map(|context| context.text.as_str())).map_err(prompt_error)?;
            let context = context.map(|context| context.line);
            Ok(Planned { name: "seed", template: &task.prompts.seed, prompt, goal, parent: None, context, rationales: drawn })
        };
        self.write_round(0, task.seed.rows, &plan, &|id| H::stratum(&turns(id as usize).0))
    }

    /// How often each stratum takes its turn.
    fn shares(&self) -> Vec<f64> {
        let of_gold = |stratum| self.inputs.drawn.gold().filter(|row| H::strata_of(&row.goal()).contains(&stratum)).count() as f64;
        let share = |stratum| if self.inputs.task.seed.shares == Shares::Gold { of_gold(stratum) } else { 1.0 };
        (0..self.strata()).map(share).collect()
    }
}

/// Draws `k` of `n` rationales without replacement, independently for each example; sorted, so that more prompts share a prefix.
pub(super) fn draw_rationales(n: usize, k: usize, root: u64, id: u64) -> Vec<usize> {
    let all: Vec<usize> = (0..n).collect();
    let mut drawn: Vec<usize> = all.sample(&mut random::rng(root, "rationales of an example", id), k.min(n)).copied().collect();
    drawn.sort_unstable();
    drawn
}
