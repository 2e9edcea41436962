//! Checkpoints inside a fit: after a crash it goes on from the last one, and ends with the same bits as if never interrupted.
//!
//! ```text
//! FOLDER/trainer-STEP.safetensors   parameters, moments and steps, as the trainer writes them
//! FOLDER/best-EPOCH/                the best epoch's model so far
//! FOLDER/fit.json                   what is learnt, as a hash, and which of these files belong together; written last
//! ```

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lacuna_models::{ModelError, TrainConfig, Trainer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::evaluation::Evaluation;
use super::head::SmallHead;
use super::model::SmallModel;
use super::plan::FitPlan;
use crate::error::{Error, Result};
use crate::files::sha256::hex;
use crate::files::whole::{is_unfinished, remove_entries, replace_folder, write, write_json};

/// Where a fit's checkpoints go, and how often.
pub struct Checkpoints<'s> {
    folder: Option<PathBuf>,
    every: Duration,
    /// Hears what went wrong: a checkpoint only saves time, so a fit goes on without.
    say: &'s dyn Fn(String),
    last: Cell<Instant>,
}

/// How far a fit has come at the ends of its epochs.
pub struct SoFar<H: SmallHead> {
    /// Whole epochs.
    pub epochs: usize,
    /// On *select* after each of them.
    pub history: Vec<Evaluation>,
    /// The epoch, from 1, that *select* likes best, and its model.
    pub best: Option<(usize, H::Model)>,
}

impl<H: SmallHead> Default for SoFar<H> {
    fn default() -> Self {
        SoFar { epochs: 0, history: Vec::new(), best: None }
    }
}

/// `fit.json`
#[derive(Serialize, Deserialize)]
struct Fit {
    /// SHA-256 of all that decides what is learnt besides the trainer's own configuration.
    of: String,
    step: usize,
    epochs: usize,
    history: Vec<Evaluation>,
    best: Option<usize>,
}

impl<'s> Checkpoints<'s> {
    /// None are written.
    pub fn off() -> Self {
        Checkpoints { folder: None, every: Duration::MAX, say: &|_| (), last: Cell::new(Instant::now()) }
    }

    /// In a folder of the fit's own, which need not exist yet; none if it, or the folder around it, is a link to another place.
    pub fn in_folder(folder: PathBuf, every: Duration, say: &'s dyn Fn(String)) -> Self {
        let linked = [Some(folder.as_path()), folder.parent()].into_iter().flatten().any(Path::is_symlink);
        if linked {
            say(format!("{} lies behind a link: no checkpoints are written there", folder.display()));
        }
        Checkpoints { folder: (!linked).then_some(folder), every, say, last: Cell::new(Instant::now()) }
    }

    /// The trainer and the progress of the last checkpoint, and `model` as it was then. If there is none of this plan, `model` is as it
    /// was, and what other plans left is removed.
    pub(super) fn resume<H: SmallHead>(
        &self,
        small: &SmallModel<H>,
        plan: &FitPlan<H>,
        model: &mut H::Model,
        config: &TrainConfig,
    ) -> Option<(Trainer, SoFar<H>)> {
        let folder = self.folder.as_ref()?;
        let resumed = read(folder, small, plan, model, config);
        if resumed.is_none() {
            self.clear();
        }
        resumed
    }

    /// Writes a checkpoint if one is due.
    pub(super) fn after_step<H: SmallHead>(
        &self,
        small: &SmallModel<H>,
        plan: &FitPlan<H>,
        trainer: &Trainer,
        model: &H::Model,
        so_far: &SoFar<H>,
    ) {
        let Some(folder) = self.folder.as_ref().filter(|_| self.last.get().elapsed() >= self.every) else { return };
        if let Err(error) = write_to(folder, small, plan, trainer, model, so_far) {
            (self.say)(format!("no checkpoint of the training: {error}"));
        }
        self.last.set(Instant::now());
    }

    /// Removes the checkpoints of a fit whose model is saved elsewhere by now.
    pub fn clear(&self) {
        if let Some(Err(error)) = self.folder.as_ref().map(|folder| remove(folder, |_| true)) {
            (self.say)(format!("checkpoints are left: {error}"));
        }
    }
}

/// Removes the checkpoints of all fits of a run, if any are left: the folders in `training` that hold nothing else.
pub fn clear_all(training: &Path, say: &dyn Fn(String)) {
    let folders = fs::read_dir(training).into_iter().flatten().flatten().map(|entry| entry.path());
    for folder in folders.filter(|folder| !training.is_symlink() && !folder.is_symlink() && folder.is_dir()) {
        Checkpoints::in_folder(folder, Duration::MAX, say).clear();
    }
}

