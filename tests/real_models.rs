//! The loop with the real generator and the real small model, killed, stopped and resumed.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The models and gold data that `make test` fetches; `None`, with a message, if they are missing.
fn fetched() -> Option<(PathBuf, PathBuf, PathBuf)> {
    let of = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let all = (of("LACUNA_TEST_GGUF"), of("LACUNA_TEST_ENCODER"), of("LACUNA_TEST_GOLD"));
    match all {
        (Some(gguf), Some(encoder), Some(gold)) => Some((gguf, encoder, gold)),
        _ => {
            eprintln!("SKIPPED: LACUNA_TEST_GGUF, LACUNA_TEST_ENCODER and LACUNA_TEST_GOLD are not all set");
            None
        }
    }
}

/// The built-in task, made small: 24 texts are read and 6 more before a round, the seed has 24 rows, one round adds 6, 60 test rows.
fn write_task(folder: &Path, gguf: &Path, encoder: &Path, gold: &Path) {
    let mut task: toml::Table = include_str!("../tasks/movie-sentiment.toml").parse().unwrap();
    let mut set = |table: &str, key: &str, value: toml::Value| {
        let table = task.entry(table).or_insert_with(|| toml::Table::new().into());
        drop(table.as_table_mut().unwrap().insert(key.into(), value));
    };
    set("data", "gold", "gold.jsonl".into());
    set("data", "test", "test.jsonl".into());
    set("data", "gold_rows", 40.into());
    set("data", "unlabelled", "rest".into());
    set("deliver", "folds", 3.into());
    set("read", "rows", 30.into());
    set("read", "later_share", 0.2.into());
    set("models", "generator", gguf.display().to_string().into());
    set("models", "small", encoder.display().to_string().into());
    set("seed", "rationales", 3.into());
    set("seed", "rationale_candidates", 5.into());
    set("seed", "rows", 24.into());
    set("extrapolate", "rows", 6.into());
    set("extrapolate", "max_rounds", 1.into());
    set("train", "min_steps", 0.into());
    std::fs::write(folder.join("task.toml"), task.to_string()).unwrap();
    let every = |nth: usize, file: &str| {
        let content = std::fs::read_to_string(gold.join(file)).unwrap();
        std::fs::write(folder.join(file), content.lines().step_by(nth).collect::<Vec<_>>().join("\n")).unwrap();
    };
    every(40, "gold.jsonl");
    every(50, "test.jsonl");
}

/// Fixes the settings that a first start would measure: while other tests run, a measurement chooses nothing and would be repeated at
/// every start.
const FIXED: [(&str, &str); 5] =
    [("LACUNA_WEIGHTS", "as-is"), ("LACUNA_SLOTS", "32"), ("LACUNA_KV", "f16"), ("LACUNA_KV_UNIFIED", "true"), ("LACUNA_N_BATCH", "512")];

fn start(folder: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lacuna"));
    command.envs(FIXED).current_dir(folder).args(["run", "task.toml", "--run", "run", "--quiet"]).stdout(Stdio::piped()).spawn().unwrap()
}

fn rows_in(journal: &Path) -> usize {
    std::fs::read(journal).map_or(0, |content| content.iter().filter(|&&b| b == b'\n').count())
}

