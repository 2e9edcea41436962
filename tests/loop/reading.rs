//! Unlabelled texts, real ones and those that continue lists: which are read, what is learnt from them, and that no gold row is judged by
//! what has learnt from it.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use crate::common::{Fixture, TASK, text};
use crate::crashes::crashes_change_nothing;
use crate::scripted::{boxed, json, json_lines, options, setup};
use crate::words::of_words;
use lacuna::commands::options::Options;
use lacuna::commands::setup::Setup;
use lacuna::run::summary::Method;
use lacuna::task::file::JudgeKind;
use serde_json::Value;

const METHODS: [Method; 5] = [Method::GoldOnly, Method::ReadGold, Method::Seed, Method::S3, Method::S3Gold];

/// A task with 60 plain lines of unlabelled texts; the first is a gold row's.
fn fixture() -> Fixture {
    let fixture = Fixture::new();
    let texts = (0..60).map(|i| text(i % 2 == 0, if i == 0 { 0 } else { 5000 + i }) + "\n").collect::<String>();
    std::fs::write(fixture.path("texts.txt"), texts).unwrap();
    std::fs::write(fixture.path("task.toml"), TASK.replace("[models]", "unlabelled = \"texts.txt\"\n\n[models]")).unwrap();
    fixture
}

fn reads_none(fixture: &Fixture) -> Setup {
    Setup::new(&fixture.path("task.toml"), &Options { read_rows: Some(0), ..options() }).unwrap()
}

fn lines(run: &Path, round: usize) -> BTreeSet<u64> {
    json(&run.join(format!("journal/texts-{round}.json"))).as_array().unwrap().iter().map(|line| line.as_u64().unwrap()).collect()
}

#[test]
fn texts_are_read_judged_and_learnt_from() {
    let fixture = fixture();
    let run = fixture.path("run");
    let delivery = setup(&fixture).run(&run, &METHODS, &mut boxed(of_words())).unwrap();
    assert_eq!(lines(&run, 0), (2..=60).collect(), "all but the gold row's, before the seed");
    assert!(!run.join("journal/texts-1.json").exists());
    let manifest = json(&run.join("manifest.json"));
    assert_eq!((manifest["rounds"][0]["read"].as_u64(), manifest["rounds"][0]["rows"].as_u64()), (Some(59), Some(24 + 59)));
    assert!(run.join("journal/states-gold.safetensors").exists(), "what is read is judged by states too, by default");

    let rows = json_lines(&run.join("dataset.jsonl"));
    let read: Vec<&Value> = rows.iter().filter(|row| row["origin"] == "read").collect();
    assert_eq!((read.len(), rows.len()), (59, delivery.dataset_rows));
    for row in &read {
        let target = |label: &str| row["target"][label].as_f64().unwrap();
        let (good, line) = (target("positive") > target("negative"), row["line"].as_u64().unwrap());
        assert_eq!(row["label"], if good { "positive" } else { "negative" }, "{row}");
        assert_eq!(row["text"], text((line - 1) % 2 == 0, 4999 + line), "{row}");
    }
    let right = read.iter().filter(|row| (row["label"] == "positive") == ((row["line"].as_u64().unwrap() - 1) % 2 == 0)).count();
    assert!(right > 50, "{right} of 59");
    let of = |method| delivery.results.iter().find(|result| result.method == method).unwrap().measured.synthetic_rows;
    assert_eq!((of(Method::ReadGold), of(Method::Seed), of(Method::GoldOnly)), (59, 83, 0));
    assert_eq!(delivery.candidates.iter().map(|one| one.method).collect::<Vec<_>>(), [Method::GoldOnly, Method::ReadGold, Method::S3Gold]);
}

/// A judge by states alone asks for no word of any text, and judges as well where the states tell the label.
#[test]
fn states_alone_may_judge() {
    let fixture = fixture();
    let run = fixture.path("run");
    let by_states = Options { judge: Some(JudgeKind::States), ..options() };
    Setup::new(&fixture.path("task.toml"), &by_states).unwrap().run(&run, &METHODS, &mut boxed(of_words())).unwrap();
    assert!(!run.join("journal/judge-gold.jsonl").exists() && run.join("journal/states-gold.safetensors").exists());
    let of_words = |row: &Value| row["log_probs"].as_array().unwrap().len();
    let judged = [json_lines(&run.join("journal/read-0.jsonl")), json_lines(&run.join("journal/judge-0.jsonl"))].concat();
    assert!(judged.len() > 59 && judged.iter().all(|row| of_words(row) == 0 && !row["by_probe"].as_array().unwrap().is_empty()));
    let rows = json_lines(&run.join("dataset.jsonl"));
    let read = rows.iter().filter(|row| row["origin"] == "read");
    let right = read.filter(|row| (row["label"] == "positive") == ((row["line"].as_u64().unwrap() - 1) % 2 == 0)).count();
    assert!(right > 40, "{right} of 59");
}