/// The last checkpoint of this plan. What cannot be read only costs the time to train anew.
fn read<H: SmallHead>(
    folder: &Path,
    small: &SmallModel<H>,
    plan: &FitPlan<H>,
    model: &mut H::Model,
    config: &TrainConfig,
) -> Option<(Trainer, SoFar<H>)> {
    let fit: Fit = serde_json::from_slice(&fs::read(folder.join("fit.json")).ok()?).ok()?;
    let Fit { step, epochs, history, best, .. } = fit;
    let consistent =
        history.len() == if plan.select.is_some() { epochs } else { 0 } && best.is_none_or(|best| (1..=epochs).contains(&best));
    if fit.of != identity(plan) || !consistent {
        return None;
    }
    let best = match best {
        Some(epoch) => Some((epoch, load_best(small, plan, &best_folder(folder, epoch)).ok()?)),
        None => None,
    };
    // Last, since it is what changes the model.
    let trainer = Trainer::resume(model, config.clone(), &trainer_file(folder, step)).ok()?;
    Some((trainer, SoFar { epochs, history, best }))
}

fn write_to<H: SmallHead>(
    folder: &Path,
    small: &SmallModel<H>,
    plan: &FitPlan<H>,
    trainer: &Trainer,
    model: &H::Model,
    so_far: &SoFar<H>,
) -> Result<()> {
    let step = trainer.steps();
    let bytes = trainer.checkpoint(model).map_err(|e| Error::Failed(e.to_string()))?;
    write(&trainer_file(folder, step), &bytes)?;
    let best = so_far.best.as_ref().map(|(epoch, _)| *epoch);
    if let Some((epoch, model)) = so_far.best.as_ref().filter(|(epoch, _)| !best_folder(folder, *epoch).exists()) {
        replace_folder(&best_folder(folder, *epoch), |new| small.save(model, new))?;
    }
    let SoFar { epochs, history, .. } = so_far;
    write_json(&folder.join("fit.json"), &Fit { of: identity(plan), step, epochs: *epochs, history: history.clone(), best })?;
    let current = [Some(trainer_file(folder, step)), best.map(|epoch| best_folder(folder, epoch)), Some(folder.join("fit.json"))];
    remove(folder, |name| !current.contains(&Some(folder.join(name))))
}

fn trainer_file(folder: &Path, step: usize) -> PathBuf {
    folder.join(format!("trainer-{step}.safetensors"))
}

fn best_folder(folder: &Path, epoch: usize) -> PathBuf {
    folder.join(format!("best-{epoch}"))
}

/// The best epoch's model as it was in memory: on its device, with the fit's precision.
fn load_best<H: SmallHead>(small: &SmallModel<H>, plan: &FitPlan<H>, folder: &Path) -> Result<H::Model, ModelError> {
    let mut model = small.head.load(folder, 0)?;
    model.set_device(small.base.device())?;
    model.set_precision(plan.keys.precision);
    Ok(model)
}

/// Removes those of a fit's own files that are `outdated`, by name, and the folders that are empty then.
fn remove(folder: &Path, outdated: impl Fn(&str) -> bool) -> Result<()> {
    remove_entries(folder, |name| is_own(name) && outdated(name)).map_err(Error::io("remove checkpoints in", folder))?;
    // Those that hold something else stay.
    let _ = fs::remove_dir(folder);
    let _ = folder.parent().map(fs::remove_dir);
    Ok(())
}

/// Whether a fit gives a file or folder this name.
fn is_own(name: &str) -> bool {
    let number = |text: &str| text.parse::<usize>().is_ok();
    name == "fit.json"
        || is_unfinished(name)
        || name.strip_prefix("trainer-").and_then(|rest| rest.strip_suffix(".safetensors")).is_some_and(number)
        || name.strip_prefix("best-").is_some_and(number)
}

