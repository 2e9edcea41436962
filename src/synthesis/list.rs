//! Texts that continue lists of gold rows, as plain text without the chat template, and what the judge says of them.
//!
//! Such texts look like the real ones, as those of a chat prompt do not. They are treated as real texts are: nobody knows their label, and
//! the judge's probabilities are their target. A list shows rows of *mine* alone, so that *select* can choose among rounds, and of one
//! fold, so that a twin without that fold can do without the texts that continue it.

use std::collections::{BTreeMap, HashMap};

use rand::seq::IndexedRandom;
use serde::{Deserialize, Serialize};

use super::rows::{ReadRow, Reviewed, not_needed, rejections};
use super::state::Synthesis;
use super::verify::Prompted;
use super::waves::requests_for;
use super::write::finished;
use crate::data::example::{GoldRow, Input};
use crate::data::labels::Labels;
use crate::data::near::NearCopies;
use crate::data::unlabelled::Unlabelled;
use crate::error::{Error, Result};
use crate::files::sha256::mark_of;
use crate::generator::{Completion, CompletionRequest, Finish};
use crate::math::random;
use crate::run::round::Rejection;
use crate::task::file::ListKeys;

/// A request whose text continues a list, in the journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Listed {
    id: u64,
    seed: u64,
    /// Lines of the gold rows in the list.
    shown: Vec<usize>,
    text: String,
    /// New tokens that were sampled.
    tokens: u32,
    /// As [`Completion::computed`].
    computed: u32,
    finish: Finish,
    /// Of the request that it answers.
    mark: String,
}

/// Writing ends after so many times as many texts as are wanted.
const ATTEMPTS: usize = 3;
/// Most characters of a gold row in a list, and of a list.
const LONGEST_ROW: usize = 1000;
const LONGEST_LIST: usize = 4000;
/// Fewer rows are no list.
const LEAST_SHOWN: usize = 2;

impl<'a> Synthesis<'a, Labels> {
    /// Continues lists until `list.rows` texts are accepted, judges them and keeps them.
    pub(super) fn write_lists(&mut self) -> Result<()> {
        let Some(keys) = self.inputs.task.lists() else { return Ok(()) };
        let accepted = self.continue_lists(keys)?;
        let inputs: Vec<(u64, Input)> = accepted.iter().map(|(row, text)| (row.id, Input::from(text.as_str()))).collect();
        let answers = self.judged("read-list", "lists · judging", &inputs)?;
        self.read.extend(accepted.into_iter().zip(answers).map(|((row, text), answers)| {
            let text = Unlabelled { line: row.id as usize, text, text_pair: None, id: None };
            ReadRow { round: 0, text, shown: Some(row.shown), answers, reviewed: Reviewed::AsItIs }
        }));
        Ok(())
    }

    /// The first `keys.rows` accepted texts, in the order of their requests.
    fn continue_lists(&mut self, keys: &ListKeys) -> Result<Vec<(Listed, String)>> {
        let (mut journal, known) = self.run.journal::<Listed>("list")?;
        let mut answers: HashMap<u64, Listed> = known.into_iter().map(|row| (row.id, row)).collect();
        let mut bar = self.inputs.progress.bar("lists · writing", "texts", keys.rows, answers.len());
        let (mut verifier, pools) = (self.verifier(), self.pools_of_lists());
        // A model is tested on texts that it has not seen, and a generator may know a public test set by heart.
        let tested = NearCopies::of(self.inputs.test.into_iter().flatten().map(GoldRow::input));
        let mut rejected: BTreeMap<Rejection, usize> = BTreeMap::new();
        let mut accepted = Vec::new();
        let mut next = 0;
        while accepted.len() < keys.rows && (next as usize) < keys.rows * ATTEMPTS {
            let so_far = (accepted.len(), next as usize);
            let more = requests_for(keys.rows - accepted.len(), so_far, so_far);
            let wave = next..(next + more as u64).min((keys.rows * ATTEMPTS) as u64);
            next = wave.end;
            bar.extend_to(wave.end as usize);
            let planned: Vec<(CompletionRequest, Listed)> = wave.clone().map(|id| self.list_request(keys, &pools, id)).collect();
            for (_, row) in &planned {
                if answers.get(&row.id).is_some_and(|known| known.mark != row.mark) {
                    answers.remove(&row.id);
                }
            }
            let missing = planned.into_iter().filter(|(_, row)| !answers.contains_key(&row.id));
            let (requests, mut rows): (Vec<_>, HashMap<_, _>) = missing.map(|(request, row)| (request, (row.id, row))).unzip();
            self.generator.complete(&requests, &mut |Completion { id, text, tokens, computed, finish }| {
                let row = rows.remove(&id).ok_or_else(|| Error::Failed(format!("the generator answered request {id} twice")))?;
                let row = Listed { text, tokens, computed, finish, ..row };
                journal.append(&row)?;
                answers.insert(id, row);
                Ok(bar.step(1)?)
            })?;
            journal.sync()?;
            for row in wave.filter_map(|id| answers.remove(&id)) {
                let text = finished(&row.text, row.finish);
                let verdict = match tested.has(Input::from(text.as_str())) {
                    true => Err(Rejection::CopyOfTest),
                    false => verifier.accept(&text, row.finish, &Prompted::default()),
                };
                match verdict {
                    Ok(()) => accepted.push((row, text)),
                    Err(reason) => *rejected.entry(reason).or_default() += 1,
                }
            }
        }
        let spare = accepted.len().saturating_sub(keys.rows);
        accepted.truncate(keys.rows);
        bar.finish(&format!("{} accepted{}{}", accepted.len(), rejections(&rejected), not_needed(spare)));
        if accepted.is_empty() {
            let why = rejections(&rejected);
            return Err(Error::Failed(format!(
                "no text that continues a list was accepted{why}; look at journal/list.jsonl and list.title"
            )));
        }
        Ok(accepted)
    }

