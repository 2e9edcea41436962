//! Questions and answers: the loop, the comparison and the predictions of `extractive_qa`, on a scripted generator.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::common::{BAD, Fixture, GOOD};
use crate::scripted::{boxed, json_lines, options, setup};
use lacuna::commands::compare::{Comparison, compare};
use lacuna::commands::methods::Budget;
use lacuna::commands::setup::Setup;
use lacuna::commands::sweep::{Sweep, sweep};
use lacuna::data::squad;
use lacuna::generator::scripted::Scripted;
use lacuna::generator::{CompletionRequest, PosteriorRequest};
use lacuna::run::summary::Method;
use serde_json::{Value, json};

const METHODS: [Method; 4] = [Method::GoldOnly, Method::Seed, Method::S3, Method::S3Gold];
const THINGS: [&str; 5] = ["film", "plot", "cast", "scene", "story"];

const TASK: &str = r#"
name = "tiny-questions"
kind = "extractive_qa"

[data]
gold = "gold.jsonl"
test = "test.jsonl"

[models]
generator = "generator.gguf"
small = "small"

[seed]
rationales = 0
rows = 24

[extrapolate]
rows = 8
max_rounds = 2
patience = 2

[targets]
kind = "hard"

[train]
epochs = 2
min_steps = 10
batch = 8
learning_rate = 1e-3
max_tokens = 12
doc_stride = 2

[prompts.seed]
user = "About <{{ context }}> for [{{ answer }}]"

[prompts.extrapolate]
user = "Not {{ question }} or {{ predicted }}, about <{{ context }}> for [{{ answer }}]"
"#;

/// Contexts longer than a window of the tiny model, with characters of more than one byte before the answers; three questions each.
fn rows(first: usize, contexts: usize) -> String {
    let row = |i: usize| {
        let (number, which) = (first + i / 3, i % 3);
        let (good, bad, thing) = (GOOD[number % 6], BAD[number / 2 % 6], THINGS[number % 5]);
        let answers = [format!("{good} {thing}"), format!("{bad} music"), number.to_string()];
        let context = format!("“Zoë” saw a {} with {} in {}", answers[0], answers[1], answers[2]);
        let start = context[..context.find(&answers[which]).unwrap()].chars().count();
        let answers = json!({"text": [answers[which]], "answer_start": [start]});
        json!({"id": i.to_string(), "context": context, "question": format!("Is {which} {number}?"), "answers": answers}).to_string() + "\n"
    };
    (0..3 * contexts).map(row).collect()
}

fn questions() -> Fixture {
    let fixture = Fixture::new();
    std::fs::write(fixture.path("gold.jsonl"), rows(0, 14)).unwrap();
    std::fs::write(fixture.path("test.jsonl"), rows(500, 10)).unwrap();
    std::fs::write(fixture.path("contexts.jsonl"), "{\"text\": \"Über 40 warm films met King Harald of Norway.\"}\n{\"text\": \"a\"}\n")
        .unwrap();
    std::fs::write(fixture.path("task.toml"), TASK).unwrap();
    fixture
}

/// Writes questions, some of which contain the answer or are not questions.
fn asking() -> Scripted<impl Fn(&CompletionRequest) -> String, impl Fn(&PosteriorRequest) -> Vec<f32>> {
    let complete = |request: &CompletionRequest| {
        let number = request.seed % 100_000;
        let answer = request.prompt.user.split(['[', ']']).nth(1).unwrap();
        match number % 7 {
            0 => format!("Was {answer} there?"),
            1 => format!("It was {number}."),
            _ => format!("Which plot {number}?"),
        }
    };
    Scripted::new(complete, |request: &PosteriorRequest| panic!("nothing is judged: {request:?}"))
}

/// The text at the row's `answer_start`.
fn at_its_place(row: &Value) -> String {
    let (context, start) = (row["context"].as_str().unwrap(), row["answers"]["answer_start"][0].as_u64().unwrap());
    context.chars().skip(start as usize).take(row["answers"]["text"][0].as_str().unwrap().chars().count()).collect()
}

