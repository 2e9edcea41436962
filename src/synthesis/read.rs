//! The reading stage: real texts without labels, as the generator judges them.

use std::collections::HashSet;

use rand::seq::SliceRandom;

use super::head_with_labels::HeadWithLabels;
use super::rows::{ReadRow, Reviewed};
use super::state::Synthesis;
use crate::data::example::Input;
use crate::data::unlabelled::Unlabelled;
use crate::error::{Error, Result};
use crate::files::whole::once;
use crate::math::random;
use crate::measure::spread::spread;
use crate::run::cost::Work;

/// Where more texts are left than a round reads, the small model looks at so many times as many to choose from.
const LOOKED_AT: usize = 4;

impl<H: HeadWithLabels> Synthesis<'_, H> {
    /// Judges the texts that a round reads, and keeps them.
    pub(super) fn read_texts(&mut self, round: usize) -> Result<()> {
        let chosen = self.texts_of(round)?;
        let texts: Vec<(u64, Input)> = chosen.iter().map(|text| (text.line as u64, text.input())).collect();
        let title = Work::Read(round).in_words();
        let answers = self.judged(&format!("read-{round}"), &title, &texts)?;
        self.read.extend(chosen.into_iter().zip(answers).map(|(text, answers)| ReadRow {
            round,
            text,
            shown: None,
            answers,
            reviewed: Reviewed::AsItIs,
        }));
        Ok(())
    }

    /// The texts that a round reads. Which those are is kept, since it may follow from a model of the round before.
    fn texts_of(&self, round: usize) -> Result<Vec<Unlabelled>> {
        let path = self.run.join(format!("journal/texts-{round}.json"));
        let lines: Vec<usize> = once(&path, || self.choose(round))?;
        let Some(all) = self.inputs.unlabelled else { return Ok(Vec::new()) };
        let missing = |line: &usize| Error::Run(format!("{}: there is no unlabelled text of line {line}", path.display()));
        lines.iter().map(|line| all.of_line(*line)?.ok_or_else(|| missing(line))).collect()
    }

    /// The lines of the texts that a round reads: all, if there are no more, or else before the seed a spread-out sample, and later those
    /// of which the small model is least sure. (Those on which it differs most from the judge would be the judge's errors.)
    fn choose(&self, round: usize) -> Result<Vec<usize>> {
        let (task, Some(all)) = (self.inputs.task, self.inputs.unlabelled) else { return Ok(Vec::new()) };
        let count = task.read.waves(all.len(), task.extrapolate.max_rounds)[round];
        let read: HashSet<usize> = self.read.iter().filter(|row| row.is_real()).map(|row| row.text.line).collect();
        let mut unread: Vec<usize> = (0..all.len()).filter(|place| !read.contains(&all.line(*place))).collect();
        if unread.len() > count {
            unread.shuffle(&mut random::rng(self.inputs.seed, "order of unlabelled texts", round as u64));
            unread.truncate(LOOKED_AT * count);
            let texts = all.read(unread.iter().copied())?;
            let chosen = if round == 0 { self.spread_out(&texts, count)? } else { self.most_doubted(round - 1, &texts, count)? };
            unread = chosen.into_iter().map(|place| unread[place]).collect();
        }
        Ok(unread.into_iter().map(|place| all.line(place)).collect())
    }

    /// The places of texts that are spread over all of them, by the pretrained small model's features.
    fn spread_out(&self, texts: &[Unlabelled], count: usize) -> Result<Vec<usize>> {
        let small = self.inputs.small;
        let inputs: Vec<Input> = texts.iter().map(Unlabelled::input).collect();
        let features = small.features_of(&small.base, &inputs, self.inputs.task.train.max_tokens)?;
        let rng = &mut random::rng(self.inputs.seed, "first unlabelled texts", 0);
        Ok(small.reader.pool.install(|| spread(&features, count, rng)))
    }

    /// The places of the texts of which a round's model is least sure.
    fn most_doubted(&self, round: usize, texts: &[Unlabelled], count: usize) -> Result<Vec<usize>> {
        let small = self.inputs.small;
        let inputs: Vec<Input> = texts.iter().map(Unlabelled::input).collect();
        let outputs = small.head.outputs(&small.reader, &self.load_round(round)?, &inputs)?;
        let doubt: Vec<f64> = outputs.iter().map(H::doubt).collect();
        let mut places: Vec<usize> = (0..texts.len()).collect();
        places.sort_by(|&a, &b| doubt[b].total_cmp(&doubt[a]));
        places.truncate(count);
        Ok(places)
    }
}
