//! The golden values of `tests/reference/`, for the tests of this room.

use serde_json::Value;

/// What scikit-learn says (`tests/reference/scikit.py`).
pub fn scikit() -> Value {
    serde_json::from_str(include_str!("../../tests/reference/scikit.json")).unwrap()
}

pub fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

pub fn rows(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().unwrap().iter().map(numbers).collect()
}

pub fn indices(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as usize).collect()
}

/// Fails where two sets of rows differ by more than `tolerance`.
pub fn assert_near(found: &[Vec<f64>], expected: &[Vec<f64>], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.len(), expected.len(), "row {i}");
        let far = found.iter().zip(expected).find(|(a, b)| (*a - *b).abs().is_nan() || (*a - *b).abs() > tolerance);
        assert!(far.is_none(), "row {i}: {far:?}");
    }
}
