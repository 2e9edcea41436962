//! Measures what needs no run of the loop, on one draw: the baselines, and the student on the gold rows alone.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::setup::{ByHead, Loaded, Setup, with_head};
use crate::baselines::gold_only::gold_only;
use crate::baselines::{Baseline, Baselines, Bench, Predicted};
use crate::data::example::{GoldRow, Input};
use crate::data::labels::Labels;
use crate::data::read::ReadGold;
use crate::data::split::Divide;
use crate::data::unlabelled::Unlabelled;
use crate::error::{Error, Result};
use crate::files::sha256::hex;
use crate::generator::Generate;
use crate::judge::questions::Questions;
use crate::run::cost::Cost;
use crate::run::folder::RunDir;
use crate::run::outcome::{Outcome, once};
use crate::run::progress::Bar;
use crate::small::checkpoint::Checkpoints;
use crate::small::fit::Fitted;
use crate::small::folds::Folds;
use crate::small::plan::FitPlan;
use crate::small::row::TrainRow;
use crate::synthesis::head::LoopHead;
use crate::synthesis::judge::ask;
use crate::synthesis::stages::Stages;
use crate::task::prompts::Prompts;

type Generator = Option<Box<dyn Generate>>;

impl Setup {
    /// The outcome of the student trained on all gold rows of the task, with its settings as they are; kept in `path`.
    ///
    /// # Errors
    /// Those of a fit, and of [`once`]; a task without test rows.
    pub fn gold_only(&self, path: &Path) -> Result<Outcome> {
        with_head!(&self.loaded, loaded => self.gold_only_with(loaded, path))
    }

    fn gold_only_with<H: Stages + Divide + ReadGold>(&self, loaded: &Loaded<H>, path: &Path) -> Result<Outcome> {
        self.of_gold(loaded, path, |gold| {
            let rows: Vec<TrainRow<H::Target>> = gold.iter().map(|row| loaded.small.gold_row(row)).collect();
            let plan = FitPlan { rows: &rows, keys: &self.task.train, seed: self.seed };
            let start = |done, all| self.machine.progress().bar("gold only · training", "steps", all, done);
            let mut bar: Option<Bar> = None;
            let say = |what: String| self.machine.progress().say(what);
            let folder = path.with_extension("training");
            let checkpoints = Checkpoints::in_folder(folder, Duration::from_secs(self.machine.checkpoint_every), &say);
            let fitted = loaded.small.fit(&plan, &checkpoints, &mut |done, all| bar.get_or_insert_with(|| start(done - 1, all)).step(1))?;
            bar.unwrap_or_else(|| start(fitted.steps, fitted.steps)).finish("");
            checkpoints.clear();
            Ok(fitted)
        })
    }

    /// Gold only with a tuned learning rate, for questions and several labels a text: the only baseline that they have.
    fn tuned_gold_only<H: Stages + Divide + ReadGold + Folds>(&self, loaded: &Loaded<H>, path: &Path) -> Result<Outcome> {
        self.of_gold(loaded, path, |gold| gold_only(&loaded.small, gold, &self.task.train, self.seed, self.machine.progress()))
    }

    /// The outcome of a model that `fit` makes of the gold rows alone, kept in `path`.
    fn of_gold<H: Stages + Divide + ReadGold>(
        &self,
        loaded: &Loaded<H>,
        path: &Path,
        fit: impl FnOnce(&[GoldRow<H>]) -> Result<Fitted<H::Model>>,
    ) -> Result<Outcome> {
        let (small, test) = (&loaded.small, self.test_rows(loaded)?);
        once(path, self.inputs_of(Baseline::GoldOnly.name()), || {
            let clock = Instant::now();
            let gold = loaded.drawn(&self.task, self.seed)?;
            let fitted = fit(&gold)?;
            let cost = Cost { seconds: clock.elapsed().as_secs_f64(), flops: fitted.flops, ..Cost::default() };
            let outputs = small.outputs(&fitted.model, test)?;
            Ok((small.head.measured(test, &outputs, [0, gold.len(), fitted.steps]), cost))
        })
    }

    /// The outcomes of baselines on this draw, kept below `folder`; fits that several need are made once. What the generator says of the
    /// test rows without demonstrations is the same for every draw, and kept below `judged`. The cost is that of making a classifier,
    /// without the generator's judging the test rows.
    ///
    /// # Errors
    /// Those of the baselines, and of [`once`]; a task without test rows.
    pub fn baselines(&self, chosen: &[Baseline], folder: &Path, judged: &Path, generator: &mut Generator) -> Result<Vec<Outcome>> {
        let path = |baseline: &Baseline| {
            let plain = |c: char| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
            folder.join("baselines").join(baseline.name().chars().map(plain).collect::<String>() + ".json")
        };
        match &self.loaded {
            ByHead::LabelSets(loaded) => chosen.iter().map(|baseline| self.tuned_gold_only(loaded, &path(baseline))).collect(),
            ByHead::Answers(loaded) => chosen.iter().map(|baseline| self.tuned_gold_only(loaded, &path(baseline))).collect(),
            ByHead::Labels(loaded) => self.baselines_with(loaded, chosen, &path, judged, generator),
        }
    }

