//! Looking before a run and beside it: `lacuna preview`, `lacuna estimate`, `lacuna status`, and the events of a run.

use std::path::Path;

use crate::common::Fixture;
use crate::scripted::{boxed, json, json_lines, options, setup};
use crate::words::of_words;
use lacuna::commands::estimate::estimate;
use lacuna::commands::options::Options;
use lacuna::commands::preview::preview;
use lacuna::commands::setup::Setup;
use lacuna::commands::status::status;
use lacuna::generator::scripted::Scripted;
use lacuna::generator::{CompletionRequest, PosteriorRequest};
use lacuna::run::cost::{Spent, Work};
use lacuna::run::folder::RunDir;
use lacuna::run::live;
use lacuna::run::outlook::{ESTIMATE, Expected, Outlook};
use lacuna::run::summary::Method;
use lacuna::synthesis::plan::{Sizes, Unit, parts};

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
    assert!(text.contains("a prompt for reasons") && text.contains("a prompt of a round, if this gold row is mistaken"), "{text}");
    assert!(text.contains("of 10 would be accepted") && text.contains("gold rows it is right on"), "{text}");
    assert_eq!(files(fixture.folder.path()), before);
}

#[test]
fn an_estimate_names_all_parts_and_writes_nothing() {
    let fixture = Fixture::new();
    let before = files(fixture.folder.path());
    let text = estimate(&fixture.path("task.toml"), &options(), &mut boxed(of_words())).unwrap();
    for part in ["rationales", "seed · writing", "round 1 · judging", "choosing the model", "S3 + gold · training"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains("\ntime         about ") && text.contains("\nmemory       "), "{text}");
    assert_eq!(files(fixture.folder.path()), before);
}

/// What is planned is what is done: a run with every round spends time on the planned parts, in their order, and on no other.
#[test]
fn a_run_does_the_parts_that_are_planned() {
    let fixture = Fixture::new();
    let options = Options { rounds: Some(1), ..options() };
    let setup = Setup::new(&fixture.path("task.toml"), &options).unwrap();
    let methods = [Method::GoldOnly, Method::Seed, Method::S3, Method::S3Gold];
    setup.run(&fixture.path("run"), &methods, &mut boxed(of_words())).unwrap();
    let sizes = Sizes { strata: 2, mine: 20, select: 20, test: 20, unlabelled: 0 };
    let plan = parts(&setup.task, &methods, true, sizes);
    let planned: Vec<Work> = plan.iter().map(|part| part.work).collect();
    let mut done: Vec<Work> = Spent::read(&fixture.path("run")).iter().map(|spent| spent.part).collect();
    // What takes less than a millisecond is not noted.
    done.dedup();
    let order: Vec<Option<usize>> = done.iter().map(|part| planned.iter().position(|own| own == part)).collect();
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{done:?}, planned {planned:?}");
    assert!(done.len() + 4 >= planned.len(), "{done:?}, planned {planned:?}");
    let fit = plan.iter().find(|part| part.work == Work::Trained(1)).unwrap();
    let spent = Spent::read(&fixture.path("run")).into_iter().find(|spent| spent.part == Work::Trained(1)).unwrap();
    let rows = fit.amounts.iter().find(|(unit, _)| *unit == Unit::Learnt).unwrap().1;
    let steps: usize = fit.amounts.iter().filter(|(unit, _)| matches!(unit, Unit::Step | Unit::GoldStep)).map(|(_, steps)| steps).sum();
    assert_eq!((rows, steps), (spent.fits.rows, spent.fits.steps + 1));
}

#[test]
fn events_tell_of_parts_rounds_and_progress_as_json_lines() {
    let fixture = Fixture::new();
    let file = fixture.path("events.jsonl");
    live::write_events(&file).unwrap();
    setup(&fixture).run(&fixture.path("run"), &[Method::S3], &mut boxed(of_words())).unwrap();
    let events = json_lines(&file);
    let of = |kind: &str| events.iter().filter(|event| event["event"] == kind).count();
    let rounds = json(&fixture.path("run").join("manifest.json"))["rounds"].as_array().unwrap().len();
    assert_eq!((of("run"), of("round")), (1, rounds));
    assert!(of("part") >= 4 && of("progress") >= 1, "{events:?}");
    assert!(events.iter().all(|event| event["at"].as_f64().unwrap() > 1e9));
}

#[test]
fn a_run_in_the_small_before_a_run_leaves_nothing_but_what_is_expected_of_time() {
    let fixture = Fixture::new();
    let file = fixture.path("events.jsonl");
    live::write_events(&file).unwrap();
    let dataset = |run: &str| std::fs::read(fixture.path(run).join("dataset.jsonl")).unwrap();
    let methods = [Method::GoldOnly, Method::S3];
    setup(&fixture).run(&fixture.path("without"), &methods, &mut boxed(of_words())).unwrap();
    assert!(!fixture.path("without").join(ESTIMATE).exists());
    let told = json_lines(&file).len();
    let (mut tried, mut generator) = (setup(&fixture), boxed(of_words()));
    tried.try_out(&methods, &mut generator).unwrap();
    let more: Vec<_> = json_lines(&file).split_off(told);
    assert!(more.iter().all(|event| event["event"] == "said"), "{more:?}");
    tried.run(&fixture.path("with"), &methods, &mut generator).unwrap();
    let expected: Outlook = serde_json::from_value(json(&fixture.path("with").join(ESTIMATE))).unwrap();
    assert!(expected.whole() > 0.0);
    assert_eq!(dataset("with"), dataset("without"));
    // A trial that fails keeps no run from beginning.
    let mut failing = setup(&fixture);
    failing.try_out(&methods, &mut boxed(of_words().failing_after(5))).unwrap();
    failing.run(&fixture.path("after"), &methods, &mut boxed(of_words())).unwrap();
    assert!(!fixture.path("after").join(ESTIMATE).exists());
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
    // Where the run began with an estimate, it says what is left of that.
    assert!(!stopped.contains("\nleft "), "{stopped}");
    let parts = [Work::Calibration, Work::Written(0), Work::Trained(0), Work::Written(1)].map(|part| Expected { part, seconds: 60.0 });
    let estimate = serde_json::to_vec(&Outlook { parts: parts.to_vec() }).unwrap();
    std::fs::write(run.join(ESTIMATE), estimate).unwrap();
    assert!(status(&run).unwrap().contains("\nleft         about "), "{stopped}");
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
