//! Prompts for a task file that has none: by the kind of its texts, from what it says of them in `about`.

use super::prompt_keys::{JudgePrompt, PromptKeys, WritingPrompt};
use crate::data::example::TaskKind;

/// Where a text ends: at the quotation mark that closes it, or with its line.
pub(super) const STOP: [&str; 2] = ["\"", "\n"];

/// The prompts of a kind; their variable `about` is the task file's.
pub(super) fn of_kind(kind: TaskKind) -> PromptKeys {
    let writing = |user: &str, answer_start: &str| WritingPrompt {
        user: user.to_string(),
        answer_start: answer_start.to_string(),
        ..WritingPrompt::default()
    };
    let judge = |user: &str| vec![JudgePrompt { user: user.to_string(), answer_start: "Answer:".to_string(), ..JudgePrompt::default() }];
    match kind {
        TaskKind::Text => PromptKeys {
            rationale: Some(WritingPrompt {
                stop: Some([".", ",", "\"", "\n"].map(str::to_string).to_vec()),
                max_tokens: Some(24),
                ..writing(TEXT_RATIONALE, "Because")
            }),
            seed: writing(TEXT_SEED, "\""),
            extrapolate: writing(TEXT_EXTRAPOLATE, "\""),
            judge: judge(TEXT_JUDGE),
        },
        TaskKind::Pair => PromptKeys {
            rationale: None,
            seed: writing(PAIR_SEED, "\""),
            extrapolate: writing(PAIR_EXTRAPOLATE, "\""),
            judge: judge(PAIR_JUDGE),
        },
        TaskKind::ExtractiveQa => PromptKeys {
            rationale: None,
            seed: writing(QUESTION_SEED, "Question: \""),
            extrapolate: writing(QUESTION_EXTRAPOLATE, "\""),
            judge: Vec::new(),
        },
    }
}

const TEXT_RATIONALE: &str = r#"Think of {{ about }}. Why may one be "{{ label }}"? Give one short reason."#;

const TEXT_SEED: &str = r#"Write one of {{ about }}. It is "{{ label }}".{% for rationale in rationales %} {{ rationale }}.{% endfor %}"#;

const TEXT_EXTRAPOLATE: &str = r#"This is one of {{ about }}. It is "{{ label }}".

"{{ text }}"

Write another one that is "{{ label }}" too."#;

const TEXT_JUDGE: &str = r#"This is one of {{ about }}.

"{{ text }}"

Which is it: {{ labels | join(", ") }}?"#;

const PAIR_SEED: &str = r#"{{ about }}

First text: "{{ text }}"

Write a second text, so that the answer is "{{ label }}"."#;

const PAIR_EXTRAPOLATE: &str = r#"{{ about }}

First text: "{{ text }}"

Second text: "{{ text_pair }}"

The answer is "{{ label }}". Write another second text, so that the answer is the same."#;

const PAIR_JUDGE: &str = r#"{{ about }}

First text: "{{ text }}"

Second text: "{{ text_pair }}"

Which is it: {{ labels | join(", ") }}?"#;

const QUESTION_SEED: &str = r#"Passage: "{{ context }}"

Answer: "{{ answer }}"

Write the quiz question about this passage that has this answer. Do not use the words of the answer."#;

const QUESTION_EXTRAPOLATE: &str = r#"Passage: "{{ context }}"

The answer to the question "{{ question }}" is "{{ answer }}". Write one other question about this passage, harder and in other words, with the same answer."#;
