//! Pairs, many labels, comparisons and sweeps, on a scripted generator.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{Fixture, TASK, text};
use crate::scripted::{boxed, json, json_lines, options, setup};
use crate::words::of_words;
use lacuna::commands::compare::{Comparison, compare};
use lacuna::commands::judge::{JudgeReport, judge};
use lacuna::commands::label::{Labelling, label};
use lacuna::commands::learning_curve::{LearningCurve, learning_curve};
use lacuna::commands::methods::{self, Budget};
use lacuna::commands::options::Options;
use lacuna::commands::setup::Setup;
use lacuna::commands::sweep::{Sweep, sweep};
use lacuna::generator::scripted::Scripted;
use lacuna::generator::{
    Completion, CompletionRequest, Generate, GenerateError, Likelihood, LikelihoodRequest, Posterior, PosteriorRequest, Sink,
};
use lacuna::run::summary::{Method, OfLabels};
use serde_json::Value;

const METHODS: [Method; 4] = [Method::GoldOnly, Method::Seed, Method::S3, Method::S3Gold];

/// A task of pairs: whether the second text fits the first.
fn pairs() -> Fixture {
    let fixture = Fixture::new();
    let rows_of = |first: u64, count: u64| (0..count).map(|i| pair(first + i).to_string() + "\n").collect::<String>();
    std::fs::write(fixture.path("gold.jsonl"), rows_of(0, 40)).unwrap();
    std::fs::write(fixture.path("test.jsonl"), rows_of(1000, 30)).unwrap();
    std::fs::write(fixture.path("contexts.jsonl"), (0..9).map(|i| format!("{{\"text\": \"context number {i}\"}}\n")).collect::<String>())
        .unwrap();
    let task = TASK
        .replace("kind = \"text\"", "kind = \"pair\"")
        .replace("rationale_candidates = 5\n", "")
        .replace("rationales = 3", "rationales = 0");
    let task = task
        .replace("Write {{ label }}", "Write {{ label }} for <{{ text }}>")
        .replace("Like {{ text }},", "Not {{ text_pair }}, for <{{ text }}>,");
    std::fs::write(fixture.path("task.toml"), task.replace("Which? {{ text }}", "Which? {{ text }} / {{ text_pair }}")).unwrap();
    fixture
}

/// A task of many labels, named `g0 i0`, `g0 i1` … `g1 i0` …, ten to a group, with six gold rows and two test rows each.
fn many(labels: usize) -> Fixture {
    let fixture = Fixture::new();
    let name = |label: usize| format!("g{} i{}", label / 10, label % 10);
    let row = |label: usize, i: usize| {
        serde_json::json!({"text": format!("{} film number {i}", name(label)), "label": name(label)}).to_string() + "\n"
    };
    let rows = |from: usize, each: usize| (0..labels).flat_map(|l| (from..from + each).map(move |i| row(l, i))).collect::<String>();
    std::fs::write(fixture.path("gold.jsonl"), rows(0, 6)).unwrap();
    std::fs::write(fixture.path("test.jsonl"), rows(100, 2)).unwrap();
    let listed = (0..labels).map(|l| format!("{{ name = \"{}\" }}", name(l))).collect::<Vec<_>>().join(", ");
    let words = (0..labels).map(|l| format!("\"{0}\" = \" {0}\"", name(l))).collect::<Vec<_>>().join(", ");
    let task = TASK.replace("{ name = \"negative\" }, { name = \"positive\" }", &listed);
    let task =
        task.replace("negative = \" negative\", positive = \" positive\"", &words).replace("rows = 24", &format!("rows = {}", 3 * labels));
    // Fits of many labels take long.
    let task = if labels > 20 { task + "\n[deliver]\nfolds = 2\n" } else { task };
    std::fs::write(fixture.path("task.toml"), task).unwrap();
    fixture
}

/// A quarter of the labels are wrong, so that there are always errors to extrapolate.
fn pair(number: u64) -> serde_json::Value {
    let fits = number.is_multiple_of(2);
    let label = if fits != number.is_multiple_of(4 + number % 3) { "positive" } else { "negative" };
    serde_json::json!({"text": format!("premise number {}", number / 3), "text_pair": text(fits, number), "label": label})
}

