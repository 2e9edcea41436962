//! The loop on a scripted generator: the files of a run, and that no crash changes them.

use std::collections::BTreeMap;
use std::path::Path;

use crate::common::{BAD, Fixture, GOOD, TASK, text};
use crate::crashes::{content, crashes_change_nothing};
use crate::scripted::{boxed, json, json_lines, options, setup};
use crate::words::of_words;
use lacuna::commands::options::{Machine, Options, Recipe};
use lacuna::commands::setup::Setup;
use lacuna::data::example::Input;
use lacuna::generator::scripted::Scripted;
use lacuna::generator::{CompletionRequest, PosteriorRequest};
use lacuna::run::summary::{Delivery, Method};
use lacuna::small::head::SmallHead;
use lacuna::small::model::SmallModel;
use lacuna::task::file::JudgeKind;
use serde_json::Value;

const METHODS: [Method; 4] = [Method::GoldOnly, Method::Seed, Method::S3, Method::S3Gold];

#[test]
fn a_run_leaves_a_dataset_with_provenance_a_model_and_a_summary() {
    let fixture = Fixture::new();
    let (setup, run) = (setup(&fixture), fixture.path("run"));
    let delivery = setup.run(&run, &METHODS, &mut boxed(of_words())).unwrap();
    let manifest: Value = serde_json::from_slice(&std::fs::read(run.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["stage"], "done");
    let mine: Vec<u64> = manifest["splits"]["mine"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect();
    assert_eq!((mine.len(), manifest["splits"]["select"].as_array().unwrap().len()), (20, 20));

    let rows = json_lines(&run.join("dataset.jsonl"));
    assert_eq!(rows.len(), 24 + 8 * delivery.best_round);
    assert_eq!(delivery.dataset_rows, rows.len());
    for row in &rows {
        let sum: f64 = ["negative", "positive"].iter().map(|l| row["target"][l].as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{row}");
        match row["round"].as_u64().unwrap() {
            0 => assert_eq!((row["rationales"].as_array().unwrap().len(), row["parent"].is_null()), (2, true)),
            _ => {
                assert!(mine.contains(&row["parent"].as_u64().unwrap()), "{row}");
                assert_eq!(row["rationales"].as_array().unwrap().len(), 1);
            }
        }
    }
    for round in 0..manifest["rounds"].as_array().unwrap().len() {
        let wrong = json_lines(&run.join(format!("rounds/{round}/misclassified.jsonl")));
        assert_eq!(wrong.len() as u64, manifest["rounds"][round]["errors_after"].as_u64().unwrap());
        let metrics: Value = serde_json::from_slice(&std::fs::read(run.join(format!("rounds/{round}/metrics.json"))).unwrap()).unwrap();
        let (likeness, changes) = (&metrics["synthetic"], &metrics["round"]["changes"]);
        assert!((0.0..=1.0).contains(&likeness["distances"]["mauve"].as_f64().unwrap()), "{likeness}");
        assert_eq!((likeness["to_parents"].is_null(), changes.is_null()), (round == 0, round == 0));
        let sum = |of: &str| changes[of].as_array().map_or(0, |counts| counts.iter().map(|n| n.as_u64().unwrap()).sum::<u64>());
        assert!(round == 0 || sum("stayed") + sum("appeared") == wrong.len() as u64);
    }
    assert_eq!(delivery.results.iter().map(|r| r.measured.correct.len()).collect::<Vec<_>>(), [30; 4]);
    let saved = lacuna_models::saved_head(&run.join("model")).unwrap();
    assert_eq!(saved, lacuna_models::SavedHead::Labels(vec!["negative".to_string(), "positive".to_string()]));
    the_delivered_model_is_calibrated(&fixture, &run, &delivery);
}

/// Without its temperature, the same run delivers the same model but for its head, and logits that are larger by that factor.
fn the_delivered_model_is_calibrated(fixture: &Fixture, run: &Path, delivery: &Delivery) {
    let scaled = delivery.scaled.unwrap();
    let loss = |method| delivery.candidates.iter().find(|one| one.method == method).unwrap().out_of_fold.log_loss;
    let least = if loss(Method::S3Gold) < loss(Method::GoldOnly) { Method::S3Gold } else { Method::GoldOnly };
    assert_eq!((delivery.delivered, scaled.log_loss[1], delivery.candidates.len()), (least, loss(least), 2));
    let (mut plain, other) = (setup(fixture), fixture.path("plain"));
    plain.chooses = false;
    assert_eq!(plain.run(&other, &METHODS, &mut boxed(of_words())).unwrap().scaled, None);
    let logits = |run: &Path| {
        let model = SmallModel::load(&run.join("model"), plain.task.labels_head(), 1, 1).unwrap();
        model.head.outputs(&model.reader, &model.base, &[Input::from("warm film and funny plot 7")]).unwrap().concat()
    };
    for (cool, hot) in logits(run).iter().zip(logits(&other)) {
        assert!((f64::from(*cool) * scaled.temperature - f64::from(hot)).abs() < 1e-4, "{cool} {hot} {scaled:?}");
    }
    assert!(scaled.temperature != 1.0 && scaled.log_loss.iter().chain(&scaled.brier.unwrap()).all(|x| x.is_finite()), "{scaled:?}");
}

/// The rows of a generator that does not know the task do harm.
#[test]
fn the_gold_only_model_is_delivered_if_the_judge_knows_nothing() {
    let fixture = Fixture::new();
    let setup = of_prompt(&fixture);
    let run = |name: &str, judge: fn(&PosteriorRequest) -> Vec<f32>| {
        let complete = |request: &CompletionRequest| text(request.prompt.user.contains("positive"), request.seed % 1_000_000);
        setup.run(&fixture.path(name), &METHODS, &mut boxed(Scripted::new(complete, judge))).unwrap()
    };
    let candidates = |delivery: &Delivery| delivery.candidates.iter().map(|one| one.method).collect::<Vec<_>>();
    let knowing = run("knowing", |request| {
        let good = GOOD.iter().any(|word| request.prompt.user.contains(word));
        if good { vec![-4.0, -1.0] } else { vec![-1.0, -4.0] }
    });
    assert_eq!(candidates(&knowing), [Method::GoldOnly, Method::S3Gold]);
    let ignorant = run("ignorant", |_| vec![-1.0, -1.0]);
    assert_eq!((ignorant.delivered, candidates(&ignorant)), (Method::GoldOnly, vec![Method::GoldOnly]));
    // With hard targets too.
    std::fs::write(fixture.path("task.toml"), TASK.replace("[train]", "[targets]\nkind = \"hard\"\n\n[train]")).unwrap();
    let complete = |request: &CompletionRequest| text(request.prompt.user.contains("positive"), request.seed % 1_000_000);
    let ignorant = &mut boxed(Scripted::new(complete, |_: &PosteriorRequest| vec![-1.0, -1.0]));
    let hard = of_prompt(&fixture).run(&fixture.path("hard"), &METHODS, ignorant).unwrap();
    assert_eq!(hard.delivered, Method::GoldOnly);
}

#[test]
fn a_crash_after_any_answer_changes_nothing() {
    let fixture = Fixture::new();
    crashes_change_nothing(&fixture, &of_prompt(&fixture), &METHODS, &[0, 1, 5, 6, 30, 46, 53, 60, 75, 80, 99, 115]);
}

/// With a judge that learns from hidden states, they are read once more, and its answers about synthetic rows are kept.
#[test]
fn a_crash_changes_nothing_of_a_stacked_judge() {
    let fixture = Fixture::new();
    crashes_change_nothing(&fixture, &setup(&fixture), &METHODS, &[17, 40, 46, 55, 75, 90, 120]);
    let whole = fixture.path("whole");
    let kept = lacuna::judge::kept::read(&whole.join("journal/states-gold.safetensors")).unwrap();
    assert!(kept.len() == 40 && kept.iter().all(|reply| reply.states.len() == 2 && reply.states[0].len() == 64));
    let judged = json_lines(&whole.join("journal/judge-0.jsonl"));
    assert!(judged.iter().all(|row| row["by_probe"].as_array().unwrap().len() == 7), "{judged:?}");
    let plain = fixture.path("plain");
    of_prompt(&fixture).run(&plain, &METHODS, &mut boxed(of_words())).unwrap();
    let targets = |run: &Path| json_lines(&run.join("dataset.jsonl")).into_iter().map(|row| row["target"].clone()).collect::<Vec<_>>();
    assert_ne!(targets(&whole), targets(&plain), "the head on hidden states has a say");
}

/// The task with a judge that learns no head.
fn of_prompt(fixture: &Fixture) -> Setup {
    Setup::new(&fixture.path("task.toml"), &Options { judge: Some(JudgeKind::Prompt), ..options() }).unwrap()
}

#[test]
fn a_round_that_is_stopped_after_its_fit_goes_on_from_the_checkpoint() {
    let fixture = Fixture::new();
    let options = Options { machine: Machine { checkpoint_every: 0, ..options().machine }, ..options() };
    let setup = Setup::new(&fixture.path("task.toml"), &options).unwrap();
    let (undisturbed, run) = (fixture.path("undisturbed"), fixture.path("run"));
    setup.run(&undisturbed, &METHODS, &mut boxed(of_words())).unwrap();
    setup.run(&run, &METHODS, &mut boxed(of_words().failing_after(3))).unwrap_err();
    let in_the_way = run.join("rounds/0/model");
    std::fs::create_dir_all(in_the_way.parent().unwrap()).unwrap();
    std::fs::write(&in_the_way, "a file where a folder is to be").unwrap();
    setup.run(&run, &METHODS, &mut boxed(of_words())).unwrap_err();
    let fit = json(&run.join("training/seed/fit.json"));
    assert_eq!(fit["step"], json(&undisturbed.join("manifest.json"))["rounds"][0]["steps"], "the fit was done");
    std::fs::remove_file(&in_the_way).unwrap();
    setup.run(&run, &METHODS, &mut boxed(of_words())).unwrap();
    assert_eq!(content(&run), content(&undisturbed), "the same files with the same bytes, and no checkpoints");
}

#[test]
fn a_torn_row_and_temporary_leftovers_do_no_harm() {
    let fixture = Fixture::new();
    let (setup, run) = (setup(&fixture), fixture.path("run"));
    setup.run(&run, &METHODS, &mut boxed(of_words().failing_after(20))).unwrap_err();
    let journal = run.join("journal/round-0.jsonl");
    let mut torn = std::fs::read(&journal).unwrap_or_default();
    torn.extend(b"{\"id\":23,\"prom");
    std::fs::write(&journal, torn).unwrap();
    std::fs::create_dir_all(run.join("rounds/0/.lacuna-unfinished-abc")).unwrap();
    std::fs::write(run.join(".lacuna-unfinished-abc"), "half").unwrap();
    setup.run(&run, &METHODS, &mut boxed(of_words())).unwrap();
    let files = content(&run);
    assert!(files.keys().all(|name| !name.contains("unfinished") && !name.contains("training/")), "{:?}", files.keys());
    let mut ids: Vec<u64> = json_lines(&journal).iter().map(|row| row["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), json_lines(&journal).len());
}

#[test]
fn a_finished_run_is_only_read() {
    let fixture = Fixture::new();
    let (setup, run) = (setup(&fixture), fixture.path("run"));
    let first = setup.run(&run, &METHODS, &mut boxed(of_words())).unwrap();
    let again = setup.run(&run, &METHODS, &mut boxed(of_words().failing_after(0))).unwrap();
    assert_eq!(first, again);
}

/// With other labels on the test rows, everything trained or written is the same.
#[test]
fn test_rows_influence_only_the_final_evaluation() {
    let fixture = Fixture::new();
    setup(&fixture).run(&fixture.path("one"), &METHODS, &mut boxed(of_words())).unwrap();
    let test = std::fs::read_to_string(fixture.path("test.jsonl")).unwrap();
    let swapped = test.replace("\"positive\"", "\"x\"").replace("\"negative\"", "\"positive\"").replace("\"x\"", "\"negative\"");
    std::fs::write(fixture.path("test.jsonl"), swapped).unwrap();
    setup(&fixture).run(&fixture.path("two"), &METHODS, &mut boxed(of_words())).unwrap();
    let (one, two) = (content(&fixture.path("one")), content(&fixture.path("two")));
    for (name, bytes) in one.iter().filter(|(name, _)| !["manifest.json", "summary.json"].contains(&name.as_str())) {
        assert_eq!(Some(bytes), two.get(name), "{name}");
    }
    assert_ne!(one["summary.json"], two["summary.json"]);
}

#[test]
fn changed_inputs_are_named_and_refused() {
    let fixture = Fixture::new();
    let run = fixture.path("run");
    setup(&fixture).run(&run, &METHODS, &mut boxed(of_words().failing_after(10))).unwrap_err();
    let task = std::fs::read_to_string(fixture.path("task.toml")).unwrap();
    std::fs::write(fixture.path("task.toml"), task.replace("rows = 24", "rows = 25")).unwrap();
    let error = setup(&fixture).run(&run, &METHODS, &mut boxed(of_words())).unwrap_err();
    assert!(error.to_string().contains("task.seed.rows: was 24, now 25"), "{error}");
    assert_eq!(error.exit_code(), 5);
}

#[test]
fn the_judge_keeps_the_rationales_that_are_typical_of_their_label() {
    let fixture = Fixture::new();
    let (setup, run) = (setup(&fixture), fixture.path("run"));
    let astray = |request: &CompletionRequest| {
        let wrong_way = request.prompt.user.starts_with("Why") && request.id % 5 < 2;
        text(request.prompt.user.contains("positive") != wrong_way, request.seed % 1_000_000)
    };
    let judge = |request: &PosteriorRequest| {
        let count = |words: &[&str]| words.iter().filter(|word| request.prompt.user.contains(*word)).count() as f32;
        vec![count(&BAD) - 4.0, count(&GOOD) - 4.0]
    };
    setup.run(&run, &METHODS, &mut boxed(Scripted::new(astray, judge))).unwrap();
    let kept: BTreeMap<String, Vec<String>> = serde_json::from_value(json(&run.join("rationales.json"))).unwrap();
    assert_eq!(json_lines(&run.join("journal/rationales.jsonl")).len(), 10);
    for (label, words) in [("negative", BAD), ("positive", GOOD)] {
        assert_eq!(kept[label].len(), 3);
        assert!(kept[label].iter().all(|reason| words.iter().any(|word| reason.contains(word))), "{kept:?}");
    }
}

#[test]
fn without_rationales_soft_targets_or_rounds_it_is_zerogen() {
    let fixture = Fixture::new();
    let mut setup = setup(&fixture);
    setup.task.seed.rationales = 0;
    setup.task.extrapolate.max_rounds = 0;
    setup.task.targets.kind = lacuna::task::file::TargetKind::Hard;
    let delivery = setup.run(&fixture.path("run"), &[Method::S3], &mut boxed(of_words())).unwrap();
    assert_eq!((delivery.best_round, delivery.dataset_rows, delivery.results.len()), (0, 24, 1));
    for row in json_lines(&fixture.path("run/dataset.jsonl")) {
        assert_eq!(row["target"][row["label"].as_str().unwrap()], 1.0);
    }
}

/// Algorithm 2 writes a text for each error; nothing is judged and the gold rows are not learnt.
#[test]
fn the_papers_recipe_extrapolates_each_error_once() {
    let fixture = Fixture::new();
    let options = Options { recipe: Recipe::Paper, ..options() };
    let mut setup = Setup::new(&fixture.path("task.toml"), &options).unwrap();
    setup.chooses = false;
    let run = fixture.path("run");
    let delivery = setup.run(&run, &[Method::GoldOnly, Method::Seed, Method::S3], &mut boxed(of_words())).unwrap();
    assert_eq!(delivery.delivered, Method::S3);
    let rounds = json(&run.join("manifest.json"))["rounds"].as_array().unwrap().clone();
    assert!(rounds.len() > 1 && rounds[1..].iter().all(|round| round["accepted"] == round["errors_before"]), "{rounds:?}");
    let judged = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("judge");
    assert!(!std::fs::read_dir(run.join("journal")).unwrap().any(|entry| judged(entry.unwrap())));
    let targets = json_lines(&run.join("dataset.jsonl")).into_iter().map(|row| row["target"][row["label"].as_str().unwrap()].clone());
    assert!(targets.into_iter().all(|target| target == 1.0));
}

/// What was taken away is written anew, and nothing that was made from it stays: not the judge's answers, not a round's model.
#[test]
fn old_and_new_never_mix() {
    let fixture = Fixture::new();
    let run = fixture.path("run");
    // Stopped in round 1, after round 0 was trained.
    let manifest = run.join("manifest.json");
    let reached = || manifest.exists() && json(&manifest)["rounds"].as_array().is_some_and(|rounds| !rounds.is_empty());
    let mut answers = 100;
    while !reached() {
        let _ = setup(&fixture).run(&run, &METHODS, &mut boxed(of_words().failing_after(answers)));
        answers += 5;
        assert!(answers < 1000, "round 0 was never trained");
    }
    let before = json(&run.join("manifest.json"));
    let old: Vec<Value> = json_lines(&run.join("journal/round-0.jsonl"));
    std::fs::remove_file(run.join("journal/round-0.jsonl")).unwrap();
    let other = |request: &CompletionRequest| format!("another {} of {} words", request.id, request.seed % 1000);
    let judge = |request: &PosteriorRequest| vec![-1.0 - (request.prompt.user.len() % 5) as f32, -2.0];
    setup(&fixture).run(&run, &METHODS, &mut boxed(Scripted::new(other, judge))).unwrap();
    let after = json(&run.join("manifest.json"));
    assert_ne!(before["rounds"][0]["made_from"], after["rounds"][0]["made_from"]);
    let rows = json_lines(&run.join("dataset.jsonl"));
    assert!(rows.iter().all(|row| old.iter().all(|old| old["text"] != row["text"])), "texts of before are in the dataset");
    // The same folder, written by that generator alone from there on, is the same.
    let again = fixture.path("again");
    std::fs::create_dir_all(again.join("journal")).unwrap();
    for name in ["rationales", "judge-rationales", "judge-gold", "states-gold"] {
        let from = run.join(format!("journal/{name}.jsonl"));
        std::fs::copy(from, again.join(format!("journal/{name}.jsonl"))).unwrap();
    }
    std::fs::copy(run.join("journal/states-gold.safetensors"), again.join("journal/states-gold.safetensors")).unwrap();
    setup(&fixture).run(&again, &METHODS, &mut boxed(Scripted::new(other, judge))).unwrap();
    assert_eq!(json_lines(&again.join("dataset.jsonl")), rows);
}

#[test]
fn answers_to_other_requests_are_not_taken() {
    let fixture = Fixture::new();
    let run = fixture.path("run");
    let _ = setup(&fixture).run(&run, &METHODS, &mut boxed(of_words().failing_after(60)));
    let path = run.join("journal/rationales.jsonl");
    let rows: Vec<String> = std::fs::read_to_string(&path).unwrap().lines().map(str::to_string).collect();
    let changed: Vec<String> = rows
        .iter()
        .map(|row| {
            let mut row: Value = serde_json::from_str(row).unwrap();
            row["mark"] = "0123456789abcdef".into();
            row.to_string() + "\n"
        })
        .collect();
    std::fs::write(&path, changed.concat()).unwrap();
    setup(&fixture).run(&run, &METHODS, &mut boxed(of_words())).unwrap();
    let written = json_lines(&path);
    assert_eq!(written.len(), 2 * rows.len(), "each was written anew");
    let undisturbed = fixture.path("undisturbed");
    setup(&fixture).run(&undisturbed, &METHODS, &mut boxed(of_words())).unwrap();
    assert_eq!(json_lines(&run.join("dataset.jsonl")), json_lines(&undisturbed.join("dataset.jsonl")));
}