    /// A request for a text, and its journal row without the answer: a pure function of the request's number.
    fn list_request(&self, keys: &ListKeys, pools: &[Vec<&GoldRow<Labels>>], id: u64) -> (CompletionRequest, Listed) {
        let list = id / keys.texts_each as u64;
        let shown = self.list(keys, &pools[list as usize % pools.len()], list);
        let texts: Vec<&str> = shown.iter().map(|row| beginning(&row.text)).collect();
        let prompt = self.inputs.prompts.list(&keys.title, &texts);
        let seed = random::derive(self.inputs.seed, "list", id);
        let sampling = self.inputs.task.sampling.sampling();
        let max_tokens = keys.max_tokens.unwrap_or(self.inputs.task.sampling.max_tokens);
        let mark = mark_of([prompt.user.as_str(), &prompt.answer_start, &format!("{seed} {sampling:?} {max_tokens}")]);
        let request = CompletionRequest { id, prompt, sampling, seed, max_tokens, stop: vec!["\n".to_string()], form: None };
        let (shown, text) = (shown.iter().map(|row| row.line).collect(), String::new());
        (request, Listed { id, seed, shown, text, tokens: 0, computed: 0, finish: Finish::Length, mark })
    }

    /// The rows that lists are drawn from, in turn: those of *mine* in one fold, and in no fold. A fold that has but one of them has no
    /// lists; if all have, lists show any of *mine*.
    fn pools_of_lists(&self) -> Vec<Vec<&'a GoldRow<Labels>>> {
        let (split, folds) = (self.inputs.split, self.folds());
        let mine = &split.mine;
        let of_fold = |own: Option<usize>| {
            let rows = mine.iter().zip(&folds).filter(|(_, fold)| fold.is_none() || **fold == own);
            rows.map(|(row, _)| row).collect::<Vec<_>>()
        };
        let count = folds.iter().flatten().max().map_or(1, |last| last + 1);
        let pools: Vec<Vec<&'a GoldRow<Labels>>> =
            (0..count).map(|fold| of_fold(Some(fold))).filter(|rows| rows.len() >= LEAST_SHOWN).collect();
        if pools.is_empty() { vec![mine.iter().collect()] } else { pools }
    }

    /// The gold rows of a list, in random order.
    fn list<'r>(&self, keys: &ListKeys, pool: &[&'r GoldRow<Labels>], list: u64) -> Vec<&'r GoldRow<Labels>> {
        let rng = &mut random::rng(self.inputs.seed, "rows of a list", list);
        let mut room = LONGEST_LIST;
        let fits = |row: &&GoldRow<Labels>| {
            let length = beginning(&row.text).len();
            let fits = length <= room;
            room = room.saturating_sub(length);
            fits
        };
        pool.sample(rng, keys.shown).copied().take_while(fits).collect()
    }
}

/// The beginning of a text, as far as it may stand in a list; whole words.
fn beginning(text: &str) -> &str {
    let Some((end, _)) = text.char_indices().nth(LONGEST_ROW) else { return text };
    let cut = &text[..end];
    cut.rfind(char::is_whitespace).map_or(cut, |at| &cut[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_row_is_shown_up_to_a_word() {
        assert_eq!(beginning("short one"), "short one");
        let long = "word ".repeat(300);
        let shown = beginning(&long);
        assert!(shown.len() <= LONGEST_ROW && shown.ends_with("word"), "{}", shown.len());
    }
}
