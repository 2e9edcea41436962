//! Finds, reads and checks the data files of a task.

use std::path::{Path, PathBuf};

use crate::data::example::{GoldRow, TaskKind};
use crate::data::gold_file::{GoldFile, read_test};
use crate::data::head::Head;
use crate::data::overlap::Tested;
use crate::data::read::{ReadGold, Rules};
use crate::data::split::{Divide, Split};
use crate::data::unlabelled::Texts;
use crate::error::{Error, Result};
use crate::fetch::cache::locate;
use crate::fetch::registry::Registry;
use crate::run::progress::Progress;
use crate::task::file::Task;

/// The rows of a task's files, none of them also in the test file.
pub struct Data<H: Head> {
    pub gold: GoldFile<H>,
    /// The test rows and their file.
    pub test: Option<(PathBuf, Vec<GoldRow<H>>)>,
    /// The contexts of a file, if they have one; otherwise they come from the split's gold rows.
    pub contexts: Option<Texts>,
    /// The unlabelled texts: of a file, or all gold rows, where those are meant that are not drawn.
    pub unlabelled: Option<Texts>,
}

impl<H: ReadGold> Data<H> {
    /// Reads all data files of the task at `task_path`.
    ///
    /// # Errors
    /// Everything that is wrong with the files, in one: those that cannot be read, bad rows, test rows that are also in another file.
    pub fn read(head: &H, task: &Task, task_path: &Path, threads: usize, progress: Progress) -> Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.max(1)).build();
        let pool = pool.map_err(|e| Error::Failed(format!("{threads} threads cannot be started: {e}")))?;
        pool.install(|| Self::read_here(head, task, task_path, progress))
    }

    fn read_here(head: &H, task: &Task, task_path: &Path, progress: Progress) -> Result<Self> {
        let (gold_path, test_path) = find(task, task_path)?;
        let (rules, say) = (task.data.rules(), &|what| progress.say(what));
        let mut errors = Vec::new();
        let is_gold = |path: &PathBuf| path.canonicalize().ok().is_some_and(|path| gold_path.canonicalize().ok() == Some(path));
        let (same, test_path) = if test_path.as_ref().is_some_and(is_gold) { (test_path, None) } else { (None, test_path) };
        if let Some(path) = same {
            let message = "it is data.gold and data.test: what a model is tested on must be in no other file; leave data.test out, or divide the file";
            errors.push(Error::Data { path, line: None, message: message.to_string() });
        }
        let test = test_path.map(|path| read_test(&path, head, rules, say).map(|test| (path, test)));
        let test = kept(test.transpose(), &mut errors).flatten();
        let tested = test.as_ref().map_or_else(Tested::default, |(path, (rows, unit))| Tested::of(path, unit, rows));
        let test = test.map(|(path, (rows, _))| (path, rows));
        let gold = kept(GoldFile::open(&gold_path, head, rules, &tested, say), &mut errors);
        let contexts = task.data.contexts_file().map(|named| Task::beside(task_path, named));
        let contexts = contexts.map(|path| Texts::open(&path, false)?.distinct().beside_tested(&tested, true, rules.overlap, say));
        let contexts = kept(contexts.transpose(), &mut errors).flatten();
        let unlabelled = kept(Self::unlabelled_of(task, task_path, gold.as_ref(), &tested, rules, say), &mut errors).flatten();
        Error::all(errors)?;
        let gold = gold.expect("there was no error");
        let unlabelled = unlabelled.map(|texts| unlike_tested(texts, test.as_ref(), say)).transpose()?;
        Ok(Data { gold, test, contexts, unlabelled })
    }

    fn unlabelled_of(
        task: &Task,
        task_path: &Path,
        gold: Option<&GoldFile<H>>,
        tested: &Tested,
        rules: Rules,
        say: &dyn Fn(String),
    ) -> Result<Option<Texts>> {
        let pairs = task.kind == TaskKind::Pair;
        match task.data.unlabelled_file() {
            Some(named) => {
                let texts = Texts::open(&Task::beside(task_path, named), pairs)?.distinct();
                texts.beside_tested(tested, false, rules.overlap, say).map(Some)
            }
            None => Ok(gold.filter(|_| task.data.unlabelled_rest()).map(|gold| Texts::of_gold(gold, pairs))),
        }
    }
}

impl<H: ReadGold + Divide> Data<H> {
    /// The gold rows of this task and random seed.
    ///
    /// # Errors
    /// There are too few.
    pub fn drawn(&self, task: &Task, seed: u64) -> Result<Vec<GoldRow<H>>> {
        self.gold.sample(task.data.gold_rows.unwrap_or(self.gold.len()), seed)
    }

    /// The splits of the gold rows that are drawn.
    ///
    /// # Errors
    /// There are too few for two sides.
    pub fn split(&self, head: &H, task: &Task, seed: u64) -> Result<Split<H>> {
        let data_error = |message: String| Error::Data { path: self.gold.path().to_path_buf(), line: None, message };
        head.divide(&self.drawn(task, seed)?, task.data.select_share, seed).map_err(data_error)
    }
}

impl<H: Head> Data<H> {
    /// The task's unlabelled texts, none of which is among the gold rows of `split`; `None` if it has no such key.
    pub fn unlabelled(&self, split: &Split<H>) -> Option<Texts> {
        self.unlabelled.as_ref().map(|texts| texts.beside(split))
    }
}

/// The value, or none, with what is wrong added to `errors`.
pub(super) fn kept<T>(read: Result<T>, errors: &mut Vec<Error>) -> Option<T> {
    read.map_err(|error| errors.extend(error.into_problems())).ok()
}

/// The texts less near-copies of test rows.
fn unlike_tested<H: Head>(texts: Texts, test: Option<&(PathBuf, Vec<GoldRow<H>>)>, say: &dyn Fn(String)) -> Result<Texts> {
    let Some((test_path, test)) = test else { return Ok(texts) };
    let (texts, left_out) = texts.unlike_tested(test)?;
    if left_out > 0 {
        say(format!("{}: {left_out} near-copies of rows of {} left out", texts.path().display(), test_path.display()));
    }
    Ok(texts)
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
