//! Asks the judge's questions once: replies are kept in files of a folder, named after what decides them.

use sha2::{Digest, Sha256};

use super::setup::Setup;
use crate::data::example::{GoldRow, Input};
use crate::data::labels::Labels;
use crate::error::Result;
use crate::files::sha256::hex;
use crate::generator::Generate;
use crate::judge::kept;
use crate::judge::questions::Questions;
use crate::judge::reply::{Reply, layers};
use crate::run::folder::RunDir;

/// Texts whose replies are kept together.
const CHUNK: usize = 256;

/// The judge's questions, and where the replies are kept.
pub(super) struct Asked<'a> {
    pub(super) setup: &'a Setup,
    pub(super) questions: Questions<'a>,
    pub(super) folder: RunDir,
}

impl Asked<'_> {
    /// The replies about rows, with hidden states where the generator shows them; in files named after what decides them.
    ///
    /// # Errors
    /// Those of the generator; a file that cannot be read or written.
    pub(super) fn replies(&self, rows: &[&GoldRow<Labels>], title: &str, generator: &mut Option<Box<dyn Generate>>) -> Result<Vec<Reply>> {
        let mut bar = self.setup.machine.progress().bar(title, "questions", rows.len() * self.questions.for_each_text(), 0);
        let mut replies = Vec::new();
        for chunk in rows.chunks(CHUNK) {
            let inputs: Vec<Input> = chunk.iter().map(|row| row.input()).collect();
            let path = self.folder.join(format!("replies-{}.safetensors", self.key(&inputs)));
            if !path.exists() {
                if generator.is_none() {
                    *generator = Some(self.setup.load_generator()?);
                }
                let generator = generator.as_deref_mut().expect("loaded above");
                let layers = layers(generator.layers());
                kept::keep(
                    &path,
                    &self.questions.replies(generator, &inputs, &layers, &mut || {
                        bar.step(1);
                        Ok(())
                    })?,
                )?;
            }
            replies.extend(kept::read(&path)?);
        }
        bar.finish("");
        Ok(replies)
    }

    /// What decides the replies about these texts.
    pub(super) fn key(&self, inputs: &[Input]) -> String {
        let mut hash = Sha256::new();
        let decides = |name: &str| name == "sha256.generator" || name.starts_with("task.prompts.judge") || name.starts_with("task.labels");
        for (name, value) in self.setup.fingerprint(&[]).iter().filter(|(name, _)| decides(name)) {
            hash.update(format!("{name}={value}\n"));
        }
        for input in inputs {
            hash.update(format!("{:?}\n", (input.text, input.text_pair)));
        }
        hex(hash.finalize())[..16].to_string()
    }
}
