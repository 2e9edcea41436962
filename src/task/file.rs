//! The task file: labels, data, models, prompts and amounts; typed and validated.

use std::path::{Path, PathBuf};

use lacuna_models::{Precision, Reading};
use serde::{Deserialize, Serialize};

use super::default_prompts;
use super::document;
use super::label_keys::{self, LabelKeys};
use super::prompt_keys::PromptKeys;
use super::words::forks;
use crate::data::example::TaskKind;
use crate::data::label_sets::LabelSets;
use crate::data::labels::Labels;
use crate::data::read::{OnFault, Rules};
use crate::error::{Error, Result};
use crate::generator::Sampling;
use crate::generator::repetition::Repetition;

/// The keys of a task file. A key has a default where the paper (arXiv 2310.13671) gives a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The name of the task, and of its run's folder.
    pub name: String,
    /// What a row is: a text with one label, a text with any number of labels, a pair of texts, or a question and its context.
    pub kind: TaskKind,
    /// What a text is, as in `a sentence from a movie review`; a label's wording goes on from "It is". For pairs, a sentence or two that
    /// say what the two texts are and what is asked of them; the wordings are the answers. Prompts that the file does not have are made
    /// from it, and it is a variable of those that it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// Empty for `extractive_qa`. A list of names, a table of names and their wordings in prompts, or a table for each.
    #[serde(default, deserialize_with = "label_keys::labels")]
    pub labels: Vec<LabelKeys>,
    pub data: DataKeys,
    pub models: ModelKeys,
    #[serde(default)]
    pub sampling: SamplingKeys,
    #[serde(default, skip_serializing_if = "is_default")]
    pub read: ReadKeys,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<ListKeys>,
    #[serde(default)]
    pub seed: SeedKeys,
    #[serde(default, skip_serializing_if = "is_default")]
    pub accept: AcceptKeys,
    #[serde(default)]
    pub extrapolate: ExtrapolateKeys,
    #[serde(default)]
    pub targets: TargetKeys,
    #[serde(default)]
    pub train: TrainKeys,
    #[serde(default, skip_serializing_if = "is_default")]
    pub deliver: DeliverKeys,
    #[serde(default)]
    pub prompts: PromptKeys,
}

/// The source of the answers that the seed's questions are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswersFrom {
    /// The answers of the gold rows in *mine*.
    Gold,
    /// Candidate spans found in the contexts; see [`crate::data::spans`].
    Found,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataKeys {
    /// A file of rows with `text` and `label` (JSON lines, CSV, Excel, Parquet and others): a path relative to the task file, or the name
    /// of fetched data. For pairs also `text_pair`; for questions SQuAD's format.
    pub gold: String,
    /// Test rows, held out until the end: a path. Without one, if `gold` names fetched data, the test rows of that data.
    pub test: Option<String>,
    /// For pairs and questions, the source of first texts and contexts: `gold` (the default) for those of the gold rows in *mine*, or the
    /// path of a file of JSON lines with `text`.
    pub contexts: Option<String>,
    /// For questions, the source of the seed's answers; if absent, `gold`, or `found` if the contexts are from a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers: Option<AnswersFrom>,
    /// Texts without labels, for pairs both texts, which the generator reads and judges: the path of a file of JSON lines with `text`, for
    /// pairs also `text_pair`, of CSV or of plain lines; or `rest` for the gold rows that `gold_rows` leaves out. Not for questions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unlabelled: Option<String>,
    /// What is done about gold rows with one text and different labels: `error` (the default) names them all, `drop` leaves all of them
    /// out.
    #[serde(default, skip_serializing_if = "is_default")]
    pub conflicts: OnFault,
    /// What is done about test rows that are also in another file: `error` (the default), or `drop`, which leaves them out of the other.
    #[serde(default, skip_serializing_if = "is_default")]
    pub overlap: OnFault,
    /// What is done about questions without an answer, as SQuAD 2.0 has: `error` (the default), or `drop`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unanswerable: OnFault,
    /// Number of gold rows to use, a stratified sample; all if absent.
    pub gold_rows: Option<usize>,
    /// The held-out share of the gold rows, in (0, 1), that moves the labels' offsets and chooses the round.
    #[serde(default = "half")]
    pub select_share: f64,
}

