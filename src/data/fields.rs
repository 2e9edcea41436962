//! Reads fields of rows, with messages for what is wrong.

use serde_json::Value;
use unicode_normalization::UnicodeNormalization;

use super::table::Row;

/// A string field, trimmed, which must not be blank. The error says what is wrong.
pub fn text_field(row: &Row, name: &str) -> Result<String, String> {
    let text = string_field(row, name)?.trim();
    if text.is_empty() { Err(format!("field {name:?} is empty")) } else { Ok(text.to_string()) }
}

/// A string field. The error says what is wrong.
pub fn string_field<'a>(row: &'a Row, name: &str) -> Result<&'a str, String> {
    match row.get(name) {
        Some(Value::String(value)) => Ok(value),
        Some(other) => Err(format!("field {name:?} must be a string, not {}", kind_of(other))),
        None => Err(format!("field {name:?} is missing")),
    }
}

/// A field that names a label: a string, or a whole number or boolean as it is written.
pub fn label_field(row: &Row, name: &str) -> Result<String, String> {
    match row.get(name) {
        Some(Value::Number(number)) => {
            // Whole numbers in a column with gaps become fractions: 1.0 is label 1.
            let whole = number.as_f64().filter(|x| x.fract() == 0.0 && x.abs() < 1e15 && !number.is_i64() && !number.is_u64());
            Ok(whole.map_or_else(|| number.to_string(), |x| format!("{x:.0}")))
        }
        Some(Value::Bool(value)) => Ok(value.to_string()),
        Some(Value::Null) => Err(format!("field {name:?} is null: the row has no label")),
        _ => match string_field(row, name)? {
            "" => Err(format!("field {name:?} is empty: the row has no label")),
            name => Ok(name.to_string()),
        },
    }
}

/// The position of a label among the task's.
///
/// # Errors
/// An unknown name; the message says which label it would be but for white space, case or Unicode form.
pub fn label_of(name: &str, names: &[String]) -> Result<usize, String> {
    if let Some(label) = names.iter().position(|own| own == name) {
        return Ok(label);
    }
    type Same = fn(&str) -> String;
    let ways: [(&str, Same); 4] = [
        ("white space around it", |name| name.trim().to_string()),
        ("upper and lower case", |name| name.to_lowercase()),
        ("its Unicode form (composed or decomposed characters)", |name| name.nfc().collect()),
        ("white space, case or Unicode form", |name| name.nfkc().collect::<String>().trim().to_lowercase()),
    ];
    let near = ways.iter().find_map(|(but, same)| Some((names.iter().find(|own| same(own) == same(name))?, but)));
    Err(match near {
        Some((own, but)) => format!("field \"label\" is {name:?}, and the task has {own:?}: they differ in {but}; write both alike"),
        None => format!("field \"label\" is {name:?}; the task's labels are {}", quoted(names)),
    })
}

/// The JSON type of a value, for messages.
pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Quoted names, for messages: the first few.
pub fn quoted(names: &[String]) -> String {
    const NAMED: usize = 20;
    let named = names.iter().take(NAMED).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    if names.len() > NAMED { format!("{named}, … ({} in all)", names.len()) } else { named }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn field(label: Value) -> Result<String, String> {
        label_field(&Row::from_iter([("label".to_string(), label)]), "label")
    }

    #[test]
    fn numbers_and_booleans_are_labels_as_they_are_written() {
        for (value, name) in [(json!(0), "0"), (json!(-3), "-3"), (json!(1.0), "1"), (json!(0.5), "0.5"), (json!(true), "true")] {
            assert_eq!(field(value).unwrap(), name);
        }
        assert!(field(json!(null)).unwrap_err().contains("null") && field(json!("")).unwrap_err().contains("empty"));
        assert!(field(json!(["a"])).unwrap_err().contains("must be a string, not a list"));
    }

    #[test]
    fn a_label_that_is_nearly_one_of_the_tasks_is_told_from_an_unknown_one() {
        let names = ["positive".to_string(), "Zoe\u{308}".to_string()];
        assert_eq!(label_of("positive", &names), Ok(0));
        for (name, expected) in [
            ("positive ", "differ in white space around it"),
            ("Positive", "differ in upper and lower case"),
            ("Zoë", "differ in its Unicode form"),
            ("ZOË ", "differ in white space, case or Unicode form"),
            ("good", "the task's labels are \"positive\", "),
        ] {
            let error = label_of(name, &names).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
