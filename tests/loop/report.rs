//! `report.html`: what it says is what the run's files say, it loads nothing, and texts are texts in it.

use std::process::Command;

use crate::common::Fixture;
use crate::scripted::{boxed, json, json_lines, setup};
use crate::words::of_words;
use lacuna::report::write_page;
use lacuna::run::summary::{Measures, Method};

const METHODS: [Method; 4] = [Method::GoldOnly, Method::Seed, Method::S3, Method::S3Gold];

#[test]
fn the_page_says_what_the_run_found_and_loads_nothing() {
    let fixture = Fixture::new();
    let run = fixture.path("run");
    let delivery = setup(&fixture).run(&run, &METHODS, &mut boxed(of_words())).unwrap();
    // A text may say anything.
    let hostile = "<script>alert(1)</script><img src=http://example.org/x>";
    let dataset = std::fs::read_to_string(run.join("dataset.jsonl")).unwrap();
    let first = json_lines(&run.join("dataset.jsonl")).swap_remove(0);
    let mut changed = first.clone();
    changed["text"] = hostile.into();
    std::fs::write(run.join("dataset.jsonl"), dataset.replacen(&first.to_string(), &changed.to_string(), 1)).unwrap();

    let path = write_page(&run).unwrap();
    let page = std::fs::read_to_string(&path).unwrap();
    assert!(page.contains("&lt;script&gt;alert(1)&lt;&#x2f;script&gt;") && !page.contains("<script") && !page.contains("<img"), "escaped");
    for loads in [" src=", "url(", "@import", "href=\"http", "srcset", "<iframe", "<object"] {
        assert!(!page.replace("&lt;img src=", "").contains(loads), "{loads}");
    }
    let own = delivery.results.iter().find(|result| result.method == delivery.delivered).unwrap();
    let share = format!("{:.1}", 100.0 * own.measured.accuracy().mean);
    assert!(page.contains(&format!("The delivered model ({}) is right on {share} % [", own.method.name())));
    let manifest = json(&run.join("manifest.json"));
    for round in manifest["rounds"].as_array().unwrap() {
        let spare = round["spare"].as_u64().map_or(String::new(), |spare| format!(" (+{spare})"));
        assert!(page.contains(&format!("<td>{}</td><td>{}{spare}</td>", round["written"], round["accepted"])), "{round}");
    }
    let as_delivered = delivery.as_delivered.as_ref().and_then(Measures::of_labels).unwrap();
    assert_eq!(as_delivered.bins.iter().map(|bin| bin.rows).sum::<usize>(), own.measured.correct.len());
    for (name, counts) in &as_delivered.labels {
        let row = &as_delivered.confusion[name];
        assert_eq!((row.values().sum::<usize>(), row.get(name).copied().unwrap_or(0)), (counts.gold, counts.right));
    }
}

#[test]
fn only_a_finished_run_has_a_page() {
    let fixture = Fixture::new();
    let run = fixture.path("run");
    let _ = setup(&fixture).run(&run, &METHODS, &mut boxed(of_words().failing_after(60)));
    let output = Command::new(env!("CARGO_BIN_EXE_lacuna")).arg("report").arg(&run).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{told}");
    assert!(told.contains("is not finished"), "{told}");
    assert!(!run.join("report.html").exists());
    let nothing = Command::new(env!("CARGO_BIN_EXE_lacuna")).arg("report").arg(fixture.path("nothing")).output().unwrap();
    assert_eq!(nothing.status.code(), Some(5), "{}", String::from_utf8_lossy(&nothing.stderr));
}
