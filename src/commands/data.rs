//! Finds, reads and checks the data files of a task.

use std::path::{Path, PathBuf};

use crate::data::example::{Context, GoldRow, TaskKind};
use crate::data::head::Head;
use crate::data::overlap::{Overlap, refuse, shared_first_texts};
use crate::data::read::{ReadGold, read_contexts, read_gold, read_test};
use crate::data::split::Split;
use crate::data::unlabelled::{Unlabelled, beside, beside_test, read_unlabelled, without_labels};
use crate::error::{Error, Result};
use crate::fetch::cache::locate;
use crate::fetch::registry::Registry;
use crate::run::progress::Progress;
use crate::task::file::Task;

/// The rows of a task's files, none of them also in the test file.
pub struct Data<H: Head> {
    pub gold_path: PathBuf,
    pub gold: Vec<GoldRow<H>>,
    /// The test rows and their file.
    pub test: Option<(PathBuf, Vec<GoldRow<H>>)>,
    /// The contexts and their file, if they have one; otherwise they come from the split's gold rows.
    pub contexts: Option<(PathBuf, Vec<Context>)>,
    /// The unlabelled texts and their file, that of the gold rows where they are its rest.
    pub unlabelled: Option<(PathBuf, Vec<Unlabelled>)>,
}

impl<H: ReadGold> Data<H> {
    /// Reads all data files of the task at `task_path`.
    ///
    /// # Errors
    /// A file that cannot be read, a bad line, test rows that are also in another file.
    pub fn read(head: &H, task: &Task, task_path: &Path, progress: Progress) -> Result<Self> {
        let (gold_path, test_path) = find(task, task_path)?;
        let (gold, repeated) = read_gold(&gold_path, head)?;
        if repeated > 0 {
            progress.say(format!("{}: {repeated} duplicate rows left out", gold_path.display()));
        }
        let test = test_path.map(|path| read_test(&path, head).map(|rows| (path, rows))).transpose()?;
        let contexts_path = task.data.contexts_file().map(|named| Task::beside(task_path, named));
        let contexts = contexts_path.map(|path| read_contexts(&path).map(|rows| (path, rows))).transpose()?;
        let (unlabelled_path, pairs) =
            (task.data.unlabelled_file().map(|named| Task::beside(task_path, named)), task.kind == TaskKind::Pair);
        let unlabelled = match unlabelled_path {
            Some(path) => Some((read_unlabelled(&path, pairs)?, path)),
            None => task.data.unlabelled_rest().then(|| (without_labels(&gold), gold_path.clone())),
        };
        let unlabelled = unlabelled.map(|(rows, path)| (path, rows));
        let mut data = Data { gold_path, gold, test, contexts, unlabelled };
        data.check(progress)?;
        if let (Some((path, rows)), Some((test_path, test))) = (&mut data.unlabelled, &data.test) {
            let (kept, left_out) = beside_test(std::mem::take(rows), test);
            *rows = kept;
            if left_out > 0 {
                let (path, test) = (path.display(), test_path.display());
                progress.say(format!("{path}: {left_out} near-copies of rows of {test} left out"));
            }
        }
        Ok(data)
    }

    /// Refuses test rows that are also in another file; says how many gold rows share only their first text with a test row.
    fn check(&self, progress: Progress) -> Result<()> {
        let Some((test_path, test)) = &self.test else { return Ok(()) };
        let gold = self.gold.iter().map(|row| (row.input(), row.line));
        let mut overlaps = vec![Overlap::of_rows(&self.gold_path, gold, test)];
        overlaps.extend(self.contexts.iter().map(|(path, rows)| Overlap::of_contexts(path, rows, test)));
        if let Some((path, rows)) = self.unlabelled.as_ref().filter(|(path, _)| *path != self.gold_path) {
            overlaps.push(Overlap::of_rows(path, rows.iter().map(|row| (row.input(), row.line)), test));
        }
        refuse(test_path, &overlaps)?;
        let shared = shared_first_texts(&self.gold, test);
        if shared > 0 {
            let (path, test, all) = (self.gold_path.display(), test_path.display(), self.gold.len());
            progress.say(format!(
                "{path}: {shared} of {all} rows have a first text that is also in {test}, with other second texts; they stay"
            ));
        }
        Ok(())
    }
}

impl<H: Head> Data<H> {
    /// The task's unlabelled texts, none of which is among the gold rows of `split`; none if it has no such key, or if all were drawn.
    pub fn unlabelled(&self, split: &Split<H>) -> Vec<Unlabelled> {
        beside(split, self.unlabelled.iter().flat_map(|(_, rows)| rows).cloned().collect())
    }
}

/// The gold file, and the test file if the task has one.
fn find(task: &Task, task_path: &Path) -> Result<(PathBuf, Option<PathBuf>)> {
    let gold = Task::beside(task_path, &task.data.gold);
    let test = task.data.test.as_ref().map(|named| Task::beside(task_path, named));
    if gold.exists() || Registry::built_in().entry(&task.data.gold).is_err() {
        return Ok((gold, test));
    }
    let folder = locate(&task.data.gold).map_err(|e| Error::Model(e.to_string()))?;
    Ok((folder.join("gold.jsonl"), test.or(Some(folder.join("test.jsonl")))))
}
