//! The order that ARCHITECTURE.md draws holds, and no files of a crate import each other in a circle.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lacuna_arrows::Graph;

/// The roots of all crates.
const CRATES: [&str; 5] = ["kernels/src", "kernels/ggml/src", "models/src", "src", "tests/arrows/src"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn graph(src: &str) -> Graph {
    Graph::read(&root().join(src)).unwrap()
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    for src in CRATES {
        let circles = graph(src).circles();
        assert!(
            circles.is_empty(),
            "{src}: these import each other:\n{}",
            circles.iter().map(|c| c.join(", ")).collect::<Vec<_>>().join("\n")
        );
    }
}

#[test]
fn every_import_says_where_it_leads() {
    for src in CRATES {
        let refused = graph(src).refused();
        assert!(refused.is_empty(), "{src}: name what is imported, from its own file:\n{}", refused.join("\n"));
    }
}

/// The lines of the block ```` ```rooms ```` in ARCHITECTURE.md, each the names of the rooms on one floor, the top floor first.
fn floors() -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let block = text.split("```rooms\n").nth(1).expect("ARCHITECTURE.md draws the rooms").split("```").next().unwrap();
    let rooms = |line: &str| line.split_once("  ").map_or(line, |(names, _)| names).split(", ").map(str::to_string).collect();
    block.lines().map(str::trim).filter(|line| !line.is_empty()).map(rooms).collect()
}

#[test]
fn rooms_import_only_what_lies_on_a_lower_floor() {
    let (floors, graph) = (floors(), graph("src"));
    let drawn: BTreeSet<String> = floors.iter().flatten().cloned().collect();
    assert_eq!(graph.rooms(), drawn, "the rooms in src, and those that ARCHITECTURE.md draws");
    let floor = |room: &String| floors.iter().position(|rooms| rooms.contains(room)).unwrap();
    let against: Vec<String> = graph
        .between_rooms()
        .into_iter()
        .filter(|(from, to, _)| floor(from) >= floor(to))
        .map(|(from, to, example)| format!("{from} → {to} ({example})"))
        .collect();
    assert!(against.is_empty(), "arrows against the order of ARCHITECTURE.md:\n{}", against.join("\n"));
}

/// rustfmt holds the width of code, not of comments.
#[test]
fn comments_have_the_width_of_code() {
    let mut files = Vec::new();
    ["src", "kernels", "models", "tests", "benches"].iter().for_each(|folder| rust_files(&root().join(folder), &mut files));
    let mut wide = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let lines = text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("//") && line.chars().count() > 140);
        wide.extend(lines.map(|(i, _)| format!("{}:{}", file.display(), i + 1)));
    }
    assert!(wide.is_empty(), "comments of more than 140 columns:\n{}", wide.join("\n"));
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
