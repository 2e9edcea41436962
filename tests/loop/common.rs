//! A task small enough for a test: a tiny BERT and made-up gold rows.

use std::path::{Path, PathBuf};

/// Words that the tiny tokenizer knows, a third of which are informative of the label.
pub const GOOD: [&str; 6] = ["warm", "funny", "fine", "bright", "moving", "rich"];
pub const BAD: [&str; 6] = ["cold", "dull", "weak", "bleak", "flat", "poor"];
const PLAIN: [&str; 8] = ["film", "plot", "cast", "scene", "story", "ending", "music", "script"];

/// A folder with everything a run needs.
pub struct Fixture {
    pub folder: tempfile::TempDir,
}

impl Fixture {
    pub fn new() -> Self {
        let fixture = Fixture { folder: tempfile::tempdir().unwrap() };
        let small = fixture.path("small");
        std::fs::create_dir(&small).unwrap();
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tests/golden/bert");
        for file in ["config.json", "model.safetensors"] {
            std::fs::copy(golden.join(file), small.join(file)).unwrap();
        }
        std::fs::write(small.join("tokenizer.json"), tokenizer()).unwrap();
        std::fs::write(fixture.path("generator.gguf"), "scripted").unwrap();
        std::fs::write(fixture.path("gold.jsonl"), rows(0, 40)).unwrap();
        std::fs::write(fixture.path("test.jsonl"), rows(1000, 30)).unwrap();
        std::fs::write(fixture.path("task.toml"), TASK).unwrap();
        fixture
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A text for the label, different for each number.
pub fn text(good: bool, number: u64) -> String {
    let pick = |words: &[&str], shift: u64| words[((number >> shift) % words.len() as u64) as usize].to_string();
    let words = if good { &GOOD } else { &BAD };
    format!("{} {} and {} {} {}", pick(words, 0), pick(&PLAIN, 3), pick(words, 7), pick(&PLAIN, 11), number)
}

/// Gold rows; a quarter have the wrong label, so that there are always errors to extrapolate.
fn rows(first: u64, count: u64) -> String {
    let row = |i: u64| {
        let good = i.is_multiple_of(2);
        let label = if good != i.is_multiple_of(4 + i % 3) { "positive" } else { "negative" };
        serde_json::json!({"text": text(good, first + i), "label": label}).to_string() + "\n"
    };
    (0..count).map(row).collect()
}

fn tokenizer() -> String {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"];
    let words = special.iter().chain(&GOOD).chain(&BAD).chain(&PLAIN);
    let vocab: serde_json::Map<_, _> = words.enumerate().map(|(id, word)| (word.to_string(), id.into())).collect();
    serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]"},
    })
    .to_string()
}

pub const TASK: &str = r#"
name = "tiny"
kind = "text"
labels = [{ name = "negative" }, { name = "positive" }]

[data]
gold = "gold.jsonl"
test = "test.jsonl"

[models]
generator = "generator.gguf"
small = "small"

[seed]
rationales = 3
rationale_candidates = 5
rationales_per_example = 2
rows = 24

[extrapolate]
rows = 8
rationales_per_example = 1
max_rounds = 2
patience = 2

[train]
epochs = 2
min_steps = 10
batch = 8
learning_rate = 1e-3
max_tokens = 12

[prompts.rationale]
user = "Why {{ label }}?"

[prompts.seed]
user = "Write {{ label }}{% for r in rationales %} {{ r }}{% endfor %}"

[prompts.extrapolate]
user = "Like {{ text }}, {{ label }}{% for r in rationales %} {{ r }}{% endfor %}"

[[prompts.judge]]
user = "Which? {{ text }}"
words = { negative = " negative", positive = " positive" }
"#;
