//! Decides what one worker decodes next: which request sits in which slot, which prefix is shared, which tokens go into the batch.
//!
//! This room does not depend on a model. A [`Step`] is plain data: edits of the KV cache, then one batch. A shared prefix is prefilled
//! once, in a sequence of its own (a holder), and copied to the sequences that build on it ([`prefixes`]). What else goes into a batch
//! depends on the layout of the KV cache: [`unified`] or [`streams`].

mod prefixes;
mod step;
mod streams;
mod unified;

#[cfg(test)]
mod tests;

use super::prefix::PrefixTree;
pub use step::{CacheEdit, Input, Job, Limits, Output, Schedule, SeqId, Step};
use streams::Streams;
use unified::Unified;

/// The schedule of an idle worker. `tree` must be built over `jobs`, every job must fit `limits.n_cells`, and a batch must hold one token
/// of every slot.
pub fn schedule<'a>(limits: Limits, jobs: &'a [Job], tree: &'a PrefixTree) -> Box<dyn Schedule + 'a> {
    assert!(1 <= limits.slots && limits.slots <= limits.n_batch, "a batch must hold one token of every slot: {limits:?}");
    if limits.unified { Box::new(Unified::new(limits, jobs, tree)) } else { Box::new(Streams::new(limits, jobs, tree)) }
}