/// Writes the label's name into the text; judges by finding it there.
fn of_many() -> Scripted<impl Fn(&CompletionRequest) -> String, impl Fn(&PosteriorRequest) -> Vec<f32>> {
    let complete = |request: &CompletionRequest| {
        let words: Vec<&str> = request.prompt.user.split(|c: char| !c.is_alphanumeric()).collect();
        let name = words.windows(2).find(|pair| pair[0].starts_with('g') && pair[1].starts_with('i')).unwrap();
        let what = if words[0] == "Why" { "reason given as" } else { "story of number" };
        format!("{} {} {what} {}", name[0], name[1], request.seed % 1_000_000)
    };
    let judge = |request: &PosteriorRequest| {
        let has = |word: &String| request.prompt.user.split_whitespace().any(|own| own == word.trim());
        request.words.iter().map(|word| if has(word) { -0.1 } else { -3.0 }).collect()
    };
    Scripted::new(complete, judge)
}

#[test]
fn pairs_keep_their_first_text_and_write_the_second() {
    let fixture = pairs();
    let run = fixture.path("run");
    let delivery = setup(&fixture).run(&run, &METHODS, &mut boxed(of_words())).unwrap();
    assert_eq!(delivery.results.iter().map(|r| r.measured.correct.len()).collect::<Vec<_>>(), [30; 4]);
    let gold = json_lines(&fixture.path("gold.jsonl"));
    let manifest = json(&run.join("manifest.json"));
    let mine: Vec<u64> = manifest["splits"]["mine"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect();
    let rows = json_lines(&run.join("dataset.jsonl"));
    assert_eq!(rows.len(), 24 + 8 * delivery.best_round);
    for row in &rows {
        let given = row["context"].as_u64().or(row["parent"].as_u64()).unwrap();
        assert!(mine.contains(&given), "{row}");
        let parent = &gold[given as usize - 1];
        assert_eq!(row["text"], parent["text"], "the first text is the gold row's");
        assert_ne!(row["text_pair"], parent["text_pair"]);
        if row["round"] != 0 {
            assert_eq!(row["label"], parent["label"], "an extrapolation has its error's gold label");
        }
    }
    let asked: Vec<Value> = json_lines(&run.join("journal/round-0.jsonl")).into_iter().filter(|row| row["id"].as_u64() < Some(8)).collect();
    let labels_of =
        |context: &Value| asked.iter().filter(|row| row["context"] == *context).map(|row| row["label"].as_u64().unwrap()).sum::<u64>();
    assert!(asked.iter().all(|row| labels_of(&row["context"]) == 1), "each context is used once for each label");
}

#[test]
fn a_pair_model_predicts_json_lines_as_in_its_evaluation() {
    let fixture = pairs();
    let task = std::fs::read_to_string(fixture.path("task.toml")).unwrap();
    std::fs::write(fixture.path("task.toml"), task.replace("max_tokens = 12", "max_tokens = 8")).unwrap();
    let run = fixture.path("run");
    let delivery = setup(&fixture).run(&run, &[Method::S3], &mut boxed(of_words())).unwrap();
    assert_eq!(json(&run.join("model/tokenizer_config.json"))["model_max_length"], 8);
    let mut command = Command::new(env!("CARGO_BIN_EXE_lacuna"));
    let piped = command.args(["predict", "--logits"]).arg(run.join("model")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let lines = std::fs::read(fixture.path("test.jsonl")).unwrap();
    child.stdin.take().unwrap().write_all(&lines).unwrap();
    let output = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let rows: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 30);
    for (row, given) in rows.iter().zip(json_lines(&fixture.path("test.jsonl"))) {
        assert_eq!((&row["text"], &row["text_pair"]), (&given["text"], &given["text_pair"]));
        assert!(["negative", "positive"].contains(&row["label"].as_str().unwrap()));
    }
    let right = rows.iter().zip(json_lines(&fixture.path("test.jsonl"))).map(|(row, given)| row["label"] == given["label"]);
    assert_eq!(right.collect::<Vec<_>>(), delivery.results[0].measured.correct, "predictions are those of the evaluation");
}

#[test]
fn pairs_may_take_their_first_texts_from_a_file() {
    let fixture = pairs();
    let task = std::fs::read_to_string(fixture.path("task.toml")).unwrap();
    std::fs::write(
        fixture.path("task.toml"),
        task.replace("gold = \"gold.jsonl\"", "gold = \"gold.jsonl\"\ncontexts = \"contexts.jsonl\""),
    )
    .unwrap();
    let run = fixture.path("run");
    setup(&fixture).run(&run, &[Method::S3], &mut boxed(of_words())).unwrap();
    for row in json_lines(&run.join("dataset.jsonl")).iter().filter(|row| row["round"] == 0) {
        let line = row["context"].as_u64().unwrap();
        assert_eq!(row["text"], format!("context number {}", line - 1));
    }
    assert!(json(&run.join("manifest.json"))["inputs"]["sha256.contexts"].is_string());
}

#[test]
fn a_crash_changes_no_pair() {
    let fixture = pairs();
    let whole = fixture.path("whole");
    setup(&fixture).run(&whole, &METHODS, &mut boxed(of_words())).unwrap();
    for crash in [0, 1, 20, 41, 50, 70, 90, 105] {
        let run = fixture.path(&format!("crash-{crash}"));
        setup(&fixture).run(&run, &METHODS, &mut boxed(of_words().shuffled(crash as u64).failing_after(crash))).unwrap_err();
        setup(&fixture).run(&run, &METHODS, &mut boxed(of_words().shuffled(7))).unwrap();
        for file in ["dataset.jsonl", "summary.json", "manifest.json", "model/model.safetensors"] {
            let read = |run: &Path| std::fs::read(run.join(file)).unwrap();
            assert!(read(&run) == read(&whole), "crash after {crash}: {file} differs");
        }
    }
}

#[test]
fn every_line_of_the_test_file_counts() {
    let fixture = Fixture::new();
    let test = std::fs::read_to_string(fixture.path("test.jsonl")).unwrap();
    let row = |label: &str| serde_json::json!({"text": "warm film", "label": label}).to_string() + "\n";
    std::fs::write(fixture.path("test.jsonl"), test + &row("positive") + &row("positive") + &row("negative")).unwrap();
    let delivery = setup(&fixture).run(&fixture.path("run"), &[Method::GoldOnly], &mut boxed(of_words())).unwrap();
    let correct = &delivery.results[0].measured.correct;
    assert_eq!((correct.len(), correct[30], correct[31]), (33, correct[31], !correct[32]));
    assert_eq!(json(&fixture.path("run/manifest.json"))["splits"]["test"][32], 33);
}

#[test]
fn a_run_with_other_splits_does_not_go_on() {
    let fixture = pairs();
    let run = fixture.path("run");
    setup(&fixture).run(&run, &[Method::S3], &mut boxed(of_words().failing_after(20))).unwrap_err();
    let mut manifest = json(&run.join("manifest.json"));
    let select = manifest["splits"]["select"].as_array_mut().unwrap();
    select[0] = select[1].clone();
    std::fs::write(run.join("manifest.json"), manifest.to_string()).unwrap();
    let error = setup(&fixture).run(&run, &[Method::S3], &mut boxed(of_words())).unwrap_err();
    assert!(error.to_string().contains("was started with other rows in select"), "{error}");
}

/// The pairs of the fixture with this line in `[data]`.
fn pairs_with(line: &str) -> Fixture {
    let fixture = pairs();
    let task = std::fs::read_to_string(fixture.path("task.toml")).unwrap();
    std::fs::write(fixture.path("task.toml"), task.replace("[data]", &format!("[data]\n{line}"))).unwrap();
    fixture
}

#[test]
fn the_rest_of_the_gold_rows_is_unlabelled() {
    let fixture = pairs_with("unlabelled = \"rest\"\ngold_rows = 16");
    let rest = setup(&fixture).unlabelled().unwrap().unwrap();
    let rest = rest.read(0..rest.len()).unwrap();
    let run = fixture.path("run");
    setup(&fixture).run(&run, &[Method::GoldOnly], &mut boxed(of_words())).unwrap();
    let (manifest, gold) = (json(&run.join("manifest.json")), json_lines(&fixture.path("gold.jsonl")));
    let drawn = ["mine", "select"].map(|side| manifest["splits"][side].as_array().unwrap().clone()).concat();
    let lines: Vec<usize> = (1..=40).filter(|&line| !drawn.contains(&line.into())).collect();
    assert_eq!((rest.iter().map(|row| row.line).collect::<Vec<_>>(), lines.len()), (lines, 24));
    assert!(
        rest.iter()
            .all(|row| row.text == gold[row.line - 1]["text"] && row.text_pair.as_deref() == gold[row.line - 1]["text_pair"].as_str())
    );
    assert_eq!(manifest["inputs"]["task.data.unlabelled"], "rest");
    assert!(setup(&pairs()).unlabelled().unwrap().is_none());
}

#[test]
fn unlabelled_texts_of_a_file_are_known_by_their_content() {
    let fixture = pairs_with("unlabelled = \"more.jsonl\"");
    let gold = std::fs::read_to_string(fixture.path("gold.jsonl")).unwrap();
    let other = "{\"text\": \"premise\", \"text_pair\": \"other\"}\n".repeat(2);
    std::fs::write(fixture.path("more.jsonl"), gold.clone() + &other).unwrap();
    let rest = setup(&fixture).unlabelled().unwrap().unwrap();
    let rest = rest.read(0..rest.len()).unwrap();
    assert_eq!(rest.iter().map(|row| (row.line, row.text.as_str())).collect::<Vec<_>>(), [(41, "premise")]);
    let run = fixture.path("run");
    setup(&fixture).run(&run, &[Method::GoldOnly], &mut boxed(of_words())).unwrap();
    let inputs = json(&run.join("manifest.json"))["inputs"].clone();
    assert!(inputs["sha256.unlabelled"].is_string() && inputs["task.data.unlabelled"].is_null());
    std::fs::write(fixture.path("more.jsonl"), other).unwrap();
    let error = setup(&fixture).run(&run, &[Method::GoldOnly], &mut boxed(of_words())).unwrap_err().to_string();
    assert!(error.contains("sha256.unlabelled: was "), "{error}");
    // One that reads none does not depend on them.
    let deaf = Options { read_rows: Some(0), ..options() };
    let deaf = Setup::new(&fixture.path("task.toml"), &deaf).unwrap();
    deaf.run(&fixture.path("deaf"), &[Method::GoldOnly], &mut boxed(of_words())).unwrap();
    assert!(json(&fixture.path("deaf/manifest.json"))["inputs"]["sha256.unlabelled"].is_null());
    std::fs::write(fixture.path("more.jsonl"), std::fs::read(fixture.path("test.jsonl")).unwrap()).unwrap();
    let error = Setup::new(&fixture.path("task.toml"), &options()).err().unwrap().to_string();
    assert!(error.contains("30 test rows are also in ") && error.contains("more.jsonl (line 1 is line 1 there, "), "{error}");
}

fn runs_with(labels: usize) {
    let fixture = many(labels);
    let run = fixture.path("run");
    let delivery = setup(&fixture).run(&run, &METHODS, &mut boxed(of_many())).unwrap();
    let (manifest, rationales) = (json(&run.join("manifest.json")), json(&run.join("rationales.json")));
    assert_eq!(manifest["rounds"][0]["labels"], Value::from(vec![3; labels]), "as many rows of each label");
    assert_eq!(rationales.as_object().unwrap().values().map(|r| r.as_array().unwrap().len()).collect::<Vec<_>>(), vec![3; labels]);
    assert!(manifest["judge"]["accuracy"].as_f64().unwrap() > 0.95, "labels of several words are judged as a whole");
    let summary = json(&run.join("summary.json"));
    for (result, stored) in delivery.results.iter().zip(summary["results"].as_array().unwrap()) {
        let OfLabels { macro_f1, labels: counted, .. } = result.measured.of_labels().unwrap();
        assert_eq!((counted.len(), stored["labels"].as_object().unwrap().len()), (labels, labels));
        assert!(counted.values().all(|counts| counts.gold == 2));
        assert!((0.0..=1.0).contains(macro_f1));
    }
}

#[test]
fn seven_labels() {
    runs_with(7);
}

#[test]
fn seventy_seven_labels() {
    runs_with(77);
}

/// A generator for which two words begin with the same token.
struct Refusing;

impl Generate for Refusing {
    fn layers(&self) -> usize {
        0
    }

    fn complete(&mut self, _: &[CompletionRequest], _: Sink<Completion>) -> Result<(), GenerateError> {
        panic!("nothing may be written before the judge is tested")
    }

    fn posteriors(&mut self, requests: &[PosteriorRequest], _: &[usize], _: Sink<Posterior>) -> Result<(), GenerateError> {
        let [first, .., last] = &requests[0].words[..] else { panic!("there are two words") };
        Err(GenerateError::Request { id: 0, reason: format!("the words {first:?} and {last:?} begin with the same token") })
    }

    fn likelihood(&mut self, _: &[LikelihoodRequest], _: Sink<Likelihood>) -> Result<(), GenerateError> {
        panic!("no likelihoods are requested")
    }

    fn record(&self) -> Value {
        Value::Null
    }

    fn computed(&self) -> u64 {
        0
    }

    fn at_once(&self) -> usize {
        1
    }

    fn parameters(&self) -> u64 {
        0
    }
}

#[test]
fn colliding_label_words_are_refused_before_anything_is_written() {
    let fixture = many(7);
    let error = setup(&fixture).run(&fixture.path("run"), &METHODS, &mut boxed(Refusing)).unwrap_err().to_string();
    assert!(error.contains("prompts.judge 1, labels \"g0 i0\", \"g0 i6\": the words"), "{error}");
}

#[test]
fn methods_side_by_side() {
    let fixture = Fixture::new();
    let (task, folder, options) = (fixture.path("task.toml"), fixture.path("compare"), options());
    let (draws, gold, methods, budget, curve) = (2, &[40][..], &[][..], Budget::Rows, None);
    let comparison = Comparison { task: &task, options: &options, draws, gold, methods, budget, curve, folder: &folder };
    let table = compare(&comparison, &mut boxed(of_words())).unwrap();
    let lines = json(&folder.join("compare.json"));
    let lines = lines.as_array().unwrap();
    let page = std::fs::read_to_string(folder.join("compare.html")).unwrap();
    assert_eq!((page.matches("<svg").count(), page.matches("<tr").count()), (2, 1 + lines.len()));
    let names: Vec<&str> = lines.iter().map(|line| line["method"].as_str().unwrap()).collect();
    let of_unlabelled = ["self-training", "judged texts", "judged texts + gold", "S3, texts read", "S3, texts read + gold"];
    let all: Vec<&str> = methods::names().into_iter().filter(|name| !of_unlabelled.contains(name)).collect();
    assert_eq!(names, all);
    let of = |name: &str| lines.iter().find(|line| line["method"] == name).unwrap();
    for draw in 0..2 {
        let count = |name: &str, what: &str| of(name)["results"][draw][what].as_u64().unwrap();
        // As many rows as S3 wrote, whichever of its rounds was best.
        let rounds = |run: &str| json(&folder.join(format!("gold-40/draw-{draw}/{run}/summary.json")))["rounds"].clone();
        let wrote: u64 = rounds("s3").as_array().unwrap().iter().map(|rows| rows.as_u64().unwrap()).sum();
        for name in ["ZeroGen", "ZeroGen, select", "ZeroGen, select, soft targets", "seed with rationales"] {
            assert_eq!(count(name, "synthetic_rows"), wrote, "{name}");
        }
        assert_eq!(rounds("goldgen"), rounds("s3"));
        // All that are trained have the same steps.
        for name in ["gold only", "ZeroGen", "GoldGen + gold", "S3 + gold"] {
            assert_eq!(count(name, "steps"), count("S3", "steps"), "{name}");
        }
    }
    let computed = |name: &str| of(name)["cost"]["computed"].as_u64().unwrap();
    assert_eq!((computed("gold only"), computed("embeddings + logistic regression")), (0, 0));
    assert!(computed("S3") >= computed("seed with rationales") && computed("S3") > computed("ZeroGen"), "{table}");
    assert!(computed("generator, calibrated") > 0 && of("S3")["cost"]["seconds"].as_f64() > Some(0.0), "{table}");
    let chosen = ["S3".to_string(), "gold only".to_string()];
    let again = compare(&Comparison { methods: &chosen, ..comparison }, &mut boxed(of_words().failing_after(0))).unwrap();
    assert_eq!(again.lines().filter(|line| line.starts_with('|')).count(), 4, "{again}");
}

/// With unlabelled texts, S3 reads none and a row of its own does; the seed is lent, and what learns from texts takes more steps.
#[test]
fn reading_is_a_row_of_its_own() {
    let fixture = Fixture::new();
    let texts = (0..80).map(|i| text(i % 2 == 0, 5000 + i) + "\n").collect::<String>();
    std::fs::write(fixture.path("texts.txt"), texts).unwrap();
    std::fs::write(fixture.path("task.toml"), TASK.replace("[models]", "unlabelled = \"texts.txt\"\n\n[models]")).unwrap();
    let (task, folder, options) = (fixture.path("task.toml"), fixture.path("compare"), options());
    let methods = ["judged texts", "self-training", "S3", "S3, texts read", "S3, texts read + gold"].map(String::from);
    let (draws, gold, budget, curve) = (1, &[40][..], Budget::Tokens, None);
    let comparison = Comparison { task: &task, options: &options, draws, gold, methods: &methods, budget, curve, folder: &folder };
    let table = compare(&comparison, &mut boxed(of_words())).unwrap();
    let journal = |run: &str, name: &str| folder.join("gold-40/draw-0").join(run).join("journal").join(name);
    assert!(!journal("s3", "read-0.jsonl").exists() && journal("s3-read", "read-0.jsonl").exists());
    for lent in ["round-0.jsonl", "judge-0.jsonl", "judge-gold.jsonl", "states-gold.safetensors"] {
        assert!(std::fs::read(journal("s3", lent)).unwrap() == std::fs::read(journal("s3-read", lent)).unwrap(), "{lent}");
    }
    let lines = json(&folder.join("compare.json"));
    let of = |name: &str, what: &str| {
        let line = lines.as_array().unwrap().iter().find(|line| line["method"] == name).unwrap();
        line["results"][0][what].as_u64().unwrap()
    };
    assert!(of("S3, texts read", "synthetic_rows") >= 80 + 24 && of("S3", "synthetic_rows") < 80, "{table}");
    let more = of("S3, texts read", "steps");
    assert!(more > of("S3", "steps") && of("judged texts", "steps") == more && of("self-training", "steps") == more, "{table}");
    // Another number of texts is another measurement.
    let fewer = Options { read_rows: Some(9), ..options.clone() };
    let error = compare(&Comparison { options: &fewer, ..comparison }, &mut boxed(of_words())).unwrap_err().to_string();
    assert!(error.contains("task.read.rows: was 4000, now 9"), "{error}");
}

/// Killed wherever, and with its file of seconds lost, a comparison costs and writes what one left alone does.
#[test]
fn a_crash_changes_no_budget() {
    let fixture = Fixture::new();
    let (task, options) = (fixture.path("task.toml"), options());
    let methods = ["ZeroGen".to_string(), "S3".to_string()];
    let compared = |folder: &Path, generator: &mut Option<Box<dyn Generate>>| {
        let (draws, gold, budget, curve) = (1, &[40][..], Budget::Tokens, None);
        let comparison = Comparison { task: &task, options: &options, draws, gold, methods: &methods, budget, curve, folder };
        compare(&comparison, generator).map(|_| json(&folder.join("compare.json")))
    };
    let whole = compared(&fixture.path("whole"), &mut boxed(of_words())).unwrap();
    for crash in [20, 60, 150, 190] {
        let folder = fixture.path(&format!("crash-{crash}"));
        compared(&folder, &mut boxed(of_words().failing_after(crash))).unwrap_err();
        for run in ["s3", "zerogen"] {
            let _ = std::fs::remove_file(folder.join("gold-40/draw-0").join(run).join("seconds.jsonl"));
        }
        let after = compared(&folder, &mut boxed(of_words())).unwrap();
        for (after, whole) in after.as_array().unwrap().iter().zip(whole.as_array().unwrap()) {
            for what in ["computed", "sampled"] {
                assert_eq!(after["cost"][what], whole["cost"][what], "crash after {crash}: {what} of {}", whole["method"]);
            }
            assert_eq!(after["results"][0]["synthetic_rows"], whole["results"][0]["synthetic_rows"], "crash after {crash}");
        }
    }
}

/// A learning curve takes no generator, goes on where it was, and says what a method's accuracy is worth.
#[test]
fn methods_are_worth_human_labels() {
    let fixture = Fixture::new();
    let (task, folder, options) = (fixture.path("task.toml"), fixture.path("curve"), options());
    let wanted = LearningCurve { task: &task, options: &options, rows: &[2, 10, 20, 1000], draws: 2, folder: &folder };
    let table = learning_curve(&wanted).unwrap();
    let rows: Vec<&str> = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next()).collect();
    assert_eq!(rows, ["human", "------------", "10", "20", "40"], "two are too few, there are no more than 40\n{table}");
    let trained = std::fs::metadata(folder.join("rows-20/draw-1.json")).unwrap().modified().unwrap();
    assert_eq!(learning_curve(&wanted).unwrap(), table);
    assert_eq!(std::fs::metadata(folder.join("rows-20/draw-1.json")).unwrap().modified().unwrap(), trained);

    let (methods, file) = (["TF-IDF + logistic regression".to_string()], folder.join("curve.json"));
    let (draws, gold, budget, curve, out) = (2, &[40][..], Budget::Rows, Some(file.as_path()), fixture.path("compare"));
    let comparison = Comparison { task: &task, options: &options, draws, gold, methods: &methods, budget, curve, folder: &out };
    let table = compare(&comparison, &mut None).unwrap();
    assert!(table.contains("| worth human labels [95 %] |") && table.contains("TF-IDF + logistic regression"), "{table}");
    let worth = json(&out.join("compare.json"))[0]["worth"].as_str().unwrap().to_string();
    assert!(worth.contains(" [") && worth.ends_with(']'), "{worth}");
    let slower = TASK.replace("learning_rate = 1e-3", "learning_rate = 1e-4");
    std::fs::write(&task, slower).unwrap();
    let other = Comparison { folder: &fixture.path("other"), ..comparison };
    assert!(compare(&other, &mut None).unwrap_err().to_string().contains("task.train.learning_rate: was 0.001, now 0.0001"));
}

