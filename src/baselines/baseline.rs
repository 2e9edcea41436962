//! The baselines by name, and what each needs.

use crate::data::example::TaskKind;
use crate::task::file::Task;

/// A way to predict labels without synthetic rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Baseline {
    /// The small model, fine-tuned on the gold rows.
    GoldOnly,
    /// The mean probability of five such models, which differ by their seeds.
    Ensemble,
    /// One small model that learns from the gold rows with targets softened by models that had not seen them.
    Distilled,
    /// SetFit (arXiv 2209.11055): the encoder learns from pairs of gold rows, then a logistic regression on its embeddings.
    SetFit,
    /// A logistic regression on the pretrained small model's embeddings.
    Embeddings,
    /// A logistic regression on words or characters.
    Tfidf,
    /// The generator, asked the judge prompts.
    ZeroShot,
    /// The same, with a scale and offsets fitted on the gold rows.
    Calibrated,
    /// The same, after some of the gold rows as demonstrations.
    Demonstrations,
    /// The same with a linear head on its hidden states, learnt from the gold rows.
    Stacked,
    /// The small model, fine-tuned on the gold rows and on unlabelled texts as the ensemble labels them.
    SelfTraining,
    /// The small model, fine-tuned on unlabelled texts as the stacked judge labels them.
    Judged,
    /// The same with the gold rows.
    JudgedGold,
}

impl Baseline {
    pub const ALL: [Baseline; 13] = [
        Baseline::GoldOnly,
        Baseline::Ensemble,
        Baseline::Distilled,
        Baseline::SetFit,
        Baseline::Embeddings,
        Baseline::Tfidf,
        Baseline::ZeroShot,
        Baseline::Calibrated,
        Baseline::Demonstrations,
        Baseline::Stacked,
        Baseline::SelfTraining,
        Baseline::Judged,
        Baseline::JudgedGold,
    ];

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Baseline::GoldOnly => "gold only",
            Baseline::Ensemble => "gold only, five averaged",
            Baseline::Distilled => "gold only, five distilled",
            Baseline::SetFit => "SetFit",
            Baseline::Embeddings => "embeddings + logistic regression",
            Baseline::Tfidf => "TF-IDF + logistic regression",
            Baseline::ZeroShot => "generator, zero-shot",
            Baseline::Calibrated => "generator, calibrated",
            Baseline::Demonstrations => "generator, demonstrations",
            Baseline::Stacked => "generator, stacked",
            Baseline::SelfTraining => "self-training",
            Baseline::Judged => "judged texts",
            Baseline::JudgedGold => "judged texts + gold",
        }
    }

    /// Whether its predictions depend on the gold rows.
    pub fn reads_gold(self) -> bool {
        self != Baseline::ZeroShot
    }

    /// Whether it needs the generator.
    pub fn asks_generator(self) -> bool {
        let own = [Baseline::ZeroShot, Baseline::Calibrated, Baseline::Demonstrations, Baseline::Stacked];
        own.contains(&self) || matches!(self, Baseline::Judged | Baseline::JudgedGold)
    }

    /// Whether it learns from unlabelled texts.
    pub fn needs_unlabelled(self) -> bool {
        matches!(self, Baseline::SelfTraining | Baseline::Judged | Baseline::JudgedGold)
    }

    /// Whether it exists for the task; `unlabelled` says whether there are unlabelled texts. Of questions and several labels a text only
    /// the small model; the generator's need judge prompts.
    pub fn fits(self, task: &Task, unlabelled: bool) -> bool {
        (matches!(task.kind, TaskKind::Text | TaskKind::Pair) || self == Baseline::GoldOnly)
            && (!self.asks_generator() || !task.prompts.judge.is_empty())
            && (!self.needs_unlabelled() || unlabelled)
    }
}
