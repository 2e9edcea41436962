//! Reads a TOML document as a type, and finds every key that is wrong with it, not only the first.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

/// What is wrong, and at which byte.
pub type Wrong = (usize, String);

/// Reads a document, and goes on behind what is wrong: an unknown key is left out, and so is a value of the wrong type, a missing one is
/// made up. `None` if there was more than unknown keys: then what the document means is not known.
pub fn read<T: DeserializeOwned>(text: &str) -> (Option<T>, Vec<Wrong>) {
    let (mut document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return (None, errors.iter().map(wrong).collect());
    }
    let (mut all_wrong, mut whole, mut removed, mut made) = (Vec::new(), true, Vec::new(), 0);
    loop {
        let error = match T::deserialize(Deserializer::from(document.clone())) {
            Ok(read) => break (whole.then_some(read), all_wrong),
            Err(error) => error,
        };
        whole &= error.message().starts_with("unknown field");
        let root = document.span();
        let place = error.span().unwrap_or(root.clone());
        let is_made_up = place.start > text.len();
        let table = document.get_mut();
        let (told, mended) = match missing(error.message()) {
            Some(key) => {
                made += 1;
                let owner = if place == root { Some(table) } else { value_at(table, &place).and_then(table_of) };
                let made_up = owner.map(|table| _ = table.insert(Spanned::new(beyond(made), key.to_string().into()), made_up(key, made)));
                (is_made_up || removed.contains(&(place.clone(), key.to_string())), made_up)
            }
            None if is_made_up => {
                let made_up = value_at(table, &place).map(Spanned::get_mut).filter(|value| value.is_str());
                (true, made_up.map(|value| *value = DeValue::Table(DeTable::new())))
            }
            None => (false, remove(table, &root, &place).map(|gone| removed.push(gone))),
        };
        // What was made up may be wrong, and a key that was removed is missing: neither is told.
        if !told {
            all_wrong.push(wrong(&error));
        }
        if mended.is_none() {
            break (None, all_wrong);
        }
    }
}

/// A place behind every document: that of the `n`-th value that was made up.
fn beyond(n: usize) -> Range<usize> {
    usize::MAX - n..usize::MAX - n
}

fn wrong(error: &toml::de::Error) -> Wrong {
    (error.span().map_or(0, |span| span.start), error.message().trim().replace('\n', " "))
}

/// The key that is missing, as serde says it.
fn missing(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}

/// Something in place of a missing value, which is a string in most cases; a `kind` must be one that there is.
fn made_up(key: &str, n: usize) -> Spanned<DeValue<'static>> {
    Spanned::new(beyond(n), DeValue::String(if key == "kind" { "text" } else { "made up" }.into()))
}

/// Removes the entry whose key or value stands there, or an item of it; returns where its table stands, which is at `own`, and its name.
fn remove(table: &mut DeTable, own: &Range<usize>, place: &Range<usize>) -> Option<(Range<usize>, String)> {
    let has_item = |value: &DeValue| value.as_array().is_some_and(|items| items.iter().any(|item| item.span() == *place));
    let here = |key: Range<usize>, value: &Spanned<DeValue>| key == *place || value.span() == *place || has_item(value.get_ref());
    let found = table.iter().find(|(key, value)| here(key.span(), value)).map(|(key, _)| key.clone());
    if let Some(key) = found {
        table.remove(&key);
        return Some((own.clone(), key.get_ref().to_string()));
    }
    table.iter_mut().find_map(|(_, value)| {
        let own = value.span();
        match value.get_mut() {
            DeValue::Table(inner) => remove(inner, &own, place),
            DeValue::Array(items) => items.iter_mut().find_map(|item| {
                let own = item.span();
                remove(table_of(item)?, &own, place)
            }),
            _ => None,
        }
    })
}

/// The value that stands there.
fn value_at<'t, 'i>(table: &'t mut DeTable<'i>, place: &Range<usize>) -> Option<&'t mut Spanned<DeValue<'i>>> {
    table.iter_mut().find_map(|(_, value)| within(value, place))
}

fn within<'t, 'i>(value: &'t mut Spanned<DeValue<'i>>, place: &Range<usize>) -> Option<&'t mut Spanned<DeValue<'i>>> {
    // An array of tables stands where its first table does.
    if value.span() == *place && !value.get_ref().is_array() {
        return Some(value);
    }
    match value.get_mut() {
        DeValue::Table(table) => value_at(table, place),
        DeValue::Array(items) => items.iter_mut().find_map(|item| within(item, place)),
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
    fn unknown_keys_are_told_and_left_out() {
        let text = SOUND.replace("n = 3", "n = 3\nm = 3").replace("a = \"c\"", "a = \"c\"\nb = 4") + "z = {}\n";
        let (whole, wrong) = read(&text);
        assert_eq!(whole, Some(toml::from_str(SOUND).unwrap()));
        assert_eq!(wrong.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [7, 10, 11], "{wrong:?}");
    }

    #[test]
    fn all_values_of_a_wrong_type_are_told() {
        let text = SOUND.replace("n = 3", "n = -3\nm = 3").replace("a = \"c\"", "a = \"c\"\nb = 4").replace("\"b\"]", "2]") + "z = {}\n";
        let (whole, wrong) = read(&text);
        let mut lines: Vec<usize> = wrong.iter().map(|(line, _)| *line).collect();
        lines.sort_unstable();
        assert!(whole.is_none() && lines == [3, 6, 7, 10, 11], "{wrong:?}");
    }

    #[test]
    fn all_that_is_missing_is_told_once() {
        let told = |text: &str| {
            let (whole, wrong) = read(text);
            assert!(whole.is_none());
            wrong.into_iter().map(|(line, message)| format!("{line} {}", message.split(',').next().unwrap())).collect::<Vec<_>>()
        };
        let mut all = told("[[parts]]\nn = 1\n[[parts]]\na = 3\n");
        all.sort();
        let of_root = ["kind", "name", "part"].map(|key| format!("1 missing field `{key}`"));
        assert_eq!(all, [&["1 missing field `a`".to_string()], &of_root[..], &["4 invalid type: integer `3`".to_string()]].concat());
        assert_eq!(told("kind = \"text\"\n"), ["1 missing field `name`", "1 missing field `part`"]);
        let wrong = told(&SOUND.replace("\"pair\"", "\"paar\"").replace("[part]\na = \"b\"", "[part]"));
        assert_eq!(wrong, ["2 unknown variant `paar`", "4 missing field `a`"]);
        // A key of one table that is wrong does not hide one of the same name that is missing in another.
        let wrong = told(&SOUND.replace("a = \"b\"", "a = 7").replace("a = \"c\"", ""));
        assert_eq!(wrong.iter().filter(|message| message.contains("missing field `a`")).count(), 1, "{wrong:?}");
    }

    /// Tables that are missing, with keys that must be there.
    #[test]
    fn missing_tables_do_not_hide_each_other() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Four {
            a: Part,
            b: Part,
            c: Part,
            d: Kind,
        }
        let (read, wrong) = super::read::<Four>("");
        let told: Vec<String> = wrong.into_iter().map(|(_, message)| message).collect();
        assert_eq!((read, told), (None, ["a", "b", "c", "d"].map(|key| format!("missing field `{key}`")).to_vec()));
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_places() {
        let (whole, wrong) = read("name = \nkind = \"pair\n");
        assert!(whole.is_none() && wrong.len() > 1, "{wrong:?}");
    }
}
