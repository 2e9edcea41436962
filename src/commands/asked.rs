//! Asks the judge's questions once: replies are kept in files of a folder, named after what decides them.

use sha2::{Digest, Sha256};

use super::setup::Setup;
use crate::data::example::{GoldRow, Input};
use crate::error::{Error, Result};
use crate::files::sha256::hex;
use crate::generator::Generate;
use crate::judge::kept;
use crate::judge::questions::Questions;
use crate::judge::reply::{DEPTHS, Reply, layers};
use crate::run::folder::RunDir;
use crate::task::file::JudgeKind;
use crate::task::prompts::PromptHead;

/// Texts whose replies are kept together.
const CHUNK: usize = 256;

/// The judge's questions, and where the replies are kept.
pub(super) struct Asked<'a, H> {
    pub(super) setup: &'a Setup,
    pub(super) questions: Questions<'a, H>,
    pub(super) folder: RunDir,
    /// The kind of the judge that is asked, and how many of the generator's layers it reads.
    pub(super) read: (JudgeKind, f64),
}

impl<H: PromptHead> Asked<'_, H> {
    /// The replies about rows, all those about a row together, with the hidden states that the judge reads; in files named after what
    /// decides them. The questions are tried on one row first.
    ///
    /// # Errors
    /// Those of the generator; a file that cannot be read or written.
    pub(super) fn replies(&self, rows: &[&GoldRow<H>], title: &str, generator: &mut Option<Box<dyn Generate>>) -> Result<Vec<Reply>> {
        let mut bar = self.setup.machine.progress().bar(title, "questions", rows.len() * self.questions.for_each_text(), 0);
        let (mut replies, mut tried) = (Vec::new(), false);
        for chunk in rows.chunks(CHUNK) {
            let inputs: Vec<Input> = chunk.iter().map(|row| row.input()).collect();
            let path = self.folder.join(format!("replies-{}.safetensors", self.key(&inputs)));
            if !path.exists() {
                if generator.is_none() {
                    *generator = Some(self.setup.load_generator()?);
                }
                let generator = generator.as_deref_mut().expect("loaded above");
                if !tried {
                    self.questions.try_on(generator, inputs[0])?;
                    tried = true;
                }
                let layers = layers(generator, self.read.0, self.read.1)?;
                let asked = self.questions.replies(generator, &inputs, &layers, &mut || bar.step(1))?;
                kept::keep(&path, &asked)?;
            }
            let kept = kept::read(&path)?;
            let each = self.questions.of_each_text();
            if kept.len() != inputs.len() * each {
                let message = format!("{}: not as many rows as were asked about; remove the file, and it is made again", path.display());
                return Err(Error::Run(message));
            }
            let asked = inputs.iter().flat_map(|input| std::iter::repeat_n(*input, each));
            replies.extend(kept.into_iter().zip(asked).map(|(reply, input)| Reply { group: Reply::group_of(input), ..reply }));
        }
        bar.finish("");
        Ok(replies)
    }

    /// What decides the replies about these texts.
    pub(super) fn key(&self, inputs: &[Input]) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("lacuna {} {DEPTHS:?} {:?}\n", env!("CARGO_PKG_VERSION"), self.read));
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