/// Where there are more texts than are read, some are kept for the rounds, and none is read twice.
#[test]
fn rounds_read_what_is_left() {
    let fixture = fixture();
    let run = fixture.path("run");
    let keys = "unlabelled = \"texts.txt\"\n\n[read]\nrows = 20\nlater_share = 0.5\n\n[models]";
    std::fs::write(fixture.path("task.toml"), TASK.replace("[models]", keys)).unwrap();
    setup(&fixture).run(&run, &METHODS, &mut boxed(of_words())).unwrap();
    let rounds = json(&run.join("manifest.json"))["rounds"].as_array().unwrap().len();
    let sizes: Vec<usize> = (0..rounds).map(|round| lines(&run, round).len()).collect();
    assert_eq!(sizes, [10, 5, 5][..rounds]);
    assert!(rounds > 1, "there was a round");
    let distinct: HashSet<u64> = (0..rounds).flat_map(|round| lines(&run, round)).collect();
    assert_eq!(distinct.len(), sizes.iter().sum::<usize>());
    let none = reads_none(&fixture);
    let delivery = none.run(&fixture.path("none"), &METHODS[..1], &mut boxed(of_words())).unwrap();
    assert!(json_lines(&fixture.path("none/dataset.jsonl")).iter().all(|row| row["origin"] == "written"), "{delivery:?}");
}

#[test]
fn a_crash_while_reading_changes_nothing() {
    let fixture = fixture();
    let keys = "unlabelled = \"texts.txt\"\n\n[read]\nrows = 20\nlater_share = 0.5\n\n[models]";
    std::fs::write(fixture.path("task.toml"), TASK.replace("[models]", keys)).unwrap();
    crashes_change_nothing(&fixture, &setup(&fixture), &METHODS, &[95, 101, 106, 140, 158]);
    let read = json_lines(&fixture.path("whole/journal/read-0.jsonl"));
    assert_eq!(read.len(), 10);
    assert!(fixture.path("whole/journal/read-1.jsonl").exists());
}

/// A task that continues lists of gold rows.
fn fixture_with_lists() -> Fixture {
    let fixture = Fixture::new();
    let list = "[list]\ntitle = \"Sentences about films:\"\nrows = 40\nshown = 3\ntexts_each = 4\n\n[models]";
    std::fs::write(fixture.path("task.toml"), TASK.replace("[models]", list)).unwrap();
    fixture
}

#[test]
fn lists_are_continued_judged_and_learnt_from() {
    let fixture = fixture_with_lists();
    let run = fixture.path("run");
    let delivery = setup(&fixture).run(&run, &METHODS, &mut boxed(of_words())).unwrap();
    let manifest = json(&run.join("manifest.json"));
    let first = &manifest["rounds"][0];
    assert_eq!([&first["listed"], &first["read"], &first["rows"]].map(|count| count.as_u64().unwrap()), [40, 0, 24 + 40]);
    let mine: Vec<u64> = manifest["splits"]["mine"].as_array().unwrap().iter().map(|line| line.as_u64().unwrap()).collect();
    let rows = json_lines(&run.join("dataset.jsonl"));
    let listed: Vec<&Value> = rows.iter().filter(|row| row["origin"] == "listed").collect();
    assert_eq!((listed.len(), rows.len()), (40, delivery.dataset_rows));
    for row in &listed {
        let shown: Vec<u64> = row["shown"].as_array().unwrap().iter().map(|line| line.as_u64().unwrap()).collect();
        assert!((2..=3).contains(&shown.len()) && shown.iter().all(|line| mine.contains(line)), "{row}");
        let good = row["target"]["positive"].as_f64() > row["target"]["negative"].as_f64();
        assert_eq!(row["label"], if good { "positive" } else { "negative" }, "{row}");
    }
    let four: HashSet<String> = json_lines(&run.join("journal/list.jsonl"))[..4].iter().map(|row| row["shown"].to_string()).collect();
    assert_eq!(four.len(), 1, "texts_each continue one list");
    let of = |method| delivery.results.iter().find(|result| result.method == method).unwrap().measured.synthetic_rows;
    assert_eq!((of(Method::ReadGold), of(Method::Seed), of(Method::GoldOnly)), (40, 64, 0));
}