/// A hash of the rows, of *select*, of the keys and of the seed.
fn identity<H: SmallHead>(plan: &FitPlan<H>) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{} {:?} {:?}", env!("CARGO_PKG_VERSION"), plan.seed, plan.keys));
    for row in plan.rows {
        hash.update(format!("{:?} {:?} {:?}\n", row.text, row.text_pair, row.target));
    }
    let select = plan.select.as_ref().map(|select| (select.rows, select.patience));
    hash.update(format!("{select:?}"));
    hex(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::example::GoldRow;
    use crate::data::labels::{Label, Labels};
    use crate::small::plan::Select;
    use crate::small::row::TrainRow;
    use crate::task::file::TrainKeys;

    const WORDS: [&str; 6] = ["warm", "funny", "fine", "cold", "dull", "weak"];

    /// A tiny BERT, and a tokenizer of a few words.
    fn small(folder: &Path) -> SmallModel<Labels> {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tests/golden/bert");
        for file in ["config.json", "model.safetensors"] {
            fs::copy(golden.join(file), folder.join(file)).unwrap();
        }
        let vocab: serde_json::Map<_, _> =
            ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].iter().chain(&WORDS).enumerate().map(|(id, word)| (word.to_string(), id.into())).collect();
        let tokenizer = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
            "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]"},
        });
        fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
        let head = Labels { names: vec!["bad".into(), "good".into()], pairs: false };
        SmallModel::load(folder, head, 1, 1).unwrap()
    }

    fn text(i: usize) -> String {
        format!("{} {}", WORDS[i % 6], WORDS[i * 5 % 6])
    }

    fn rows() -> Vec<TrainRow<Vec<f32>>> {
        let target = |i| if i % 6 < 3 { vec![0.2, 0.8] } else { vec![0.9, 0.1] };
        (0..10).map(|i| TrainRow { text: text(i), text_pair: None, target: target(i) }).collect()
    }

    fn gold() -> Vec<GoldRow<Labels>> {
        let label = |i| Label { label: usize::from((i + 3) % 6 < 3) };
        (0..6).map(|i| GoldRow { line: i + 1, text: text(i + 3), text_pair: None, gold: label(i) }).collect()
    }

    fn keys() -> TrainKeys {
        TrainKeys { epochs: 4, batch: 4, learning_rate: 1e-3, max_tokens: 8, ..TrainKeys::default() }
    }

    fn stop_at(stop: usize) -> impl FnMut(usize, usize) -> Result<()> {
        move |step, _| if step == stop { Err(Error::Failed("stopped".into())) } else { Ok(()) }
    }

    /// A fit is the same as one that was never interrupted, and the step at which it went on.
    fn goes_on(small: &SmallModel<Labels>, plan: &FitPlan<Labels>, checkpoints: &Checkpoints) -> usize {
        let whole = small.fit(plan, &Checkpoints::off(), &mut |_, _| Ok(())).unwrap();
        let mut first = None;
        let mut shown = |step, _| {
            first.get_or_insert(step);
            Ok(())
        };
        let resumed = small.fit(plan, checkpoints, &mut shown).unwrap();
        assert_eq!((resumed.epoch, resumed.steps, &resumed.history), (whole.epoch, whole.steps, &whole.history));
        assert!(resumed.model.flat() == whole.model.flat());
        first.unwrap()
    }

    /// Stopped at any step, a fit goes on from its last checkpoint and ends with the same bits, with *select* and without.
    #[test]
    fn a_fit_that_is_stopped_at_any_step_ends_with_the_same_bits() {
        let folder = tempfile::tempdir().unwrap();
        let small = small(folder.path());
        let (rows, gold, keys) = (rows(), gold(), keys());
        for with_select in [false, true] {
            let select = || with_select.then_some(Select { rows: &gold, patience: 2 });
            let plan = FitPlan { rows: &rows, select: select(), keys: &keys, seed: 7 };
            let steps = small.fit(&plan, &Checkpoints::off(), &mut |_, _| Ok(())).unwrap().steps;
            for stop in 1..steps {
                let place = folder.path().join(format!("training-{with_select}/{stop}"));
                let checkpoints = Checkpoints::in_folder(place.clone(), Duration::ZERO, &|what| panic!("{what}"));
                assert!(small.fit(&plan, &checkpoints, &mut stop_at(stop)).is_err() && place.join("fit.json").exists());
                assert_eq!(goes_on(&small, &plan, &checkpoints), stop + 1, "it goes on where it stopped");
                checkpoints.clear();
                assert!(!place.exists() && !place.parent().unwrap().exists());
            }
        }
    }

    /// Nothing of another fit is taken: neither its parameters, nor its best epoch.
    #[test]
    fn what_another_plan_left_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let small = small(folder.path());
        let (rows, gold, keys) = (rows(), gold(), keys());
        let plan = |seed| FitPlan { rows: &rows, select: Some(Select { rows: &gold, patience: 4 }), keys: &keys, seed };
        let place = folder.path().join("training/fit");
        let checkpoints = Checkpoints::in_folder(place.clone(), Duration::ZERO, &|what| panic!("{what}"));
        assert!(small.fit(&plan(7), &checkpoints, &mut stop_at(5)).is_err() && place.join("best-1").exists());
        // No checkpoint can be written in the first epoch, as where an epoch takes less than the time between two.
        (1..=3).for_each(|step| fs::create_dir(trainer_file(&place, step)).unwrap());
        let checkpoints = Checkpoints::in_folder(place.clone(), Duration::ZERO, &|_| ());
        assert!(small.fit(&plan(8), &checkpoints, &mut stop_at(5)).is_err());
        let alone = folder.path().join("alone/fit");
        let checkpoints_alone = Checkpoints::in_folder(alone.clone(), Duration::ZERO, &|what| panic!("{what}"));
        assert!(small.fit(&plan(8), &checkpoints_alone, &mut stop_at(5)).is_err());
        let best = |place: &Path| fs::read(place.join("best-1/model.safetensors")).unwrap();
        assert!(best(&place) == best(&alone), "the best epoch is the other plan's");
        assert_eq!(goes_on(&small, &plan(8), &checkpoints), 6);
    }

    /// Whatever is missing or damaged, a fit then begins anew, from the pretrained weights.
    #[test]
    fn a_damaged_checkpoint_costs_only_time() {
        let folder = tempfile::tempdir().unwrap();
        let small = small(folder.path());
        let (rows, gold, keys) = (rows(), gold(), keys());
        let plan = FitPlan { rows: &rows, select: Some(Select { rows: &gold, patience: 4 }), keys: &keys, seed: 7 };
        let damages: [fn(&Path); 4] = [
            |place| fs::remove_dir_all(place.join("best-1")).unwrap(),
            |place| fs::write(place.join("trainer-5.safetensors"), "half").unwrap(),
            |place| fs::write(place.join("fit.json"), "{").unwrap(),
            |place| {
                let fit = fs::read_to_string(place.join("fit.json")).unwrap();
                fs::write(place.join("fit.json"), fit.replace("\"epochs\": 1", "\"epochs\": 3")).unwrap();
            },
        ];
        for damage in damages {
            let place = folder.path().join("training/fit");
            let checkpoints = Checkpoints::in_folder(place.clone(), Duration::ZERO, &|what| panic!("{what}"));
            assert!(small.fit(&plan, &checkpoints, &mut stop_at(5)).is_err());
            damage(&place);
            assert_eq!(goes_on(&small, &plan, &checkpoints), 1);
            checkpoints.clear();
        }
    }

    /// A full disk costs the checkpoints, not the fit; and nobody else's files are removed, here or behind a link.
    #[test]
    fn a_fit_goes_on_without_checkpoints_and_removes_only_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let small = small(folder.path());
        let (rows, keys) = (rows(), keys());
        let plan = FitPlan { rows: &rows, select: None, keys: &keys, seed: 7 };
        let said = std::cell::RefCell::new(Vec::new());
        let say = |what| said.borrow_mut().push(what);
        let place = folder.path().join("training/fit");
        fs::create_dir_all(place.join("fit.json/in-the-way")).unwrap();
        fs::write(folder.path().join("training/notes.md"), "mine").unwrap();
        let checkpoints = Checkpoints::in_folder(place.clone(), Duration::ZERO, &say);
        small.fit(&plan, &checkpoints, &mut |_, _| Ok(())).unwrap();
        fs::write(place.join("trainer-mine.safetensors"), "mine").unwrap();
        clear_all(&folder.path().join("training"), &say);
        assert!(folder.path().join("training/notes.md").exists() && place.join("trainer-mine.safetensors").exists());

        let link = folder.path().join("linked");
        std::os::unix::fs::symlink(folder.path().join("training"), &link).unwrap();
        fs::write(place.join("trainer-1.safetensors"), "theirs").unwrap();
        clear_all(&link, &say);
        small.fit(&plan, &Checkpoints::in_folder(link.join("fit"), Duration::ZERO, &say), &mut |_, _| Ok(())).unwrap();
        assert!(place.join("trainer-1.safetensors").exists());
        assert!(said.borrow().iter().any(|what| what.contains("lies behind a link")), "{said:?}");
    }
}