#[test]
fn a_run_writes_questions_for_given_answers() {
    let fixture = questions();
    let run = fixture.path("run");
    let delivery = setup(&fixture).run(&run, &METHODS, &mut boxed(asking())).unwrap();
    let gold = json_lines(&fixture.path("gold.jsonl"));
    let manifest = crate::scripted::json(&run.join("manifest.json"));
    let lines = |side: &str| manifest["splits"][side].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect::<Vec<_>>();
    let context_of = |line: &usize| gold[line - 1]["context"].as_str().unwrap();
    assert!(lines("select").iter().all(|s| lines("mine").iter().all(|m| context_of(s) != context_of(m))), "a context is on both sides");

    let rows = json_lines(&run.join("dataset.jsonl"));
    assert_eq!(rows.len(), 24 + 8 * delivery.best_round);
    for row in &rows {
        let (answer, question) = (row["answers"]["text"][0].as_str().unwrap(), row["question"].as_str().unwrap());
        assert_eq!(at_its_place(row), answer);
        assert!(question.ends_with('?') && !question.split([' ', '?']).any(|word| word == answer), "{row}");
        let given = row["context_line"].as_u64().or(row["parent"].as_u64()).unwrap() as usize;
        assert!(lines("mine").contains(&given), "{row}");
        assert_eq!(row["context"], gold[given - 1]["context"]);
        if row["round"] != 0 {
            assert_eq!(row["answers"], gold[given - 1]["answers"], "an extrapolation keeps its error's answer");
            assert_ne!(row["question"], gold[given - 1]["question"]);
        }
    }
    let own = |row: &&Value| row["round"] == 0 && row["context"] == gold[lines("mine")[0] - 1]["context"];
    let asked: std::collections::BTreeSet<String> = rows.iter().filter(own).map(|row| row["answers"].to_string()).collect();
    assert!(asked.len() >= 2, "a context's gold answers take turns: {asked:?}");
    the_rounds_know_their_errors(&run, &gold, &manifest);

    let summary = crate::scripted::json(&run.join("summary.json"));
    for (result, stored) in delivery.results.iter().zip(summary["results"].as_array().unwrap()) {
        assert_eq!(
            (result.measured.correct.len(), result.measured.answer_f1().unwrap().len(), stored["f1"].as_array().unwrap().len()),
            (30, 30, 30)
        );
        assert!(
            result
                .measured
                .correct
                .iter()
                .zip(result.measured.answer_f1().unwrap())
                .all(|(&right, &f1)| (0.0..=1.0).contains(&f1) && (!right || f1 == 1.0))
        );
    }
    assert!(!run.join("rationales.json").exists());
    assert_eq!(crate::scripted::json(&run.join("model/config.json"))["architectures"], json!(["BertForQuestionAnswering"]));
}

fn the_rounds_know_their_errors(run: &Path, gold: &[Value], manifest: &Value) {
    let rounds = manifest["rounds"].as_array().unwrap();
    assert!(
        rounds.len() > 1
            && rounds[0]["rejected"]["gives_answer"].as_u64() > Some(0)
            && rounds[0]["rejected"]["not_a_question"].as_u64() > Some(0)
    );
    for round in rounds {
        let folder = run.join(format!("rounds/{}", round["round"]));
        let wrong = json_lines(&folder.join("misclassified.jsonl"));
        assert_eq!(wrong.len() as u64, round["errors_after"].as_u64().unwrap());
        for error in &wrong {
            let row = &gold[error["line"].as_u64().unwrap() as usize - 1];
            let (answer, predicted) = (error["answer"]["text"].as_str().unwrap(), error["predicted"].as_str().unwrap());
            assert_eq!((answer, &error["text_pair"]), (row["answers"]["text"][0].as_str().unwrap(), &row["question"]));
            assert!(squad::exact_match(predicted, &[answer]) == 0.0 && row["context"].as_str().unwrap().contains(predicted));
        }
        for line in json_lines(&folder.join("predictions.jsonl")) {
            let context = gold[line["line"].as_u64().unwrap() as usize - 1]["context"].as_str().unwrap();
            let start = line["predicted"]["start"].as_u64().unwrap() as usize;
            let rest: String = context.chars().skip(start).collect();
            assert!(rest.starts_with(line["predicted"]["text"].as_str().unwrap()), "{line}");
            assert!((0.0..=1.0).contains(&line["score"].as_f64().unwrap()));
        }
        assert!(round["select"]["f1"].as_f64().unwrap() >= round["select"]["exact_match"].as_f64().unwrap());
        assert_eq!(round["offsets"], json!([]));
    }
}