/// A method that reads no gold label trains the same model, to the byte, whatever the labels are; one that does trains another.
#[test]
fn methods_read_of_the_gold_rows_what_the_table_says() {
    let fixture = Fixture::new();
    let options = options();
    let flipped = std::fs::read_to_string(fixture.path("gold.jsonl")).unwrap().lines().map(flip).collect::<String>();
    std::fs::write(fixture.path("flipped.jsonl"), flipped).unwrap();
    std::fs::write(fixture.path("flipped.toml"), TASK.replace("gold.jsonl", "flipped.jsonl")).unwrap();
    let names = ["ZeroGen", "ZeroGen, select", "ZeroGen, select, soft targets", "seed with rationales", "GoldGen", "S3"];
    let names = names.iter().flat_map(|name| [name.to_string(), format!("{name} + gold")]);
    let names = names.filter(|name| name != "ZeroGen, select + gold").collect::<Vec<_>>();
    let table = |task: &str| {
        let (task, folder) = (fixture.path(task), fixture.path(&format!("compare-{task}")));
        let (draws, gold, budget, curve) = (1, &[40][..], Budget::Rows, None);
        let comparison = Comparison { task: &task, options: &options, draws, gold, methods: &names, budget, curve, folder: &folder };
        compare(&comparison, &mut boxed(of_words())).unwrap();
        (json(&folder.join("compare.json")), folder.join("gold-40/draw-0"))
    };
    let ((lines, before), (_, after)) = (table("task.toml"), table("flipped.toml"));
    for line in lines.as_array().unwrap() {
        let (name, reads) = (line["method"].as_str().unwrap(), line["reads"].as_str().unwrap());
        let run = match name.trim_end_matches(" + gold") {
            "ZeroGen" => "zerogen",
            "ZeroGen, select" => "zerogen-select",
            "ZeroGen, select, soft targets" => "zerogen-targets",
            "seed with rationales" => "seed",
            "GoldGen" => "goldgen",
            _ => "s3",
        };
        // model/ has learnt the gold rows too.
        let model = if name.ends_with("+ gold") { "model" } else { "rounds/0/model" };
        let read = |folder: &Path| std::fs::read(folder.join(run).join(model).join("model.safetensors")).unwrap();
        assert_eq!(read(&before) == read(&after), reads == "nothing", "{name} reads {reads}");
    }
}

