//! The fields of a config.json, with errors that name file and field.

use crate::ModelError;
use serde_json::{Map, Value};
use std::path::Path;

/// The object of a config.json.
pub struct Fields<'a> {
    path: &'a Path,
    map: &'a Map<String, Value>,
}

/// No dimension of a real model is larger; products of two stay far from overflow.
const LARGEST: u64 = 1 << 24;
impl<'a> Fields<'a> {
    /// `map` as read from the file at `path`.
    pub fn new(path: &'a Path, map: &'a Map<String, Value>) -> Self {
        Fields { path, map }
    }

    /// An error about this file.
    pub fn error<T>(&self, reason: String) -> Result<T, ModelError> {
        Err(ModelError::config(self.path, reason))
    }

    /// A field as it is.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key)
    }

    /// A dimension: a whole number from 1.
    pub fn size(&self, key: &str) -> Result<usize, ModelError> {
        match self.map.get(key).map(|v| (v, v.as_u64())) {
            None => self.error(format!("`{key}` is missing")),
            Some((_, Some(n))) if (1..=LARGEST).contains(&n) => Ok(n as usize),
            Some((v, _)) => self.error(format!("`{key}` is {v}, not a whole number from 1 to {LARGEST}")),
        }
    }

    /// The same, or the default if it is absent or null.
    pub fn size_or(&self, key: &str, default: usize) -> Result<usize, ModelError> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(_) => self.size(key),
        }
    }

    /// A number from 0, or the default if it is absent or null.
    pub fn number(&self, key: &str, default: f64) -> Result<f64, ModelError> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(v) => match v.as_f64() {
                Some(x) if x >= 0.0 => Ok(x),
                _ => self.error(format!("`{key}` is {v}; it must be a number, 0 or more")),
            },
        }
    }

    /// A dropout rate in [0, 1).
    pub fn rate(&self, key: &str, default: f32) -> Result<f32, ModelError> {
        match self.number(key, default as f64)? as f32 {
            rate if rate < 1.0 => Ok(rate),
            rate => self.error(format!("`{key}` is {rate}, not a rate below 1")),
        }
    }

    /// A field that must be there, with the only value that this crate implements.
    pub fn must_be_there(&self, key: &str, wanted: impl Into<Value>) -> Result<(), ModelError> {
        let wanted = wanted.into();
        match self.map.get(key) {
            Some(v) if *v == wanted => Ok(()),
            found => self.error(format!("`{key}` is {}; only {wanted} is supported", found.map_or("missing".into(), Value::to_string))),
        }
    }

    /// A field that may be absent, but has only one value that this crate implements.
    pub fn must_be(&self, key: &str, wanted: impl Into<Value>) -> Result<(), ModelError> {
        let wanted = wanted.into();
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(()),
            Some(v) if *v == wanted => Ok(()),
            Some(v) => self.error(format!("`{key}` is {v}; only {wanted} is supported")),
        }
    }
}

/// A rate as a short decimal number: 0.1, not the nearest f32.
pub fn decimal(rate: f32) -> Value {
    rate.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_short_decimals() {
        assert_eq!(decimal(0.1).to_string(), "0.1");
    }
}
