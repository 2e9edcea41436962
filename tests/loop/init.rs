//! `lacuna init`: tables as people have them become tasks that are read as they are.

use std::path::Path;
use std::process::{Command, Output};

use lacuna::data::example::TaskKind;
use lacuna::task::file::Task;

/// Runs `lacuna init` in a folder.
fn init(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lacuna")).current_dir(folder).arg("init").args(args).output().unwrap()
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The lines of a file that was made, none where there is no such file.
fn rows(folder: &Path, file: &str) -> Vec<serde_json::Value> {
    let content = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
    content.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Twenty messages of each label, and ten without one.
fn messages() -> String {
    let row = |i: usize| {
        let label = if i < 40 { ["card_lost", "card_late"][i % 2] } else { "" };
        format!("{i},\"message number {i}, from a customer\",{label}\n")
    };
    format!("id,Message,Intent\n{}", (0..50).map(row).collect::<String>())
}

#[test]
fn a_table_becomes_a_task() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bank.csv"), messages()).unwrap();
    let output = init(folder.path(), &["bank.csv", "--about", "a message from a customer to a bank"]);
    assert!(output.status.success(), "{}", told(&output));
    assert!(told(&output).contains("text \"Message\", label \"Intent\""), "{}", told(&output));
    let made = folder.path().join("bank");
    let text = std::fs::read_to_string(made.join("task.toml")).unwrap();
    assert!(text.lines().count() <= 17, "{text}");
    assert!(text.contains("card_late = \"card late\""), "{text}");
    let task = Task::read(&made.join("task.toml")).unwrap();
    assert_eq!(
        (task.kind, task.label_names().len(), task.about.as_deref()),
        (TaskKind::Text, 2, Some("a message from a customer to a bank"))
    );
    assert!(lacuna::task::prompts::check(&task).is_empty());
    let (gold, test) = (rows(&made, "gold.jsonl"), rows(&made, "test.jsonl"));
    assert_eq!((gold.len(), test.len(), rows(&made, "unlabelled.jsonl").len()), (32, 8, 10));
    assert!(gold.iter().all(|row| !test.contains(row)));
    assert_eq!(test.iter().filter(|row| row["label"] == "card_lost").count(), 4);

    let again = init(folder.path(), &["bank.csv"]);
    assert_eq!(again.status.code(), Some(5), "{}", told(&again));
    assert_eq!(std::fs::read_to_string(made.join("task.toml")).unwrap(), text, "what was there is not written over");
}

#[test]
fn rows_that_are_left_out_are_listed_and_ids_stay() {
    let folder = tempfile::tempdir().unwrap();
    let more = "50,,card_lost\n51,\"message number 0, from a customer\",card_lost\n52,\"Message number 1, from a customer\",\n";
    std::fs::write(folder.path().join("bank.csv"), messages() + more).unwrap();
    let output = init(folder.path(), &["bank.csv"]);
    assert!(output.status.success() && told(&output).contains("left out     3, listed in bank/left-out.jsonl"), "{}", told(&output));
    let made = folder.path().join("bank");
    let out = rows(&made, "left-out.jsonl");
    let of = |name: &str| out.iter().map(|row| row[name].to_string()).collect::<Vec<_>>();
    assert_eq!(of("line"), ["52", "53", "54"]);
    assert!(of("why")[0].contains("without a text") && of("why")[1].contains("was there before"), "{out:?}");
    let ids: std::collections::BTreeSet<String> = ["gold.jsonl", "test.jsonl", "unlabelled.jsonl"]
        .iter()
        .flat_map(|file| rows(&made, file))
        .map(|row| row["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 50);
}

#[test]
fn a_table_in_another_encoding_is_read_if_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let rows_of = |i: usize| format!("Gr\u{f6}\u{df}e {i} ist \u{fc}bel;{}\r\n", ["Lob", "Tadel"][i % 2]);
    let table = format!("Text;Art\r\n{}", (0..20).map(rows_of).collect::<String>());
    let latin: Vec<u8> = table.chars().map(|c| c as u8).collect();
    std::fs::write(folder.path().join("de.csv"), latin).unwrap();
    let output = init(folder.path(), &["de.csv"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(told(&output).contains("--encoding windows-1252"), "{}", told(&output));
    assert_eq!(init(folder.path(), &["de.csv", "--encoding", "klingon"]).status.code(), Some(2));
    assert!(told(&init(folder.path(), &["de.csv", "--sheet", "one"])).contains("not a workbook"));
    let output = init(folder.path(), &["de.csv", "--encoding", "windows-1252"]);
    assert!(output.status.success(), "{}", told(&output));
    let gold = rows(&folder.path().join("de"), "gold.jsonl");
    assert!(gold.iter().all(|row| row["text"].as_str().unwrap().starts_with("Gr\u{f6}\u{df}e ")), "{gold:?}");
}

#[test]
fn shown_prompts_are_those_that_are_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bank.csv"), messages()).unwrap();
    let about = "a message, \"quoted\", from a customer";
    for (out, more) in [("short", None), ("long", Some("--show-prompts"))] {
        let args: Vec<&str> = ["bank.csv", "--out", out, "--about", about].into_iter().chain(more).collect();
        let output = init(folder.path(), &args);
        assert!(output.status.success(), "{}", told(&output));
    }
    let read = |out: &str| Task::read(&folder.path().join(out).join("task.toml")).unwrap();
    let (short, long) = (read("short"), read("long"));
    let named = |task: Task| Task { name: String::new(), ..task };
    assert_eq!(named(short), named(long));
    let written = std::fs::read_to_string(folder.path().join("long/task.toml")).unwrap();
    assert!(written.contains("[prompts.seed]") && written.contains("[[prompts.judge]]"), "{written}");
}

#[test]
fn pairs_questions_and_labels_alone_are_tasks_too() {
    let folder = tempfile::tempdir().unwrap();
    let pair = |i: usize| format!("the premise {}\tthe hypothesis {i}\t{}\n", i / 4, ["yes", "no"][i % 2]);
    std::fs::write(folder.path().join("nli.tsv"), format!("premise\thypothesis\tlabel\n{}", (0..40).map(pair).collect::<String>()))
        .unwrap();
    let question = |i: usize| {
        let context = format!("The answer of {} is {i}.", i / 2);
        let start = context.len() - 1 - i.to_string().len();
        serde_json::json!({"context": context, "question": format!("What is {i}?"), "answers": {"text": [i.to_string()], "answer_start": [start]}})
    };
    std::fs::write(folder.path().join("qa.json"), serde_json::to_string(&(0..20).map(question).collect::<Vec<_>>()).unwrap()).unwrap();
    let made = |args: &[&str], out: &str| {
        let output = init(folder.path(), args);
        assert!(output.status.success(), "{}", told(&output));
        let task = Task::read(&folder.path().join(out).join("task.toml")).unwrap();
        assert!(lacuna::task::prompts::check(&task).is_empty());
        task.kind
    };
    assert_eq!(made(&["nli.tsv"], "nli"), TaskKind::Pair);
    let firsts = |file: &str| rows(&folder.path().join("nli"), file).into_iter().map(|row| row["text"].to_string()).collect::<Vec<_>>();
    assert!(!firsts("test.jsonl").is_empty() && firsts("test.jsonl").iter().all(|first| !firsts("gold.jsonl").contains(first)));
    assert_eq!(made(&["qa.json"], "qa"), TaskKind::ExtractiveQa);
    assert!(!rows(&folder.path().join("qa"), "test.jsonl").is_empty());
    assert_eq!(made(&["--labels", "card,card lost", "--out", "alone"], "alone"), TaskKind::Text);
}

#[test]
fn what_cannot_be_a_task_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| std::fs::write(folder.path().join(name), content).unwrap();
    write("one.csv", "text,label\na fine film,good\na nice film,good\nwhat a film,good\n");
    write("rare.csv", "text,label\na fine film,good\na nice film,good\nwhat a bore,bad\n");
    write("torn.jsonl", "{\"context\":\"a b\",\"question\":\"c?\",\"answers\":{\"text\":[\"a\"],\"answer_start\":[0]}}\n{\"id\":2}\n");
    write("header.csv", "text,label\n");
    write("unclear.csv", "summary,remarks\na fine film,seen it twice now\na nice film,never seen it before\n");
    for (args, code, expected) in [
        (&["one.csv"][..], 3, "one label alone in column \"label\""),
        (&["rare.csv"], 3, "fewer than two different rows have the label \"bad\""),
        (&["header.csv"], 3, "no rows below the names of the columns"),
        (&["torn.jsonl"], 3, "torn.jsonl:2: a question needs"),
        (&["one.csv", "--kind", "pair"], 2, "--kind"),
        (&["unclear.csv"], 3, "which column holds the text is not clear: name it with --text"),
        (&["one.csv", "--label", "class"], 3, "there is no column \"class\""),
        (&["nothing.csv"], 6, "nothing.csv"),
        (&["--labels", "a,b"], 5, "--out"),
        (&[], 2, "<TABLE>"),
        (&["one.csv", "--test-share", "1"], 2, "below 1"),
    ] {
        let output = init(folder.path(), args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", told(&output));
        assert!(told(&output).contains(expected), "{args:?}: {}", told(&output));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 5, "nothing is left behind");
}

/// Names with all that TOML minds, a text in other capitals without its label, and one text twice.
#[test]
fn odd_names_and_rows_become_a_task() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["it's \"odd\"", "a\nb", "4.5", "card.lost", "card_lost", "Käse = gut # ja"];
    let row =
        |i: usize| serde_json::json!({"text": format!("Text Number {i} is here"), "label": names[i % names.len()]}).to_string() + "\n";
    let mut content: String = (0..60).map(row).collect();
    content += "{\"text\": \"text number 7 IS here\"}\n{\"text\": \"another text without any label\"}\n";
    std::fs::write(folder.path().join("odd.jsonl"), content).unwrap();
    let output = init(folder.path(), &["odd.jsonl"]);
    assert!(output.status.success(), "{}", told(&output));
    let made = folder.path().join("odd");
    let task = Task::read(&made.join("task.toml")).unwrap();
    let own: std::collections::BTreeSet<String> = task.label_names().into_iter().collect();
    assert_eq!(own, names.iter().map(|name| name.trim().to_string()).collect());
    assert_eq!(rows(&made, "unlabelled.jsonl").len(), 1, "the other is a gold or test row's text");
}