/// Starts the run and kills it, as `kill -9` does, once the journal has that many rows.
fn kill_at(folder: &Path, journal: &str, rows: usize) {
    let mut child = started_until(folder, journal, rows);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Starts the run and sends it a signal once the journal has that many rows; returns its exit code.
fn signal_at(signal: &str, folder: &Path, journal: &str, rows: usize) -> Option<i32> {
    let mut child = started_until(folder, journal, rows);
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    child.wait().unwrap().code()
}

/// Starts the run and waits until the journal has that many rows.
fn started_until(folder: &Path, journal: &str, rows: usize) -> Child {
    let mut child = start(folder);
    let deadline = Instant::now() + Duration::from_secs(300);
    while rows_in(&folder.join("run/journal").join(journal)) < rows {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before {journal} had {rows} rows");
        assert!(Instant::now() < deadline, "{journal} never had {rows} rows");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

fn json_lines(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_run_killed_and_stopped_four_times_ends_like_an_undisturbed_one() {
    let Some((gguf, encoder, gold)) = fetched() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write_task(path, &gguf, &encoder, &gold);
    kill_at(path, "judge-gold.jsonl", 1);
    assert_eq!(signal_at("-INT", path, "read-0.jsonl", 5), Some(130));
    assert_eq!(signal_at("-TERM", path, "round-0.jsonl", 5), Some(143));
    kill_at(path, "judge-0.jsonl", 10);

    let second = {
        let first = start(path);
        std::thread::sleep(Duration::from_secs(3));
        let second = start(path).wait_with_output().unwrap();
        let output = first.wait_with_output().unwrap();
        assert!(output.status.success());
        let table = String::from_utf8(output.stdout).unwrap();
        assert!(table.contains("| S3 + gold ") && table.contains("accuracy on 60 test rows"), "{table}");
        second
    };
    // Refused while the first process runs; if that had finished, the second would only read the summary.
    assert!(second.status.code() == Some(5) || second.status.success());

    let rows = json_lines(&path.join("run/dataset.jsonl"));
    let manifest: Value = serde_json::from_slice(&std::fs::read(path.join("run/manifest.json")).unwrap()).unwrap();
    let rounds = manifest["rounds"].as_array().unwrap();
    let of = |origin: &str| rows.iter().filter(|row| row["origin"] == origin).count() as u64;
    assert_eq!(of("written"), 24 + 6 * manifest["best_round"].as_u64().unwrap());
    assert_eq!((of("read"), rows.len() as u64), (24 + 6 * (rounds.len() as u64 - 1), of("read") + of("written")));
    assert!(rounds.iter().all(|r| r["accepted"] == if r["round"] == 0 { 24 } else { 6 }), "{rounds:?}");
    for journal in ["rationales.jsonl", "judge-rationales.jsonl", "judge-gold.jsonl", "read-0.jsonl", "round-0.jsonl", "judge-0.jsonl"] {
        let ids: Vec<u64> = json_lines(&path.join("run/journal").join(journal)).iter().map(|row| row["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "{journal} has a row twice");
    }
    predicts(&path.join("run/model"));
}

fn predicts(model: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lacuna"));
    let mut child = command.args(["predict", "--logits"]).arg(model).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all("A warm and funny film.\nDull.\n".as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let rows: Vec<Value> = String::from_utf8(output.stdout).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(rows.len(), 2);
    for row in rows {
        let label = row["label"].as_str().unwrap();
        assert!(["negative", "positive"].contains(&label) && row["probability"].as_f64().unwrap() >= 0.5);
        assert_eq!(row["logits"].as_array().unwrap().len(), 2);
    }
}

/// Remarks of one snippet or two, or about something else: several labels a text, or none.
fn write_remarks(folder: &Path, gguf: &Path, encoder: &Path, gold: &Path) {
    let rows = json_lines(&gold.join("gold.jsonl"));
    let texts =
        |label: &str| rows.iter().filter(|row| row["label"] == label).map(|row| row["text"].as_str().unwrap().to_string()).collect();
    let (praise, criticism): (Vec<String>, Vec<String>) = (texts("positive"), texts("negative"));
    let remark = |i: usize| {
        let said = [(i % 4 < 2, &praise, "praise"), (i % 4 == 1 || i % 4 == 2, &criticism, "criticism")];
        let said: Vec<_> = said.into_iter().filter(|(has, ..)| *has).collect();
        let parts: Vec<&str> = said.iter().map(|(_, texts, _)| texts[i].as_str()).collect();
        let labels: Vec<&str> = said.iter().map(|(.., label)| *label).collect();
        let text = if parts.is_empty() { format!("The bus to stop {i} leaves at noon.") } else { parts.join(" ") };
        serde_json::json!({"text": text, "labels": labels})
    };
    let lines = |rows: std::ops::Range<usize>| rows.map(|i| remark(i).to_string() + "\n").collect::<String>();
    std::fs::write(folder.join("gold.jsonl"), lines(0..48)).unwrap();
    std::fs::write(folder.join("test.jsonl"), lines(48..88)).unwrap();
    let unlabelled = (88..100).map(|i| serde_json::json!({"text": remark(i)["text"]}).to_string() + "\n");
    std::fs::write(folder.join("texts.jsonl"), unlabelled.collect::<String>()).unwrap();
    let quoted = |path: &Path| toml::Value::from(path.display().to_string()).to_string();
    let task = format!(
        "name = \"remarks\"\nkind = \"multi_label\"\nabout = \"a remark or two about films\"\n[labels]\npraise = \"praise\"\ncriticism = \
         \"criticism\"\n[data]\ngold = \"gold.jsonl\"\ntest = \"test.jsonl\"\nunlabelled = \"texts.jsonl\"\n[models]\ngenerator = {}\nsmall = \
         {}\n[sampling]\nmax_tokens = 32\n[seed]\nrows = 9\n[extrapolate]\nrows = 3\nmax_rounds = 1\n[deliver]\nfolds = 2\n[train]\nepochs = 1\nmin_steps = \
         8\n",
        quoted(gguf),
        quoted(encoder)
    );
    std::fs::write(folder.join("task.toml"), task).unwrap();
}

#[test]
fn several_labels_a_text() {
    let Some((gguf, encoder, gold)) = fetched() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write_remarks(path, &gguf, &encoder, &gold);
    let output = start(path).wait_with_output().unwrap();
    assert!(output.status.success());
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(
        table.contains("micro-F1") && table.contains("F1 of rows on 40 test rows") && table.contains("thresholds   by label"),
        "{table}"
    );
    let read = |name: &str| -> Value { serde_json::from_slice(&std::fs::read(path.join(name)).unwrap()).unwrap() };
    // Of twice 48 answers more are right than by always giving the most frequent one.
    let judge = &read("run/manifest.json")["judge"];
    assert!(judge["accuracy"].as_f64() > judge["chance"].as_f64(), "{judge}");
    let rows = json_lines(&path.join("run/dataset.jsonl"));
    assert!(rows.iter().filter(|row| row["origin"] == "read").count() == 12 && rows.len() >= 21);
    assert!(rows.iter().all(|row| row["labels"].is_array() && row["target"]["praise"].as_f64().is_some()));
    let config = read("run/model/config.json");
    assert_eq!(
        (config["problem_type"].as_str(), config["thresholds"].as_array().map(Vec::len)),
        (Some("multi_label_classification"), Some(2))
    );
}
