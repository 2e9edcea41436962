//! Prompts for a task file that has none: by the kind of its texts, from what it says of them in `about`.

use super::prompt_keys::{JudgePrompt, PromptKeys, WritingPrompt};
use crate::data::example::TaskKind;

/// Where a text ends: at the quotation mark that closes it, or with its line.
const STOP: [&str; 2] = ["\"", "\n"];

/// The prompts of a kind; their variable `about` is the task file's. They say where a text ends, unless the file does.
pub(super) fn of_kind(kind: TaskKind, has_stop: bool) -> PromptKeys {
    let writing = |user: &str, answer_start: &str| WritingPrompt {
        user: user.to_string(),
        answer_start: answer_start.to_string(),
        stop: (!has_stop).then(|| STOP.map(str::to_string).to_vec()),
        ..WritingPrompt::default()
    };
    let judge = |user: &str, answer_start: &str| {
        vec![JudgePrompt { user: user.to_string(), answer_start: answer_start.to_string(), ..JudgePrompt::default() }]
    };
    match kind {
        TaskKind::Text => PromptKeys {
            rationale: Some(WritingPrompt {
                stop: Some([".", ",", "\"", "\n"].map(str::to_string).to_vec()),
                max_tokens: Some(24),
                ..writing(TEXT_RATIONALE, "It is so because")
            }),
            seed: writing(TEXT_SEED, "\""),
            extrapolate: writing(TEXT_EXTRAPOLATE, "\""),
            judge: judge(TEXT_JUDGE, "It is"),
        },
        TaskKind::MultiLabel => PromptKeys {
            rationale: None,
            seed: writing(SETS_SEED, "Text: \""),
            extrapolate: writing(SETS_EXTRAPOLATE, "Text: \""),
            judge: judge(SETS_JUDGE, "Answer:"),
        },
        TaskKind::Pair => PromptKeys {
            rationale: None,
            seed: writing(PAIR_SEED, "\""),
            extrapolate: writing(PAIR_EXTRAPOLATE, "\""),
            judge: judge(PAIR_JUDGE, "The answer is"),
        },
        TaskKind::ExtractiveQa => PromptKeys {
            rationale: None,
            seed: writing(QUESTION_SEED, "Question: \""),
            extrapolate: writing(QUESTION_EXTRAPOLATE, "\""),
            judge: Vec::new(),
        },
    }
}

const TEXT_RATIONALE: &str = r#"Think of {{ about }}. It is {{ label }}. Why? Give one short reason."#;

const TEXT_SEED: &str =
    r#"Write {{ about }}. It must be {{ label }}.{% for rationale in rationales %} It is so because {{ rationale }}.{% endfor %}"#;

const TEXT_EXTRAPOLATE: &str = r#"This is {{ about }}. It is {{ label }}.

"{{ text }}"

Write another one like it, in other words, that is {{ label }} too."#;

const TEXT_JUDGE: &str = r#"This is {{ about }}:

"{{ text }}"

Is it {{ labels | join(" or ") }}?"#;

/// Asked for a text with some labels, a generator writes about the labels; an entry of a collection it completes.
const SETS_SEED: &str = r#"Complete this entry of a collection. Each text is {{ about }}, and has all labels that apply to it, out of: {{ labels | join(", ") }}.

Labels: {{ label }}"#;

const SETS_EXTRAPOLATE: &str = r#"Complete the last entry of a collection. Each text is {{ about }}, and has all labels that apply to it, out of: {{ labels | join(", ") }}.

Labels: {{ label }}
Text: "{{ text }}"

The next one is like it, in other words.

Labels: {{ label }}"#;

const SETS_JUDGE: &str = r#"This is {{ about }}:

"{{ text }}"

Does the label "{{ label }}" apply to it? Answer Yes or No."#;

const PAIR_SEED: &str = r#"{{ about }}

First text: "{{ text }}"

Write a second text for it, so that the answer is "{{ label }}"."#;

const PAIR_EXTRAPOLATE: &str = r#"{{ about }}

First text: "{{ text }}"

Second text: "{{ text_pair }}"

The answer is "{{ label }}". Write another second text for which the answer is "{{ label }}" too."#;

const PAIR_JUDGE: &str = r#"{{ about }}

First text: "{{ text }}"

Second text: "{{ text_pair }}"

Choose one answer: {{ labels | join(" or ") }}."#;

const QUESTION_SEED: &str = r#"Passage: "{{ context }}"

Answer: "{{ answer }}"

Write the quiz question about this passage that has this answer. Do not use the words of the answer."#;

const QUESTION_EXTRAPOLATE: &str = r#"Passage: "{{ context }}"

The answer to the question "{{ question }}" is "{{ answer }}". Write one other question about this passage, harder and in other words, with the same answer."#;
