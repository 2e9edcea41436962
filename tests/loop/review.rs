//! `lacuna review`: doubtful rows out, decisions in, and a run that goes on with them.

use std::path::Path;

use crate::common::Fixture;
use crate::scripted::{boxed, json, json_lines, setup};
use crate::words::of_words;
use assert_cmd::Command;
use lacuna::run::summary::Method;

const METHODS: [Method; 4] = [Method::GoldOnly, Method::Seed, Method::S3, Method::S3Gold];

fn review(arguments: &[&str], folder: &Path) -> assert_cmd::assert::Assert {
    Command::cargo_bin("lacuna").unwrap().current_dir(folder).arg("review").args(arguments).assert()
}

/// The cells of a CSV file, by row.
fn cells(path: &Path) -> Vec<Vec<String>> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    reader.records().map(|record| record.unwrap().iter().map(str::to_string).collect()).collect()
}

#[test]
fn a_run_goes_on_with_what_was_decided_about_its_rows() {
    let fixture = Fixture::new();
    let (run, folder) = (fixture.path("run"), fixture.folder.path());
    setup(&fixture).run(&run, &METHODS, &mut boxed(of_words())).unwrap();
    review(&["run", "--csv", "doubts.csv"], folder).success();
    review(&["run", "--csv", "doubts.csv"], folder).code(5);
    let doubts = cells(&fixture.path("doubts.csv"));
    assert!(doubts.iter().all(|row| row[1].is_empty() && !row[8].is_empty()), "{doubts:?}");
    let before = json_lines(&run.join("dataset.jsonl"));
    let [rejected, relabelled] = [&before[0], &before[1]];
    let id = |row: &serde_json::Value| row["id"].as_str().unwrap().to_string();
    let other = if relabelled["label"] == "positive" { "negative" } else { "positive" };
    let line = json(&run.join("manifest.json"))["splits"]["select"][0].as_u64().unwrap();

    // What is no decision is told, all of it, and nothing is kept.
    let (first, second) = (id(rejected), id(relabelled));
    let wrong = format!("id,decision,new_label,mark\nrow-{first},delete,,\n9-9,reject,,\n{second},relabel,neutral,\n{second},reject,,0\n");
    std::fs::write(fixture.path("wrong.csv"), wrong).unwrap();
    let error = review(&["run", "--decisions", "wrong.csv"], folder).code(3);
    let error = String::from_utf8_lossy(&error.get_output().stderr).into_owned();
    assert!(
        ["wrong.csv:2", "wrong.csv:3", "wrong.csv:4", "wrong.csv:5", "delete", "9-9", "neutral", "another text"]
            .iter()
            .all(|part| error.contains(part)),
        "{error}"
    );
    assert!(!run.join("review.jsonl").exists());

    let decided = format!("id,decision,new_label\nrow-{first},reject,\nrow-{second},relabel,{other}\n");
    std::fs::write(fixture.path("decided.csv"), decided).unwrap();
    review(&["run", "--decisions", "decided.csv", "--author", "ann"], folder).success();
    let kept = json_lines(&run.join("review.jsonl"));
    assert_eq!((kept.len(), &kept[1]["author"], &kept[1]["label"]), (2, &"ann".into(), &other.into()));
    // Who decides about a gold row names it by its line.
    let gold = std::fs::read_to_string(fixture.path("gold.jsonl")).unwrap();
    let text = serde_json::from_str::<serde_json::Value>(gold.lines().nth(line as usize - 1).unwrap()).unwrap()["text"].clone();
    let of = lacuna::run::review::mark(text.as_str().unwrap(), None);
    let decision = serde_json::json!({"id": format!("gold-{line}"), "of": of, "verdict": "reject", "author": "ann", "at": 1});
    std::fs::write(run.join("review.jsonl"), std::fs::read_to_string(run.join("review.jsonl")).unwrap() + &format!("{decision}\n"))
        .unwrap();

    // Without being asked to, a finished run stays as it is.
    setup(&fixture).run(&run, &METHODS, &mut boxed(of_words())).unwrap();
    assert_eq!(json_lines(&run.join("dataset.jsonl")), before);
    let page = || std::fs::read_to_string(lacuna::report::write_page(&run).unwrap()).unwrap();
    assert!(page().contains("wait for <code>lacuna run --continue") && !page().contains("the run has gone by it"));
    let mut again = setup(&fixture);
    again.continues = true;
    let select = json(&run.join("manifest.json"))["rounds"][0]["select"].clone();
    again.run(&run, &METHODS, &mut boxed(of_words())).unwrap();
    let after = json_lines(&run.join("dataset.jsonl"));
    assert!(after.iter().all(|row| row["id"] != rejected["id"]));
    let row = after.iter().find(|row| row["id"] == relabelled["id"]).unwrap();
    assert_eq!((&row["label"], &row["target"][other], &row["relabelled"]), (&other.into(), &1.0.into(), &other.into()));
    let predicted = json_lines(&run.join("rounds/0/predictions.jsonl"));
    assert!(predicted.iter().all(|row| row["line"] != line) && predicted.len() == 39);
    let manifest = json(&run.join("manifest.json"));
    assert_eq!(manifest["stage"], "done");
    assert_ne!(manifest["rounds"][0]["select"], select, "the round is measured without the row");
    let told = page();
    for words in
        [&format!("relabelled: {other}"), &format!("gold row, line {line}"), "1970-01-01", "ann", relabelled["text"].as_str().unwrap()]
    {
        assert!(told.contains(words) && !told.contains("wait for <code>"), "{words}: {told}");
    }
    // Nothing was decided since: there is nothing to do.
    let written = std::fs::metadata(run.join("summary.json")).unwrap().modified().unwrap();
    again.run(&run, &METHODS, &mut boxed(of_words())).unwrap();
    assert_eq!(std::fs::metadata(run.join("summary.json")).unwrap().modified().unwrap(), written);
    // What was decided about is not asked again.
    review(&["run", "--csv", "more.csv"], folder).success();
    assert!(cells(&fixture.path("more.csv")).iter().all(|row| row[0] != format!("row-{first}") && row[0] != format!("row-{second}")));

    // A decision that is taken back is one that was never made.
    let back = format!("id,decision,new_label\n{first},accept,\n{second},accept,\ngold-{line},accept,\n");
    std::fs::write(fixture.path("back.csv"), back).unwrap();
    review(&["run", "--decisions", "back.csv"], folder).success();
    again.run(&run, &METHODS, &mut boxed(of_words())).unwrap();
    assert_eq!(json_lines(&run.join("dataset.jsonl")), before);
}

