//! Reads fields of JSON objects, with messages for what is wrong.

use serde_json::{Map, Value};

/// A string field, trimmed, which must not be blank. The error says what is wrong.
pub fn text_field(object: &Map<String, Value>, name: &str) -> Result<String, String> {
    let text = string_field(object, name)?.trim();
    if text.is_empty() { Err(format!("field {name:?} is empty")) } else { Ok(text.to_string()) }
}

/// A string field. The error says what is wrong.
pub fn string_field<'a>(object: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    match object.get(name) {
        Some(Value::String(value)) => Ok(value),
        Some(other) => Err(format!("field {name:?} must be a string, not {}", kind_of(other))),
        None => Err(format!("field {name:?} is missing")),
    }
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

/// Quoted names, for messages.
pub fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}
