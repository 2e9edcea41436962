//! What can be known of a small model before it is trained: how large it is, what it reads, what a training step takes, and what speaks
//! against it for a task.

use std::path::Path;
use std::time::Instant;

use lacuna_models::{Classifier, Network, PackedBatch, TextEncoder, TrainConfig, Trainer, activation_bytes};

use crate::data::example::{GoldRow, Input, TaskKind};
use crate::error::{Error, Result};
use crate::generator::llama::free_memory;
use crate::small::head::SmallHead;
use crate::small::model::SmallModel;
use crate::task::file::Task;

/// Parameters, without those of the vocabulary, below which pairs and questions are hardly learnt, whatever the data: MiniLM has 11 or
/// 21 million, models of base size 85 million (docs/small-models.md has what was measured).
const LEAST_FOR_PAIRS: usize = 40_000_000;
/// The rows and tokens of the training step that is timed.
const ROWS: usize = 16;
const TOKENS: usize = 128;
/// Shares of rows that are cut, and of tokens that are unknown, which are worth a note.
const CUT: f64 = 0.1;
const UNKNOWN: f64 = 0.03;
/// Rows that are looked at.
const LOOKED_AT: usize = 1000;

/// A line about the model of a folder, with the time of a training step on so many threads.
///
/// # Errors
/// A folder whose model cannot be loaded; too little memory to train it.
pub(super) fn described(folder: &Path, threads: usize) -> Result<String> {
    let error = |error: lacuna_models::ModelError| Error::Model(error.to_string());
    let labels = ["a", "b"].map(String::from);
    let mut model = Classifier::load(folder, &labels, 0).map_err(error)?;
    TextEncoder::load(folder).map_err(error)?;
    let config = model.config();
    let (name, longest, vocabulary) = (config.architecture.name(), config.max_position_embeddings, config.vocab_size);
    let tokens = TOKENS.min(longest);
    let parameters: usize = model.parameters().map(|(_, range, _)| range.len()).sum();
    let needed = 4 * 4 * parameters + activation_bytes(&model, ROWS * tokens, tokens);
    let what = format!(
        "{name}, {} million parameters, reads {longest} tokens; a training step of {ROWS} texts of {tokens} tokens takes {} MiB",
        parameters.div_ceil(1_000_000),
        needed >> 20
    );
    let advice =
        if suits_pairs(&model) { "for all kinds of tasks" } else { "for topics, sentiment and intents; not for pairs and questions" };
    if free_memory().is_some_and(|free| free < needed as u64) {
        return Err(Error::Model(format!("{}: {what}, and there is less memory", folder.display())));
    }
    let ids = (0..(ROWS * tokens) as u32).map(|i| i.wrapping_mul(2_654_435_761) % vocabulary as u32).collect();
    let cu_seqlens = (0..=ROWS as u32).map(|row| row * tokens as u32).collect();
    let batch = PackedBatch { input_ids: ids, token_type_ids: vec![0; ROWS * tokens], cu_seqlens };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(|e| Error::Failed(e.to_string()))?;
    let threads = pool.current_num_threads();
    let mut trainer = Trainer::new(&model, TrainConfig { threads, total_steps: 3, ..TrainConfig::default() });
    let mut step = || pool.install(|| trainer.step(&mut model, &batch, &[0.5; 2 * ROWS], &[1.0; ROWS])).map_err(error);
    // The first one makes its work space.
    step()?;
    let begun = Instant::now();
    step()?;
    let seconds = begun.elapsed().as_secs_f64();
    Ok(format!("{what} and {seconds:.1} s on {threads} threads: {advice}"))
}

/// Whether a model is large enough to learn pairs and questions.
fn suits_pairs(model: &Network) -> bool {
    model.dense_parameters() >= LEAST_FOR_PAIRS
}

/// How many tokens gold rows have for the small model's tokenizer, however many it reads.
///
/// # Errors
/// A text that cannot be encoded.
pub(super) fn lengths_of<H: SmallHead>(small: &SmallModel<H>, gold: &[GoldRow<H>]) -> Result<Vec<usize>> {
    Ok(encoded(small, gold)?.iter().map(Vec::len).collect())
}

/// The tokens of the first gold rows.
fn encoded<H: SmallHead>(small: &SmallModel<H>, gold: &[GoldRow<H>]) -> Result<Vec<Vec<u32>>> {
    let of = |input: Input| small.reader.encoder.encode(input.text, input.text_pair, usize::MAX / 2);
    let rows = gold.iter().take(LOOKED_AT).map(|row| of(row.input()).map(|encoded| encoded.input_ids));
    rows.collect::<Result<_, _>>().map_err(|error| Error::Failed(error.to_string()))
}

