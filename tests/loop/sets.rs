//! Texts with several labels or none, on a scripted generator.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::{Fixture, TASK};
use crate::crashes::crashes_change_nothing;
use crate::scripted::{boxed, json, json_lines, options, setup};
use crate::words::{of_set, of_words};
use lacuna::commands::check::check;
use lacuna::commands::compare::{Comparison, compare};
use lacuna::commands::label::{Labelling, label};
use lacuna::commands::methods::Budget;
use lacuna::commands::options::Options;
use lacuna::commands::preview::preview;
use lacuna::commands::report::of_run;
use lacuna::commands::setup::Setup;
use lacuna::report::write_page;
use lacuna::run::summary::Method;
use lacuna::task::file::JudgeKind;
use serde_json::Value;

const METHODS: [Method; 5] = [Method::GoldOnly, Method::ReadGold, Method::Seed, Method::S3, Method::S3Gold];

/// Whether a text is positive and negative, by its number.
fn labels(number: u64) -> (bool, bool) {
    (number % 4 < 2, number % 4 == 1 || number % 4 == 2)
}

/// A row; of gold rows every seventh has a wrong label more, so that there are errors.
fn row(number: u64) -> String {
    let (good, bad) = labels(number);
    let said: Vec<&str> = [(good, "positive"), (bad != number.is_multiple_of(7), "negative")]
        .into_iter()
        .filter(|(has, _)| *has)
        .map(|(_, name)| name)
        .collect();
    serde_json::json!({"text": of_set(good, bad, number), "labels": said}).to_string() + "\n"
}

fn fixture() -> Fixture {
    let fixture = Fixture::new();
    let rows = |from: u64, count: u64| (from..from + count).map(row).collect::<String>();
    std::fs::write(fixture.path("gold.jsonl"), rows(0, 40)).unwrap();
    std::fs::write(fixture.path("test.jsonl"), rows(1000, 30)).unwrap();
    let texts = (0..50).map(|i| of_set(labels(i).0, labels(i).1, 5000 + i) + "\n").collect::<String>();
    std::fs::write(fixture.path("texts.txt"), texts).unwrap();
    let (before, judge) = TASK.split_once("[[prompts.judge]]").unwrap();
    assert!(judge.contains("Which?"));
    let task = before
        .replace("kind = \"text\"", "kind = \"multi_label\"")
        .replace("rationales = 3\nrationale_candidates = 5\nrationales_per_example = 2\n", "")
        .replace("rationales_per_example = 1\n", "")
        .replace("[prompts.rationale]\nuser = \"Why {{ label }}?\"\n", "")
        .replace("Write {{ label }}", "Write of several {{ label }}")
        .replace("Like {{ text }},", "Like {{ text }}, of several")
        .replace("[models]", "unlabelled = \"texts.txt\"\n\n[models]");
    let judge = "[[prompts.judge]]\nuser = \"{{ text }} Has it {{ label }}?\"\nanswer_start = \"Answer:\"\n";
    std::fs::write(fixture.path("task.toml"), task + judge).unwrap();
    fixture
}

