//! Checkpoints inside a fit: after a crash it goes on from the last one, and ends with the same bits as if never interrupted.
//!
//! ```text
//! FOLDER/trainer-STEP.safetensors   parameters, moments and steps, as the trainer writes them
//! FOLDER/fit.json                   what is learnt, as a hash, and the step; written last
//! ```

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lacuna_models::{TrainConfig, Trainer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::head::SmallHead;
use super::plan::FitPlan;
use crate::error::{Error, Result};
use crate::files::sha256::hex;
use crate::files::whole::{is_unfinished, remove_entries, write, write_json};

/// Where a fit's checkpoints go, and how often.
pub struct Checkpoints<'s> {
    folder: Option<PathBuf>,
    every: Duration,
    /// Hears what went wrong: a checkpoint only saves time, so a fit goes on without.
    say: &'s dyn Fn(String),
    last: Cell<Instant>,
}

/// Less than this part of the time between two checkpoints is little.
const LITTLE: u32 = 12;

/// `fit.json`
#[derive(Serialize, Deserialize)]
struct Fit {
    /// SHA-256 of all that decides what is learnt besides the trainer's own configuration.
    of: String,
    step: usize,
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

    /// The trainer of the last checkpoint, and `model` as it was then. If there is none of this plan, `model` is as it was, and what other
    /// plans left is removed.
    pub(super) fn resume<H: SmallHead>(&self, plan: &FitPlan<H>, model: &mut H::Model, config: &TrainConfig) -> Option<Trainer> {
        let folder = self.folder.as_ref()?;
        let resumed = read(folder, plan, model, config);
        if resumed.is_none() {
            self.clear();
        }
        resumed
    }

    /// Writes a checkpoint if one is due.
    pub(super) fn after_step<H: SmallHead>(&self, plan: &FitPlan<H>, trainer: &Trainer, model: &H::Model) {
        if self.last.get().elapsed() >= self.every {
            self.now(plan, trainer, model);
        }
    }

    /// Writes a checkpoint of a finished fit, unless little was done since the last: its model may be kept nowhere else until the run ends.
    pub(super) fn after_fit<H: SmallHead>(&self, plan: &FitPlan<H>, trainer: &Trainer, model: &H::Model) {
        if self.last.get().elapsed() >= self.every / LITTLE {
            self.now(plan, trainer, model);
        }
    }

