//! How many labels a text has, and what transformers calls that.

/// How many labels a text has, as `problem_type` in config.json says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Problem {
    /// One: the logits go through a softmax.
    #[default]
    SingleLabel,
    /// Any number, or none: each logit goes through a sigmoid.
    MultiLabel,
}

impl Problem {
    /// By its name in config.json.
    pub(crate) fn named(name: &str) -> Option<Problem> {
        [Problem::SingleLabel, Problem::MultiLabel].into_iter().find(|problem| problem.name() == name)
    }

    /// Its name in config.json.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Problem::SingleLabel => "single_label_classification",
            Problem::MultiLabel => "multi_label_classification",
        }
    }
}