fn half() -> f64 {
    0.5
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl DataKeys {
    /// What is done about rows that should not be there.
    pub fn rules(&self) -> Rules {
        Rules { conflicts: self.conflicts, overlap: self.overlap, unanswerable: self.unanswerable }
    }

    /// The path of the contexts file; none if first texts and contexts come from the gold rows.
    pub fn contexts_file(&self) -> Option<&str> {
        self.contexts.as_deref().filter(|named| *named != "gold")
    }

    /// The path of the file of unlabelled texts, if they are from a file.
    pub fn unlabelled_file(&self) -> Option<&str> {
        self.unlabelled.as_deref().filter(|named| *named != "rest")
    }

    /// Whether the unlabelled texts are the gold rows that `gold_rows` leaves out.
    pub fn unlabelled_rest(&self) -> bool {
        self.unlabelled.as_deref() == Some("rest")
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelKeys {
    /// A GGUF file, or the name of a fetched one.
    pub generator: String,
    /// A folder with an encoder (see `small-models.md`), or the name of a fetched one.
    pub small: String,
    /// A file with a chat template, in Jinja, in place of the generator's own: for one that is missing or cannot be rendered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<String>,
}

/// Sampling of texts; a prompt can override some of the keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamplingKeys {
    /// Logits are divided by it; 0 takes the likeliest token.
    pub temperature: f32,
    /// The likeliest tokens that together have this probability are drawn from, in (0, 1]; 1 takes all.
    pub top_p: f32,
    /// So many of the likeliest tokens are drawn from; 0 takes all.
    pub top_k: u32,
    /// Tokens that are less probable than this share of the likeliest one's probability are not drawn; 0 takes all.
    pub min_p: f32,
    /// Most new tokens in one text.
    pub max_tokens: u32,
    /// A text ends before the first of these.
    pub stop: Vec<String>,
    /// Repetition penalties; off in the paper.
    pub repetition: Repetition,
}

impl Default for SamplingKeys {
    fn default() -> Self {
        let Sampling { temperature, top_p, top_k, min_p, repetition } = Sampling::default();
        SamplingKeys { temperature, top_p, top_k, min_p, max_tokens: 128, stop: Vec::new(), repetition }
    }
}

impl SamplingKeys {
    pub fn sampling(&self) -> Sampling {
        let SamplingKeys { temperature, top_p, top_k, min_p, repetition, .. } = *self;
        Sampling { temperature, top_p, top_k, min_p, repetition }
    }
}

/// How the texts of `data.unlabelled` are read: the generator judges them, and the small model learns what it says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReadKeys {
    /// Most texts to read; 0 reads none.
    pub rows: usize,
    /// Where there are more texts than `rows`: the share of `rows` that is kept for the rounds, each of which reads what the small model
    /// is least sure of. In [0, 1).
    pub later_share: f64,
}

impl Default for ReadKeys {
    fn default() -> Self {
        ReadKeys { rows: 4000, later_share: 0.25 }
    }
}

impl ReadKeys {
    /// How many of `texts` texts are read before each of `rounds` rounds and before the seed, which comes first.
    pub fn waves(&self, texts: usize, rounds: usize) -> Vec<usize> {
        let all = self.rows.min(texts);
        let later = if texts > self.rows { (self.rows as f64 * self.later_share) as usize / rounds.max(1) } else { 0 };
        let of_rounds = if later == 0 { 0 } else { rounds };
        std::iter::once(all - of_rounds * later).chain(std::iter::repeat_n(later, of_rounds)).filter(|_| all > 0).collect()
    }
}

/// Texts that continue lists of gold rows, as plain text without the generator's chat template: they look like the real ones. Whatever
/// label the rows have, the judge alone says that of the texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListKeys {
    /// Heads each list, such as `Sentences from movie reviews:`.
    pub title: String,
    /// Number of accepted texts to write; 0 writes none.
    #[serde(default = "listed_rows")]
    pub rows: usize,
    /// Gold rows in a list, all of one fold.
    #[serde(default = "rows_of_list")]
    pub shown: usize,
    /// Texts that continue one list: it is prefilled once for all of them.
    #[serde(default = "texts_of_list")]
    pub texts_each: usize,
    /// Overrides `sampling.max_tokens`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
}

fn listed_rows() -> usize {
    1000
}

fn rows_of_list() -> usize {
    8
}

fn texts_of_list() -> usize {
    64
}

/// Algorithm 1: rationales for each label, then examples written with a few of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SeedKeys {
    /// Rationales for each label; 0 writes without rationales, which is ZeroGen.
    pub rationales: usize,
    /// Rationales written for each label, of which the judge keeps the most typical `rationales`; if absent, none are discarded.
    pub rationale_candidates: Option<usize>,
    /// Rationales in the prompt of one example, drawn without replacement.
    pub rationales_per_example: usize,
    /// Number of accepted rows to write.
    pub rows: usize,
    /// How they are divided among the labels.
    #[serde(skip_serializing_if = "is_default")]
    pub shares: Shares,
    /// What may be spent on them: `rows` is then the most. `compare` sets it, so that methods cost the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<SeedBudget>,
}

/// What the generator may compute for the seed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedBudget {
    /// Tokens for writing and judging.
    pub tokens: u64,
    /// Tokens that judging an accepted row takes.
    pub judging: f64,
}

impl SeedBudget {
    /// How many more texts can be paid for, after so many texts of which so many were accepted, for so many tokens.
    pub fn more(&self, texts: usize, accepted: usize, tokens: u64) -> usize {
        let (texts, spent) = (texts.max(1) as f64, tokens as f64 + self.judging * accepted as f64);
        ((self.tokens as f64 - spent).max(0.0) / (spent / texts).max(1.0)).floor() as usize
    }
}

impl Default for SeedKeys {
    fn default() -> Self {
        SeedKeys { rationales: 20, rationale_candidates: None, rationales_per_example: 2, rows: 1000, shares: Shares::Even, budget: None }
    }
}

/// Which texts are accepted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AcceptKeys {
    /// Fewest words in a text; if absent 3, or fewer where one in twenty gold rows has fewer.
    pub min_words: Option<usize>,
}

/// How many of the seed's rows are written for each label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shares {
    /// As many for each.
    #[default]
    Even,
    /// As the gold rows have them.
    Gold,
}

/// Algorithm 2: new examples from what the small model got wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExtrapolateKeys {
    /// Number of accepted rows to write in a round, divided evenly among the labels with errors, then among a label's errors; if absent,
    /// `rows_per_error` for each error.
    pub rows: Option<usize>,
    /// Whether the labels with errors take turns; if absent, they do where `rows` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub take_turns: Option<bool>,
    /// Rows to write for each error, of several labels a text for each label that is mistaken; 1 in the paper.
    pub rows_per_error: usize,
    /// Which *mine* rows are extrapolated.
    pub from: Parents,
    /// Rationales of the label in the prompt besides the error; none in the paper.
    pub rationales_per_example: usize,
    /// Most rounds; 2 in the paper.
    pub max_rounds: usize,
    /// Early stopping: rounds without a lower log loss on *select* before the loop stops.
    pub patience: usize,
}