/// With few gold rows a fold may have none of *mine*; no list is empty, and nothing that continues one passes for a real text.
#[test]
fn few_gold_rows_make_lists_too() {
    let fixture = fixture_with_lists();
    for (rows, seed) in [(8, 0), (8, 1), (12, 2), (12, 3)] {
        let setup = Setup::new(&fixture.path("task.toml"), &Options { gold_rows: Some(rows), seed, rounds: Some(0), ..options() }).unwrap();
        let run = fixture.path(&format!("run-{rows}-{seed}"));
        setup.run(&run, &METHODS[..2], &mut boxed(of_words())).unwrap();
        let rows = json_lines(&run.join("dataset.jsonl"));
        assert!(rows.iter().all(|row| row["origin"] != "read"));
        let listed = rows.iter().filter(|row| row["origin"] == "listed");
        let shown: Vec<usize> = listed.map(|row| row["shown"].as_array().unwrap().len()).collect();
        assert!(shown.len() == 40 && shown.iter().all(|count| (2..=3).contains(count)), "{shown:?}");
    }
}

/// What a generator knows of the test rows by heart is not learnt.
#[test]
fn copies_of_test_rows_are_not_listed() {
    let fixture = fixture_with_lists();
    let run = fixture.path("run");
    let complete = |request: &lacuna::generator::CompletionRequest| {
        let number = if request.prompt.plain && request.id.is_multiple_of(2) { 1000 + request.id % 30 } else { request.seed % 1_000_000 };
        text(number.is_multiple_of(2), number)
    };
    let judge = |request: &lacuna::generator::PosteriorRequest| vec![-1.0; request.words.len()];
    let scripted = lacuna::generator::scripted::Scripted::new(complete, judge);
    setup(&fixture).run(&run, &METHODS[..2], &mut boxed(scripted)).unwrap();
    let tested: BTreeSet<String> =
        json_lines(&fixture.path("test.jsonl")).iter().map(|row| row["text"].as_str().unwrap().to_string()).collect();
    let listed: Vec<Value> = json_lines(&run.join("dataset.jsonl")).into_iter().filter(|row| row["origin"] == "listed").collect();
    assert!(json_lines(&run.join("journal/list.jsonl")).iter().any(|row| tested.contains(row["text"].as_str().unwrap())));
    assert!(listed.len() > 10 && listed.iter().all(|row| !tested.contains(row["text"].as_str().unwrap())), "{}", listed.len());
}

#[test]
fn a_crash_while_lists_are_continued_changes_nothing() {
    let fixture = fixture_with_lists();
    crashes_change_nothing(&fixture, &setup(&fixture), &METHODS, &[95, 110, 150, 180, 200]);
    assert_eq!(json_lines(&fixture.path("whole/journal/read-list.jsonl")).len(), 40);
}

#[test]
fn a_list_needs_a_title_and_a_judge() {
    let fixture = fixture_with_lists();
    let task = std::fs::read_to_string(fixture.path("task.toml")).unwrap();
    let refused = |task: String| {
        std::fs::write(fixture.path("task.toml"), task).unwrap();
        Setup::new(&fixture.path("task.toml"), &options()).err().unwrap().to_string()
    };
    assert!(refused(task.replace("Sentences about films:", " ")).contains("list.title: is empty"));
    assert!(refused(task.replace("shown = 3", "shown = 1")).contains("list.shown"));
    let without = task.split("[[prompts.judge]]").next().unwrap().replace("rationale_candidates = 5\n", "");
    let found = refused(without.replace("[train]", "[targets]\nkind = \"hard\"\n\n[train]"));
    assert!(found.contains("write a [[prompts.judge]]"), "{found}");
}

