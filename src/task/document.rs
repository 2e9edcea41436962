//! Reads a TOML document as a type, and finds every key that is wrong with it, not only the first.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

/// What is wrong, and at which byte.
pub type Wrong = (usize, String);

/// A place that is none of the document's: what is put in for a missing key.
const NOWHERE: Range<usize> = usize::MAX..usize::MAX;

/// Reads a document, and goes on behind what is wrong: an unknown key is left out, a value of the wrong type too, a missing one is made up.
/// `None` if the document is no TOML or lacks anything: then what it means is not known.
pub fn read<T: DeserializeOwned>(text: &str) -> (Option<T>, Vec<Wrong>) {
    let (mut document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return (None, errors.iter().map(wrong).collect());
    }
    let (mut all_wrong, mut whole, mut removed) = (Vec::new(), true, Vec::new());
    loop {
        let error = match T::deserialize(Deserializer::from(document.clone())) {
            Ok(read) => break (whole.then_some(read), all_wrong),
            Err(error) => error,
        };
        let place = error.span().unwrap_or(NOWHERE);
        let (missing, is_root) = (missing(error.message()), place == document.span());
        let table = document.get_mut();
        let mended = match missing {
            Some(key) => {
                whole = false;
                let table = if is_root { Some(table) } else { table_at(table, &place) };
                table.map(|table| _ = table.insert(Spanned::new(NOWHERE, key.to_string().into()), made_up(key)))
            }
            None if place == NOWHERE => a_table_after_all(table),
            None => remove(table, &place).map(|key| removed.push(key)),
        };
        // A key that was removed is missing then, and what was made up may be wrong: neither is told.
        if place != NOWHERE && missing.is_none_or(|key| !removed.iter().any(|gone| gone == key)) {
            all_wrong.push(wrong(&error));
        }
        if mended.is_none() {
            break (None, all_wrong);
        }
    }
}

fn wrong(error: &toml::de::Error) -> Wrong {
    (error.span().map_or(0, |span| span.start), error.message().trim().replace('\n', " "))
}

/// The key that is missing, as serde says it.
fn missing(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}

/// Something in place of a missing value, which is a string in most cases; a `kind` must be one that there is.
fn made_up(key: &str) -> Spanned<DeValue<'static>> {
    Spanned::new(NOWHERE, DeValue::String(if key == "kind" { "text" } else { "made up" }.into()))
}

/// Puts an empty table in place of a string that was made up; none if there is none.
fn a_table_after_all(table: &mut DeTable) -> Option<()> {
    table.iter_mut().find_map(|(_, value)| match (value.span() == NOWHERE, value.get_mut()) {
        (true, value @ DeValue::String(_)) => {
            *value = DeValue::Table(DeTable::new());
            Some(())
        }
        (_, DeValue::Table(inner)) => a_table_after_all(inner),
        (_, DeValue::Array(items)) => items.iter_mut().find_map(|item| a_table_after_all(table_of(item)?)),
        _ => None,
    })
}

/// Removes the entry whose key or value stands there, or an item of it; returns its name.
fn remove(table: &mut DeTable, place: &Range<usize>) -> Option<String> {
    let has_item = |value: &DeValue| value.as_array().is_some_and(|items| items.iter().any(|item| item.span() == *place));
    let here = |key: Range<usize>, value: &Spanned<DeValue>| key == *place || value.span() == *place || has_item(value.get_ref());
    let found = table.iter().find(|(key, value)| here(key.span(), value)).map(|(key, _)| key.clone());
    if let Some(key) = found {
        table.remove(&key);
        return Some(key.get_ref().to_string());
    }
    table.iter_mut().find_map(|(_, value)| match value.get_mut() {
        DeValue::Table(inner) => remove(inner, place),
        DeValue::Array(items) => items.iter_mut().find_map(|item| remove(table_of(item)?, place)),
        _ => None,
    })
}

/// The table that stands there.
fn table_at<'t, 'i>(table: &'t mut DeTable<'i>, place: &Range<usize>) -> Option<&'t mut DeTable<'i>> {
    table.iter_mut().find_map(|(_, value)| of_value(value, place))
}

fn of_value<'t, 'i>(value: &'t mut Spanned<DeValue<'i>>, place: &Range<usize>) -> Option<&'t mut DeTable<'i>> {
    let here = value.span() == *place;
    match value.get_mut() {
        DeValue::Table(table) => {
            if here {
                return Some(table);
            }
            table_at(table, place)
        }
        DeValue::Array(items) => items.iter_mut().find_map(|item| of_value(item, place)),
        _ => None,
    }
}

fn table_of<'t, 'i>(value: &'t mut Spanned<DeValue<'i>>) -> Option<&'t mut DeTable<'i>> {
    match value.get_mut() {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Whole {
        name: String,
        kind: Kind,
        part: Part,
        #[serde(default)]
        parts: Vec<Part>,
        words: Option<Vec<String>>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Text,
        Pair,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Part {
        a: String,
        n: Option<usize>,
    }

    const SOUND: &str = "name = \"x\"\nkind = \"pair\"\nwords = [\"a\", \"b\"]\n[part]\na = \"b\"\nn = 3\n[[parts]]\na = \"c\"\n";

    fn read(text: &str) -> (Option<Whole>, Vec<(usize, String)>) {
        let (read, wrong) = super::read(text);
        (read, wrong.into_iter().map(|(at, message)| (text[..at].matches('\n').count() + 1, message)).collect())
    }

    #[test]
    fn a_sound_document_is_read() {
        let (whole, wrong) = read(SOUND);
        assert_eq!(whole, Some(toml::from_str(SOUND).unwrap()));
        assert!(wrong.is_empty());
    }

    #[test]
    fn all_that_can_be_left_out_is_told_and_left_out() {
        let text = SOUND.replace("n = 3", "n = -3\nm = 3").replace("a = \"c\"", "a = \"c\"\nb = 4").replace("\"b\"]", "2]") + "z = {}\n";
        let (whole, wrong) = read(&text);
        let whole = whole.unwrap();
        assert_eq!((whole.part.n, whole.words, whole.parts[0].a.as_str()), (None, None, "c"));
        let mut lines: Vec<usize> = wrong.iter().map(|(line, _)| *line).collect();
        lines.sort_unstable();
        assert_eq!(lines, [3, 6, 7, 10, 11], "{wrong:?}");
    }

    #[test]
    fn all_that_is_missing_is_told_once() {
        let (whole, wrong) = read("[[parts]]\nn = 1\n[[parts]]\na = 3\n");
        assert_eq!(whole, None);
        let told: Vec<&str> = wrong.iter().map(|(_, message)| message.as_str()).collect();
        let expected =
            ["missing field `a`", "invalid type: integer `3`, expected a string", "missing field `name`", "missing field `kind`"];
        assert!(expected.iter().chain(&["missing field `part`"]).all(|message| told.contains(message)) && told.len() == 5, "{wrong:?}");
        let (_, wrong) = read(&SOUND.replace("\"pair\"", "\"paar\"").replace("[part]\na = \"b\"", "[part]"));
        assert_eq!(wrong.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 4], "{wrong:?}");
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_places() {
        let (whole, wrong) = read("name = \nkind = \"pair\n");
        assert!(whole.is_none() && wrong.len() > 1, "{wrong:?}");
    }
}
