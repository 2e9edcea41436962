//! README quotes results/: its figures are those of the tables there.

use std::collections::HashMap;
use std::path::Path;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The part of a text from a line on to the next heading of the same kind.
fn section(text: &str, heading: &str) -> String {
    let start = text.find(heading).unwrap_or_else(|| panic!("no {heading:?}")) + heading.len();
    text[start..].split("\n## ").next().unwrap().to_string()
}

/// The rows of all Markdown tables in a text, each as cells by column.
fn rows(text: &str) -> Vec<HashMap<String, String>> {
    let cells = |line: &str| line.trim().trim_matches('|').split('|').map(|cell| cell.trim().to_string()).collect::<Vec<_>>();
    let mut found = Vec::new();
    let mut header: Vec<String> = Vec::new();
    for line in text.lines() {
        if !line.trim_start().starts_with('|') {
            header.clear();
        } else if header.is_empty() {
            header = cells(line);
        } else if !line.contains("---") {
            found.push(header.iter().cloned().zip(cells(line)).collect());
        }
    }
    found
}

/// Each row of README's table is a row of results/movie-sentiment.md, cell by cell, and each interval in its text stands there too.
#[test]
fn readme_says_what_the_results_say() {
    let (readme, results) = (section(&read("README.md"), "\n## How good is it"), read("results/movie-sentiment.md"));
    let measured = rows(&results);
    let quoted = rows(&readme);
    assert!(quoted.len() > 10, "the table is there");
    for row in &quoted {
        let same = |other: &&HashMap<String, String>| row.iter().all(|(column, cell)| other.get(column) == Some(cell));
        assert!(measured.iter().find(same).is_some(), "not in results/movie-sentiment.md: {row:?}");
    }
    let all = ["imdb", "qnli", "rte", "adversarial_qa"].map(|name| read(&format!("results/{name}.md"))).concat() + &results;
    let intervals = readme.split('[').skip(1).filter_map(|rest| rest.split_once(']')).map(|(inside, _)| inside);
    let is_interval =
        |inside: &&str| inside.split_once(", ").is_some_and(|(low, high)| low.parse::<f64>().is_ok() && high.parse::<f64>().is_ok());
    for interval in intervals.filter(is_interval) {
        assert!(all.contains(&format!("[{interval}]")), "no table has the interval [{interval}]");
    }
}
