//! Checks before calling llama.cpp: invalid input is reported as an error here, while llama.cpp would abort the process or worse.

use crate::generator::scheduler::{CacheEdit, Limits, Step};

/// llama.cpp's LLAMA_MAX_SEQ.
pub(super) const MOST_SEQUENCES: usize = 256;

/// Checks that a context can be created with these limits.
pub(super) fn check_limits(limits: &Limits) -> Result<(), String> {
    let sequences = limits.sequences();
    if !(1..=MOST_SEQUENCES).contains(&sequences) {
        return Err(format!("{sequences} sequences; llama.cpp supports 1 to {MOST_SEQUENCES}"));
    }
    if sequences > limits.n_batch {
        return Err(format!("{sequences} sequences and a batch of {}; the batch must hold a token of each sequence", limits.n_batch));
    }
    if limits.n_cells == 0 || u32::try_from(limits.n_cells * sequences).is_err() {
        return Err(format!("a KV cache of {} cells", limits.n_cells));
    }
    Ok(())
}

/// Checks that the edits and the batch are valid for llama.cpp: existing sequences, copies onto other sequences, one to `n_batch` tokens
/// of the vocabulary, and logits read only where they were requested.
pub(super) fn check_step(step: &Step, limits: &Limits, n_vocab: usize) -> Result<(), String> {
    let sequences = limits.sequences();
    for edit in &step.edits {
        match *edit {
            CacheEdit::Clear { seq } if seq < sequences => {}
            CacheEdit::Trim { seq, from } if seq < sequences && from > 0 => {}
            CacheEdit::Copy { from, to } if from < sequences && to < sequences && from != to => {}
            edit => return Err(format!("{edit:?} with {sequences} sequences")),
        }
    }
    if step.batch.is_empty() || step.batch.len() > limits.n_batch {
        return Err(format!("a batch of {} tokens; 1 to {} are allowed", step.batch.len(), limits.n_batch));
    }
    for input in &step.batch {
        if usize::try_from(input.token).map_or(true, |token| token >= n_vocab) {
            return Err(format!("token {} with a vocabulary of {n_vocab}", input.token));
        }
        if input.seq >= sequences || input.pos >= limits.n_cells {
            return Err(format!("position {} of sequence {} with {limits:?}", input.pos, input.seq));
        }
    }
    match step.outputs.iter().find(|output| !step.batch.get(output.row).is_some_and(|input| input.logits)) {
        Some(output) => Err(format!("the logits of row {}, which were not requested", output.row)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::scheduler::{Input, Output};

    const LIMITS: Limits = Limits { slots: 2, berths: 0, holders: 1, n_batch: 4, n_cells: 10, unified: true };

    fn good() -> Step {
        let input = Input { token: 5, pos: 0, seq: 0, logits: false };
        Step {
            edits: vec![CacheEdit::Clear { seq: 2 }, CacheEdit::Copy { from: 2, to: 1 }],
            batch: vec![input, Input { pos: 1, logits: true, ..input }],
            outputs: vec![Output { row: 1, slot: 0 }],
            prefill: 2,
            padding: 0,
        }
    }

    fn refused(change: impl Fn(&mut Step)) -> String {
        let mut step = good();
        change(&mut step);
        check_step(&step, &LIMITS, 9).unwrap_err()
    }

    #[test]
    fn steps_of_the_scheduler_pass() {
        assert_eq!((check_step(&good(), &LIMITS, 9), check_limits(&LIMITS)), (Ok(()), Ok(())));
    }

    #[test]
    fn too_many_sequences_for_llama_cpp_or_the_batch_are_refused() {
        assert!(check_limits(&Limits { slots: 256, holders: 1, n_batch: 512, ..LIMITS }).unwrap_err().contains("257 sequences"));
        assert!(check_limits(&Limits { slots: 4, holders: 1, ..LIMITS }).unwrap_err().contains("a batch of 4"));
        assert!(check_limits(&Limits { slots: 0, holders: 0, ..LIMITS }).is_err());
        assert!(check_limits(&Limits { n_cells: 0, ..LIMITS }).is_err());
        assert!(check_limits(&Limits { n_cells: 1 << 33, ..LIMITS }).is_err());
    }

    #[test]
    fn unknown_sequences_are_refused() {
        assert!(refused(|step| step.edits[1] = CacheEdit::Copy { from: 0, to: 3 }).contains("3 sequences"));
        assert!(refused(|step| step.edits[1] = CacheEdit::Copy { from: 3, to: 0 }).contains("3 sequences"));
        assert!(refused(|step| step.edits[1] = CacheEdit::Copy { from: 1, to: 1 }).contains("Copy"));
        assert!(refused(|step| step.edits[0] = CacheEdit::Clear { seq: 3 }).contains("Clear"));
        assert!(refused(|step| step.edits[0] = CacheEdit::Trim { seq: 3, from: 1 }).contains("Trim"));
        assert!(refused(|step| step.batch[0].seq = 3).contains("sequence 3"));
    }

    #[test]
    fn an_empty_or_too_large_batch_is_refused() {
        assert!(refused(|step| step.batch.clear()).contains("0 tokens"));
        assert!(refused(|step| step.batch = vec![step.batch[0]; 5]).contains("5 tokens"));
    }

    #[test]
    fn tokens_and_positions_out_of_range_are_refused() {
        assert!(refused(|step| step.batch[0].token = -1).contains("token -1"));
        assert!(refused(|step| step.batch[0].token = 9).contains("token 9"));
        assert!(refused(|step| step.batch[0].pos = 10).contains("position 10"));
    }

    #[test]
    fn logits_that_were_not_requested_are_refused() {
        assert!(refused(|step| step.outputs[0].row = 0).contains("not requested"));
        assert!(refused(|step| step.outputs[0].row = 7).contains("not requested"));
    }
}