/// A judge or a twin of a fold does not change with what the fold's labels are: with two texts of a fold exchanged, so that both are
/// wrong, what is said of them is exchanged and nothing else.
#[test]
fn a_twin_knows_nothing_of_its_fold() {
    twins_know_nothing_of_their_folds(&fixture());
}

#[test]
fn a_twin_knows_nothing_of_lists_that_show_its_fold() {
    twins_know_nothing_of_their_folds(&fixture_with_lists());
}

fn twins_know_nothing_of_their_folds(fixture: &Fixture) {
    let gold = |i: u64| serde_json::json!({"text": text(i.is_multiple_of(2), i), "label": if i.is_multiple_of(2) { "positive" } else { "negative" }});
    std::fs::write(fixture.path("gold.jsonl"), (0..40).map(|i| gold(i).to_string() + "\n").collect::<String>()).unwrap();
    let options = Options { rounds: Some(0), ..options() };
    let twins = |name: &str| {
        let run = fixture.path(name);
        let setup = Setup::new(&fixture.path("task.toml"), &options).unwrap();
        setup.run(&run, &METHODS, &mut boxed(of_words())).unwrap();
        let read = |method: &str, fold: usize| {
            let outputs = json(&run.join(format!("twins/{method}-{fold}.json")));
            outputs.as_array().unwrap().iter().map(Value::to_string).collect::<Vec<_>>()
        };
        let folds = |method: &str| (0..5).map(|fold| read(method, fold)).collect::<Vec<_>>();
        ["gold-only", "read-+-gold", "S3-+-gold"].map(folds)
    };
    let before = twins("before");
    // Rows are in the order of mine, then select, within a fold.
    let manifest = json(&fixture.path("before/manifest.json"));
    let all = ["mine", "select"].map(|side| manifest["splits"][side].as_array().unwrap().clone()).concat();
    let gold: Vec<String> = std::fs::read_to_string(fixture.path("gold.jsonl")).unwrap().lines().map(str::to_string).collect();
    let label = |line: &Value| serde_json::from_str::<Value>(&gold[line.as_u64().unwrap() as usize - 1]).unwrap()["label"].clone();
    let of_label = |label_wanted: &str| all.iter().filter(|line| label(line) == label_wanted).cloned().collect::<Vec<_>>();
    let mut found = [0; 3];
    // Which fold a row is in is not told; of all pairs of rows of different labels, the first in one fold shows.
    for other in of_label("negative").iter().take(12) {
        let one = &of_label("positive")[0];
        let exchanged = |line: usize| {
            let (a, b) = (one.as_u64().unwrap() as usize, other.as_u64().unwrap() as usize);
            let from = if line == a {
                b
            } else if line == b {
                a
            } else {
                line
            };
            let mut row: Value = serde_json::from_str(&gold[line - 1]).unwrap();
            row["text"] = serde_json::from_str::<Value>(&gold[from - 1]).unwrap()["text"].clone();
            row.to_string() + "\n"
        };
        std::fs::write(fixture.path("gold.jsonl"), (1..=gold.len()).map(exchanged).collect::<String>()).unwrap();
        let after = twins(&format!("after-{other}"));
        std::fs::write(fixture.path("gold.jsonl"), gold.join("\n") + "\n").unwrap();
        for (method, (of_method, before)) in after.iter().zip(&before).enumerate() {
            let sorted = |fold: &Vec<String>| fold.iter().cloned().collect::<BTreeSet<_>>();
            let same: Vec<usize> = (0..5).filter(|&fold| sorted(&of_method[fold]) == sorted(&before[fold])).collect();
            let moved: Vec<usize> = (0..5).filter(|&fold| of_method[fold] != before[fold]).collect();
            match same[..] {
                // Both rows are in this fold: exchanged there; all other twins have learnt two wrong labels.
                [own] => {
                    assert_eq!(moved.len(), 5, "fold {own}");
                    found[method] += 1;
                }
                _ => assert!(same.is_empty(), "{same:?}"),
            }
        }
    }
    assert!(found[0] > 0 && found == [found[0]; 3], "{found:?}: the same pairs are in one fold whatever the candidate");
}