/// A row with the other label.
fn flip(line: &str) -> String {
    let mut row: Value = serde_json::from_str(line).unwrap();
    row["label"] = if row["label"] == "positive" { "negative" } else { "positive" }.into();
    row.to_string() + "\n"
}

/// At equal tokens computed, what writes no rounds has as many more rows as the rounds cost.
#[test]
fn budgets_are_equal_in_tokens_computed() {
    let fixture = Fixture::new();
    let (task, folder, options) = (fixture.path("task.toml"), fixture.path("compare"), options());
    let methods = ["ZeroGen", "seed with rationales", "GoldGen", "S3"].map(String::from);
    let (draws, gold, budget, curve) = (1, &[40][..], Budget::Tokens, None);
    let comparison = Comparison { task: &task, options: &options, draws, gold, methods: &methods, budget, curve, folder: &folder };
    let table = compare(&comparison, &mut boxed(of_words())).unwrap();
    let lines = json(&folder.join("compare.json"));
    let of = |name: &str| lines.as_array().unwrap().iter().find(|line| line["method"] == name).unwrap();
    let computed = |name: &str| of(name)["cost"]["computed"].as_f64().unwrap();
    for name in ["ZeroGen", "seed with rationales", "GoldGen"] {
        let ratio = computed(name) / computed("S3");
        assert!((0.8..1.2).contains(&ratio), "{name}: {ratio}\n{table}");
    }
    assert!(of("ZeroGen")["results"][0]["synthetic_rows"].as_u64() > of("S3")["results"][0]["synthetic_rows"].as_u64(), "{table}");
}

