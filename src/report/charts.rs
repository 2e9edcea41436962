//! The charts of the page, as SVG whose colours are those of its style sheet. Each says in its title what it shows.

use std::fmt::Write;

use serde_json::Value;

use super::facts::{MethodFacts, RoundFacts};
use crate::run::place::Place;
use crate::run::summary::Bin;

/// Width of a chart, in units of its view box, and the room at its left for names.
const WIDTH: f64 = 640.0;
const NAMES: f64 = 150.0;
const LINE: f64 = 30.0;

fn svg(height: f64, title: &str, body: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\"><title>{title}</title>{body}</svg>",
        title = escaped(title)
    )
}

/// A dot with its 95 % interval for each method.
pub(super) fn intervals(methods: &[MethodFacts]) -> String {
    if methods.is_empty() {
        return String::new();
    }
    let low = methods.iter().map(|method| method.share.low).fold(1.0, f64::min);
    let high = methods.iter().map(|method| method.share.high).fold(0.0, f64::max);
    let (low, high) = rounded(low, high);
    let x = |share: f64| NAMES + (WIDTH - NAMES - 60.0) * (share - low) / (high - low);
    let (bottom, mut body) = (LINE * methods.len() as f64 + 8.0, String::new());
    // Writing into a string cannot fail, here and below.
    for tick in ticks(low, high) {
        let at = x(tick);
        let _ = write!(body, "<path class=\"grid\" d=\"M{at:.1} 4V{bottom:.1}\"/>");
        let _ = write!(
            body,
            "<text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{:.0} %</text>",
            bottom + 16.0,
            100.0 * tick
        );
    }
    for (i, method) in methods.iter().enumerate() {
        let (y, share) = (LINE * i as f64 + LINE / 2.0 + 4.0, &method.share);
        let class = if method.delivered { "mark own" } else { "mark" };
        let _ = write!(body, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", NAMES - 14.0, y + 4.5, escaped(method.name));
        let _ = write!(body, "<path class=\"{class} bar\" d=\"M{:.1} {y:.1}H{:.1}\"/>", x(share.low), x(share.high));
        let _ = write!(body, "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{y:.1}\" r=\"5\"/>", x(share.mean));
        let _ =
            write!(body, "<text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{:.1} %</text>", x(share.high) + 8.0, y + 4.5, 100.0 * share.mean);
    }
    svg(bottom + 24.0, "Share of the test rows that each model has right, with 95 % intervals", &body)
}

/// Bars of the errors on *mine* that each round's model makes, and a line of its accuracy on *select*.
pub(super) fn rounds(rounds: &[RoundFacts]) -> String {
    if rounds.is_empty() {
        return String::new();
    }
    let (top, bottom, left) = (24.0, 190.0, 52.0);
    let each = (WIDTH - 2.0 * left) / rounds.len() as f64;
    // A multiple of four, so that the lines stand for whole errors.
    let most = rounds.iter().map(|round| round.record.errors_after).max().unwrap_or(1).max(1).next_multiple_of(4) as f64;
    let middle = |i: usize| left + each * (i as f64 + 0.5);
    let y = |share: f64| bottom - (bottom - top) * share;
    let mut body = String::new();
    for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let at = y(tick);
        let _ = write!(body, "<path class=\"grid\" d=\"M{left} {at:.1}H{:.1}\"/>", WIDTH - left);
        let _ = write!(body, "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\">{:.0} %</text>", WIDTH - left + 6.0, at + 4.0, 100.0 * tick);
        let _ = write!(
            body,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{:.0}</text>",
            left - 6.0,
            at + 4.0,
            most * tick
        );
    }
    let mut points = String::new();
    for (i, round) in rounds.iter().enumerate() {
        let (errors, width) = (round.record.errors_after as f64, (each * 0.4).min(70.0));
        let height = (bottom - top) * errors / most;
        let x = middle(i);
        let _ = write!(
            body,
            "<rect class=\"bar\" x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"3\"/>",
            x - width / 2.0,
            bottom - height
        );
        let name = if round.best { format!("round {} (best)", round.record.round) } else { format!("round {}", round.record.round) };
        let _ = write!(body, "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>", bottom + 18.0);
        let _ = write!(points, "{x:.1},{:.1} ", y(round.record.select.share()));
    }
    let _ = write!(body, "<polyline class=\"line\" points=\"{}\"/>", points.trim());
    for point in points.split_whitespace() {
        let (x, y) = point.split_once(',').unwrap_or_default();
        let _ = write!(body, "<circle class=\"mark own\" cx=\"{x}\" cy=\"{y}\" r=\"4.5\"/>");
    }
    svg(
        bottom + 30.0,
        "By round: errors on the gold rows that are mined (bars, left), accuracy on the rows that choose the round (line, right)",
        &body,
    )
}

