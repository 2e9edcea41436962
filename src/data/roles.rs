//! Which columns of a table hold the text, its label and a pair's second text: as asked, or guessed from their names and what is in them.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::fields::quoted;
use super::table::Row;

/// The columns of a table, by what they hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    pub text: Option<String>,
    pub text_pair: Option<String>,
    pub label: Option<String>,
}

/// Names that people give to such columns, the surest first.
const TEXTS: [&str; 17] = [
    "text",
    "sentence",
    "review",
    "message",
    "utterance",
    "content",
    "body",
    "comment",
    "tweet",
    "post",
    "document",
    "abstract",
    "description",
    "query",
    "title",
    "transcription",
    "input",
];
const LABELS: [&str; 12] =
    ["label", "labels", "class", "category", "intent", "sentiment", "target", "topic", "gold", "answer", "condition_label", "y"];
/// The two columns of a pair.
const PAIRS: [(&str, &str); 8] = [
    ("text", "text_pair"),
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("sentence_1", "sentence_2"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("sentence", "question"),
];
/// Rows that are looked at, evenly spaced.
const LOOK: usize = 2000;
/// A label's column has at most this share of different values.
const FEW: f64 = 0.2;
/// Fewest words of a text, and most of a label, on the mean.
const WORDS: f64 = 2.5;
const LABEL_WORDS: f64 = 4.0;

/// A column, as far as its values tell.
struct Column<'r> {
    name: &'r str,
    filled: usize,
    different: usize,
    words: f64,
}

/// Whether people call columns of texts, labels or numbers so.
pub fn is_usual_name(name: &str) -> bool {
    let pairs = PAIRS.iter().flat_map(|(first, second)| [first, second]);
    TEXTS.iter().chain(&LABELS).chain(pairs).chain(&["id"]).any(|usual| usual.eq_ignore_ascii_case(name))
}

impl Roles {
    /// What the user asked for, and the rest guessed; a label is not needed.
    ///
    /// # Errors
    /// A column that is not there; several that may hold the text, or none: what each looks like, and how to name one.
    pub fn of(rows: &[Row], asked: &Roles) -> Result<Roles, String> {
        let names = names(rows);
        let rows: Vec<&Row> = rows.iter().step_by(rows.len().div_ceil(LOOK).max(1)).collect();
        let columns = columns(&names, &rows);
        let mut roles = asked.clone();
        for name in [&mut roles.text, &mut roles.text_pair, &mut roles.label].into_iter().flatten() {
            let own =
                columns.iter().find(|column| column.name == name).or(columns.iter().find(|column| column.name.eq_ignore_ascii_case(name)));
            *name = own.ok_or_else(|| format!("there is no column {name:?}. {}", described(&columns)))?.name.to_string();
        }
        let named =
            |wanted: &str| columns.iter().find(|column| column.name.eq_ignore_ascii_case(wanted)).map(|column| column.name.to_string());
        if roles.text.is_none() && roles.text_pair.is_none() {
            let pair = PAIRS.iter().find_map(|(first, second)| Some((named(first)?, named(second)?)));
            (roles.text, roles.text_pair) = pair.map_or((None, None), |(first, second)| (Some(first), Some(second)));
        }
        let taken: HashSet<String> = [&roles.text, &roles.text_pair].into_iter().flatten().cloned().collect();
        let label = || {
            let free: Vec<&Column> = columns.iter().filter(|column| !taken.contains(column.name)).collect();
            // A column that is called so may have one label alone, or very many.
            let is_called = |name: &&str| free.iter().find(|column| column.name.eq_ignore_ascii_case(name) && column.repeats());
            let few: Vec<&&Column> = free.iter().filter(|column| column.says_few(rows.len())).collect();
            let named = LABELS.iter().find_map(is_called);
            match (named, &few[..]) {
                (Some(column), _) => Ok(Some(column.name.to_string())),
                (None, []) => Ok(None),
                (None, [column]) => Ok(Some(column.name.to_string())),
                (None, several) => {
                    let several: Vec<String> =
                        several.iter().map(|column| format!("{:?} ({} different)", column.name, column.different)).collect();
                    Err(format!("which column holds the label is not clear: name it with --label. It may be {}", several.join(", ")))
                }
            }
        };
        if roles.label.is_none() {
            roles.label = label()?;
        }
        if roles.text.is_some() {
            return Ok(roles);
        }
        let used: Vec<&String> = [&roles.text_pair, &roles.label].into_iter().flatten().collect();
        let long: Vec<&Column> =
            columns.iter().filter(|column| !used.contains(&&column.name.to_string()) && column.words >= WORDS).collect();
        let by_name = TEXTS.iter().find_map(|name| named(name)).filter(|name| !used.contains(&name));
        roles.text = by_name.or_else(|| long.first().filter(|_| long.len() == 1).map(|column| column.name.to_string()));
        if roles.text.is_none() {
            return Err(format!("which column holds the text is not clear: name it with --text. {}", described(&columns)));
        }
        Ok(roles)
    }
}

impl Column<'_> {
    /// Whether some of its values are there several times, as labels are and texts are not.
    fn repeats(&self) -> bool {
        self.words <= LABEL_WORDS && self.different > 0 && self.different < self.filled
    }

    fn says_few(&self, rows: usize) -> bool {
        self.repeats() && self.different >= 2 && (self.different as f64) <= (FEW * rows as f64).max(3.0)
    }
}

