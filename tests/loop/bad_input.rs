//! Bad input: one message that says what is wrong, where, and what to do; the documented exit code; no partial output.

use std::path::Path;
use std::process::{Command, Output};

use crate::common::Fixture;
use serde_json::Value;

fn lacuna(fixture: &Fixture, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lacuna"));
    command.current_dir(fixture.folder.path()).args(arguments).env("LACUNA_HOME", fixture.path("home")).env("LACUNA_WEIGHTS", "as-is");
    command.env_remove("LACUNA_DEVICE").env_remove("LACUNA_GPU_LAYERS");
    command.output().unwrap()
}

/// Runs the fixture's task and expects this exit code, these words on standard error, and an empty standard output.
fn refused(fixture: &Fixture, code: i32, words: &[&str]) {
    let output = lacuna(fixture, &["run", "task.toml"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{error}");
    for word in words {
        assert!(error.contains(word), "{error:?} should contain {word:?}");
    }
    assert!(output.stdout.is_empty() && !error.contains("panicked"), "{error}");
    assert_eq!(error.trim().lines().filter(|line| line.starts_with("lacuna:")).count(), 1, "{error}");
}

fn replace(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from:?} is not in {}", path.display());
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// A fixture with one change in its task file.
fn task(from: &str, to: &str) -> Fixture {
    let fixture = Fixture::new();
    replace(&fixture.path("task.toml"), from, to);
    fixture
}

/// A fixture with a third gold row that is `line`.
fn gold(line: &[u8]) -> Fixture {
    let fixture = Fixture::new();
    let content = std::fs::read(fixture.path("gold.jsonl")).unwrap();
    let mut lines: Vec<&[u8]> = content.split(|&b| b == b'\n').collect();
    lines[2] = line;
    std::fs::write(fixture.path("gold.jsonl"), lines.join(&b'\n')).unwrap();
    fixture
}

#[test]
fn invalid_task_files_are_refused() {
    let line = |needle: &str| crate::common::TASK[..crate::common::TASK.find(needle).unwrap()].matches('\n').count() + 1;
    let at = |needle: &str| format!("task.toml:{}: ", line(needle));
    refused(&task("rows = 24", "rovs = 24"), 3, &[&at("rows = 24"), "unknown field `rovs`"]);
    refused(&task("rows = 24", "rows = -1"), 3, &[&at("rows = 24"), "invalid value"]);
    refused(&task("rows = 24", "rows = 24 24"), 3, &["task.toml:"]);
    refused(&task("batch = 8", "batch = 0"), 3, &[&at("batch = 8"), "train.batch: must be at least 1"]);
    refused(&task("name = \"positive\"", "name = \"negative\""), 3, &["labels: duplicate label \"negative\""]);
    refused(&task(", { name = \"positive\" }", ""), 3, &["labels: at least two labels are needed"]);
    refused(&task("Why {{ label }}?", "Why {{ lable }}?"), 3, &["prompts.rationale: line 1 of the template"]);
    refused(&task("Why {{ label }}?", "Why {{ lable }}?"), 3, &["`Why {{ lable }}?`: undefined value (its variables are label, labels)"]);
    refused(&task("Which? {{ text }}", "Which?"), 3, &["prompts.judge: the judge does not see what it judges: write {{ text }} into it"]);
    refused(&task("Why {{ label }}?", "Why {{ label }?"), 3, &["prompts.rationale: line 1 of the template"]);
    refused(&task("positive = \" positive\"", "good = \" good\""), 3, &["words has a name that is no label's"]);
    let fixture = Fixture::new();
    std::fs::remove_file(fixture.path("task.toml")).unwrap();
    refused(&fixture, 6, &["cannot read task.toml", "No such file"]);
}

/// One start tells everything: keys, stop strings, gold rows, a label that is lacking, both models.
#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let fixture = task("batch = 8", "batch = 0");
    let task = fixture.path("task.toml");
    replace(&task, "user = \"Why {{ label }}?\"", "user = \"Why {{ label }}?\"\ntemperature = -1.0\nstop = [\"\"]");
    replace(&task, "\"generator.gguf\"", "\"no.gguf\"");
    replace(&task, "\"small\"", "\"nothing\"");
    let gold = std::fs::read_to_string(fixture.path("gold.jsonl")).unwrap();
    let second: Value = serde_json::from_str(gold.lines().nth(1).unwrap()).unwrap();
    let other = if second["label"] == "positive" { "negative" } else { "positive" };
    let more = format!("{{\"label\": \"positive\"}}\n{{\"text\": {}, \"label\": \"{other}\"}}\n", second["text"]);
    std::fs::write(fixture.path("gold.jsonl"), gold + &more).unwrap();
    let output = lacuna(&fixture, &["check", "task.toml"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{error}");
    for expected in [
        "7 things are wrong:",
        "train.batch: must be at least 1",
        "prompts.rationale.temperature: must be 0 or more",
        "prompts.rationale.stop: a stop string is empty",
        "gold.jsonl:41: field \"text\" is missing",
        "one text has different labels in its rows (2 rows):\n    lines 2, 42 (",
        "`no.gguf` is neither a file",
        "`nothing` is neither a file",
    ] {
        assert!(error.contains(expected), "{error}\nshould contain {expected:?}");
    }
    refused(&fixture, 3, &["7 things are wrong:"]);
    assert!(!fixture.path("runs").exists());
}

/// All values of --gold and --vary are tried before the first run.
#[test]
fn every_number_of_gold_rows_is_checked_first() {
    let fixture = Fixture::new();
    let told = |arguments: &[&str]| {
        let output = lacuna(&fixture, arguments);
        assert_eq!(output.status.code(), Some(3));
        String::from_utf8(output.stderr).unwrap()
    };
    for error in
        [told(&["compare", "task.toml", "--gold", "20,41,3,900"]), told(&["sweep", "task.toml", "--vary", "gold-rows=20,41,3,900"])]
    {
        for expected in
            ["3 things are wrong:", "gold_rows is 41, but there are 40", "gold_rows is 3; raise it to at least 4", "gold_rows is 900"]
        {
            assert!(error.contains(expected), "{error}");
        }
    }
    assert!(!fixture.path("runs").exists());
}

/// A fixture whose generator is a GGUF file, if there is one for tests.
fn with_a_real_generator() -> Option<Fixture> {
    let Some(path) = std::env::var_os("LACUNA_TEST_GGUF") else {
        eprintln!("SKIPPED: LACUNA_TEST_GGUF is not set");
        return None;
    };
    Some(task("\"generator.gguf\"", &format!("{:?}", path.to_str()?)))
}

#[test]
fn a_check_refuses_a_generator_that_is_none() {
    let output = lacuna(&Fixture::new(), &["check", "task.toml"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(4) && error.contains("generator.gguf: is not a GGUF file"), "{error}");
}

#[test]
fn a_check_says_what_there_is_and_writes_nothing() {
    let Some(fixture) = with_a_real_generator() else { return };
    let output = lacuna(&fixture, &["check", "task.toml"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        text.contains("| negative | ") && text.contains("gold rows    40 of 40") && text.ends_with("nothing wrong was found\n"),
        "{text}"
    );
    assert!(!fixture.path("runs").exists());
}

/// A hundred and fifty labels, two gold rows each, and not a word written for the judge.
#[test]
fn a_hundred_and_fifty_labels_of_two_gold_rows_are_fine() {
    let Some(fixture) = with_a_real_generator() else { return };
    let names: Vec<String> = (0..150).map(|i| format!("intent {i}")).collect();
    let labels: Vec<String> = names.iter().map(|name| format!("{{ name = {name:?} }}")).collect();
    replace(&fixture.path("task.toml"), "{ name = \"negative\" }, { name = \"positive\" }", &labels.join(", "));
    replace(&fixture.path("task.toml"), "words = { negative = \" negative\", positive = \" positive\" }", "answer_start = \"It is\"");
    replace(&fixture.path("task.toml"), "rows = 24", "rows = 300");
    let row = |i: usize| serde_json::json!({"text": format!("text {i}"), "label": names[i % 150]}).to_string();
    std::fs::write(fixture.path("gold.jsonl"), (0..900).map(row).collect::<Vec<_>>().join("\n")).unwrap();
    std::fs::write(fixture.path("test.jsonl"), (900..1200).map(row).collect::<Vec<_>>().join("\n")).unwrap();
    let output = lacuna(&fixture, &["check", "task.toml", "--gold-rows", "300"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.matches(" |    1 |      1 | 2    |").count(), 150, "{text}");
}

#[test]
fn invalid_gold_rows_are_refused() {
    refused(&gold(br#"{"label": "positive"}"#), 3, &["gold.jsonl:3: field \"text\" is missing"]);
    refused(&gold(br#"{"text": "x"}"#), 3, &["gold.jsonl:3: field \"label\" is missing"]);
    refused(&gold(br#"{"text": "x", "label": "nice"}"#), 3, &["gold.jsonl:3: field \"label\" is \"nice\"; the task's labels are"]);
    refused(&gold(br#"{"text": " ", "label": "positive"}"#), 3, &["gold.jsonl:3: field \"text\" is empty"]);
    refused(&gold(br#"{"text": "x", "label": 1}"#), 3, &["gold.jsonl:3: field \"label\" is \"1\"; the task's labels are"]);
    refused(&gold(br#"{"text": "x", "label": "Positive"}"#), 3, &["gold.jsonl:3: ", "they differ in upper and lower case"]);
    refused(&gold(b"{\"text\": \"\xff\xfe\", \"label\": \"positive\"}"), 3, &["gold.jsonl:3: not UTF-8"]);
    refused(&gold(b"text,label"), 3, &["gold.jsonl:3: not JSON"]);
    let fixture = Fixture::new();
    std::fs::write(fixture.path("gold.jsonl"), "").unwrap();
    refused(&fixture, 3, &["gold.jsonl: no rows"]);
    std::fs::write(fixture.path("gold.jsonl"), "{\"text\": \"a\", \"label\": \"positive\"}\n{\"text\": \"b\", \"label\": \"positive\"}")
        .unwrap();
    refused(&fixture, 3, &["gold.jsonl: label \"negative\" has 0 gold rows; it needs at least 2"]);
    refused(&task("gold = \"gold.jsonl\"", "gold = \"gold.jsonl\"\ngold_rows = 41"), 3, &["gold_rows is 41, but there are 40 gold rows"]);
}

#[test]
fn test_rows_in_other_files_are_refused_in_one_message() {
    let fixture = Fixture::new();
    let gold = std::fs::read_to_string(fixture.path("gold.jsonl")).unwrap();
    let test = std::fs::read_to_string(fixture.path("test.jsonl")).unwrap();
    let first = |rows: usize| gold.split_inclusive('\n').take(rows).collect::<String>();
    std::fs::write(fixture.path("test.jsonl"), test.clone() + &first(1)).unwrap();
    refused(&fixture, 3, &["test.jsonl: 1 test row is also in gold.jsonl (line 31 is line 1 there)", "remove them from gold.jsonl"]);
    std::fs::write(fixture.path("test.jsonl"), test + &first(5) + &first(1)).unwrap();
    let named = "6 test rows are also in gold.jsonl (line 31 is line 1 there, line 32 is line 2 there, line 33 is line 3 there, …)";
    refused(&fixture, 3, &["test.jsonl: ", named]);
    assert!(!fixture.path("runs").exists());
    let folder = fixture.path("").file_name().unwrap().to_str().unwrap().to_string();
    replace(&fixture.path("task.toml"), "\"test.jsonl\"", &format!("\"../{folder}/gold.jsonl\""));
    refused(&fixture, 3, &["gold.jsonl: it is data.gold and data.test"]);
    replace(&fixture.path("task.toml"), &format!("\"../{folder}/gold.jsonl\""), "\"test.jsonl\"");
    replace(&fixture.path("task.toml"), "gold = \"gold.jsonl\"", "gold = \"gold.jsonl\"\noverlap = \"drop\"");
    refused(&fixture, 4, &["gold.jsonl: 5 rows left out that are also in test.jsonl", "GGUF"]);
}

#[test]
fn contexts_with_the_first_text_of_a_test_pair_are_refused() {
    let fixture = task("kind = \"text\"", "kind = \"pair\"");
    for (from, to) in [
        ("rationales = 3\nrationale_candidates = 5", "rationales = 0"),
        ("test = \"test.jsonl\"", "test = \"test.jsonl\"\ncontexts = \"contexts.jsonl\""),
        ("Which? {{ text }}", "Which? {{ text }} {{ text_pair }}"),
    ] {
        replace(&fixture.path("task.toml"), from, to);
    }
    let pair = |first: usize, second: usize| {
        let label = if second.is_multiple_of(2) { "positive" } else { "negative" };
        serde_json::json!({"text": format!("premise {first}"), "text_pair": format!("second {second}"), "label": label}).to_string() + "\n"
    };
    std::fs::write(fixture.path("gold.jsonl"), (0..8).map(|i| pair(i, i)).collect::<String>()).unwrap();
    std::fs::write(fixture.path("test.jsonl"), pair(7, 8) + &pair(8, 9) + &pair(8, 10)).unwrap();
    std::fs::write(fixture.path("contexts.jsonl"), "{\"text\": \"other\"}\n{\"text\": \"Premise  8\"}\n").unwrap();
    let named = "the first texts of 2 test rows are also in contexts.jsonl (line 2 is line 2 there, line 3 is line 2 there)";
    refused(&fixture, 3, &["test.jsonl: ", named]);
    std::fs::write(fixture.path("test.jsonl"), pair(7, 7) + &pair(8, 9)).unwrap();
    refused(
        &fixture,
        3,
        &["1 test row is also in gold.jsonl (line 1 is line 8 there)", "the first texts of 1 test row are also in contexts.jsonl"],
    );
    std::fs::write(fixture.path("test.jsonl"), pair(7, 8)).unwrap();
    refused(
        &fixture,
        4,
        &["gold.jsonl: 1 of 8 rows have a first text that is also in test.jsonl, with other second texts; they stay", "GGUF"],
    );
}

#[test]
fn invalid_generators_are_refused() {
    refused(&task("\"generator.gguf\"", "\"no.gguf\""), 4, &["no.gguf"]);
    refused(&task("\"generator.gguf\"", "\"smollm2-135m-instruct\""), 4, &["lacuna fetch smollm2-135m-instruct"]);
    let fixture = Fixture::new();
    for content in [&b""[..], b"scripted", b"GGUF\x03\x00\x00\x00", &[7; 5000]] {
        std::fs::write(fixture.path("generator.gguf"), content).unwrap();
        let _ = std::fs::remove_dir_all(fixture.path("runs"));
        refused(&fixture, 4, &["generator.gguf"]);
    }
    std::fs::remove_file(fixture.path("generator.gguf")).unwrap();
    std::fs::create_dir(fixture.path("generator.gguf")).unwrap();
    refused(&fixture, 4, &["generator.gguf"]);
}

#[test]
fn invalid_small_models_are_refused() {
    let broken = |file: &str, content: Option<&[u8]>, words: &[&str]| {
        let fixture = Fixture::new();
        let path = fixture.path("small").join(file);
        match content {
            Some(content) => std::fs::write(path, content).unwrap(),
            None => std::fs::remove_file(path).unwrap(),
        }
        refused(&fixture, 4, words);
    };
    let whole = std::fs::read(Fixture::new().path("small/model.safetensors")).unwrap();
    broken("model.safetensors", None, &["model.safetensors"]);
    broken("model.safetensors", Some(&whole[..whole.len() / 2]), &["model.safetensors"]);
    broken("model.safetensors", Some(b"not one"), &["model.safetensors"]);
    broken("tokenizer.json", None, &["tokenizer.json"]);
    broken("tokenizer.json", Some(b"{}"), &["tokenizer.json"]);
    broken("config.json", Some(br#"{"model_type": "gpt2"}"#), &["config.json", "gpt2"]);
}

#[cfg(not(feature = "metal"))]
#[test]
fn a_device_that_this_build_cannot_use_is_refused() {
    let fixture = Fixture::new();
    let output = lacuna(&fixture, &["run", "task.toml", "--small-device", "metal"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{error}");
    assert!(error.contains("small model: device: metal:0 cannot be used"), "{error}");
    assert!(!fixture.path("runs").exists());
}

#[test]
fn a_run_folder_that_cannot_be_written_is_reported() {
    let fixture = Fixture::new();
    std::fs::write(fixture.path("runs"), "a file").unwrap();
    refused(&fixture, 6, &["cannot make the folder runs/tiny"]);
}

#[test]
fn an_invalid_command_line_is_refused() {
    let fixture = Fixture::new();
    assert_eq!(lacuna(&fixture, &["run"]).status.code(), Some(2));
    assert_eq!(lacuna(&fixture, &["run", "task.toml", "--targets", "firm"]).status.code(), Some(2));
    let help = lacuna(&fixture, &["--help"]);
    assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).contains("Exit codes"));
}

/// Simulates a full disk: no file may grow beyond 1 kB.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_reported() {
    let fixture = Fixture::new();
    let line = format!("trap '' XFSZ; ulimit -f 1; exec {} run task.toml --quiet", env!("CARGO_BIN_EXE_lacuna"));
    let mut command = Command::new("bash");
    let output = command.current_dir(fixture.folder.path()).args(["-c", &line]).env("LACUNA_WEIGHTS", "as-is").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(6), "{error}");
    assert!(error.contains("lacuna: cannot write runs/tiny/manifest.json"), "{error}");
    let left: Vec<_> = std::fs::read_dir(fixture.path("runs/tiny")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "journal" || name == "lock"), "{left:?}");
}

#[test]
fn predict_refuses_a_folder_without_a_model() {
    let fixture = Fixture::new();
    let output = lacuna(&fixture, &["predict", "nowhere"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nowhere: not the folder of a model"));
}

#[test]
fn doctor_reports_missing_and_damaged_files() {
    let fixture = Fixture::new();
    let output = lacuna(&fixture, &["doctor"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    for word in ["processor", "kernels", "back end", "not in the cache; get it with `lacuna fetch all-minilm-l6-v2`"] {
        assert!(text.contains(word), "{text}");
    }
    std::fs::create_dir_all(fixture.path("home/models/all-minilm-l6-v2")).unwrap();
    std::fs::write(fixture.path("home/models/all-minilm-l6-v2/config.json"), "{}").unwrap();
    std::fs::write(fixture.path("half.gguf"), b"GGUF\x03\0\0\0").unwrap();
    let output = lacuna(&fixture, &["doctor", "half.gguf"]);
    let (text, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(4), "{error}");
    assert!(text.contains("DAMAGED") && text.contains("cannot be used"), "{text}");
    assert!(error.contains("half.gguf") && error.contains("get it again with `lacuna fetch all-minilm-l6-v2`"), "{error}");
}
