//! The reading stage: real texts without labels, as the generator judges them.

use rand::seq::SliceRandom;

use super::rows::ReadRow;
use super::state::Synthesis;
use crate::data::example::Input;
use crate::data::labels::Labels;
use crate::data::unlabelled::Unlabelled;
use crate::error::{Error, Result};
use crate::files::whole::write_json;
use crate::math::random;
use crate::math::vectors::softmax;
use crate::small::head::SmallHead;

/// Where more texts are left than a round reads, the small model looks at so many times as many to find those it is least sure of.
const LOOKED_AT: usize = 10;

impl Synthesis<'_, Labels> {
    /// Judges the texts that a round reads, and keeps them.
    pub(super) fn read_texts(&mut self, round: usize) -> Result<()> {
        let chosen = self.texts_of(round)?;
        let texts: Vec<(u64, Input)> = chosen.iter().map(|text| (text.line as u64, text.input())).collect();
        let title = if round == 0 { "reading".to_string() } else { format!("round {round} · reading") };
        let answers = self.judged(&format!("read-{round}"), &title, &texts)?;
        self.read.extend(chosen.into_iter().zip(answers).map(|(text, answers)| ReadRow { round, text, answers }));
        Ok(())
    }

    /// The texts that a round reads. Which those are is kept, since it may follow from a model of the round before.
    fn texts_of(&self, round: usize) -> Result<Vec<Unlabelled>> {
        let path = self.run.join(format!("journal/texts-{round}.json"));
        let lines: Vec<usize> = match std::fs::read(&path) {
            Ok(content) => serde_json::from_slice(&content)
                .map_err(|e| Error::Run(format!("{}: damaged ({e}); remove the file, and it is made again", path.display())))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let chosen = self.choose(round)?;
                write_json(&path, &chosen)?;
                chosen
            }
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        let all = self.inputs.unlabelled;
        let of_line = |line: &usize| {
            let found = all.binary_search_by_key(line, |text| text.line).map(|place| all[place].clone());
            found.map_err(|_| Error::Run(format!("{}: there is no unlabelled text of line {line}", path.display())))
        };
        lines.iter().map(of_line).collect()
    }

    /// The lines of the texts that a round reads: at first a sample, later those of which the small model is least sure.
    fn choose(&self, round: usize) -> Result<Vec<usize>> {
        let (task, all) = (self.inputs.task, self.inputs.unlabelled);
        let count = task.read.waves(all.len(), task.extrapolate.max_rounds)[round];
        let mut order: Vec<&Unlabelled> = all.iter().collect();
        order.shuffle(&mut random::rng(self.inputs.seed, "order of unlabelled texts", 0));
        // Those that earlier rounds have read are no candidates.
        let read: std::collections::HashSet<usize> = self.read.iter().map(|row| row.text.line).collect();
        order.retain(|text| !read.contains(&text.line));
        if round > 0 {
            order.truncate(LOOKED_AT * count);
            let doubt = self.doubts(round - 1, &order)?;
            let mut places: Vec<usize> = (0..order.len()).collect();
            places.sort_by(|&a, &b| doubt[b].total_cmp(&doubt[a]));
            order = places.into_iter().map(|place| order[place]).collect();
        }
        Ok(order.into_iter().take(count).map(|text| text.line).collect())
    }

    /// How unsure a round's model is of each text: the entropy of its probabilities, in nats.
    fn doubts(&self, round: usize, texts: &[&Unlabelled]) -> Result<Vec<f64>> {
        let small = self.inputs.small;
        let inputs: Vec<Input> = texts.iter().map(|text| text.input()).collect();
        let outputs = small.head.outputs(&small.reader, &self.load_round(round)?, &inputs)?;
        let entropy = |logits: &Vec<f32>| {
            let p = softmax(&logits.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
            p.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum()
        };
        Ok(outputs.iter().map(entropy).collect())
    }
}