/// The names of all columns, in the order in which they come.
fn names(rows: &[Row]) -> Vec<&str> {
    let (mut names, mut seen) = (Vec::new(), HashSet::new());
    rows.iter().flat_map(Row::keys).for_each(|name| {
        if seen.insert(name.as_str()) {
            names.push(name.as_str());
        }
    });
    names
}

fn columns<'r>(names: &[&'r str], rows: &[&Row]) -> Vec<Column<'r>> {
    let column = |name: &&'r str| {
        let values: Vec<String> = rows.iter().filter_map(|row| said(row.get(*name)?)).collect();
        let different = values.iter().collect::<HashSet<_>>().len();
        let words: usize = values.iter().map(|value| value.split_whitespace().count()).sum();
        Column { name, filled: values.len(), different, words: words as f64 / values.len().max(1) as f64 }
    };
    names.iter().map(column).collect()
}

/// What a cell says; nothing where it is empty or not a single value.
pub fn said(value: &Value) -> Option<String> {
    let said = match value {
        Value::String(text) => text.trim().to_string(),
        Value::Number(number) => {
            let whole = number.as_f64().filter(|x| x.fract() == 0.0 && x.abs() < 1e15);
            whole.map_or_else(|| number.to_string(), |x| format!("{x:.0}"))
        }
        Value::Bool(truth) => truth.to_string(),
        _ => return None,
    };
    (!said.is_empty()).then_some(said)
}

fn described(columns: &[Column]) -> String {
    let of = |column: &Column| {
        format!("{:?}: {} rows, {} different, {:.0} words each", column.name, column.filled, column.different, column.words)
    };
    format!("The columns are\n  {}", columns.iter().map(of).collect::<Vec<_>>().join("\n  "))
}

/// The labels of rows, the most frequent first, with how many have each.
pub fn labels(labels: impl Iterator<Item = String>) -> Vec<(String, usize)> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    labels.for_each(|label| *counts.entry(label).or_default() += 1);
    let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
    counts.sort_by(|(a, n), (b, m)| m.cmp(n).then(a.cmp(b)));
    counts
}

/// Names in quotation marks, the first few.
pub fn named(names: &[(String, usize)]) -> String {
    quoted(&names.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rows(columns: &[(&str, &[&str])]) -> Vec<Row> {
        let of = |i: usize| columns.iter().map(|(name, values)| (name.to_string(), json!(values[i % values.len()]))).collect();
        (0..40).map(of).collect()
    }

    fn roles(text: Option<&str>, text_pair: Option<&str>, label: Option<&str>) -> Roles {
        let owned = |name: Option<&str>| name.map(str::to_string);
        Roles { text: owned(text), text_pair: owned(text_pair), label: owned(label) }
    }

    const LONG: &[&str] =
        &["a fine film with heart", "this one is a bore", "what a mess it is", "I laughed all the way", "seen better, seen worse"];

    #[test]
    fn clear_columns_are_guessed() {
        let none = Roles::default();
        let of = |columns: &[(&str, &[&str])]| Roles::of(&rows(columns), &none);
        assert_eq!(
            of(&[("id", &["1", "2"]), ("Review", LONG), ("Sentiment", &["pos", "neg"])]),
            Ok(roles(Some("Review"), None, Some("Sentiment")))
        );
        assert_eq!(of(&[("v1", &["ham", "spam"]), ("v2", LONG)]), Ok(roles(Some("v2"), None, Some("v1"))), "by what is in them");
        let pair = of(&[("premise", LONG), ("hypothesis", LONG), ("label", &["0", "1"])]);
        assert_eq!(pair, Ok(roles(Some("premise"), Some("hypothesis"), Some("label"))));
        assert_eq!(of(&[("text", LONG)]), Ok(roles(Some("text"), None, None)), "texts alone");
    }

    #[test]
    fn a_column_that_is_called_label_is_one() {
        let intents: Vec<String> = (0..20).map(|i| format!("intent_{i}")).collect();
        let intents: Vec<&str> = intents.iter().map(String::as_str).collect();
        let many = rows(&[("text", LONG), ("split", &["train", "dev"]), ("label", &intents)]);
        assert_eq!(Roles::of(&many, &Roles::default()), Ok(roles(Some("text"), None, Some("label"))), "two rows of each");
        let mut late: Vec<Row> = rows(&[("text", LONG)]);
        late.extend(rows(&[("text", LONG), ("label", &["a", "b"])]));
        assert_eq!(Roles::of(&late, &roles(None, None, Some("label"))), Ok(roles(Some("text"), None, Some("label"))));
    }

    #[test]
    fn what_is_not_clear_is_asked_for() {
        let two = rows(&[("summary", LONG), ("remarks", LONG), ("label", &["a", "b"])]);
        let error = Roles::of(&two, &Roles::default()).unwrap_err();
        assert!(error.contains("--text") && error.contains("\"remarks\": 40 rows, 5 different, 5 words each"), "{error}");
        let unclear = rows(&[("text", LONG), ("stars", &["1", "2", "3"]), ("mood", &["good", "bad"])]);
        let error = Roles::of(&unclear, &Roles::default()).unwrap_err();
        assert!(error.contains("--label") && error.contains("\"stars\" (3 different), \"mood\" (2 different)"), "{error}");
        let asked = roles(Some("Remarks"), None, None);
        assert_eq!(Roles::of(&two, &asked), Ok(roles(Some("remarks"), None, Some("label"))), "whatever its capitals");
        assert!(Roles::of(&two, &roles(Some("nothing"), None, None)).unwrap_err().contains("no column \"nothing\""));
    }
}