#[test]
fn answers_may_be_found_in_the_contexts_of_a_file() {
    let fixture = questions();
    std::fs::write(fixture.path("task.toml"), TASK.replace("[data]", "[data]\ncontexts = \"contexts.jsonl\"")).unwrap();
    let run = fixture.path("run");
    setup(&fixture).run(&run, &[Method::S3], &mut boxed(asking())).unwrap();
    let rows: Vec<Value> = json_lines(&run.join("dataset.jsonl")).into_iter().filter(|row| row["round"] == 0).collect();
    let asked: std::collections::BTreeSet<&str> = rows.iter().map(|row| row["answers"]["text"][0].as_str().unwrap()).collect();
    assert!(asked.contains("King Harald of Norway") && asked.contains("40"), "{asked:?}");
    for row in &rows {
        assert_eq!((row["context_line"].as_u64(), at_its_place(row).as_str()), (Some(1), row["answers"]["text"][0].as_str().unwrap()));
    }
}

#[test]
fn contexts_without_a_candidate_answer_are_refused() {
    let fixture = questions();
    std::fs::write(fixture.path("contexts.jsonl"), "{\"text\": \"a\"}\n").unwrap();
    std::fs::write(fixture.path("task.toml"), TASK.replace("[data]", "[data]\ncontexts = \"contexts.jsonl\"")).unwrap();
    let error = setup(&fixture).run(&fixture.path("run"), &[Method::S3], &mut boxed(asking())).unwrap_err().to_string();
    assert!(error.contains("no context has a candidate answer"), "{error}");
}

#[test]
fn a_crash_changes_no_question() {
    let fixture = questions();
    let whole = fixture.path("whole");
    setup(&fixture).run(&whole, &METHODS, &mut boxed(asking())).unwrap();
    for crash in [0, 1, 12, 20, 25, 34, 40] {
        let run = fixture.path(&format!("crash-{crash}"));
        setup(&fixture).run(&run, &METHODS, &mut boxed(asking().shuffled(crash as u64).failing_after(crash))).unwrap_err();
        setup(&fixture).run(&run, &METHODS, &mut boxed(asking().shuffled(7))).unwrap();
        for file in ["dataset.jsonl", "summary.json", "manifest.json", "model/model.safetensors", "rounds/1/predictions.jsonl"] {
            let read = |run: &Path| std::fs::read(run.join(file)).unwrap();
            assert!(read(&run) == read(&whole), "crash after {crash}: {file} differs");
        }
    }
}