    fn baselines_with(
        &self,
        loaded: &Loaded<Labels>,
        chosen: &[Baseline],
        path: &dyn Fn(&Baseline) -> PathBuf,
        judged: &Path,
        generator: &mut Generator,
    ) -> Result<Vec<Outcome>> {
        let (small, test) = (&loaded.small, self.test_rows(loaded)?);
        let gold = loaded.drawn(&self.task, self.seed)?;
        let unlabelled = self.unlabelled()?.map_or(Ok(Vec::new()), |texts| texts.read(0..texts.len()))?;
        let unlabelled: Vec<Input> = unlabelled.iter().map(Unlabelled::input).collect();
        let prompts = self.prompts(&small.head)?;
        let asks = |baseline: &&Baseline| baseline.asks_generator() && !path(baseline).exists();
        if chosen.iter().any(|baseline| asks(&baseline)) && generator.is_none() {
            *generator = Some(self.load_generator()?);
        }
        let judged_test = match generator.as_deref_mut().filter(|_| chosen.iter().any(|baseline| asks(&baseline))) {
            Some(generator) => Some(self.judge_test(&prompts, test, judged, generator)?),
            None => None,
        };
        let (task, seed, progress) = (&self.task, self.seed, self.machine.progress());
        let steps_with_texts = self.steps_with_texts.or(task.train.steps);
        let (prompts, gold, unlabelled, judged_test) = (&prompts, &gold[..], &unlabelled[..], judged_test.as_deref());
        let mut baselines =
            Baselines::new(Bench { task, prompts, gold, unlabelled, test, judged_test, small, steps_with_texts, seed, progress });
        let mut outcome = |baseline: &Baseline| {
            once(&path(baseline), self.inputs_of_baseline(*baseline), || {
                progress.say(format!("— {}", baseline.name()));
                let predicted = baselines.predict(*baseline, generator.as_deref_mut().map(|generator| generator as &mut dyn Generate))?;
                let parameters = generator.as_ref().map_or(0, |generator| generator.parameters());
                let Predicted { logits, synthetic_rows, gold_rows, steps, flops, computed, seconds } = predicted;
                let cost = Cost { sampled: 0, computed, seconds, flops: flops + 2.0 * parameters as f64 * computed as f64 };
                Ok((small.head.measured(test, &logits, [synthetic_rows, gold_rows, steps]), cost))
            })
        };
        chosen.iter().map(&mut outcome).collect()
    }

    /// The posteriors of the test rows, kept in a folder of their own.
    fn judge_test(
        &self,
        prompts: &Prompts<Labels>,
        test: &[GoldRow<Labels>],
        judged: &Path,
        generator: &mut dyn Generate,
    ) -> Result<Vec<Vec<Vec<f32>>>> {
        let inputs = self.inputs_of("judge");
        let of_judge = |name: &str| {
            ["sha256.generator", "sha256.test"].contains(&name) || name.starts_with("task.prompts.judge") || name.starts_with("task.labels")
        };
        let decides: Vec<String> =
            inputs.iter().filter(|(name, _)| of_judge(name)).map(|(name, value)| format!("{name}={value}")).collect();
        let run = RunDir::open(&judged.join(&hex(Sha256::digest(decides.join("\n")))[..16]))?;
        let texts: Vec<(u64, Input)> = test.iter().enumerate().map(|(i, row)| (i as u64, row.input())).collect();
        let questions = Questions::of(&self.task, prompts)?;
        ask(&questions, generator, &texts, (&run, "judge-test"), (self.machine.progress(), "judging the test rows"))
    }

    fn test_rows<'l, H: Stages>(&self, loaded: &'l Loaded<H>) -> Result<&'l [GoldRow<H>]> {
        let test = loaded.data.test.as_ref().map(|(_, rows)| rows.as_slice());
        test.ok_or_else(|| Error::Failed("there are no test rows: add data.test to the task".into()))
    }

    /// What determines the outcome of a baseline.
    fn inputs_of_baseline(&self, baseline: Baseline) -> std::collections::BTreeMap<String, serde_json::Value> {
        let mut inputs = self.inputs_of(baseline.name());
        if baseline.needs_unlabelled() {
            inputs.insert("steps with texts".to_string(), self.steps_with_texts.into());
        }
        inputs
    }

    /// What determines an outcome.
    fn inputs_of(&self, what: &str) -> std::collections::BTreeMap<String, serde_json::Value> {
        let mut inputs = self.fingerprint(&[]);
        inputs.insert("measured".to_string(), what.into());
        inputs
    }
}
