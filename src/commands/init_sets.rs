//! `lacuna init` of a table whose rows have several labels: a list of names, names in one cell, or a column of 0 and 1 for each label.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use crate::data::dealing::deal;
use crate::data::fields::quoted;
use crate::data::label_sets::names_in;
use crate::data::roles::{labels, named, said};
use crate::data::shares::Labelled;
use crate::data::table::Row;

/// Where the labels of rows stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// In one column: lists, or names between commas, semicolons or bars.
    Cell(String),
    /// In a column of 0 and 1 each.
    Columns(Vec<String>),
}

/// A row with its labels.
pub(super) type WithLabels = (Labelled, Vec<String>);

/// The rows of a table with several labels a row, divided.
#[derive(Debug, Default)]
pub(super) struct Sets {
    /// The most frequent first.
    pub(super) labels: Vec<String>,
    pub(super) gold: Vec<WithLabels>,
    pub(super) test: Vec<WithLabels>,
    pub(super) unlabelled: Vec<Labelled>,
    pub(super) left_out: Vec<(Labelled, &'static str)>,
}

/// Where the labels stand, if rows have several: in a column of lists that is called labels or `asked` for; or, where it is `wanted`, in
/// one of anything that is, in the only column of lists, or in those that hold 0 and 1 alone.
///
/// # Errors
/// Several are wanted, and there is no such column.
pub(super) fn source(rows: &[Row], asked: Option<&str>, wanted: bool) -> Result<Option<Source>, String> {
    let mut names: Vec<&String> = Vec::new();
    rows.iter().flat_map(Row::keys).for_each(|name| {
        if !names.contains(&name) {
            names.push(name)
        }
    });
    let cells = |name: &str| rows.iter().filter_map(|row| row.get(name)).filter(|cell| !is_empty(cell)).collect::<Vec<_>>();
    let of_lists = |name: &&&String| {
        let cells = cells(name);
        !cells.is_empty() && cells.iter().all(|cell| cell.as_array().is_some_and(|list| list.iter().all(|item| said(item).is_some())))
    };
    let lists: Vec<&&String> = names.iter().filter(of_lists).collect();
    let is_called = |name: &str| names.iter().find(|own| own.eq_ignore_ascii_case(name));
    if let Some(columns) = asked.filter(|asked| wanted && asked.contains(',')) {
        let named = columns.split(',').map(str::trim);
        let found: Result<Vec<String>, String> =
            named.map(|name| is_called(name).map(|own| own.to_string()).ok_or_else(|| format!("there is no column {name:?}"))).collect();
        return of_two(rows, found?).map(|columns| Some(Source::Columns(columns)));
    }
    if let Some(asked) = asked {
        let Some(name) = is_called(asked) else {
            return if wanted { Err(format!("there is no column {asked:?}")) } else { Ok(None) };
        };
        return Ok((wanted || lists.contains(&name)).then(|| Source::Cell(name.to_string())));
    }
    let called = ["labels", "label"].iter().find_map(|name| is_called(name).filter(|name| wanted || lists.contains(name)));
    if let Some(name) = called.or_else(|| lists.first().copied().filter(|_| wanted && lists.len() == 1)) {
        return Ok(Some(Source::Cell(name.to_string())));
    }
    if !wanted {
        return Ok(None);
    }
    // One that says the same of all rows is no label, and a cell or two that are odd make a column no other.
    let of_labels = |name: &&&String| {
        let said: Vec<Option<bool>> = cells(name).into_iter().map(has).collect();
        let known = said.iter().flatten().count();
        !name.eq_ignore_ascii_case("id") && 10 * known >= 9 * said.len() && [true, false].iter().all(|x| said.contains(&Some(*x)))
    };
    let columns: Vec<String> = names.iter().filter(of_labels).map(|name| name.to_string()).collect();
    if columns.is_empty() {
        let what = "there is no column `labels`, and none of 0 and 1: name the column of labels, or all columns of 0 and 1, with --label";
        return Err(what.to_string());
    }
    of_two(rows, columns).map(|columns| Some(Source::Columns(columns)))
}

/// These columns, each of which holds 0 and 1 alone, or nothing.
///
/// # Errors
/// The first cell that is neither.
fn of_two(rows: &[Row], columns: Vec<String>) -> Result<Vec<String>, String> {
    for name in &columns {
        let odd = |(_, row): &(usize, &Row)| row.get(name).is_some_and(|cell| !is_empty(cell) && has(cell).is_none());
        if let Some((i, row)) = rows.iter().enumerate().find(odd) {
            return Err(format!(
                "column {name:?} is one of 0 and 1, but for row {}, which has {}: write 0 or 1, or name the columns of labels with --label \
                 a,b",
                i + 1,
                row[name]
            ));
        }
    }
    Ok(columns)
}

fn is_empty(cell: &Value) -> bool {
    cell.is_null() || cell.as_str().is_some_and(|text| text.trim().is_empty())
}

/// Whether a cell says that a label applies.
fn has(cell: &Value) -> Option<bool> {
    match said(cell)?.to_lowercase().as_str() {
        "1" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

impl Source {
    /// A column that it needs.
    pub(super) fn column(&self) -> &str {
        match self {
            Source::Cell(name) => name,
            Source::Columns(names) => &names[0],
        }
    }

    /// What is told of it.
    pub(super) fn in_words(&self) -> String {
        match self {
            Source::Cell(name) => format!("labels {name:?}"),
            Source::Columns(names) => format!("a label in each of the columns of 0 and 1 {} (others: --label a,b)", quoted(names)),
        }
    }

    /// The labels of a row; none for a row that nobody labelled. An empty cell is that, an empty list a row to which no label applies.
    fn of(&self, row: &Row) -> Option<Vec<String>> {
        let mut labels: Vec<String> = match self {
            Source::Cell(name) => match row.get(name)? {
                Value::Array(items) => items.iter().filter_map(said).collect(),
                cell => names_in(&said(cell)?),
            },
            Source::Columns(names) => {
                // A row with a gap was not labelled through.
                let cells: Vec<(&String, bool)> = names.iter().map(|name| Some((name, has(row.get(name)?)?))).collect::<Option<_>>()?;
                cells.into_iter().filter(|(_, has)| *has).map(|(name, _)| name.clone()).collect()
            }
        };
        labels.sort();
        labels.dedup();
        Some(labels)
    }
}

/// Divides rows, each with its cells, so that gold and test rows have their share of each label.
///
/// # Errors
/// No label at all, or labels of a single row.
pub(super) fn divided(rows: Vec<(Labelled, &Row)>, source: &Source, test_share: f64, seed: u64) -> Result<Sets, String> {
    let mut sets = Sets::default();
    let mut first: HashMap<u64, Vec<String>> = HashMap::new();
    let mut contradicting = HashSet::new();
    let mut labelled = Vec::new();
    for (row, cells) in rows {
        let Some(labels) = source.of(cells) else {
            sets.unlabelled.push(row);
            continue;
        };
        let key = row.key();
        match first.get(&key) {
            None => {
                first.insert(key, labels.clone());
                labelled.push((row, labels));
            }
            Some(before) if *before == labels => sets.left_out.push((row, "its text was there before with the same labels")),
            Some(_) => {
                contradicting.insert(key);
                sets.left_out.push((row, "its text has other labels elsewhere"));
            }
        }
    }
    let (bad, labelled): (Vec<WithLabels>, Vec<WithLabels>) = labelled.into_iter().partition(|(row, _)| contradicting.contains(&row.key()));
    sets.left_out.extend(bad.into_iter().map(|(row, _)| (row, "its text has other labels elsewhere")));
    let (known, unlabelled) = sets.unlabelled.into_iter().partition(|row| first.contains_key(&row.key()));
    sets.unlabelled = unlabelled;
    let known: Vec<Labelled> = known;
    sets.left_out.extend(known.into_iter().map(|row| (row, "a labelled row has its text")));
    let counts = labels(labelled.iter().flat_map(|(_, labels)| labels.clone()));
    if counts.is_empty() {
        return Err("no row has a label".to_string());
    }
    let rare: Vec<(String, usize)> = counts.iter().filter(|(_, rows)| *rows < 2).cloned().collect();
    if !rare.is_empty() {
        let message = "fewer than two different rows have the label";
        return Err(format!("{message} {}: give each label two or more, or take it out of these rows", named(&rare)));
    }
    sets.labels = counts.into_iter().map(|(label, _)| label).collect();
    let place: HashMap<&String, usize> = sets.labels.iter().zip(0..).collect();
    let numbers: Vec<Vec<usize>> = labelled.iter().map(|(_, labels)| labels.iter().map(|label| place[label]).collect()).collect();
    let part =
        if test_share > 0.0 { deal(&numbers, sets.labels.len(), &[1.0 - test_share, test_share], seed) } else { vec![0; numbers.len()] };
    for (row, part) in labelled.into_iter().zip(part) {
        if part == 0 { &mut sets.gold } else { &mut sets.test }.push(row);
    }
    let has_none = |label: &&String| !sets.gold.iter().any(|(_, labels)| labels.contains(label));
    if let Some(label) = sets.labels.iter().find(has_none) {
        return Err(format!("no gold row would be left of label {label:?}: lower --test-share"));
    }
    Ok(sets)
}

/// A row as it is written.
pub(super) fn written((row, labels): &WithLabels) -> Value {
    let mut written = json!({"text": row.text});
    row.id.iter().for_each(|id| written["id"] = id.clone());
    written["labels"] = json!(labels);
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[Value]) -> Vec<Row> {
        rows.iter().map(|row| row.as_object().unwrap().clone()).collect()
    }

    #[test]
    fn a_column_of_lists_is_found_and_others_where_they_are_wanted() {
        let lists = rows(&[json!({"text": "a", "tags": ["x", "y"]}), json!({"text": "b", "tags": null}), json!({"text": "c", "tags": []})]);
        assert_eq!(source(&lists, None, false), Ok(None), "tokens or annotators may be lists too");
        let found = Ok(Some(Source::Cell("tags".into())));
        assert_eq!((source(&lists, None, true), source(&lists, Some("Tags"), false)), (found.clone(), found));
        let called = rows(&[json!({"text": "a", "Label": ["x"], "tokens": ["a"]})]);
        assert_eq!(source(&called, None, false), Ok(Some(Source::Cell("Label".into()))));
        let cells = rows(&[json!({"text": "a", "Labels": "x, y", "n": 3}), json!({"text": "b", "Labels": "", "n": 1})]);
        assert_eq!(source(&cells, None, false), Ok(None));
        assert_eq!(source(&cells, None, true), Ok(Some(Source::Cell("Labels".into()))));
        assert_eq!(source(&cells, Some("n"), true), Ok(Some(Source::Cell("n".into()))));
        assert_eq!(source(&cells, Some("n"), false), Ok(None));
        assert!(source(&cells, Some("m"), true).is_err());
        let one = |i: usize| json!({"id": i % 2, "text": i, "x": "1", "y": i % 2, "z": if i == 3 { "" } else { "1" }, "n": i});
        let mut columns = rows(&(0..20).map(one).collect::<Vec<_>>());
        columns[5]["x"] = json!("0");
        columns[6]["z"] = json!(false);
        let found = |names: &[&str]| Ok(Some(Source::Columns(names.iter().map(|name| name.to_string()).collect())));
        assert_eq!(source(&columns, None, true), found(&["x", "y", "z"]), "neither the id nor other numbers");
        assert_eq!(source(&columns, Some("y, Z"), true), found(&["y", "z"]));
        columns[7]["x"] = json!("x");
        let odd = source(&columns, None, true).unwrap_err();
        assert!(odd.contains("column \"x\" is one of 0 and 1, but for row 8, which has \"x\""), "{odd}");
        assert!(source(&rows(&[json!({"text": "a"})]), None, true).unwrap_err().contains("--label"));
    }

    #[test]
    fn cells_are_read() {
        let of = |source: &Source, row: Value| source.of(row.as_object().unwrap());
        let cell = Source::Cell("labels".into());
        for (value, expected) in [
            (json!("y|x"), Some(vec!["x", "y"])),
            (json!("x, x"), Some(vec!["x"])),
            (json!("[\"a b\"]"), Some(vec!["a b"])),
            (json!("[]"), Some(vec![])),
            (json!([1, "x"]), Some(vec!["1", "x"])),
            (json!(""), None),
            (json!(null), None),
        ] {
            let expected = expected.map(|labels| labels.into_iter().map(String::from).collect::<Vec<_>>());
            assert_eq!(of(&cell, json!({"labels": value})), expected, "{value}");
        }
        let columns = Source::Columns(vec!["x".into(), "y".into()]);
        assert_eq!(of(&columns, json!({"x": 0, "y": "1"})), Some(vec!["y".to_string()]));
        assert_eq!(of(&columns, json!({"x": null, "y": ""})), None);
        assert_eq!(of(&columns, json!({"x": 1, "y": ""})), None);
    }

    #[test]
    fn rows_are_divided_and_what_contradicts_is_left_out() {
        let table: Vec<Row> = rows(
            &(0..40)
                .map(|i| json!({"text": format!("t{i}"), "labels": if i % 4 == 0 { vec!["x"] } else { vec!["x", "y"] }}))
                .chain([json!({"text": "T0", "labels": ["y"]}), json!({"text": "t1", "labels": ["y", "x"]}), json!({"text": "new"})])
                .collect::<Vec<_>>(),
        );
        let labelled = |(i, row): (usize, &Row)| Labelled {
            line: i + 1,
            id: None,
            text: row["text"].as_str().unwrap().to_string(),
            text_pair: None,
            label: String::new(),
        };
        let given = table.iter().enumerate().map(|(i, row)| (labelled((i, row)), row)).collect();
        let found = divided(given, &Source::Cell("labels".into()), 0.25, 1).unwrap();
        assert_eq!(found.labels, ["x", "y"]);
        assert_eq!(found.gold.len() + found.test.len(), 39);
        assert!((9..=11).contains(&found.test.len()) && found.unlabelled.len() == 1);
        let why: Vec<&str> = found.left_out.iter().map(|(_, why)| *why).collect();
        assert_eq!(why.iter().filter(|why| why.contains("other labels")).count(), 2);
        assert_eq!(why.iter().filter(|why| why.contains("before")).count(), 1);
    }
}