/// By round: how like the gold rows the texts are (MAUVE), and how varied (distinct bigrams), which the gold rows' own variety is beside.
pub(super) fn likeness(rounds: &[RoundFacts]) -> String {
    let of = |round: &RoundFacts, path: &str| round.measures.pointer(path).and_then(Value::as_f64);
    let likeness: Vec<Option<f64>> = rounds.iter().map(|round| of(round, "/distances/mauve")).collect();
    let variety: Vec<Option<f64>> = rounds.iter().map(|round| of(round, "/synthetic/distinct/1")).collect();
    if rounds.len() < 2 || likeness.iter().chain(&variety).any(Option::is_none) {
        return String::new();
    }
    let (top, bottom, left) = (16.0, 176.0, 52.0);
    let each = (WIDTH - left - 170.0) / (rounds.len() - 1) as f64;
    let (x, y) = (|i: usize| left + each * i as f64, |share: f64| bottom - (bottom - top) * share);
    let mut body = String::new();
    for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let _ = write!(body, "<path class=\"grid\" d=\"M{left} {:.1}H{:.1}\"/>", y(tick), x(rounds.len() - 1));
        let _ = write!(body, "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>", left - 8.0, y(tick) + 4.0);
    }
    if let Some(gold) = of(&rounds[0], "/gold/distinct/1") {
        let (end, at) = (x(rounds.len() - 1), y(gold));
        let _ = write!(body, "<path class=\"ideal\" d=\"M{left} {at:.1}H{end:.1}\"/>");
        let _ = write!(body, "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\">variety of the gold rows</text>", end + 10.0, at + 4.0);
    }
    for (values, class, name) in [(&likeness, "line", "likeness (MAUVE)"), (&variety, "line other", "variety (distinct-2)")] {
        let points: Vec<String> = values.iter().flatten().enumerate().map(|(i, value)| format!("{:.1},{:.1}", x(i), y(*value))).collect();
        let _ = write!(body, "<polyline class=\"{class}\" points=\"{}\"/>", points.join(" "));
        let last = values.last().copied().flatten().unwrap_or(0.0);
        let _ = write!(body, "<text x=\"{:.1}\" y=\"{:.1}\">{name}</text>", x(rounds.len() - 1) + 10.0, y(last) + 4.0);
    }
    for (i, round) in rounds.iter().enumerate() {
        let _ =
            write!(body, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">round {}</text>", x(i), bottom + 18.0, round.record.round);
    }
    svg(bottom + 28.0, "By round: how like the gold rows the texts are, and how varied they are, from 0 to 1", &body)
}

/// How often the model is right where it says that it is so sure.
pub(super) fn reliability(bins: &[Bin]) -> String {
    let filled: Vec<&Bin> = bins.iter().filter(|bin| bin.rows > 0).collect();
    if filled.is_empty() {
        return String::new();
    }
    let (left, top, side) = (210.0, 10.0, 300.0);
    let x = |share: f64| left + side * share;
    let y = |share: f64| top + side * (1.0 - share);
    let most = filled.iter().map(|bin| bin.rows).max().unwrap_or(1) as f64;
    let mut body = String::new();
    for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let _ = write!(
            body,
            "<path class=\"grid\" d=\"M{:.1} {:.1}H{:.1}M{:.1} {:.1}V{:.1}\"/>",
            x(0.0),
            y(tick),
            x(1.0),
            x(tick),
            y(0.0),
            y(1.0)
        );
        let _ = write!(
            body,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{:.0} %</text>",
            x(tick),
            y(0.0) + 18.0,
            100.0 * tick
        );
        let _ = write!(
            body,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{:.0} %</text>",
            x(0.0) - 8.0,
            y(tick) + 4.0,
            100.0 * tick
        );
    }
    let _ = write!(body, "<path class=\"ideal\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/>", x(0.0), y(0.0), x(1.0), y(1.0));
    let points: Vec<String> = filled.iter().map(|bin| format!("{:.1},{:.1}", x(bin.confidence), y(bin.right))).collect();
    let _ = write!(body, "<polyline class=\"line\" points=\"{}\"/>", points.join(" "));
    for bin in filled {
        let radius = 3.0 + 7.0 * (bin.rows as f64 / most).sqrt();
        let _ = write!(body, "<circle class=\"mark own\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius:.1}\"/>", x(bin.confidence), y(bin.right));
    }
    let _ = write!(body, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">how sure it is</text>", x(0.5), y(0.0) + 38.0);
    let _ = write!(body, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">how often it is right</text>", x(0.0) - 48.0, y(0.5));
    svg(top + side + 48.0, "How often the delivered model is right, by how sure it is", &body)
}

