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
use super::plan::Plan;
use crate::error::{Error, Result};
use crate::files::sha256::hex;
use crate::files::whole::{replace_folder, write, write_json};

/// Between two checkpoints: writing one of DistilBERT takes about a second.
const EVERY: Duration = Duration::from_secs(120);

/// Where a fit's checkpoints go, and how often.
pub struct Checkpoints {
    folder: Option<PathBuf>,
    every: Duration,
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

impl Checkpoints {
    /// None are written.
    pub fn off() -> Self {
        Checkpoints { folder: None, every: EVERY, last: Cell::new(Instant::now()) }
    }

    /// In a folder of the fit's own, which need not exist yet.
    pub fn in_folder(folder: PathBuf) -> Self {
        Checkpoints { folder: Some(folder), ..Checkpoints::off() }
    }

    /// After every step: for tests.
    pub fn after_each_step(self) -> Self {
        Checkpoints { every: Duration::ZERO, ..self }
    }

    /// The trainer and the progress of the last checkpoint, and `model` as it was then; none if there is none of this plan.
    pub(super) fn resume<H: SmallHead>(
        &self,
        small: &SmallModel<H>,
        plan: &Plan<H>,
        model: &mut H::Model,
        config: &TrainConfig,
    ) -> Result<Option<(Trainer, SoFar<H>)>> {
        let Some(folder) = &self.folder else { return Ok(None) };
        // A checkpoint that cannot be read, or is another plan's, only costs the time to train anew.
        let content = fs::read(folder.join("fit.json")).ok();
        let fit = content.and_then(|content| serde_json::from_slice::<Fit>(&content).ok()).filter(|fit| fit.of == identity(plan));
        let Some(Fit { step, epochs, history, best, .. }) = fit else { return Ok(None) };
        let trainer = Trainer::resume(model, config.clone(), &trainer_file(folder, step)).ok();
        let kept = best.map(|epoch| load_best(small, plan, &best_folder(folder, epoch)).map(|model| (epoch, model))).transpose();
        Ok(trainer.zip(kept.ok()).map(|(trainer, best)| (trainer, SoFar { epochs, history, best })))
    }

    /// Writes a checkpoint if one is due.
    pub(super) fn after_step<H: SmallHead>(
        &self,
        small: &SmallModel<H>,
        plan: &Plan<H>,
        trainer: &Trainer,
        model: &H::Model,
        so_far: &SoFar<H>,
    ) -> Result<()> {
        let Some(folder) = self.folder.as_ref().filter(|_| self.last.get().elapsed() >= self.every) else { return Ok(()) };
        let step = trainer.steps();
        let bytes = trainer.checkpoint(model).map_err(|e| Error::Failed(e.to_string()))?;
        write(&trainer_file(folder, step), &bytes)?;
        let best = so_far.best.as_ref().map(|(epoch, _)| *epoch);
        if let Some((epoch, model)) = so_far.best.as_ref().filter(|(epoch, _)| !best_folder(folder, *epoch).exists()) {
            replace_folder(&best_folder(folder, *epoch), |new| small.save(model, new))?;
        }
        let SoFar { epochs, history, .. } = so_far;
        write_json(&folder.join("fit.json"), &Fit { of: identity(plan), step, epochs: *epochs, history: history.clone(), best })?;
        remove_older(folder, step, best)?;
        self.last.set(Instant::now());
        Ok(())
    }

