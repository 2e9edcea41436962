//! The charts of a run: its rounds, how like and how varied its texts are, whether its probabilities can be believed, a map of texts.

use serde_json::Value;

use super::area::{Anchor, Area, WIDTH, dot, escaped, percent, svg, text};
use super::facts::RoundFacts;
use crate::run::place::Place;
use crate::run::summary::Bin;

/// Lines of a grid from 0 to 1.
const QUARTERS: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];

/// Bars of the errors on *mine* that each round's model makes, and a line of its accuracy on *select*.
pub(super) fn rounds(rounds: &[RoundFacts]) -> String {
    if rounds.is_empty() {
        return String::new();
    }
    let area = Area { left: 52.0, right: WIDTH - 52.0, top: 24.0, bottom: 190.0, x: [-0.5, rounds.len() as f64 - 0.5], y: [0.0, 1.0] };
    // A multiple of four, so that the lines stand for whole errors.
    let most = rounds.iter().map(|round| round.record.errors_after).max().unwrap_or(1).max(1).next_multiple_of(4) as f64;
    let mut body = area.lines(&QUARTERS, |tick| format!("{:.0}", most * tick));
    for tick in QUARTERS {
        body += &text("tick", area.right + 6.0, area.y(tick) + 4.0, Anchor::Start, &percent(tick));
    }
    let width = ((area.right - area.left) / rounds.len() as f64 * 0.4).min(70.0);
    for (i, round) in rounds.iter().enumerate() {
        let (x, y) = (area.x(i as f64), area.y(round.record.errors_after as f64 / most));
        let (left, height) = (x - width / 2.0, area.bottom - y);
        body += &format!("<rect class=\"bar\" x=\"{left:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"3\"/>");
        let best = if round.best { " (best)" } else { "" };
        body += &text("", x, area.bottom + 18.0, Anchor::Middle, &format!("round {}{best}", round.record.round));
    }
    let right = || rounds.iter().enumerate().map(|(i, round)| (i as f64, round.record.select.share()));
    body += &area.polyline("line", right());
    body.extend(right().map(|(x, y)| dot("mark own", area.x(x), area.y(y), 4.5)));
    let title =
        "By round: errors on the gold rows that are mined (bars, left), how good it is on the rows that choose the round (line, right)";
    svg(area.bottom + 30.0, title, &body)
}

/// By round: how like the gold rows the texts are (MAUVE), and how varied (distinct bigrams), which the gold rows' own variety is beside.
pub(super) fn likeness(rounds: &[RoundFacts]) -> String {
    let of = |round: &RoundFacts, path: &str| round.measures.pointer(path).and_then(Value::as_f64);
    let all = |path: &str| rounds.iter().map(|round| of(round, path)).collect::<Option<Vec<f64>>>();
    let (Some(likeness), Some(variety)) = (all("/distances/mauve"), all("/synthetic/distinct/1")) else { return String::new() };
    if rounds.len() < 2 {
        return String::new();
    }
    let area = Area { left: 52.0, right: WIDTH - 170.0, top: 16.0, bottom: 176.0, x: [0.0, rounds.len() as f64 - 1.0], y: [0.0, 1.0] };
    let mut body = area.lines(&QUARTERS, |tick| tick.to_string());
    let mut names = Vec::new();
    if let Some(gold) = of(&rounds[0], "/gold/distinct/1") {
        body += &area.polyline("ideal", [(area.x[0], gold), (area.x[1], gold)].into_iter());
        names.push((area.y(gold), "tick", "variety of the gold rows"));
    }
    for (values, class, name) in [(likeness, "line", "likeness (MAUVE)"), (variety, "line other", "variety (distinct-2)")] {
        body += &area.polyline(class, values.iter().enumerate().map(|(i, &value)| (i as f64, value)));
        names.push((area.y(values[values.len() - 1]), "", name));
    }
    // Each below the one above it, where they would lie on each other.
    names.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut last = f64::NEG_INFINITY;
    for (y, class, name) in names {
        last = f64::max(y, last + 15.0);
        body += &text(class, area.right + 10.0, last + 4.0, Anchor::Start, name);
    }
    for (i, round) in rounds.iter().enumerate() {
        body += &text("", area.x(i as f64), area.bottom + 18.0, Anchor::Middle, &format!("round {}", round.record.round));
    }
    svg(area.bottom + 28.0, "By round: how like the gold rows the texts are, and how varied they are, from 0 to 1", &body)
}

/// How often the model is right where it says that it is so sure.
pub(super) fn reliability(bins: &[Bin]) -> String {
    let filled: Vec<&Bin> = bins.iter().filter(|bin| bin.rows > 0).collect();
    if filled.is_empty() {
        return String::new();
    }
    let area = Area { left: 210.0, right: 510.0, top: 10.0, bottom: 310.0, x: [0.0, 1.0], y: [0.0, 1.0] };
    let most = filled.iter().map(|bin| bin.rows).max().unwrap_or(1) as f64;
    let mut body = area.lines(&QUARTERS, percent) + &area.columns(&QUARTERS, percent);
    body += &area.polyline("ideal", [(0.0, 0.0), (1.0, 1.0)].into_iter());
    body += &area.polyline("line", filled.iter().map(|bin| (bin.confidence, bin.right)));
    for bin in filled {
        body += &dot("mark own", area.x(bin.confidence), area.y(bin.right), 3.0 + 7.0 * (bin.rows as f64 / most).sqrt());
    }
    body += &text("", area.x(0.5), area.bottom + 38.0, Anchor::Middle, "how sure it is");
    body += &text("", area.left - 48.0, area.y(0.5), Anchor::End, "how often it is right");
    svg(area.bottom + 48.0, "How often the delivered model is right, by how sure it is", &body)
}

/// Texts by their likeness: gold rows as rings, the others as dots in the colour of their kind. What a text says is its title.
pub(super) fn map(places: &[Place]) -> String {
    if places.is_empty() {
        return String::new();
    }
    let (edge, side) = (14.0, WIDTH - 28.0);
    let area = Area { left: edge, right: edge + side, top: edge, bottom: edge + 0.7 * side, x: [0.0, 1.0], y: [0.0, 1.0] };
    let spot = |place: &Place| {
        let label = place.label.as_ref().map_or(String::new(), |label| format!(", {label}"));
        let title = escaped(&format!("{}{label}: {}", kind_of(place), place.text));
        let (class, x, y) = (class_of(place), area.x(place.x), area.y(place.y));
        format!("<circle class=\"spot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"><title>{title}</title></circle>")
    };
    let title = "Texts placed by how like they are: gold rows, and those that were read, listed or written, by round";
    svg(area.bottom + edge, title, &places.iter().map(spot).collect::<String>())
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

/// What a text on a map is.
pub(super) fn kind_of(place: &Place) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

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