#[test]
fn a_sweep_varies_one_thing_at_a_time() {
    let fixture = Fixture::new();
    let (task, folder, options) = (fixture.path("task.toml"), fixture.path("sweep"), options());
    let axes = ["rounds=0,1", "seed-rows=12", "rationales=0", "rows-per-error=2", "gold-rows=20"].map(|axis| axis.parse().unwrap());
    let points = Sweep { task: &task, options: &options, axes: &axes, seeds: 1, folder: &folder };
    let table = sweep(&points, &mut boxed(of_words())).unwrap();
    let manifest = |run: &str| json(&folder.join(run).join("seed-0/manifest.json"));
    let rounds = |run: &str| manifest(run)["rounds"].as_array().unwrap().clone();
    assert_eq!((rounds("rounds-0").len(), rounds("rounds-1").len()), (1, 2));
    assert_eq!(rounds("seed-rows-12")[0]["accepted"], 12);
    assert!(!folder.join("rationales-0/seed-0/rationales.json").exists());
    let twice = rounds("rows-per-error-2");
    let [accepted, errors] = [&twice[1]["accepted"], &twice[0]["errors_after"]].map(|count| count.as_u64().unwrap());
    // Twice each error that the judge does not share.
    assert!(accepted > 0 && accepted.is_multiple_of(2) && accepted <= 2 * errors, "{accepted} {errors}");
    assert_eq!(manifest("gold-rows-20")["splits"]["mine"].as_array().unwrap().len(), 10);
    assert_eq!(table.lines().count(), 2 + 2 + 6 * 4, "{table}");
    assert!(table.starts_with("`lacuna sweep ") && table.contains(" --vary rounds=0,1 --vary seed-rows=12"), "{table}");
    let page = std::fs::read_to_string(folder.join("sweep.html")).unwrap();
    assert_eq!((page.matches("<svg").count(), page.matches("<table>").count()), (5, 5), "a chart and a table an axis");
    let steps: Vec<u64> = json(&folder.join("sweep.json")).as_array().unwrap().iter().map(|line| line["steps"].as_u64().unwrap()).collect();
    assert!(steps.len() == 24 && steps.iter().all(|&of_line| of_line == steps[0] && of_line > 10), "{steps:?}");
    assert!(std::fs::read_to_string(folder.join("sweep.svg")).unwrap().ends_with("</svg>\n"));
}