    /// Removes the checkpoints of a fit whose model is saved elsewhere by now.
    pub fn clear(&self) -> Result<()> {
        match self.folder.as_ref().map(|folder| (folder, fs::remove_dir_all(folder))) {
            Some((folder, Err(error))) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", folder)(error)),
            _ => Ok(()),
        }
    }
}

fn trainer_file(folder: &Path, step: usize) -> PathBuf {
    folder.join(format!("trainer-{step}.safetensors"))
}

fn best_folder(folder: &Path, epoch: usize) -> PathBuf {
    folder.join(format!("best-{epoch}"))
}

/// The best epoch's model as it was in memory: on its device, with the fit's precision.
fn load_best<H: SmallHead>(small: &SmallModel<H>, plan: &Plan<H>, folder: &Path) -> Result<H::Model, ModelError> {
    let mut model = small.head.load(folder, 0)?;
    model.set_device(small.base.device())?;
    model.set_precision(plan.keys.precision);
    Ok(model)
}

/// Removes the files of earlier checkpoints.
fn remove_older(folder: &Path, step: usize, best: Option<usize>) -> Result<()> {
    let kept = [Some(trainer_file(folder, step)), best.map(|epoch| best_folder(folder, epoch))];
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if kept.iter().flatten().any(|kept| *kept == path) {
            continue;
        }
        if name.starts_with("trainer-") {
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        } else if name.starts_with("best-") {
            fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

/// A hash of the rows, of *select*, of the keys and of the seed.
fn identity<H: SmallHead>(plan: &Plan<H>) -> String {
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

    /// Stopped at any step, a fit goes on from its last checkpoint and ends with the same bits, with *select* and without.
    #[test]
    fn a_fit_that_is_stopped_at_any_step_ends_with_the_same_bits() {
        let folder = tempfile::tempdir().unwrap();
        let small = small(folder.path());
        let rows: Vec<TrainRow<Vec<f32>>> = (0..10)
            .map(|i| TrainRow { text: text(i), text_pair: None, target: if i % 6 < 3 { vec![0.2, 0.8] } else { vec![0.9, 0.1] } })
            .collect();
        let gold: Vec<GoldRow<Labels>> = (0..6)
            .map(|i| GoldRow { line: i + 1, text: text(i + 3), text_pair: None, gold: Label { label: usize::from((i + 3) % 6 < 3) } })
            .collect();
        let keys = TrainKeys { epochs: 4, batch: 4, learning_rate: 1e-3, max_tokens: 8, ..TrainKeys::default() };
        for with_select in [false, true] {
            let plan = || Plan { rows: &rows, select: with_select.then_some(Select { rows: &gold, patience: 2 }), keys: &keys, seed: 7 };
            let whole = small.fit(&plan(), &Checkpoints::off(), &mut |_, _| Ok(())).unwrap();
            for stop in 1..whole.steps {
                let place = folder.path().join(format!("fit-{with_select}-{stop}"));
                let checkpoints = Checkpoints::in_folder(place.clone()).after_each_step();
                let stopped = small.fit(&plan(), &checkpoints, &mut |step, _| {
                    if step == stop { Err(Error::Failed("stopped".into())) } else { Ok(()) }
                });
                assert!(stopped.is_err() && place.join("fit.json").exists());
                let mut first = None;
                let resumed = small.fit(&plan(), &checkpoints, &mut |step, _| {
                    first.get_or_insert(step);
                    Ok(())
                });
                let resumed = resumed.unwrap();
                assert_eq!(first, Some(stop + 1), "it went on where it stopped");
                assert_eq!((resumed.epoch, resumed.steps, &resumed.history), (whole.epoch, whole.steps, &whole.history));
                assert!(resumed.model.flat() == whole.model.flat(), "stopped at step {stop}");
                checkpoints.clear().unwrap();
                assert!(!place.exists());
            }
        }
    }

    #[test]
    fn another_plans_checkpoint_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let small = small(folder.path());
        let rows = |target: [f32; 2]| -> Vec<TrainRow<Vec<f32>>> {
            (0..8).map(|i| TrainRow { text: text(i), text_pair: None, target: target.to_vec() }).collect()
        };
        let keys = TrainKeys { epochs: 1, batch: 4, max_tokens: 8, ..TrainKeys::default() };
        let checkpoints = Checkpoints::in_folder(folder.path().join("fit")).after_each_step();
        let (one, other) = (rows([1.0, 0.0]), rows([0.0, 1.0]));
        let plan = |rows| Plan { rows, select: None, keys: &keys, seed: 7 };
        assert!(small.fit(&plan(&one), &checkpoints, &mut |_, _| Err(Error::Failed("stopped".into()))).is_err());
        let mut steps = Vec::new();
        small.fit(&plan(&other), &checkpoints, &mut |step, _| Ok(steps.push(step))).unwrap();
        assert_eq!(steps, [1, 2]);
    }
}