/// A gold row with the wrong label among right ones is the first in doubt.
#[test]
fn a_mislabelled_gold_row_is_listed() {
    let fixture = fixture();
    let label = |i: u64| if i.is_multiple_of(2) != (i == 7) { "positive" } else { "negative" };
    let gold = |i: u64| serde_json::json!({"text": text(i.is_multiple_of(2), i), "label": label(i)}).to_string() + "\n";
    std::fs::write(fixture.path("gold.jsonl"), (0..40).map(gold).collect::<String>()).unwrap();
    let run = fixture.path("run");
    let delivery = setup(&fixture).run(&run, &METHODS, &mut boxed(of_words())).unwrap();
    let doubtful = json_lines(&run.join("doubtful.jsonl"));
    assert!(doubtful.len() < 8, "{doubtful:?} {:?}", delivery.candidates);
    assert_eq!((&doubtful[0]["line"], &doubtful[0]["label"]), (&Value::from(8), &Value::from("positive")));
    assert!(doubtful[0]["judged"]["negative"].as_f64() > Some(0.5) && doubtful[0]["predicted"]["negative"].as_f64() > Some(0.5));
}

/// What the judge is sure is mislabelled is not extrapolated; other errors are.
#[test]
fn errors_of_the_judge_are_not_extrapolated() {
    let fixture = fixture();
    let wrong: BTreeSet<u64> = [7, 12, 21, 26, 33].into();
    let label = |i: u64| if i.is_multiple_of(2) != wrong.contains(&i) { "positive" } else { "negative" };
    let gold = |i: u64| serde_json::json!({"text": text(i.is_multiple_of(2), i), "label": label(i)}).to_string() + "\n";
    std::fs::write(fixture.path("gold.jsonl"), (0..40).map(gold).collect::<String>()).unwrap();
    let task = std::fs::read_to_string(fixture.path("task.toml")).unwrap();
    // A model that has hardly learnt errs on other rows too.
    std::fs::write(
        fixture.path("task.toml"),
        task.replace("learning_rate = 1e-3", "learning_rate = 1e-9\nlinear_start = false").replace("rows = 8\n", "rows = 24\n"),
    )
    .unwrap();
    let run = fixture.path("run");
    setup(&fixture).run(&run, &METHODS, &mut boxed(of_words())).unwrap();
    let errors = json_lines(&run.join("rounds/0/misclassified.jsonl"));
    let errors: BTreeSet<u64> = errors.iter().map(|row| row["line"].as_u64().unwrap()).collect();
    let parents: BTreeSet<u64> = json_lines(&run.join("journal/round-1.jsonl")).iter().filter_map(|row| row["parent"].as_u64()).collect();
    let mislabelled: BTreeSet<u64> = wrong.iter().map(|i| i + 1).collect();
    assert!(!parents.is_empty() && parents.is_subset(&errors), "{parents:?} {errors:?}");
    assert!(errors.intersection(&mislabelled).count() > 0, "{errors:?}");
    assert_eq!(parents.intersection(&mislabelled).count(), 0, "{parents:?} {errors:?} {mislabelled:?}");
}

#[test]
fn without_folds_there_are_no_twins_and_no_choice() {
    let fixture = fixture();
    let setup = Setup::new(&fixture.path("task.toml"), &Options { folds: Some(0), ..options() }).unwrap();
    let run = fixture.path("run");
    let delivery = setup.run(&run, &METHODS, &mut boxed(of_words())).unwrap();
    assert_eq!((delivery.delivered, delivery.candidates, delivery.scaled), (Method::S3Gold, vec![], None));
    assert!(!run.join("twins").exists());
    let one = Setup::new(&fixture.path("task.toml"), &Options { folds: Some(1), ..options() }).err().unwrap().to_string();
    assert!(one.contains("deliver.folds: must be 0, or 2 and more"), "{one}");
}

#[test]
fn without_a_judge_nothing_is_read() {
    let fixture = fixture();
    let task = std::fs::read_to_string(fixture.path("task.toml")).unwrap();
    let without = task.split("[[prompts.judge]]").next().unwrap().replace("rationale_candidates = 5\n", "");
    std::fs::write(fixture.path("task.toml"), without.replace("[train]", "[targets]\nkind = \"hard\"\n\n[train]")).unwrap();
    let error = setup(&fixture).run(&fixture.path("run"), &METHODS, &mut boxed(of_words())).unwrap_err().to_string();
    assert!(error.contains("write a [[prompts.judge]], or set read.rows = 0"), "{error}");
    reads_none(&fixture).run(&fixture.path("run"), &METHODS, &mut boxed(of_words())).unwrap();
}