#[test]
fn methods_side_by_side_by_exact_match_and_f1() {
    let fixture = questions();
    let (task, folder, options) = (fixture.path("task.toml"), fixture.path("compare"), options());
    let (draws, gold, methods, budget, curve) = (1, &[30, 40][..], &[][..], Budget::Rows, None);
    let comparison = Comparison { task: &task, options: &options, draws, gold, methods, budget, curve, folder: &folder };
    let table = compare(&comparison, &mut boxed(asking())).unwrap();
    let lines = crate::scripted::json(&folder.join("compare.json"));
    let names: Vec<&str> = lines.as_array().unwrap().iter().map(|line| line["method"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [&["gold only"][..], &["ZeroGen", "ZeroGen + gold", "ZeroGen, select"], &["GoldGen", "GoldGen + gold", "S3", "S3 + gold"],]
            .concat()
            .repeat(2)
    );
    let header: Vec<&str> =
        table.lines().find(|line| line.starts_with('|')).unwrap().split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect();
    let over = "95 %, over test rows only";
    let expected = [format!("F1 [{over}]"), format!("EM [{over}]"), "each draw".to_string(), format!("less S3, or S3 + gold [{over}]")];
    assert_eq!(header[header.len() - 4..], expected);
    let rows = |name: usize| lines[name]["results"][0]["synthetic_rows"].as_u64();
    assert!([1, 3].into_iter().all(|method| rows(method) == Some(40)) && rows(4) <= rows(1), "{table}");
    // A context or answer of the gold rows is in the prompts of every method that writes.
    assert_eq!((lines[0]["reads"].as_str(), lines[1]["reads"].as_str()), (Some("training"), Some("contexts")));
    let chosen = ["embeddings + logistic regression".to_string()];
    let error = compare(&Comparison { methods: &chosen, ..comparison }, &mut None).unwrap_err().to_string();
    assert!(
        error.contains("[\"embeddings + logistic regression\"] are not among the methods of this task: gold only | ZeroGen | "),
        "{error}"
    );
}

#[test]
fn a_sweep_has_exact_match_and_f1() {
    let fixture = questions();
    let (task, folder, options) = (fixture.path("task.toml"), fixture.path("sweep"), options());
    let axes = ["rounds=0,1"].map(|axis| axis.parse().unwrap());
    let table = sweep(&Sweep { task: &task, options: &options, axes: &axes, seeds: 1, folder: &folder }, &mut boxed(asking())).unwrap();
    assert!(table.contains("| F1 [95 %, over test rows only]") && table.lines().count() == 2 + 2 + 2 * 4, "{table}");
}

fn predict(model: &Path, input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lacuna"));
    let piped = command.arg("predict").arg(model).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_trained_model_answers_questions_on_standard_input() {
    let fixture = questions();
    let run = fixture.path("run");
    setup(&fixture).run(&run, &[Method::S3], &mut boxed(asking())).unwrap();
    let test = std::fs::read_to_string(fixture.path("test.jsonl")).unwrap();
    let output = predict(&run.join("model"), &test);
    let answers: Vec<Value> = String::from_utf8(output.stdout).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(answers.len(), 30, "{}", String::from_utf8_lossy(&output.stderr));
    for (answer, row) in answers.iter().zip(json_lines(&fixture.path("test.jsonl"))) {
        let rest: String = row["context"].as_str().unwrap().chars().skip(answer["start"].as_u64().unwrap() as usize).collect();
        assert!(rest.starts_with(answer["answer"].as_str().unwrap()) && answer["score"].as_f64() > Some(0.0), "{answer}");
    }
    let good = "{\"id\": 7, \"context\": \"a warm film\", \"question\": \"Which?\"}\n";
    let long = format!("{{\"context\": \"a warm film\", \"question\": \"{}\"}}\n", "which film ".repeat(90));
    let output = predict(&run.join("model"), &format!("{good}{{\"context\": \"a\"}}\n{long}{good}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3));
    assert!(error.contains("standard input:2: field \"question\" is missing (1 more lines have an error"), "{error}");
    let lines: Vec<Value> = String::from_utf8(output.stdout).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(lines[0]["answer"].is_string() && lines[0]["id"] == 7 && lines[3] == lines[0], "a bad line costs itself alone: {lines:?}");
    assert!(lines[1]["error"].is_string() && lines[1]["line"] == 2 && lines[2]["error"].is_string(), "{lines:?}");
}

#[test]
fn bad_questions_are_reported_with_file_line_and_field() {
    let fixture = questions();
    let gold = std::fs::read_to_string(fixture.path("gold.jsonl")).unwrap();
    let third = gold.lines().nth(2).unwrap();
    std::fs::write(fixture.path("gold.jsonl"), gold.replace(third, &third.replace("“Zoë”", "Zoë"))).unwrap();
    let error = Setup::new(&fixture.path("task.toml"), &options()).err().unwrap();
    let expected = "gold.jsonl:3: field \"answers\": \"0\" is not at character 41 of the context (it begins at character 39; ";
    assert!(error.to_string().contains(expected) && error.exit_code() == 3, "{error} should contain {expected}");
}
