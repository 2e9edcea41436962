//! Numbers as people write them.

use crate::measure::interval::Interval;

/// `12,345`
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 h 5 min`, `3 min 20 s`, `12 s`
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, min, s) => format!("{min} min {s} s"),
        (h, min, _) => format!("{h} h {min} min"),
    }
}

/// `78.0 % [76.1, 79.9]`
pub(super) fn share(Interval { mean, low, high }: Interval) -> String {
    let [mean, low, high] = [mean, low, high].map(|share| format!("{:.1}", 100.0 * share));
    format!("{mean} % [{low}, {high}]")
}

/// `+3.0 points [+2.0, +4.0]`, and whether that is told from no difference.
pub(super) fn difference(Interval { mean, low, high }: Interval) -> String {
    let told = if low > 0.0 || high < 0.0 { "" } else { ", which is not told from no difference" };
    let [mean, low, high] = [mean, low, high].map(|share| format!("{:+.1}", 100.0 * share));
    format!("{mean} points [{low}, {high}]{told}")
}

/// `2026-11-28`, in universal time, of seconds since 1970; empty for a time that no calendar has.
pub(super) fn day(since_1970: u64) -> String {
    let at = i64::try_from(since_1970).ok().and_then(|seconds| chrono::DateTime::from_timestamp(seconds, 0));
    at.map_or(String::new(), |at| at.date_naive().to_string())
}

/// What pages say of the rows that a share is of, by what it is called.
pub(super) fn share_of_rows(measure: &str) -> &'static str {
    match measure {
        "EM" => "that is answered word for word",
        "F1 of rows" => "whose labels are right (the mean F1 of their labels)",
        _ => "that is right",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([7, 1234, 1_234_567].map(thousands), ["7", "1,234", "1,234,567"]);
        assert_eq!([12.2, 200.0, 3900.0].map(duration), ["12 s", "3 min 20 s", "1 h 5 min"]);
        assert_eq!([0, 1_795_823_999, u64::MAX].map(day), ["1970-01-01", "2026-11-27", ""]);
    }
}