impl Default for ExtrapolateKeys {
    fn default() -> Self {
        ExtrapolateKeys {
            rows: None,
            take_turns: None,
            rows_per_error: 1,
            from: Parents::Errors,
            rationales_per_example: 0,
            max_rounds: 2,
            patience: 1,
        }
    }
}

impl ExtrapolateKeys {
    /// Whether the labels with errors take turns.
    pub fn takes_turns(&self) -> bool {
        self.take_turns.unwrap_or(self.rows.is_some())
    }
}

/// Which gold rows in *mine* are extrapolated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parents {
    /// The rows that the small model gets wrong: S3.
    Errors,
    /// All rows: GoldGen, a baseline of the paper.
    Mine,
}

/// The training targets of synthetic rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TargetKeys {
    /// What models learn of a written text: what the judge says of it, mixed with the label that it was written for, or that label alone.
    pub kind: TargetKind,
    /// Nats added to the logit of the label that the row was written for.
    pub intended: f64,
    /// What the judge of soft targets learns from the gold rows: if absent, a head on hidden states and its prompts' words (`stack`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge: Option<JudgeKind>,
    /// The share of the generator's layers that a judge by states alone computes, in (0, 1].
    pub depth: f64,
}

impl Default for TargetKeys {
    fn default() -> Self {
        TargetKeys { kind: TargetKind::Soft, intended: 1.0, judge: None, depth: 0.6 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    /// The generator's posterior, calibrated on gold rows, mixed with the intended label.
    Soft,
    /// The intended label, as in the paper.
    Hard,
}

/// What a judge learns from the gold rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum JudgeKind {
    /// A scale and offsets for what the prompt's words say.
    Prompt,
    /// A linear head on the generator's hidden states too, and how much each is worth.
    Stack,
    /// The head alone, on states of the first layers (targets.depth): the others are not computed.
    States,
}

/// How the small model is fine-tuned, each time from its pretrained weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainKeys {
    /// Times that each row is learnt from, where `min_steps` or `steps` do not say more.
    pub epochs: usize,
    /// The least number of steps: a small training set is trained for more than `epochs` epochs to reach it. If absent, 150, or ten for
    /// each label where that is more.
    pub min_steps: Option<usize>,
    /// The number of steps, whatever the training set; overrides `epochs` and `min_steps`. In a comparison all methods have the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// Rows of an optimiser step.
    pub batch: usize,
    /// The peak learning rate, reached after the warm-up, then decaying linearly to 0.
    pub learning_rate: f64,
    /// The share of the steps in which the learning rate rises from 0.
    pub warmup_share: f64,
    /// AdamW's weight decay.
    pub weight_decay: f64,
    /// Longer texts are truncated; a question's context is read in windows of this length.
    pub max_tokens: usize,
    /// Overlap of two neighbouring windows of a context, in tokens.
    pub doc_stride: usize,
    /// Whether *select* moves the labels' offsets, the borders between them.
    pub use_select: bool,
    /// How often each gold row is repeated in the training set of the delivered model.
    pub gold_repeat: usize,
    /// What a new classifier reads of a text.
    pub pooling: Pooling,
    /// Whether a new classifier's last layer starts as a logistic regression on what the encoder says of the rows, not at random.
    pub linear_start: bool,
    /// Number format of the small model's matrix products: "auto", "f32", "bf16" or "int16".
    pub precision: Precision,
}

/// What a new classifier reads of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The mean where the small model is a sentence encoder, else `[CLS]`.
    #[default]
    Auto,
    /// The mean of all hidden states, which one more layer computes.
    Mean,
    /// The hidden state of `[CLS]`.
    Cls,
}

/// The least number of steps of a training set, and for each label.
const MIN_STEPS: usize = 150;
const MIN_STEPS_EACH: usize = 10;

impl Default for TrainKeys {
    fn default() -> Self {
        TrainKeys {
            epochs: 3,
            min_steps: None,
            steps: None,
            batch: 16,
            learning_rate: 5e-5,
            warmup_share: 0.1,
            weight_decay: 0.01,
            max_tokens: 256,
            doc_stride: 128,
            use_select: true,
            gold_repeat: 2,
            pooling: Pooling::Auto,
            linear_start: true,
            precision: Precision::Auto,
        }
    }
}

impl TrainKeys {
    /// The number of optimiser steps for a training set of `rows` rows.
    pub fn steps_for(&self, rows: usize) -> usize {
        self.steps.unwrap_or_else(|| self.min_steps.unwrap_or(MIN_STEPS).max(self.epochs * rows.div_ceil(self.batch)))
    }
}

/// How the delivered model is chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeliverKeys {
    /// Folds of the gold rows. A twin of each candidate is trained without each; what they say of the rows that they have not learnt
    /// chooses the model and its temperature. 0 trains none: what was read and written is believed wherever the judge is better than
    /// chance.
    pub folds: usize,
}

impl Default for DeliverKeys {
    fn default() -> Self {
        DeliverKeys { folds: 5 }
    }
}