/// Lines of `review.jsonl` about gold rows, by their lines in the file.
fn about_gold(fixture: &Fixture, lines: impl Iterator<Item = usize>, verdict: &str, label: Option<&str>) -> String {
    let gold = json_lines(&fixture.path("gold.jsonl"));
    let decision = |line: usize| {
        let of = lacuna::run::review::mark(gold[line - 1]["text"].as_str().unwrap(), None);
        serde_json::json!({"id": format!("gold-{line}"), "of": of, "verdict": verdict, "label": label, "author": "ann", "at": 1})
            .to_string()
            + "\n"
    };
    lines.map(decision).collect()
}

/// The judges learn from the gold rows: after a decision about one they are asked again.
#[test]
fn a_decision_about_a_gold_row_makes_the_judges_anew() {
    let fixture = Fixture::new();
    let run = fixture.path("run");
    let mut setup = setup(&fixture);
    setup.run(&run, &METHODS, &mut boxed(of_words())).unwrap();
    let answers = std::fs::read_to_string(run.join("journal/judge-0.jsonl")).unwrap();
    let line = json(&run.join("manifest.json"))["splits"]["mine"][0].as_u64().unwrap() as usize;
    let other = if json_lines(&fixture.path("gold.jsonl"))[line - 1]["label"] == "positive" { "negative" } else { "positive" };
    std::fs::write(run.join("review.jsonl"), about_gold(&fixture, std::iter::once(line), "relabel", Some(other))).unwrap();
    setup.continues = true;
    setup.run(&run, &METHODS, &mut boxed(of_words())).unwrap();
    assert_ne!(std::fs::read_to_string(run.join("journal/judge-0.jsonl")).unwrap(), answers, "the heads on hidden states are others");
    let predicted = json_lines(&run.join("rounds/0/predictions.jsonl"));
    assert_eq!(predicted.iter().find(|row| row["line"] == line).unwrap()["label"], other);
}

/// A row that only chooses and moves thresholds changes no text and no target; the rounds are measured anew all the same.
#[test]
fn a_decision_about_a_row_that_chooses_changes_every_round() {
    let fixture = Fixture::new();
    let run = fixture.path("run");
    let mut setup = setup(&fixture);
    setup.run(&run, &METHODS, &mut boxed(of_words())).unwrap();
    let manifest = json(&run.join("manifest.json"));
    let line = manifest["splits"]["select"][0].as_u64().unwrap() as usize;
    std::fs::write(run.join("review.jsonl"), about_gold(&fixture, std::iter::once(line), "reject", None)).unwrap();
    setup.continues = true;
    setup.run(&run, &METHODS, &mut boxed(of_words())).unwrap();
    assert_ne!(json(&run.join("manifest.json"))["rounds"][0]["select"], manifest["rounds"][0]["select"]);
    assert!(json_lines(&run.join("rounds/0/predictions.jsonl")).iter().all(|row| row["line"] != line));
}

/// Nobody is left to learn a label from: that is said before anything is taken away.
#[test]
fn decisions_that_leave_a_label_without_gold_rows_are_refused() {
    let fixture = Fixture::new();
    let run = fixture.path("run");
    let mut setup = setup(&fixture);
    setup.run(&run, &METHODS, &mut boxed(of_words())).unwrap();
    let gold = json_lines(&fixture.path("gold.jsonl"));
    let negative = (1..=gold.len()).filter(|line| gold[line - 1]["label"] == "negative");
    std::fs::write(run.join("review.jsonl"), about_gold(&fixture, negative, "reject", None)).unwrap();
    let before = std::fs::read(run.join("manifest.json")).unwrap();
    setup.continues = true;
    let error = setup.run(&run, &METHODS, &mut boxed(of_words())).unwrap_err().to_string();
    assert!(error.contains("\"negative\"") && error.contains("take back"), "{error}");
    assert_eq!(std::fs::read(run.join("manifest.json")).unwrap(), before);
}

#[test]
fn only_a_finished_run_is_reviewed_and_without_a_terminal_a_file_is_asked_for() {
    let fixture = Fixture::new();
    let folder = fixture.folder.path();
    review(&["nothing"], folder).code(5);
    let _ = setup(&fixture).run(&fixture.path("run"), &[Method::S3], &mut boxed(of_words().failing_after(60)));
    review(&["run"], folder).code(5);
    setup(&fixture).run(&fixture.path("run"), &[Method::S3], &mut boxed(of_words())).unwrap();
    let error = review(&["run"], folder).code(1);
    assert!(String::from_utf8_lossy(&error.get_output().stderr).contains("--csv FILE"));
}