/// Texts by their likeness: gold rows as rings, the others as dots in the colour of their kind. What a text says is its title.
pub(super) fn map(places: &[Place]) -> String {
    if places.is_empty() {
        return String::new();
    }
    let (edge, side) = (14.0, WIDTH - 28.0);
    let mut body = String::new();
    for place in places {
        let (x, y) = (edge + side * place.x, edge + 0.7 * side * (1.0 - place.y));
        let label = place.label.as_ref().map_or(String::new(), |label| format!(", {label}"));
        let title = escaped(&format!("{}{label}: {}", kind_of(place), place.text));
        let class = class_of(place);
        let _ = write!(body, "<circle class=\"spot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"><title>{title}</title></circle>");
    }
    svg(
        2.0 * edge + 0.7 * side,
        "Texts placed by how like they are: gold rows, and those that were read, listed or written, by round",
        &body,
    )
}

/// The kinds of texts on a map: class, name, number of texts.
pub(super) fn kinds(places: &[Place]) -> Vec<(&'static str, String, usize)> {
    let mut kinds: Vec<(&'static str, String, usize)> = Vec::new();
    for place in places {
        match kinds.iter_mut().find(|(_, name, _)| *name == kind_of(place)) {
            Some((.., count)) => *count += 1,
            None => kinds.push((class_of(place), kind_of(place), 1)),
        }
    }
    kinds
}

fn kind_of(place: &Place) -> String {
    match (place.origin.as_str(), place.round) {
        ("gold", _) => "gold row".to_string(),
        ("written", 0) => "written for the seed".to_string(),
        ("written", round) => format!("written in round {round}"),
        (origin, 0) => origin.to_string(),
        (origin, round) => format!("{origin} before round {round}"),
    }
}

/// Colours are those of the style sheet; rounds after the fourth share one.
fn class_of(place: &Place) -> &'static str {
    match (place.origin.as_str(), place.round) {
        ("gold", _) => "s-gold",
        ("read" | "listed", _) => "s-read",
        (_, 0) => "s-0",
        (_, 1) => "s-1",
        (_, 2) => "s-2",
        (_, 3) => "s-3",
        _ => "s-4",
    }
}

/// Bounds around a range: multiples of 5 %.
fn rounded(low: f64, high: f64) -> (f64, f64) {
    let (low, high) = ((low * 20.0).floor() / 20.0, (high * 20.0).ceil() / 20.0);
    if high - low < 0.05 { (low, low + 0.05) } else { (low, high) }
}

/// At most eight steps of 1, 2, 5 or 10 % between the bounds.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let step = [0.01, 0.02, 0.05, 0.1, 0.2].into_iter().find(|step| (high - low) / step <= 8.5).unwrap_or(0.2);
    let first = (low / step).ceil() as usize;
    (first..).map(|i| i as f64 * step).take_while(|tick| *tick <= high + 1e-9).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_numbers() {
        assert_eq!(rounded(0.737, 0.796), (0.7, 0.8));
        assert_eq!(ticks(0.7, 0.8).len(), 6, "70 to 80 by 2");
        assert_eq!(ticks(0.0, 1.0).len(), 6, "0 to 100 by 20");
    }

    #[test]
    fn what_a_text_says_cannot_break_the_map() {
        let place =
            |origin: &str, round, text: &str| Place { x: 0.5, y: 0.5, origin: origin.into(), round, label: None, text: text.into() };
        let all = [place("gold", 0, "</title><script>"), place("written", 1, "a & \"b\""), place("written", 1, "c")];
        let svg = map(&all);
        assert!(!svg.contains("<script") && svg.contains("&lt;/title>") && svg.contains("a &amp; &quot;b&quot;"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 3);
        assert_eq!(kinds(&all).iter().map(|(.., count)| *count).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_bin_without_rows_has_no_dot() {
        let bin = |rows, confidence, right| Bin { rows, confidence, right };
        let svg = reliability(&[bin(0, 0.0, 0.0), bin(10, 0.6, 0.5), bin(40, 0.9, 0.95)]);
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(reliability(&[]).is_empty());
    }
}
