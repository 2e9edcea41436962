//! The labels of a task file: a list of names, a table of names and wordings, or a table for each.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

/// A label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelKeys {
    /// The name in the gold data and in the trained model. A whole number or a boolean is the name that it is written as.
    #[serde(deserialize_with = "name")]
    pub name: String,
    /// The wording in prompts; the name if absent.
    pub say: Option<String>,
}

/// Reads `["negative", "positive"]`, `{ negative = "against", positive = "in favour" }`, or a list of tables with `name` and `say`.
pub(super) fn labels<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Vec<LabelKeys>, D::Error> {
    deserializer.deserialize_any(All)
}

fn name<'d, D: Deserializer<'d>>(deserializer: D) -> Result<String, D::Error> {
    deserializer.deserialize_any(One { tables: false }).map(|label| label.name)
}

struct All;

impl<'d> Visitor<'d> for All {
    type Value = Vec<LabelKeys>;

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("a list of labels, or a table of names and what they mean")
    }

    fn visit_seq<A: SeqAccess<'d>>(self, mut items: A) -> Result<Vec<LabelKeys>, A::Error> {
        let mut labels = Vec::new();
        while let Some(Item(label)) = items.next_element()? {
            labels.push(label);
        }
        Ok(labels)
    }

    fn visit_map<A: MapAccess<'d>>(self, mut entries: A) -> Result<Vec<LabelKeys>, A::Error> {
        let mut labels = Vec::new();
        while let Some((name, say)) = entries.next_entry()? {
            labels.push(LabelKeys { name, say: Some(say) });
        }
        Ok(labels)
    }
}

/// An element of the list.
struct Item(LabelKeys);

impl<'d> Deserialize<'d> for Item {
    fn deserialize<D: Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(One { tables: true }).map(Item)
    }
}

/// A name, or a table with one.
struct One {
    tables: bool,
}

impl<'d> Visitor<'d> for One {
    type Value = LabelKeys;

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("a label's name: a string, a whole number or a boolean")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<LabelKeys, E> {
        Ok(LabelKeys { name: name.to_string(), say: None })
    }

    fn visit_i64<E: Error>(self, name: i64) -> Result<LabelKeys, E> {
        self.visit_str(&name.to_string())
    }

    fn visit_bool<E: Error>(self, name: bool) -> Result<LabelKeys, E> {
        self.visit_str(&name.to_string())
    }

    fn visit_map<A: MapAccess<'d>>(self, entries: A) -> Result<LabelKeys, A::Error> {
        match self.tables {
            true => LabelKeys::deserialize(MapAccessDeserializer::new(entries)),
            false => Err(Error::invalid_type(serde::de::Unexpected::Map, &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Keys {
        #[serde(deserialize_with = "labels")]
        labels: Vec<LabelKeys>,
    }

    fn read(text: &str) -> Result<Vec<(String, Option<String>)>, String> {
        let keys: Keys = toml::from_str(text).map_err(|error| error.message().to_string())?;
        Ok(keys.labels.into_iter().map(|label| (label.name, label.say)).collect())
    }

    #[test]
    fn labels_are_written_in_three_ways() {
        let of = |all: &[(&str, Option<&str>)]| Ok(all.iter().map(|(name, say)| (name.to_string(), say.map(str::to_string))).collect());
        assert_eq!(read("labels = [\"a\", 1, true]"), of(&[("a", None), ("1", None), ("true", None)]));
        assert_eq!(read("[labels]\na = \"an A\"\n1 = \"one\""), of(&[("1", Some("one")), ("a", Some("an A"))]));
        assert_eq!(read("[[labels]]\nname = 3\n[[labels]]\nname = \"b\"\nsay = \"a B\""), of(&[("3", None), ("b", Some("a B"))]));
    }

    #[test]
    fn what_is_no_label_is_refused() {
        for (text, expected) in [
            ("labels = \"a\"", "a list of labels"),
            ("labels = [[\"a\"]]", "a label's name"),
            ("[[labels]]\nname = 3.5", "a label's name"),
            ("[[labels]]\nnam = 3", "unknown field `nam`"),
            ("[labels]\na = 3", "expected a string"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