    /// Writes a checkpoint, where any are written.
    pub(super) fn now<H: SmallHead>(&self, plan: &FitPlan<H>, trainer: &Trainer, model: &H::Model) {
        let Some(folder) = &self.folder else { return };
        if let Err(error) = write_to(folder, plan, trainer, model) {
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
fn read<H: SmallHead>(folder: &Path, plan: &FitPlan<H>, model: &mut H::Model, config: &TrainConfig) -> Option<Trainer> {
    let fit: Fit = serde_json::from_slice(&fs::read(folder.join("fit.json")).ok()?).ok()?;
    if fit.of != identity(plan) {
        return None;
    }
    Trainer::resume(model, config.clone(), &trainer_file(folder, fit.step)).ok()
}

fn write_to<H: SmallHead>(folder: &Path, plan: &FitPlan<H>, trainer: &Trainer, model: &H::Model) -> Result<()> {
    let step = trainer.steps();
    let bytes = trainer.checkpoint(model).map_err(|e| Error::Failed(e.to_string()))?;
    write(&trainer_file(folder, step), &bytes)?;
    write_json(&folder.join("fit.json"), &Fit { of: identity(plan), step })?;
    let current = [trainer_file(folder, step), folder.join("fit.json")];
    remove(folder, |name| !current.contains(&folder.join(name)))
}

fn trainer_file(folder: &Path, step: usize) -> PathBuf {
    folder.join(format!("trainer-{step}.safetensors"))
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
}

/// A hash of the rows, of the keys and of the seed.
fn identity<H: SmallHead>(plan: &FitPlan<H>) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{} {:?} {:?}", env!("CARGO_PKG_VERSION"), plan.seed, plan.keys));
    for row in plan.rows {
        hash.update(format!("{:?} {:?} {:?}\n", row.text, row.text_pair, row.target));
    }
    hex(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::labels::Labels;
    use crate::small::model::SmallModel;
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

    fn keys() -> TrainKeys {
        TrainKeys { steps: Some(11), batch: 4, learning_rate: 1e-3, max_tokens: 8, ..TrainKeys::default() }
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
        assert_eq!((resumed.steps, whole.steps), (11, 11));
        assert!(resumed.model.flat().unwrap() == whole.model.flat().unwrap());
        first.unwrap()
    }

    /// Stopped at any step, a fit goes on from its last checkpoint and ends with the same bits.
    #[test]
    fn a_fit_that_is_stopped_at_any_step_ends_with_the_same_bits() {
        let folder = tempfile::tempdir().unwrap();
        let small = small(folder.path());
        let (rows, keys) = (rows(), keys());
        let plan = FitPlan { rows: &rows, keys: &keys, seed: 7 };
        for stop in 1..11 {
            let place = folder.path().join(format!("training/{stop}"));
            let checkpoints = Checkpoints::in_folder(place.clone(), Duration::ZERO, &|what| panic!("{what}"));
            assert!(small.fit(&plan, &checkpoints, &mut stop_at(stop)).is_err() && place.join("fit.json").exists());
            assert_eq!(goes_on(&small, &plan, &checkpoints), stop + 1, "it goes on where it stopped");
            checkpoints.clear();
            assert!(!place.exists() && !place.parent().unwrap().exists());
        }
    }

    /// The model of a finished fit may be kept nowhere else yet: it is not trained again.
    #[test]
    fn a_finished_fit_is_not_done_again() {
        let folder = tempfile::tempdir().unwrap();
        let small = small(folder.path());
        let (rows, keys) = (rows(), keys());
        let plan = FitPlan { rows: &rows, keys: &keys, seed: 7 };
        let every = Duration::from_secs(3600);
        let checkpoints = Checkpoints::in_folder(folder.path().join("training/fit"), every, &|what| panic!("{what}"));
        let begun = Instant::now().checked_sub(every / LITTLE);
        checkpoints.last.set(begun.expect("the clock has run for longer"));
        let whole = small.fit(&plan, &checkpoints, &mut |_, _| Ok(())).unwrap();
        let again = small.fit(&plan, &checkpoints, &mut |step, _| panic!("step {step} again")).unwrap();
        assert!(again.model.flat().unwrap() == whole.model.flat().unwrap() && again.steps == whole.steps);
        checkpoints.clear();
        // Of a short one nothing is written.
        checkpoints.last.set(Instant::now());
        small.fit(&plan, &checkpoints, &mut |_, _| Ok(())).unwrap();
        assert!(!folder.path().join("training/fit/fit.json").exists());
    }

    #[test]
    fn what_another_plan_left_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let small = small(folder.path());
        let (rows, keys) = (rows(), keys());
        let plan = |seed| FitPlan { rows: &rows, keys: &keys, seed };
        let checkpoints = Checkpoints::in_folder(folder.path().join("training/fit"), Duration::ZERO, &|what| panic!("{what}"));
        assert!(small.fit(&plan(7), &checkpoints, &mut stop_at(5)).is_err());
        assert_eq!(goes_on(&small, &plan(8), &checkpoints), 1);
    }

    /// Whatever is missing or damaged, a fit then begins anew, from the pretrained weights.
    #[test]
    fn a_damaged_checkpoint_costs_only_time() {
        let folder = tempfile::tempdir().unwrap();
        let small = small(folder.path());
        let (rows, keys) = (rows(), keys());
        let plan = FitPlan { rows: &rows, keys: &keys, seed: 7 };
        let damages: [fn(&Path); 3] = [
            |place| fs::remove_file(place.join("trainer-5.safetensors")).unwrap(),
            |place| fs::write(place.join("trainer-5.safetensors"), "half").unwrap(),
            |place| fs::write(place.join("fit.json"), "{").unwrap(),
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
        let plan = FitPlan { rows: &rows, keys: &keys, seed: 7 };
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
