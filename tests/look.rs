//! Looking before a run and beside it: `lacuna preview` and `lacuna status`.

mod common;
#[path = "common/scripted.rs"]
mod scripted;
#[path = "common/words.rs"]
mod words;

use std::path::Path;

use common::Fixture;
use lacuna::commands::preview::preview;
use lacuna::commands::status::status;
use lacuna::generator::scripted::Scripted;
use lacuna::generator::{CompletionRequest, PosteriorRequest};
use lacuna::run::folder::RunDir;
use lacuna::run::summary::Method;
use scripted::{boxed, json, json_lines, options, setup};
use words::of_words;

/// The names of all files of a folder and its folders.
fn files(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        names.push(entry.path().display().to_string());
        if entry.path().is_dir() {
            names.extend(files(&entry.path()));
        }
    }
    names.sort();
    names
}

#[test]
fn a_preview_shows_what_a_run_would_do_and_writes_nothing() {
    let fixture = Fixture::new();
    let before = files(fixture.folder.path());
    let text = preview(&fixture.path("task.toml"), &options(), &mut boxed(of_words())).unwrap();
    assert!(text.contains("a prompt of the seed") && text.contains("a prompt of the judge"), "{text}");
    assert!(text.contains("of 10 would be accepted") && text.contains("gold rows it is right on"), "{text}");
    assert_eq!(files(fixture.folder.path()), before);
}

#[test]
fn a_generator_that_does_not_follow_is_told() {
    let fixture = Fixture::new();
    let write = |_: &CompletionRequest| "As an AI language model, I cannot write that.".to_string();
    let judge = |request: &PosteriorRequest| vec![0.5f32.ln(); request.words.len()];
    let refuses = Scripted::new(write, judge);
    let text = preview(&fixture.path("task.toml"), &options(), &mut boxed(refuses)).unwrap();
    assert!(text.contains("[refusal]") && text.contains("warning: 0 of 20 texts would be accepted"), "{text}");
    assert!(text.contains("not told from chance"), "{text}");
}

#[test]
fn a_status_says_how_far_a_run_is() {
    let fixture = Fixture::new();
    let (run, methods) = (fixture.path("run"), [Method::S3]);
    let _ = setup(&fixture).run(&run, &methods, &mut boxed(of_words().failing_after(60)));
    let stopped = status(&run).unwrap();
    assert!(stopped.contains(": stopped") && stopped.contains("stage   ") && stopped.contains("journal/"), "{stopped}");
    let open = RunDir::open(&run).unwrap();
    assert!(status(&run).unwrap().contains(": running"));
    drop(open);
    setup(&fixture).run(&run, &methods, &mut boxed(of_words())).unwrap();
    let done = status(&run).unwrap();
    let rounds = json(&run.join("manifest.json"))["rounds"].as_array().unwrap().len();
    assert!(done.contains(": done") && done.matches("\n| ").count() >= rounds, "{done}");
    assert!(!json_lines(&run.join("dataset.jsonl")).is_empty());
    assert!(status(&fixture.path("nothing")).is_err());
}