fn names(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

fn has(row: &Value, label: &str) -> bool {
    names(&row["labels"]).contains(&label)
}

#[test]
fn texts_with_several_labels_are_written_read_judged_and_learnt() {
    let fixture = fixture();
    let run = fixture.path("run");
    let delivery = setup(&fixture).run(&run, &METHODS, &mut boxed(of_words())).unwrap();
    let rows = json_lines(&run.join("dataset.jsonl"));
    // Written for sets that gold rows have, the labels in turn and having none too.
    let seed: Vec<&Value> = rows.iter().filter(|row| row["origin"] == "written" && row["round"] == 0).collect();
    let journal = json_lines(&run.join("journal/round-0.jsonl"));
    let leads: Vec<u64> = journal.iter().take(9).map(|row| row["lead"].as_u64().unwrap()).collect();
    assert_eq!(leads, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
    for sets in [&["positive"][..], &["negative"], &["negative", "positive"], &[]] {
        assert!(seed.iter().any(|row| names(&row["labels"]) == sets), "{sets:?}");
    }
    for row in &rows {
        for label in ["positive", "negative"] {
            let p = row["target"][label].as_f64().unwrap();
            assert!((0.0..=1.0).contains(&p), "{row}");
        }
    }
    // The judge believes what the words say: it was written for that, or is read as that.
    let right = |row: &&&Value| ["positive", "negative"].iter().all(|label| has(row, label) == (row["target"][label].as_f64() > Some(0.5)));
    assert!(seed.iter().filter(right).count() > 20, "{} of {}", seed.iter().filter(right).count(), seed.len());
    let read: Vec<&Value> = rows.iter().filter(|row| row["origin"] == "read").collect();
    assert_eq!((read.len(), rows.len()), (50, delivery.dataset_rows));
    let as_it_is = |row: &&&Value| {
        let (good, bad) = labels(row["line"].as_u64().unwrap() - 1);
        (has(row, "positive"), has(row, "negative")) == (good, bad)
    };
    assert!(read.iter().filter(as_it_is).count() > 40, "{} of 50", read.iter().filter(as_it_is).count());

    // Errors are by label: what is written for one has its row's labels, and stands for the label that was mistaken.
    let gold = json_lines(&fixture.path("gold.jsonl"));
    let wrong = json_lines(&run.join("rounds/0/misclassified.jsonl"));
    let written = json_lines(&run.join("journal/round-1.jsonl"));
    assert!(!wrong.is_empty() && !written.is_empty());
    for row in &written {
        let error = wrong.iter().find(|error| error["line"] == row["parent"]).unwrap();
        let numbers = |value: &Value| value.as_array().unwrap().iter().map(|label| label.as_u64().unwrap()).collect::<Vec<_>>();
        let (set, said, lead) = (numbers(&row["labels"]), numbers(&error["predicted"]), row["lead"].as_u64().unwrap());
        assert_eq!(set, numbers(&error["labels"]));
        assert_ne!(set.contains(&lead), said.contains(&lead), "{row} {error}");
        let of_parent = names(&gold[row["parent"].as_u64().unwrap() as usize - 1]["labels"]).len();
        assert_eq!(set.len(), of_parent);
    }

    // A model that transformers opens, with its thresholds, which decide what is predicted.
    let config = json(&run.join("model/config.json"));
    assert_eq!(config["problem_type"], "multi_label_classification");
    let thresholds: Vec<f64> = config["thresholds"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).collect();
    assert!(thresholds.len() == 2 && thresholds.iter().all(|p| (0.05..=0.95).contains(p)), "{thresholds:?}");
    assert_eq!(delivery.thresholds.keys().collect::<Vec<_>>(), ["negative", "positive"]);
    assert!(delivery.candidates.len() == 3 && delivery.scaled.is_some() && delivery.as_delivered.is_some());
    predictions_are_those_of_the_evaluation(&fixture, &run, &thresholds);

    let table = of_run(&delivery, &run);
    for words in ["micro-F1", "macro-F1", "exact match", "F1 of rows on 30 test rows", "thresholds   by label", "| negative "] {
        assert!(table.contains(words), "{words}: {table}");
    }
    assert!(!table.contains("rationales"), "{table}");
    let page = write_page(&run).unwrap();
    let page = std::fs::read_to_string(page).unwrap();
    for words in [
        "over the labels of 30 test rows; with a threshold of 0.5",
        "<th scope=\"col\">micro-F1</th><th scope=\"col\">log loss</th>",
        "<th scope=\"col\">micro-F1</th>",
        "negative, positive",
    ] {
        assert!(page.contains(words), "{words}");
    }
}

fn predictions_are_those_of_the_evaluation(fixture: &Fixture, run: &Path, thresholds: &[f64]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lacuna"));
    let piped = command.args(["predict", "--logits"]).arg(run.join("model")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    child.stdin.take().unwrap().write_all(&std::fs::read(fixture.path("test.jsonl")).unwrap()).unwrap();
    let output = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let rows: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 30);
    let mut counts = [[0usize; 3]; 2];
    for (row, given) in rows.iter().zip(json_lines(&fixture.path("test.jsonl"))) {
        for (label, name) in ["negative", "positive"].into_iter().enumerate() {
            let p = row["probabilities"][name].as_f64().unwrap();
            let logit = row["logits"][label].as_f64().unwrap();
            assert!((p - 1.0 / (1.0 + (-logit).exp())).abs() < 1e-5, "{row}");
            assert_eq!(has(row, name), p > thresholds[label], "{row}");
            counts[label][0] += usize::from(has(&given, name));
            counts[label][1] += usize::from(has(row, name));
            counts[label][2] += usize::from(has(&given, name) && has(row, name));
        }
    }
    let summary = json(&run.join("summary.json"));
    for (label, name) in ["negative", "positive"].into_iter().enumerate() {
        let counted = ["gold", "predicted", "right"].map(|of| summary["as_delivered"]["labels"][name][of].as_u64().unwrap() as usize);
        assert_eq!(counted, counts[label], "{name}");
    }
}

#[test]
fn a_crash_changes_nothing() {
    let fixture = fixture();
    crashes_change_nothing(&fixture, &setup(&fixture), &METHODS, &[3, 60, 100, 190, 260]);
}

/// All test labels are others: nothing but what is measured on them is.
#[test]
fn test_labels_are_not_looked_at() {
    let fixture = fixture();
    let (one, two) = (fixture.path("one"), fixture.path("two"));
    setup(&fixture).run(&one, &METHODS, &mut boxed(of_words())).unwrap();
    let test = json_lines(&fixture.path("test.jsonl"));
    let swapped = test.into_iter().map(|mut row| {
        row["labels"] = if has(&row, "positive") { serde_json::json!([]) } else { serde_json::json!(["negative", "positive"]) };
        row.to_string() + "\n"
    });
    std::fs::write(fixture.path("test.jsonl"), swapped.collect::<String>()).unwrap();
    setup(&fixture).run(&two, &METHODS, &mut boxed(of_words())).unwrap();
    for name in ["dataset.jsonl", "model/model.safetensors", "model/config.json", "rounds/1/misclassified.jsonl", "doubtful.jsonl"] {
        assert_eq!(std::fs::read(one.join(name)).unwrap(), std::fs::read(two.join(name)).unwrap(), "{name}");
    }
}

#[test]
fn states_alone_may_judge_each_label() {
    let fixture = fixture();
    let run = fixture.path("run");
    let by_states = Options { judge: Some(JudgeKind::States), ..options() };
    Setup::new(&fixture.path("task.toml"), &by_states).unwrap().run(&run, &METHODS, &mut boxed(of_words())).unwrap();
    let judged = json_lines(&run.join("journal/read-0.jsonl"));
    // A question about each label of each text, without its words, and every judge's head on the states.
    assert!(judged.len() == 100 && judged.iter().all(|row| row["log_probs"].as_array().unwrap().is_empty()));
    assert!(judged.iter().all(|row| row["by_probe"].as_array().unwrap().len() == 2 + 5));
}

#[test]
fn a_comparison_and_what_is_looked_at_before_a_run() {
    let fixture = fixture();
    let task = fixture.path("task.toml");
    let text = preview(&task, &options(), &mut boxed(of_words())).unwrap();
    for words in ["\npositive: 10 of 10", "(negative and positive) ", "\nnone: 10 of 10", "of 80 answers about 40 gold rows it is right on"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    let folder = fixture.path("compared");
    let methods = ["gold only", "S3", "S3 + gold"].map(String::from);
    let comparison = Comparison {
        task: &task,
        options: &options(),
        gold: &[20, 30],
        draws: 2,
        methods: &methods,
        budget: Budget::Rows,
        curve: None,
        folder: &folder,
    };
    let table = compare(&comparison, &mut boxed(of_words())).unwrap();
    for words in ["micro-F1", "F1 of rows", "sets of labels, judge"] {
        assert!(table.contains(words), "{words}: {table}");
    }
    // With other gold rows texts are for other sets of labels: no run begins with another's, for which it would pay.
    let journals = seeds_below(&folder);
    assert!(journals.len() >= 4, "{journals:?}");
    for journal in journals {
        let ids: Vec<u64> = json_lines(&journal).iter().map(|row| row["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{}", journal.display());
    }
}

/// The journals of seeds in a folder and its folders.
fn seeds_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let of = |path: PathBuf| match path.is_dir() {
        true => seeds_below(&path),
        false => {
            if path.ends_with("journal/round-0.jsonl") {
                vec![path]
            } else {
                Vec::new()
            }
        }
    };
    entries.flat_map(of).collect()
}

/// A model that is trained again begins without the thresholds that it had.
#[test]
fn thresholds_are_not_handed_on() {
    let fixture = fixture();
    let run = fixture.path("run");
    setup(&fixture).run(&run, &METHODS, &mut boxed(of_words())).unwrap();
    assert!(json(&run.join("model/config.json"))["thresholds"].is_array());
    let task = std::fs::read_to_string(fixture.path("task.toml")).unwrap();
    let again = task.replace("small = \"small\"", "small = \"run/model\"").replace("[train]", "[deliver]\nfolds = 0\n\n[train]");
    std::fs::write(fixture.path("task.toml"), again).unwrap();
    setup(&fixture).run(&fixture.path("again"), &METHODS, &mut boxed(of_words())).unwrap();
    for model in ["again/model", "again/rounds/0/model"] {
        assert!(json(&fixture.path(model).join("config.json"))["thresholds"].is_null(), "{model}");
    }
}

#[test]
fn texts_are_labelled_with_each_label() {
    let fixture = fixture();
    let (task, folder, options) = (fixture.path("task.toml"), fixture.path("labelled"), options());
    let (texts, out) = (fixture.path("others.txt"), fixture.path("labels.jsonl"));
    let written: Vec<String> = (0..20).map(|i| of_set(labels(i).0, labels(i).1, 7000 + i)).collect();
    std::fs::write(&texts, written.join("\n") + "\n").unwrap();
    let labelling = Labelling { task: &task, options: &options, texts: &texts, out: Some(&out), folder: &folder };
    // Two questions tried the judge, 80 were about gold rows, 18 about texts; 22 are left.
    label(&labelling, &mut boxed(of_words().failing_after(100))).unwrap_err();
    label(&labelling, &mut boxed(of_words().failing_after(22))).unwrap();
    for (i, row) in json_lines(&out).iter().enumerate() {
        assert_eq!(row["text"], written[i]);
        let (good, bad) = labels(i as u64);
        assert_eq!((has(row, "positive"), has(row, "negative")), (good, bad), "{row}");
        assert!(["positive", "negative"].iter().all(|label| has(row, label) == (row["target"][label].as_f64() > Some(0.5))), "{row}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    let fixture = fixture();
    let path = fixture.path("task.toml");
    let task = std::fs::read_to_string(&path).unwrap();
    let refused = |from: &str, to: &str| {
        assert!(task.contains(from), "{from}");
        std::fs::write(&path, task.replace(from, to)).unwrap();
        Setup::new(&path, &options()).map(|_| ()).unwrap_err().to_string()
    };
    for (from, to, words) in [
        ("Has it {{ label }}?", "Well?", "which label it is asked about"),
        ("Has it {{ label }}?", "Which of {{ labels }}?", "which label it is asked about"),
        ("answer_start = \"Answer:\"", "words = { positive = \" a\" }", "words are those for yes and no"),
        ("rows = 24", "rows = 24\nrationales = 2", "without rationales"),
        ("[models]", "[list]\ntitle = \"Texts:\"\n\n[models]", "only for single texts with one label"),
    ] {
        let error = refused(from, to);
        assert!(error.contains(words), "{words}: {error}");
    }
    std::fs::write(&path, &task).unwrap();
    std::fs::write(fixture.path("gold.jsonl"), "{\"text\": \"a b c\", \"labels\": [\"good\"]}\n{\"text\": \"b\"}\n").unwrap();
    let error = check(&path, &options()).unwrap_err().to_string();
    assert!(error.contains("\"good\"; the task's labels are") && error.contains("field \"labels\" is missing"), "{error}");
}
