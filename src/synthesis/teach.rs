//! Trains the small models that teach beside the judge, and weighs each against the judge of the same gold rows.

use super::state::Synthesis;
use super::teacher::{Teacher, Teachers};
use crate::data::example::{GoldRow, Input};
use crate::data::labels::Labels;
use crate::error::{Error, Result};
use crate::files::whole::once;
use crate::judge::calibration::Calibration;
use crate::math::random;
use crate::run::folder::TWINS;
use crate::run::summary::Method;
use crate::small::folds::{at, sides};
use crate::small::head::SmallHead;

impl Synthesis<'_, Labels> {
    /// Trains small models on the gold rows alone, all of them and without each fold, and weighs each against the judge of the same rows.
    /// Nothing to do if no text was read, or no gold row can be held out.
    pub(super) fn teach(&mut self) -> Result<()> {
        let folds = self.folds();
        let held_out: Vec<usize> = (0..folds.len()).filter(|&i| folds[i].is_some()).collect();
        if self.read.is_empty() || held_out.len() < 2 {
            return Ok(());
        }
        let gold: Vec<GoldRow<Labels>> = self.inputs.split.gold().cloned().collect();
        let judges = self.judges.as_ref().expect("the gold rows are judged before a text is read");
        let mut said: Vec<Vec<Vec<f32>>> = vec![Vec::new(); gold.len()];
        let mut texts = Vec::new();
        for (fold, (learnt, own)) in sides(&folds).iter().enumerate() {
            let twin = self.twin_of(Method::GoldOnly, fold, &at(&gold, learnt), &at(&gold, own))?;
            own.iter().zip(twin.fold).for_each(|(&i, small)| said[i] = vec![judges.of_gold(i), small]);
            texts.push(twin.texts);
        }
        let of_all = once(&self.run.join(TWINS).join("gold-only.json"), || {
            let seed = random::derive(self.inputs.seed, "training of a teacher", 0);
            let model = self.fit_with_gold("gold only · teacher", None, &gold.iter().collect::<Vec<_>>(), seed)?.model;
            self.said_of_texts(&model)
        })?;
        self.clear_checkpoints();
        let weights = |but: Option<usize>| {
            let rows: Vec<usize> = held_out.iter().copied().filter(|&i| but.is_none() || folds[i] != but).collect();
            let labels: Vec<usize> = rows.iter().map(|&i| gold[i].gold.label).collect();
            Calibration::of_several(&at(&said, &rows), &labels, 2, self.strata())
        };
        let without = texts.into_iter().enumerate().map(|(fold, small)| Teacher { weights: weights(Some(fold)), small }).collect();
        let teachers = Teachers { all: Teacher { weights: weights(None), small: of_all }, without };
        for small in teachers.without.iter().chain([&teachers.all]).map(|teacher| &teacher.small) {
            if small.len() != self.read.len() {
                let folder = self.run.join(TWINS);
                let (found, texts) = (small.len(), self.read.len());
                return Err(Error::Run(format!("{}: {found} texts, and {texts} were read; remove the folder", folder.display())));
            }
        }
        self.teachers = Some(teachers);
        Ok(())
    }

    /// What a model says of the texts that were read, in logits.
    pub(super) fn said_of_texts(&self, model: &<Labels as SmallHead>::Model) -> Result<Vec<Vec<f32>>> {
        let small = self.inputs.small;
        let inputs: Vec<Input> = self.read.iter().map(|row| row.text.input()).collect();
        small.head.outputs(&small.reader, model, &inputs)
    }
}