#[test]
fn the_generator_is_judged_by_its_words_and_by_its_states() {
    let fixture = Fixture::new();
    let (task, folder, options) = (fixture.path("task.toml"), fixture.path("judged"), options());
    let report = JudgeReport { task: &task, options: &options, gold: &[12, 24], draws: 2, test_rows: 10, folder: &folder };
    let mut generator = boxed(of_words());
    let table = judge(&report, &mut generator).unwrap();
    assert_eq!(table.lines().count(), 2 + 2 + 2 * 3, "{table}");
    for judge in ["prompt, calibrated", "hidden states", "both"] {
        assert_eq!(table.lines().filter(|line| line.starts_with(&format!("| {judge} "))).count(), 2, "{table}");
    }
    // The replies are kept: nothing is left to ask, so that no generator is loaded.
    assert_eq!(judge(&report, &mut None).unwrap(), table);
    assert_eq!(std::fs::read_to_string(folder.join("judge.md")).unwrap(), table);
}

#[test]
fn texts_of_a_file_are_labelled_in_order_and_no_question_is_asked_twice() {
    let fixture = Fixture::new();
    let (task, folder, options) = (fixture.path("task.toml"), fixture.path("labelled"), options());
    let (texts, out) = (fixture.path("texts.txt"), fixture.path("labels.jsonl"));
    let written: Vec<String> = (0..30).map(|i| text(i % 3 == 0, 7000 + i)).collect();
    std::fs::write(&texts, written.join("\n\n") + "\n").unwrap();
    let labelling = Labelling { task: &task, options: &options, texts: &texts, out: Some(&out), folder: &folder };
    let mut failing = boxed(of_words().failing_after(60));
    label(&labelling, &mut failing).unwrap_err();
    assert!(!out.exists(), "no half-written file");
    // One question tried the judge, 40 were about gold rows, 19 about texts; 11 are left.
    let mut rest = boxed(of_words().failing_after(11));
    label(&labelling, &mut rest).unwrap();
    let refused = label(&labelling, &mut None).unwrap_err().to_string();
    assert!(refused.contains("labels.jsonl: it exists and is not written over"), "{refused}");
    let rows = json_lines(&out);
    assert_eq!(rows.iter().map(|row| row["text"].as_str().unwrap()).collect::<Vec<_>>(), written);
    for (i, row) in rows.iter().enumerate() {
        let label = if i % 3 == 0 { "positive" } else { "negative" };
        let p = row["probability"].as_f64().unwrap();
        assert!(row["label"] == label && p > 0.5 && row["target"][label] == p, "{row}");
        assert!((row["target"]["positive"].as_f64().unwrap() + row["target"]["negative"].as_f64().unwrap() - 1.0).abs() < 1e-9);
    }
}
