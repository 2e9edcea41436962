//! The prompts of a task file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::label_keys::LabelKeys;
use super::words::forks;
use crate::data::language::stands_close;

/// A prompt that the file does not have is made from `about`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptKeys {
    /// Asks for a rationale. Variables: `label`, `labels`.
    pub rationale: Option<WritingPrompt>,
    /// Asks for an example. Variables: `label`, `labels`, `rationales` (may be empty), for pairs also `text`, the first text; for
    /// questions `context` and `answer`. Of several labels a text, `label` has all of them: `joy and anger`, or `none`.
    #[serde(default)]
    pub seed: WritingPrompt,
    /// Asks for an example like a misclassified one. Variables: `label`, `labels`, `text`, `predicted`, `rationales`, for pairs also
    /// `text_pair`; for questions `context`, `answer`, `question` and `predicted`.
    #[serde(default)]
    pub extrapolate: WritingPrompt,
    /// Ask which label a text has; several prompts are averaged. Variables: `text`, `labels`, for pairs also `text_pair`. Of several labels
    /// a text, each is asked about in turn: it is `label`, and the answers are `yes` and `no`; a prompt that has it behind the text is read
    /// once for all labels.
    #[serde(default)]
    pub judge: Vec<JudgePrompt>,
}

/// The template (minijinja) of a prompt whose answer is a text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WritingPrompt {
    /// What the chat template has as its system message.
    pub system: Option<String>,
    /// The request itself.
    pub user: String,
    /// Prefilled start of the answer; part of the prompt, not of the text.
    #[serde(default)]
    pub answer_start: String,
    /// Overrides `sampling.stop`.
    pub stop: Option<Vec<String>>,
    /// Overrides `sampling.max_tokens`.
    pub max_tokens: Option<u32>,
    /// Overrides `sampling.temperature`.
    pub temperature: Option<f32>,
    /// Overrides `sampling.top_p`.
    pub top_p: Option<f32>,
    /// Overrides `sampling.min_p`.
    pub min_p: Option<f32>,
}

impl WritingPrompt {
    /// Whether the file has no such prompt.
    pub(super) fn is_empty(&self) -> bool {
        self.user.trim().is_empty()
    }
}

/// The template of a judge prompt, answered by one of the label words.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgePrompt {
    /// What the chat template has as its system message.
    pub system: Option<String>,
    /// The question.
    pub user: String,
    /// Prefilled start of the answer, before the label's word.
    #[serde(default)]
    pub answer_start: String,
    /// For each label's name (of several labels a text for `yes` and `no`), the word or words that continue the prompt, with the leading
    /// space; for a label that is not here, its wording in prompts, after a space where `answer_start` needs one. Where several begin
    /// alike, a further question decides between them.
    #[serde(default)]
    pub words: BTreeMap<String, String>,
}

impl JudgePrompt {
    /// Gives each label that has no words its wording.
    pub(super) fn fill(&mut self, labels: &[LabelKeys]) {
        let given: Vec<String> = self.words.keys().cloned().collect();
        for label in labels {
            let says = label.say.as_ref().unwrap_or(&label.name);
            let ends_word = self.answer_start.ends_with(|c: char| !c.is_whitespace());
            let space = if ends_word && !says.starts_with(stands_close) { " " } else { "" };
            self.words.entry(label.name.clone()).or_insert_with(|| format!("{space}{says}"));
        }
        // An answer that is the beginning of another ends with a period.
        let words: Vec<&str> = self.words.values().map(String::as_str).collect();
        if forks(&words).is_err() {
            self.words.iter_mut().filter(|(name, _)| !given.contains(name)).for_each(|(_, word)| word.push('.'));
        }
    }
}