impl Task {
    /// Reads and validates a task file.
    ///
    /// # Errors
    /// An unreadable file, invalid TOML, unknown or missing keys, values out of range; with the line.
    pub fn read(path: &Path) -> Result<Task> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        Task::parse(&text, path)
    }

    /// Like [`Task::read`], for the text of a file at `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Task> {
        let (task, wrong) = Task::parse_all(text, path)?;
        Error::all(wrong).map(|()| task)
    }

    /// Like [`Task::parse`], with the unknown keys and the invalid values beside the task.
    ///
    /// # Errors
    /// Invalid TOML, or missing keys, and all that is wrong besides.
    pub fn parse_all(text: &str, path: &Path) -> Result<(Task, Vec<Error>)> {
        let at = |line: Option<usize>, message: String| Error::Task { path: path.to_path_buf(), line, message };
        // The line ends of a file are no part of its prompts.
        let text = &text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
        let line_at = |offset: usize| text[..offset.min(text.len())].matches('\n').count() + 1;
        let (task, wrong) = document::read::<Task>(text);
        let mut wrong: Vec<Error> = wrong.into_iter().map(|(place, message)| at(Some(line_at(place)), message)).collect();
        let Some(mut task) = task else {
            Error::all(wrong)?;
            return Err(at(None, "it cannot be read".to_string()));
        };
        let table = toml::de::DeTable::parse(text).ok().map(toml::Spanned::into_inner);
        task.complete(&|keys| table.as_ref().is_some_and(|table| has(table, keys)));
        let answers = task.judges_answers();
        task.prompts.judge.iter_mut().for_each(|judge| judge.fill(&answers));
        task.train.min_steps.get_or_insert(MIN_STEPS.max(MIN_STEPS_EACH * task.labels.len()));
        let place = |keys: &[&str]| table.as_ref().and_then(|table| offset_of(table, keys)).map(line_at);
        wrong.extend(task.check().into_iter().map(|(keys, message)| at(place(&keys), format!("{}: {message}", keys.join(".")))));
        Ok((task, wrong))
    }

    /// Adds what follows from the kind and from `about`, where the file says nothing else. `given` says whether the file has a key.
    fn complete(&mut self, given: &dyn Fn(&[&str]) -> bool) {
        let questions = self.kind == TaskKind::ExtractiveQa;
        if self.kind != TaskKind::Text && self.prompts.rationale.is_none() && !given(&["seed", "rationales"]) {
            self.seed.rationales = 0;
        }
        if questions && !given(&["targets", "kind"]) {
            self.targets.kind = TargetKind::Hard;
        }
        if self.about.is_none() && !questions {
            return;
        }
        let own = default_prompts::of_kind(self.kind, given(&["sampling", "stop"]));
        let PromptKeys { rationale, seed, extrapolate, judge } = &mut self.prompts;
        *rationale = rationale.take().or(own.rationale);
        for (prompt, own) in [(seed, own.seed), (extrapolate, own.extrapolate)] {
            if prompt.is_empty() {
                *prompt = own;
            }
        }
        if judge.is_empty() {
            *judge = own.judge;
        }
    }

    /// Validates values that were changed after the file was read.
    ///
    /// # Errors
    /// All invalid values; the message names their keys.
    pub fn check_values(&self, path: &Path) -> Result<()> {
        let error = |(keys, message): Wrong| Error::Task {
            path: path.to_path_buf(),
            line: None,
            message: format!("{}: {message}", keys.join(".")),
        };
        Error::all(self.check().into_iter().map(error).collect())
    }

    /// How the small model reads: texts and pairs are truncated, contexts of questions are read in windows.
    pub fn reading(&self) -> Reading {
        Reading { max_tokens: self.train.max_tokens, stride: (self.kind == TaskKind::ExtractiveQa).then_some(self.train.doc_stride) }
    }

    pub fn label_names(&self) -> Vec<String> {
        self.labels.iter().map(|label| label.name.clone()).collect()
    }

    /// What the judge can answer, with its wordings: a label, or of each of several labels whether it applies.
    pub fn judges_answers(&self) -> Vec<LabelKeys> {
        let answer = |name: &str, say: &str| LabelKeys { name: name.to_string(), say: Some(say.to_string()) };
        match self.kind {
            TaskKind::MultiLabel => vec![answer("no", "No"), answer("yes", "Yes")],
            _ => self.labels.clone(),
        }
    }

    /// The wording of each label in prompts.
    pub fn label_words(&self) -> Vec<String> {
        self.labels.iter().map(|label| label.say.clone().unwrap_or_else(|| label.name.clone())).collect()
    }

    /// The head of a classification task.
    pub fn labels_head(&self) -> Labels {
        Labels { names: self.label_names(), pairs: self.kind == TaskKind::Pair }
    }

    /// The head of a task with several labels a text.
    pub fn label_sets_head(&self) -> LabelSets {
        LabelSets { names: self.label_names() }
    }

    /// Every invalid value: its key, and why it is invalid.
    fn check(&self) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        let mut require = |holds: bool, keys: &[&'static str], message: &str| {
            if !holds {
                wrong.push((keys.to_vec(), message.to_string()));
            }
        };
        let share = |x: f64| x > 0.0 && x < 1.0;
        require(!self.name.trim().is_empty(), &["name"], "is empty");
        require(
            is_file_name(&self.name),
            &["name"],
            "is the name of a folder under runs/: use a plain file name of at most 200 bytes, without / or \\ and not starting with a dot",
        );
        let questions = self.kind == TaskKind::ExtractiveQa;
        if questions {
            self.check_questions(&mut require);
        } else {
            let enough = if self.kind == TaskKind::MultiLabel { 1 } else { 2 };
            let message = if enough == 1 { "at least one label is needed" } else { "at least two labels are needed" };
            require(self.labels.len() >= enough, &["labels"], message);
            require(self.data.answers.is_none(), &["data", "answers"], "only for questions (kind = \"extractive_qa\")");
        }
        for (i, label) in self.labels.iter().enumerate() {
            require(!label.name.trim().is_empty(), &["labels"], "a label's name is empty");
            require(self.labels[..i].iter().all(|l| l.name != label.name), &["labels"], &format!("duplicate label {:?}", label.name));
        }
        require(share(self.data.select_share), &["data", "select_share"], "must lie between 0 and 1");
        require(self.data.gold_rows != Some(0), &["data", "gold_rows"], "must be at least 1");
        require(
            self.sampling.temperature >= 0.0 && self.sampling.temperature.is_finite(),
            &["sampling", "temperature"],
            "must be 0 or more",
        );
        require(self.sampling.top_p > 0.0 && self.sampling.top_p <= 1.0, &["sampling", "top_p"], "must be above 0 and at most 1");
        require((0.0..=1.0).contains(&self.sampling.min_p), &["sampling", "min_p"], "must lie between 0 and 1");
        require(self.sampling.max_tokens > 0, &["sampling", "max_tokens"], "must be at least 1");
        self.sampling.repetition.check().unwrap_or_else(|message| require(false, &["sampling", "repetition"], &message));
        require(
            self.sampling.stop.iter().all(|stop| !stop.is_empty()),
            &["sampling", "stop"],
            "a stop string is empty; it would end every text",
        );
        self.check_prompts(&mut require);
        let single = matches!(self.kind, TaskKind::Text | TaskKind::MultiLabel);
        let given = !single || self.data.contexts.is_none();
        if self.kind == TaskKind::MultiLabel {
            let without = self.seed.rationales == 0 && self.extrapolate.rationales_per_example == 0;
            require(without, &["seed", "rationales"], "texts with several labels are written without rationales; leave it out");
        }
        require(given, &["data", "contexts"], "only for pairs and questions");
        if let Some(list) = &self.list {
            require(
                !list.title.trim().is_empty(),
                &["list", "title"],
                "is empty; say what the texts are, as in \"Sentences from movie reviews:\"",
            );
            require(self.kind == TaskKind::Text, &["list"], "only for single texts with one label; leave it out");
            require(!self.prompts.judge.is_empty(), &["list"], "what is written is labelled by the judge: write a [[prompts.judge]]");
            require(list.shown >= 2, &["list", "shown"], "must be at least 2");
            require(list.texts_each > 0, &["list", "texts_each"], "must be at least 1");
            require(list.max_tokens != Some(0), &["list", "max_tokens"], "must be at least 1");
        }
        let later = (0.0..1.0).contains(&self.read.later_share);
        require(later, &["read", "later_share"], "must be at least 0 and below 1");
        let depth = self.targets.depth > 0.0 && self.targets.depth <= 1.0;
        require(depth, &["targets", "depth"], "must be above 0 and at most 1");
        require(self.seed.rows >= self.labels.len().max(1), &["seed", "rows"], "must be at least one for each label");
        if self.seed.rationales > 0 && matches!(self.kind, TaskKind::Text | TaskKind::Pair) {
            let per_example = (1..=self.seed.rationales).contains(&self.seed.rationales_per_example);
            require(per_example, &["seed", "rationales_per_example"], "must be at least 1 and at most seed.rationales");
            let extrapolating = self.extrapolate.rationales_per_example <= self.seed.rationales;
            require(extrapolating, &["extrapolate", "rationales_per_example"], "must be at most seed.rationales");
            require(self.prompts.rationale.is_some(), &["prompts"], "prompts.rationale is missing; write it, or set seed.rationales = 0");
            let candidates = self.seed.rationale_candidates.unwrap_or(self.seed.rationales);
            require(candidates >= self.seed.rationales, &["seed", "rationale_candidates"], "must be at least seed.rationales");
            let judged = candidates == self.seed.rationales || !self.prompts.judge.is_empty();
            require(judged, &["prompts"], "prompts.judge is missing; it is needed to choose among seed.rationale_candidates");
            let alone = candidates == self.seed.rationales || self.kind == TaskKind::Text;
            require(alone, &["seed", "rationale_candidates"], "not for pairs: their judge cannot judge a rationale; leave it out");
        }
        require(self.extrapolate.rows != Some(0), &["extrapolate", "rows"], "must be at least 1; max_rounds = 0 turns extrapolation off");
        let one_amount = self.extrapolate.rows.is_none() || self.extrapolate.rows_per_error == 1;
        require(one_amount, &["extrapolate", "rows_per_error"], "has no effect beside extrapolate.rows; leave one out");
        require(self.extrapolate.rows_per_error > 0, &["extrapolate", "rows_per_error"], "must be at least 1");
        require(self.extrapolate.patience > 0, &["extrapolate", "patience"], "must be at least 1");
        require(self.targets.intended.is_finite() && self.targets.intended >= 0.0, &["targets", "intended"], "must be 0 or more");
        let judged = self.targets.kind == TargetKind::Hard || !self.prompts.judge.is_empty() || questions;
        require(judged, &["prompts"], "soft targets need a [[prompts.judge]]; write one, or set targets.kind = \"hard\"");
        let distinct = self.labels.iter().all(|label| self.labels.iter().filter(|other| other.name == label.name).count() == 1);
        let answers = self.judges_answers();
        for judge in self.prompts.judge.iter().filter(|_| distinct) {
            let matches = judge.words.len() == answers.len() && answers.iter().all(|l| judge.words.contains_key(&l.name));
            let message = match self.kind {
                TaskKind::MultiLabel => "words are those for yes and no, whether the label applies",
                _ => "words has a name that is no label's",
            };
            require(matches, &["prompts", "judge"], message);
            if !matches {
                continue;
            }
            let words: Vec<&str> = answers.iter().map(|label| judge.words[&label.name].as_str()).collect();
            forks(&words).map_or_else(|message| require(false, &["prompts", "judge"], &message), drop);
        }
        require(self.train.epochs > 0, &["train", "epochs"], "must be at least 1");
        require(self.train.steps != Some(0), &["train", "steps"], "must be at least 1");
        let judging = self.seed.budget.map_or(0.0, |budget| budget.judging);
        require(judging >= 0.0 && judging.is_finite(), &["seed", "budget"], "judging must be 0 or more");
        require(self.train.batch > 0, &["train", "batch"], "must be at least 1");
        require(self.train.learning_rate > 0.0 && self.train.learning_rate < 1.0, &["train", "learning_rate"], "must lie between 0 and 1");
        require((0.0..1.0).contains(&self.train.warmup_share), &["train", "warmup_share"], "must be at least 0 and below 1");
        require((0.0..1.0).contains(&self.train.weight_decay), &["train", "weight_decay"], "must be at least 0 and below 1");
        require(self.deliver.folds != 1, &["deliver", "folds"], "must be 0, or 2 and more");
        require(self.train.max_tokens >= 8, &["train", "max_tokens"], "must be at least 8");
        let stride = !questions || self.train.doc_stride < self.train.max_tokens;
        require(stride, &["train", "doc_stride"], "must be below train.max_tokens");
        wrong
    }

    /// Checks that there are prompts, and their sampling.
    fn check_prompts(&self, require: &mut dyn FnMut(bool, &[&'static str], &str)) {
        let PromptKeys { rationale, seed, extrapolate, .. } = &self.prompts;
        let about = self.about.as_ref().is_none_or(|about| !about.trim().is_empty());
        require(about, &["about"], "is empty; say what a text is, as in \"a sentence from a movie review\"");
        let missing: Vec<&str> = [("prompts.seed", seed), ("prompts.extrapolate", extrapolate)]
            .into_iter()
            .filter(|(_, p)| p.is_empty())
            .map(|(name, _)| name)
            .collect();
        let message =
            format!("{} missing; say what a text is (about = \"a sentence from a movie review\"), or write them", missing.join(", "));
        require(missing.is_empty(), &["prompts"], &message);
        for (name, prompt) in [("rationale", rationale.as_ref()), ("seed", Some(seed)), ("extrapolate", Some(extrapolate))] {
            let Some(prompt) = prompt else { continue };
            let temperature = prompt.temperature.is_none_or(|x| x >= 0.0 && x.is_finite());
            require(temperature, &["prompts", name, "temperature"], "must be 0 or more");
            require(prompt.top_p.is_none_or(|x| x > 0.0 && x <= 1.0), &["prompts", name, "top_p"], "must be above 0 and at most 1");
            require(prompt.min_p.is_none_or(|x| (0.0..=1.0).contains(&x)), &["prompts", name, "min_p"], "must lie between 0 and 1");
            require(prompt.max_tokens != Some(0), &["prompts", name, "max_tokens"], "must be at least 1");
            let stops = prompt.stop.iter().flatten().all(|stop| !stop.is_empty());
            require(stops, &["prompts", name, "stop"], "a stop string is empty; it would end every text");
        }
    }

    /// Checks the keys that a question answering task must not have.
    fn check_questions(&self, require: &mut dyn FnMut(bool, &[&'static str], &str)) {
        let rules: [(bool, &[&'static str], &str); 7] = [
            (self.about.is_none(), &["about"], "only for texts and pairs: a question's prompts have its passage; leave it out"),
            (self.labels.is_empty(), &["labels"], "a question has an answer, not a label; leave labels out"),
            (self.seed.rationales == 0, &["seed", "rationales"], "questions are written without rationales; set seed.rationales = 0"),
            (self.targets.kind == TargetKind::Hard, &["targets"], "soft targets are for labels; set targets.kind = \"hard\""),
            (self.prompts.judge.is_empty(), &["prompts", "judge"], "question answering has no judge; leave it out"),
            (
                self.data.answers != Some(AnswersFrom::Gold) || self.gold_contexts(),
                &["data", "answers"],
                "contexts from a file have no gold answers; set it to \"found\"",
            ),
            (self.data.unlabelled.is_none(), &["data", "unlabelled"], "only for texts and pairs; leave it out"),
        ];
        rules.into_iter().for_each(|(holds, keys, message)| require(holds, keys, message));
    }

    /// Whether a run reads unlabelled texts.
    pub fn reads(&self) -> bool {
        self.data.unlabelled.is_some() && self.read.rows > 0
    }

    /// How lists are continued, if they are.
    pub fn lists(&self) -> Option<&ListKeys> {
        self.list.as_ref().filter(|list| list.rows > 0)
    }

    /// What the judge learns from the gold rows: by default a head on hidden states too.
    pub fn judge_kind(&self) -> JudgeKind {
        self.targets.judge.unwrap_or(JudgeKind::Stack)
    }

    /// The share of the generator's layers that the judge computes: all, unless it goes by states alone.
    pub fn judge_depth(&self) -> f64 {
        if self.judge_kind() == JudgeKind::States { self.targets.depth } else { 1.0 }
    }

    /// Whether first texts and contexts come from the gold rows.
    pub fn gold_contexts(&self) -> bool {
        self.data.contexts_file().is_none()
    }

    /// Whether anything that is written or chosen may depend on the gold rows: then copies of them are rejected. ZeroGen as published
    /// knows none.
    pub fn reads_gold(&self) -> bool {
        let learns = self.targets.kind == TargetKind::Soft || self.train.use_select || self.extrapolate.max_rounds > 0;
        learns || self.seed_sees_gold() || self.lists().is_some()
    }

    /// Whether the seed's prompts depend on the gold rows: on their first texts or contexts, or on which labels go together.
    pub fn seed_sees_gold(&self) -> bool {
        match self.kind {
            TaskKind::Text => false,
            TaskKind::MultiLabel => true,
            TaskKind::Pair | TaskKind::ExtractiveQa => self.gold_contexts(),
        }
    }

    /// The source of the answers for the seed's questions.
    pub fn answers_from(&self) -> AnswersFrom {
        self.data.answers.unwrap_or(if self.gold_contexts() { AnswersFrom::Gold } else { AnswersFrom::Found })
    }

    /// Resolves a path in the task file, which is relative to the task file's folder.
    pub fn beside(path: &Path, named: &str) -> PathBuf {
        path.parent().unwrap_or(Path::new("")).join(named)
    }
}

/// A dotted key, and what is wrong with its value.
type Wrong = (Vec<&'static str>, String);

/// Whether `name` is a single path component on any operating system.
fn is_file_name(name: &str) -> bool {
    let plain = |c: char| !c.is_control() && !matches!(c, '/' | '\\');
    name.chars().all(plain) && !name.starts_with('.') && name.len() <= 200
}

/// Whether a table has a dotted key.
fn has(table: &toml::de::DeTable, keys: &[&str]) -> bool {
    let Some(value) = table.get(keys[0]) else { return false };
    keys.len() == 1 || value.get_ref().as_table().is_some_and(|inner| has(inner, &keys[1..]))
}

/// The offset of a dotted key's value, or of the innermost enclosing table that exists.
fn offset_of(table: &toml::de::DeTable, keys: &[&str]) -> Option<usize> {
    let value = table.get(keys[0])?;
    let inner = keys.get(1).and_then(|_| value.get_ref().as_table()).and_then(|t| offset_of(t, &keys[1..]));
    Some(inner.unwrap_or(value.span().start))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOVIES: &str = include_str!("../../tasks/movie-sentiment.toml");

    fn parse(text: &str) -> Result<Task> {
        Task::parse(text, Path::new("task.toml"))
    }

    /// A few lines are a task.
    const SHORT: &str = "name = \"x\"\nkind = \"text\"\nabout = \"a film review\"\nlabels = [\"bad\", \"good\"]\n\
        [data]\ngold = \"gold.csv\"\n[models]\ngenerator = \"x.gguf\"\nsmall = \"encoder\"\n";

    #[test]
    fn a_short_file_has_the_prompts_of_its_kind() {
        let task = parse(SHORT).unwrap();
        assert!(crate::task::prompts::check(&task).is_empty());
        assert_eq!(task.prompts.judge[0].words["good"], " good");
        assert_eq!((task.seed.rationales, task.prompts.seed.stop.as_ref().map(Vec::len)), (20, Some(2)));
        let stops = parse(&format!("{SHORT}[sampling]\nstop = [\"x\"]\n")).unwrap();
        assert_eq!((stops.prompts.extrapolate.stop, stops.sampling.stop), (None, vec!["x".to_string()]), "the file's own");
        let own = parse(&format!("{SHORT}[prompts.seed]\nuser = \"Write {{{{ label }}}} {{{{ about }}}}.\"\n")).unwrap();
        assert_eq!((own.prompts.seed.user.as_str(), &own.prompts.judge), ("Write {{ label }} {{ about }}.", &task.prompts.judge));
        assert!(crate::task::prompts::check(&own).is_empty());
        assert!(own.prompts.seed.stop.is_none() && own.prompts.extrapolate.stop.is_some());
        let pairs = parse(&SHORT.replace("\"text\"", "\"pair\"").replace("[\"bad\"", "[\"good or bad\", \"bad\"")).unwrap();
        assert!(crate::task::prompts::check(&pairs).is_empty() && pairs.seed.rationales == 0);
        assert_eq!(pairs.prompts.judge[0].words["good"], " good.", "\"good or bad\" begins with it");
        let questions = SHORT.replace("\"text\"", "\"extractive_qa\"").replace("labels = [\"bad\", \"good\"]\n", "");
        assert!(crate::task::prompts::check(&parse(&questions.replace("about = \"a film review\"\n", "")).unwrap()).is_empty());
        let error = parse(&SHORT.replace("about = \"a film review\"\n", "")).unwrap_err().to_string();
        assert!(error.contains("prompts: prompts.seed, prompts.extrapolate missing; say what a text is"), "{error}");
    }

    #[test]
    fn the_built_in_task_is_valid() {
        let task = parse(MOVIES).unwrap();
        assert_eq!(task.label_names(), ["negative", "positive"]);
        assert_eq!(task.prompts.judge.len(), 1);
    }

    #[test]
    fn every_task_in_tasks_is_valid_and_its_prompts_render() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tasks");
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let task = Task::read(&entry.unwrap().path()).unwrap();
            assert!(crate::task::prompts::check(&task).is_empty());
            names.push(task.name);
        }
        names.sort();
        assert_eq!(names, ["adversarial-qa", "bank-intents", "imdb", "movie-sentiment", "qnli", "rte"]);
    }

    #[test]
    fn defaults_match_the_paper() {
        assert_eq!(Sampling::default().temperature, 0.9);
        let extrapolate = ExtrapolateKeys::default();
        assert_eq!((extrapolate.rows, extrapolate.rows_per_error, extrapolate.from), (None, 1, Parents::Errors));
        assert_eq!((extrapolate.rationales_per_example, extrapolate.max_rounds), (0, 2));
    }

    #[test]
    fn many_labels_are_trained_longer() {
        let steps = |text: &str| parse(text).unwrap().train.steps_for(300);
        let more = |labels: usize| {
            let labels: String = (0..labels).map(|i| format!("[[labels]]\nname = \"intent {i}\"\n")).collect();
            let words = "words = { negative = \" negative\", positive = \" positive\" }\n";
            MOVIES.replacen(words, "", 1).replacen("rows = 400", "rows = 4000", 1).replacen("[data]", &format!("{labels}[data]"), 1)
        };
        assert_eq!((steps(MOVIES), steps(&more(13)), steps(&more(148))), (150, 150, 1500));
        assert_eq!(steps(&more(148).replacen("[train]", "[train]\nmin_steps = 100", 1)), 100);
    }

    #[test]
    fn what_is_read_is_divided_among_seed_and_rounds() {
        let keys = ReadKeys { rows: 1000, later_share: 0.25 };
        assert_eq!(keys.waves(900, 2), [900]);
        assert_eq!(keys.waves(1000, 2), [1000]);
        assert_eq!(keys.waves(1001, 2), [750, 125, 125]);
        assert_eq!(keys.waves(5000, 0), [1000]);
        assert_eq!(ReadKeys { later_share: 0.0, ..keys.clone() }.waves(5000, 3), [1000]);
        assert!(ReadKeys { rows: 0, ..keys.clone() }.waves(5000, 2).is_empty() && keys.waves(0, 2).is_empty());
    }

    #[test]
    fn errors_are_reported_with_their_line() {
        let line_of = |needle: &str| MOVIES[..MOVIES.find(needle).unwrap()].matches('\n').count() + 1;
        for (from, to, expected) in [
            ("rows = 400", "rows = \"many\"", "invalid type: string"),
            ("rows = 400", "rowz = 800", "unknown field `rowz`"),
            ("rows = 400", "rows = 1", "seed.rows: must be at least one for each label"),
            ("top_p = 1.0", "top_p = 1.5", "sampling.top_p: must be above 0 and at most 1"),
            ("top_p = 1.0", "repetition = { repeat = 0.0 }", "sampling.repetition: repetition.repeat is 0; it must be above 0"),
            ("select_share = 0.4", "select_share = 1.0", "data.select_share: must lie between 0 and 1"),
            ("name = \"movie-sentiment\"", "name = \"..\"", "name: is the name of a folder under runs/: use a plain file name"),
            ("name = \"movie-sentiment\"", "name = \"/srv/x\"", "name: is the name of a folder under runs/"),
            ("kind = \"text\"", "kind = \"video\"", "unknown variant `video`"),
            ("rationales_per_example = 2", "rationales_per_example = 41", "seed.rationales_per_example: must be at least 1"),
            ("rationale_candidates = 100", "rationale_candidates = 39", "seed.rationale_candidates: must be at least seed.rationales"),
        ] {
            let error = parse(&MOVIES.replacen(from, to, 1)).unwrap_err().to_string();
            let place = format!("task.toml:{}: ", line_of(from));
            assert!(
                error.starts_with(&place) && error.contains(expected),
                "{error:?} should start with {place:?} and contain {expected:?}"
            );
        }
        let error = parse(&MOVIES.replacen("positive = \" positive\"", "good = \" good\"", 1)).unwrap_err().to_string();
        assert!(error.contains("words has a name that is no label's"), "{error}");
        let words = "words = { negative = \" negative\", positive = \" positive\" }\n";
        assert!(MOVIES.contains(words));
        assert_eq!(parse(&MOVIES.replacen(words, "", 1)).unwrap(), parse(MOVIES).unwrap(), "words are the labels' own");
        let error = parse(&MOVIES.replacen("name = \"positive\"", "name = \"negative\"", 1)).unwrap_err().to_string();
        assert!(error.contains("labels: duplicate label \"negative\""), "{error}");
        let error = parse(&MOVIES.replacen("[seed]", "[read]\nlater_share = 1.0\n[seed]", 1)).unwrap_err().to_string();
        assert!(error.contains("read.later_share: must be at least 0 and below 1"), "{error}");
        let error = parse(&MOVIES.replacen("[targets]", "[targets]\ndepth = 0.0", 1)).unwrap_err().to_string();
        assert!(error.contains("targets.depth: must be above 0 and at most 1"), "{error}");
        assert!(parse("name = ").is_err());
    }

    #[test]
    fn keys_that_question_answering_must_not_have_are_refused() {
        let questions = include_str!("../../tasks/adversarial_qa.toml");
        for (from, to, expected) in [
            ("[data]", "[[labels]]\nname = \"a\"\n[data]", "labels: a question has an answer, not a label; leave labels out"),
            ("rationales = 0", "rationales = 3", "seed.rationales: questions are written without rationales"),
            ("kind = \"hard\"", "kind = \"soft\"", "targets: soft targets are for labels; set targets.kind = \"hard\""),
            ("doc_stride = 128", "doc_stride = 384", "train.doc_stride: must be below train.max_tokens"),
            ("contexts = \"gold\"", "unlabelled = \"rest\"", "data.unlabelled: only for texts and pairs; leave it out"),
            (
                "contexts = \"gold\"",
                "contexts = \"texts.jsonl\"",
                "data.answers: contexts from a file have no gold answers; set it to \"found\"",
            ),
        ] {
            assert!(questions.contains(from), "{from}");
            let error = parse(&questions.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error:?} should contain {expected:?}");
        }
        let error = parse(&MOVIES.replacen("[data]", "[data]\nanswers = \"found\"", 1)).unwrap_err().to_string();
        assert!(error.contains("data.answers: only for questions"), "{error}");
    }
}