/// What speaks against the small model for a task with these gold rows.
///
/// # Errors
/// As [`lengths_of`].
pub(super) fn notes<H: SmallHead>(task: &Task, small: &SmallModel<H>, gold: &[GoldRow<H>]) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    let beyond_texts = matches!(task.kind, TaskKind::Pair | TaskKind::ExtractiveQa);
    if beyond_texts && !suits_pairs(&small.base) {
        let million = small.base.dense_parameters().div_ceil(1_000_000);
        notes.push(format!(
            "models.small: {million} million parameters (without the vocabulary's) hardly learn pairs and questions, whatever the data; one of \
             base size does, such as all-mpnet-base-v2 (docs/small-models.md)"
        ));
    }
    let rows = encoded(small, gold)?;
    let share = |part: usize, of: usize| part as f64 / of.max(1) as f64;
    let reads = small.reader.max_tokens(task.train.max_tokens);
    let cut = rows.iter().filter(|row| row.len() > reads).count();
    if task.kind != TaskKind::ExtractiveQa && share(cut, rows.len()) > CUT {
        let longest = small.reader.max_position_embeddings;
        let more =
            if longest > reads { format!("raise train.max_tokens, up to {longest}") } else { "take a model that reads more".to_string() };
        let percent = 100.0 * share(cut, rows.len());
        notes.push(format!(
            "{percent:.0} % of the gold rows have more than the {reads} tokens that the small model reads of a text: {more}"
        ));
    }
    let unknown = small.reader.encoder.unknown_token();
    let (all, strange) = rows.iter().flatten().fold((0, 0), |(all, strange), id| (all + 1, strange + usize::from(Some(*id) == unknown)));
    if share(strange, all) > UNKNOWN {
        notes.push(format!(
            "{:.0} % of the gold rows' tokens are unknown to the small model: take one of their language, or a multilingual one",
            100.0 * share(strange, all)
        ));
    }
    Ok(notes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::labels::{Label, Labels};

    /// The tiny model of the tests, which reads twelve tokens, with a tokenizer of a few words.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tests/golden/bert");
        for file in ["config.json", "model.safetensors"] {
            std::fs::copy(golden.join(file), folder.path().join(file)).unwrap();
        }
        let words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "fine", "film"];
        std::fs::write(folder.path().join("vocab.txt"), words.join("\n")).unwrap();
        folder
    }

    #[test]
    fn what_a_small_model_is_and_what_a_step_takes() {
        let folder = folder();
        let said = described(folder.path(), 2).unwrap();
        for words in ["BERT, 1 million parameters, reads 12 tokens", "16 texts of 12 tokens takes", " s on 2 threads: ", "not for pairs"] {
            assert!(said.contains(words), "{words}: {said}");
        }
        std::fs::write(folder.path().join("config.json"), r#"{"model_type": "t5"}"#).unwrap();
        assert!(described(folder.path(), 1).unwrap_err().to_string().contains("t5"));
    }

    #[test]
    fn what_speaks_against_it_for_a_task_is_said() {
        let (folder, task) = (folder(), include_str!("../../tasks/movie-sentiment.toml"));
        let mut task = Task::parse(task, Path::new("task.toml")).unwrap();
        let small = SmallModel::load(folder.path(), task.labels_head(), 0, 1).unwrap();
        let rows = |text: &str| -> Vec<GoldRow<Labels>> {
            (0..10).map(|line| GoldRow { line, text: text.to_string(), text_pair: None, gold: Label { label: line % 2 } }).collect()
        };
        assert!(notes(&task, &small, &rows("a fine film")).unwrap().is_empty());
        let long = notes(&task, &small, &rows(&"a fine film ".repeat(9))).unwrap();
        assert!(long.len() == 1 && long[0].contains("100 % of the gold rows have more than the 12 tokens"), "{long:?}");
        assert!(long[0].contains("take a model that reads more"), "{long:?}");
        task.train.max_tokens = 8;
        let cut = notes(&task, &small, &rows("a fine film a fine film a fine film")).unwrap();
        assert!(cut[0].contains("more than the 8 tokens") && cut[0].contains("raise train.max_tokens, up to 12"), "{cut:?}");
        let strange = notes(&task, &small, &rows("ein guter film")).unwrap();
        assert!(strange.len() == 1 && strange[0].contains("40 % of the gold rows' tokens are unknown"), "{strange:?}");
        task.kind = TaskKind::Pair;
        let pairs = notes(&task, &small, &rows("a fine film")).unwrap();
        assert!(pairs[0].contains("hardly learn pairs and questions"), "{pairs:?}");
    }
}
